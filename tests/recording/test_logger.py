"""metrics.jsonl is the truth; TensorBoard, in the same folder, is a view of it."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer as PluginEventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups, plugin_data_pb2

from ode_runner.loggers.tensorboard import TensorBoardLogger
from ode_runner.recording.logger import MetricsFile
from ode_runner.recording.record import RunRecord, RunStatus
from tests.helpers import TINY, before_step, record_of, rows_of, run_folder, run_folders, typed

COMMAND = (*TINY, "trainer.epochs=2", "trainer.log_every=1", "trainer.save_every_seconds=0")
UNLIMITED = {"scalars": 0, "images": 0, "tensors": 0}


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run with TensorBoard was typed."""
    root = tmp_path_factory.mktemp("completed")
    assert typed(*COMMAND, cwd=root, pictures=True).returncode == 0
    return root


@pytest.fixture(scope="module")
def events(completed: Path) -> Any:
    return read_events(run_folder(completed))


def read_events(folder: Path) -> Any:
    accumulator = EventAccumulator(str(folder), size_guidance=UNLIMITED)
    accumulator.Reload()
    return accumulator


def expected_scalars(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """metrics.jsonl by tag: steps and values."""
    scalars: dict[str, list[tuple[float, float]]] = {}
    for row in rows_of(folder):
        for tag, value in row.items():
            if tag not in ("step", "epoch", "wall_seconds"):
                scalars.setdefault(tag, []).append((row["step"], value))
    return scalars


def assert_same_scalars(folder: Path, events: Any) -> None:
    for tag, points in expected_scalars(folder).items():
        shown = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in shown] == [step for step, _ in points], tag
        assert [value for _, value in shown] == pytest.approx([value for _, value in points], rel=1e-6), tag


def test_tensorboard_shows_every_scalar_of_metrics_jsonl(completed: Path, events: Any) -> None:
    assert_same_scalars(run_folder(completed), events)


def test_tensorboard_shows_the_test_metrics(completed: Path, events: Any) -> None:
    [event] = events.Scalars("test/accuracy")
    assert event.value == pytest.approx(record_of(completed)["metrics"]["test/accuracy"])


def test_tensorboard_shows_the_pictures_and_the_configuration(completed: Path, events: Any) -> None:
    drawn = {f"plots/{path.stem}": path.read_bytes() for path in (run_folder(completed) / "plots").glob("*.png")}
    assert drawn.keys() == {"plots/curves", "plots/flow", "plots/decision_regions"}
    assert set(events.Tags()["images"]) == drawn.keys()
    for name, png in drawn.items():
        [event] = events.Images(name)
        assert event.encoded_image_string == png
        assert (event.width, event.height) == Image.open(io.BytesIO(png)).size
    [text] = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("config/text_summary")]
    assert "ode_runner.models.depth.odenet.ODENet" in text


def test_tensorboard_compares_runs_by_their_choices(events: Any) -> None:
    contents = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    shown = plugin_data_pb2.HParamsPluginData.FromString(contents).session_start_info.hparams
    assert shown["model"].string_value == "odenet"
    assert shown["solver"].string_value == "dopri5"
    assert shown["seed"].number_value == 0


def hparams_table(root: Path) -> tuple[Any, RequestContext, Any]:
    """Asked of TensorBoard's own backend, as its page does."""
    multiplexer = PluginEventMultiplexer().AddRunsFromDirectory(str(root)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(root))
    backend = backend_context.Context(TBContext(data_provider=provider, logdir=str(root)))
    ctx = RequestContext()
    metadata = backend.hparams_metadata(ctx, "")
    return backend, ctx, backend.experiment_from_metadata(ctx, "", True, metadata, [])


def test_an_option_that_is_null_in_one_run_is_a_column_of_numbers_all_the_same(tmp_path: Path) -> None:
    for name, norm in (("free", None), ("clipped", 1.5), ("clipped_less", 3.0)):
        config = {"trainer": {"max_grad_norm": norm, "max_nfe": None}, "optimizer": {}, "schedule": {}, "network": {}}
        record = RunRecord(
            choices={"network": "mlp"}, seed=0, fingerprint="0", status=RunStatus.COMPLETED, config=config
        )
        logger = TensorBoardLogger(tmp_path / name, first_step=0)
        logger.summary(record.hyperparameters(), {"test/loss": 1.0})
        logger.close()
    _, _, table = hparams_table(tmp_path)
    columns = {info.name: info for info in table.hparam_infos}
    assert columns["with.trainer.max_grad_norm"].type == api_pb2.DATA_TYPE_FLOAT64
    assert "with.trainer.max_nfe" not in columns


