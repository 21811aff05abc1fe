"""File formats of a traced model: writing a file, and running it on an example."""

import abc
import importlib
import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.errors import IncompatibleChoice, RefusedInput, in_short
from ode_runner.exporting.frozen_model import FrozenModel


class Format(abc.ABC):
    """A kind of file that holds a computation."""

    ending: ClassVar[str]

    @abc.abstractmethod
    def write(self, module: nn.Module, example: Sequence[Tensor], path: Path, *, batch: Sequence[int]) -> None:
        """Writes the computation of a module, for arguments like those of the example.

        Args:
            module: a function of tensors.
            example: its arguments.
            path: of the file.
            batch: indices of the arguments whose first axis has any length.

        Raises:
            IncompatibleChoice: the module cannot be traced.
            RefusedInput: a package is missing.
        """

    @abc.abstractmethod
    def answer(self, path: Path, example: Sequence[Tensor]) -> Tensor | None:
        """The file's output for the example; None if no runtime for it is installed."""


@final
class TorchExport(Format):
    """A torch.export program, for torch.export.load."""

    ending: ClassVar[str] = "pt2"

    def write(self, module: nn.Module, example: Sequence[Tensor], path: Path, *, batch: Sequence[int]) -> None:
        torch.export.save(traced(module, example, batch=batch), path)

    def answer(self, path: Path, example: Sequence[Tensor]) -> Tensor | None:
        return torch.export.load(path).module()(*example)


@final
class Onnx(Format):
    """An ONNX graph."""

    ending: ClassVar[str] = "onnx"

    def write(self, module: nn.Module, example: Sequence[Tensor], path: Path, *, batch: Sequence[int]) -> None:
        for package in ("onnx", "onnxscript"):
            require(package, asked="format=onnx")
        program = traced(module, example, batch=batch)
        try:
            torch.onnx.export(program, tuple(example), str(path), dynamo=True, external_data=False, verbose=False)
        except torch.onnx.OnnxExporterError as error:
            raise IncompatibleChoice(f"format=onnx: ONNX has no words for this model ({_reason(error)}).") from error

    def answer(self, path: Path, example: Sequence[Tensor]) -> Tensor | None:
        try:
            runtime: Any = importlib.import_module("onnxruntime")
        except ImportError:
            return None
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        given = {name: x.detach().numpy() for name, x in zip(names, example, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])


FORMATS: dict[str, Format] = {"torch_export": TorchExport(), "onnx": Onnx()}


def traced(module: nn.Module, example: Sequence[Tensor], *, batch: Sequence[int]) -> torch.export.ExportedProgram:
    """The module traced by torch.export.

    Raises:
        IncompatibleChoice: its computation depends on more than the shapes of its arguments.
    """
    any_length = torch.export.Dim("batch", min=1)
    shapes = tuple({0: any_length} if i in batch else None for i in range(len(example)))
    variable = isinstance(module, nn.Module) and len(example) > 2
    dynamic = (*shapes[:2], shapes[2:]) if variable else shapes
    try:
        with redirect_stderr(io.StringIO()):  # torch prints the whole graph there if it fails
            return torch.export.export(module, tuple(example), dynamic_shapes=dynamic, strict=False)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise IncompatibleChoice(
            f"this model cannot be traced by torch.export ({_reason(error)}). Use {_instead(module)}."
        ) from error


def _instead(module: nn.Module) -> str:
    """What to export in place of a module that cannot be traced."""
    weights = "format=safetensors, which has its weights alone"
    whole = isinstance(module, FrozenModel) and len(module.solves.fields) == 1
    return f"part=field, or {weights}" if whole else weights


def _reason(error: BaseException) -> str:
    """The reason of an error, without torch's long additions."""
    if "Constraints violated (batch)" in str(error):
        return (
            "its code is for the number of samples with which it is traced, and a file leaves that open. len(y) makes "
            "it so: write y.shape[0]"
        )
    if "data-dependent" in str(error):
        return "its code depends on numbers that it reads from tensors"
    return in_short(error).split(". ")[0].partition(" (unhinted")[0].rstrip(".")


def write_weights(weights: Mapping[str, Tensor], path: Path, *, about: Mapping[str, str]) -> float:
    """Writes a safetensors file; returns the largest difference between weights and those read back, which is 0.

    Sparse tensors, which the format does not know, are written as dense ones.

    Raises:
        RefusedInput: the package is missing.
    """
    safetensors: Any = require("safetensors.torch", asked="format=safetensors")
    dense = {name: w.detach().cpu().to_dense().clone() for name, w in weights.items()}
    safetensors.save_file(dense, path, metadata=dict(about))
    found = safetensors.load_file(path)
    return max((float((found[name].double() - w.double()).abs().max()) for name, w in dense.items()), default=0.0)


def require(package: str, *, asked: str) -> Any:
    """Imports the package.

    Raises:
        RefusedInput: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        raise RefusedInput(f"{asked} needs {name}. Install it: pip install 'ode-run[export]'.") from error