def test_tensorboards_table_of_a_mixed_sweep_has_every_option_and_sorts_by_any_result(tmp_path: Path) -> None:
    models = ("model=resnet,odenet,rknet", "trainer=quick", "trainer.max_steps=2", *TINY)
    assert typed("-m", *models, cwd=tmp_path).returncode == 0
    backend, ctx, table = hparams_table(tmp_path)
    columns = {info.name for info in table.hparam_infos}
    assert {"task", "model", "solver", "gradient", "seed"} <= columns
    assert {"with.model.blocks", "with.solver.rtol", "with.solver.num_steps", "with.network.width"} <= columns
    metrics = {info.name.tag for info in table.metric_infos}
    assert {"test/accuracy", "nfe/forward"} <= metrics
    records = [json.loads((folder / "record.json").read_text()) for folder in run_folders(tmp_path)]
    for tag, of in (
        ("test/accuracy", lambda record: record["metrics"]["test/accuracy"]),
        ("nfe/forward", lambda record: record["cost"]["nfe_forward"]),
    ):
        request = api_pb2.ListSessionGroupsRequest(
            start_index=0, slice_size=10, aggregation_type=api_pb2.AGGREGATION_AVG,
            allowed_statuses=api_pb2.Status.values(),
            col_params=[api_pb2.ColParams(metric=api_pb2.MetricName(tag=tag), order=api_pb2.ORDER_DESC)],
        )  # fmt: skip
        groups = list_session_groups.Handler(ctx, backend, "", request).run().session_groups
        shown = [group.hparams["model"].string_value for group in groups]
        values = {record["choices"]["model"]: of(record) for record in records}
        assert sorted(shown) == ["odenet", "resnet", "rknet"]
        assert [values[model] for model in shown] == sorted(values.values(), reverse=True), tag


def test_events_lie_in_the_run_folder_and_nowhere_else(completed: Path) -> None:
    files = list(completed.rglob("events.out.tfevents.*"))
    assert {path.parent for path in files} == {run_folder(completed)}


def test_a_resumed_run_shows_every_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """Nothing is saved any more."""

    def die() -> None:
        monkeypatch.setattr("ode_runner.recording.checkpoint.Checkpoints.save_last", lambda *arguments: None)

    def die_really() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context():
        before_step(monkeypatch, 3, die)
        before_step(monkeypatch, 5, die_really)
        assert typed(*COMMAND, cwd=tmp_path).returncode == 130
    monkeypatch.undo()
    assert "resuming at step 2 of 6" in typed(*COMMAND, cwd=tmp_path).stdout
    folder = run_folder(tmp_path)
    assert [row["step"] for row in rows_of(folder) if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert_same_scalars(folder, read_events(folder))


def test_a_session_that_goes_on_within_the_same_second_is_shown_after_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer._global_uid._value", 9)  # 10 sorts before 9
    sessions = [range(1, 5), range(3, 7)]
    for steps in sessions:
        logger = TensorBoardLogger(tmp_path, first_step=steps[0])
        for step in steps:
            logger.log({"train/loss": 1.0 / step}, step=step)
        logger.close()
    assert [event.step for event in read_events(tmp_path).Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]


def test_no_logger_leaves_metrics_jsonl_alone(tmp_path: Path) -> None:
    typed(*COMMAND, "logger=none", cwd=tmp_path)
    assert not list(tmp_path.rglob("events.*"))
    assert rows_of(run_folder(tmp_path))


def test_a_number_that_is_not_finite_is_null_in_the_file_and_nan_when_read_back(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path)
    metrics.write({"step": 1, "eval/loss": math.nan, "eval/accuracy": 0.5, "nfe/eval": math.inf})
    assert metrics.path.read_text() == '{"step": 1, "eval/loss": null, "eval/accuracy": 0.5, "nfe/eval": null}\n'
    [row] = metrics.rows()
    assert math.isnan(row.pop("eval/loss"))
    assert math.isnan(row.pop("nfe/eval"))
    assert row == {"step": 1, "eval/accuracy": 0.5}
    metrics.close()


def test_the_metrics_file_is_rewound_to_a_position(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path)
    metrics.write({"step": 1, "train/loss": 0.5})
    position = metrics.position()
    metrics.write({"step": 2, "train/loss": 0.25})
    metrics.close()
    reopened = MetricsFile(tmp_path)
    reopened.rewind(position)
    reopened.write({"step": 2, "train/loss": 0.125})
    assert reopened.rows() == [{"step": 1, "train/loss": 0.5}, {"step": 2, "train/loss": 0.125}]
    reopened.close()
