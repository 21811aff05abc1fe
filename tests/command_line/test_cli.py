"""The command line: help, flags, completion, exit codes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ode_runner.config.arguments import parse
from ode_runner.config.completion import OF_COMMANDS, offered
from ode_runner.config.help import GROUPS
from ode_runner.config.rerun import Rerun
from ode_runner.exporting.formats import FORMATS
from ode_runner.exporting.writing import PARTS, WEIGHTS
from ode_runner.training.trainer import Trainer
from tests.helpers import TINY, before_step, ode_run, options, run_folder, typed
from tests.reporting import reported


def test_help_lists_every_option_with_its_header(tmp_path: Path) -> None:
    finished = ode_run("--help", cwd=tmp_path)
    assert finished.returncode == 0
    for group in GROUPS:
        for option in options(group):
            assert re.search(rf"^  [* ] {option} +\S", finished.stdout, re.MULTILINE), f"{group}={option}"
    assert max(map(len, finished.stdout.splitlines())) <= 100


def test_help_lists_the_options_of_the_users_folder(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "wormhole.yaml").write_text("# Shorter.\n_target_: my.Wormhole\n")
    finished = ode_run("--help", "-cd", "mine", cwd=tmp_path)
    assert re.search(r"wormhole +Shorter\.", finished.stdout)


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        ("--help", []),
        ("--version", []),
        ("model=resnet -h", []),
        ("-sc query=bash", []),  # on COMP_LINE, whose last word is the beginning of a choice
        ("--cfg job", ["hydra", "omegaconf", "rich"]),
    ],
)
def test_what_answers_at_once_imports_nothing_heavy(arguments: str, heavy: list[str], tmp_path: Path) -> None:
    program = (
        "import atexit, sys\n"
        f"sys.argv[1:] = {arguments.split()!r}\n"
        "heavy = ('torch', 'hydra', 'omegaconf', 'rich', 'numpy', 'scipy', 'pandas', 'sklearn', 'matplotlib',\n"
        "         'tensorboard', 'optuna')\n"
        "atexit.register(lambda: print('HEAVY', [m for m in heavy if m in sys.modules]))\n"
        "from ode_runner.cli import main\n"
        "main()\n"
    )
    environment = {**os.environ, "COMP_LINE": "ode-run task=dig"}
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert finished.returncode == 0
    assert finished.stdout.endswith(f"HEAVY {heavy}\n")


def test_training_begins_without_a_compiler_and_what_only_some_runs_need(tmp_path: Path) -> None:
    words = [*TINY, "trainer.epochs=1", "model=resnet", "schedule=one_cycle", "logger=none", "pictures=false"]
    program = (
        "import atexit, sys\n"
        f"sys.argv[1:] = {words!r}\n"
        "heavy = ('torch._dynamo', 'torch._inductor', 'triton', 'sympy', 'pandas', 'tensorboard', 'torchdiffeq',\n"
        "         'matplotlib')\n"
        "atexit.register(lambda: print('HEAVY', [m for m in heavy if m in sys.modules]))\n"
        "from ode_runner.cli import main\n"
        "main()\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "completed in" in finished.stdout
    assert finished.stdout.endswith("HEAVY []\n")
    assert "UserWarning" not in finished.stderr, "OneCycleLR sees the optimizer's steps"


def test_the_configuration_is_shown_without_torch(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom unittest.mock import patch\n"
        "sys.argv[1:] = ['--cfg', 'job']\n"
        "from ode_runner.cli import main\n"
        "with patch.dict(sys.modules, {'torch': None}):\n    main()\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "_target_: ode_runner.models.depth.odenet.ODENet" in finished.stdout


def test_version_names_the_program(tmp_path: Path) -> None:
    assert re.fullmatch(r"ode-run \d+\.\d+\.\d+(\.dev\d+)?\n", ode_run("--version", cwd=tmp_path).stdout)


@pytest.mark.parametrize(
    "line",
    ["--cfg job task=digits model=resnet", "task=digits --cfg job model=resnet", "task=digits model=resnet -c job"],
)
def test_flags_may_stand_anywhere(line: str, tmp_path: Path) -> None:
    ended = typed(*line.split(), cwd=tmp_path)
    assert ended.returncode == 0
    assert "ode_runner.tasks.images.digits.Digits" in ended.stdout
    assert "ode_runner.models.depth.resnet.ResNet" in ended.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "sorted_line"),
    [
        ("task=digits -m seed=1,2", "-m task=digits seed=1,2"),
        ("model=mine -cd conf seed=1", "-cd conf model=mine seed=1"),
        ("model=mine --config-dir=conf seed=1", "--config-dir=conf model=mine seed=1"),
        ("a=1 --info searchpath b=2", "--info searchpath a=1 b=2"),
        ("a=1 --info b=2", "--info a=1 b=2"),
        ("-sc query=bash", "-sc query=bash"),
        ("~solver a=-1", "~solver a=-1"),
        ("a=1 -cd", "-cd a=1"),
        ("a=1 --config-di conf b=2", "--config-di conf a=1 b=2"),
        ("a=1 -cd=conf b=2", "-cd=conf a=1 b=2"),
        ("", ""),
    ],
)
def test_flags_come_first_and_keep_their_values(line: str, sorted_line: str) -> None:
    assert " ".join(parse(line.split()).flags_first()) == sorted_line


def test_completion_prints_a_script_for_the_shell(tmp_path: Path) -> None:
    finished = ode_run("-sc", "install=bash", cwd=tmp_path)
    assert finished.returncode == 0
    checked = subprocess.run(["bash", "-n"], input=finished.stdout, text=True)
    assert checked.returncode == 0
    assert re.search(r"complete .* ode-run", finished.stdout)


@pytest.mark.parametrize("line", ["ode-run ", "ode-run task=digits s", "ode-run solver=e"])
def test_what_is_completed_without_hydra_is_what_hydra_says(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    asked = "import sys; sys.argv[1:] = ['-sc', 'query=bash']; from ode_runner.launch import launch; launch()"
    finished = subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, capture_output=True, text=True)
    assert offered(["-sc", "query=bash"]) == finished.stdout.split() != []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ode-run pictures=", "false true"),
        ("ode-run pictures=t", "true"),
        ("ode-run rerun=", "all failed missing"),
        ("ode-run trainer=quick trainer.compile=o", "off on"),
        ("ode-run solver.control=", "i pi pid"),  # of a base class
        ("ode-run solver=ddim solver.grid=", "karras logsnr null quadratic time"),  # by a name for the values
        ("ode-run task=density2d task.clock=", "null rho t"),
        ("ode-run regularizer.jacobian.noise=", "normal rademacher"),
    ],
)
def test_values_of_a_closed_set_are_completed(line: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    words = offered(["-sc", "query=fish"])
    assert words is not None
    assert [word.partition("=")[2] for word in words] == expected.split()


@pytest.mark.parametrize("line", ["ode-run network._", "ode-run model=exact model."])
def test_that_there_is_nothing_to_complete_is_known_without_hydra(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert offered(["-sc", "query=bash"]) == []


def test_values_of_ones_own_class_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/mine.yaml").write_text("_target_: my_models.Mine\nkind: a\nwidth: 3\n")
    source = 'class Base:\n    def __init__(self, *, kind: Literal["a", "b"]): ...\n\nclass Mine(Base): ...\n'
    (tmp_path / "my_models.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    for line, expected in {
        "ode-run -cd conf model=mine model.kind=": ["model.kind=a", "model.kind=b"],
        "ode-run -cd conf model=mine model.": ["model.kind=", "model.width="],
        "ode-run -cd conf model=mine model.width=": None,
    }.items():
        monkeypatch.setenv("COMP_LINE", line)
        assert offered(["-sc", "query=bash"]) == expected


def test_values_of_commands_are_those_that_they_take() -> None:
    assert set(OF_COMMANDS["format"]) == {*FORMATS, WEIGHTS}
    assert OF_COMMANDS["part"] == PARTS
    assert OF_COMMANDS["rerun"] == tuple(Rerun)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ode-run model=", {f"model={name}" for name in options("model")}),
        ("ode-run solver=dop", {"solver=dopri5", "solver=dopri8"}),
        ("ode-run solver=rk4 solver.num", {"solver.num_steps="}),
        ("ode-run regularizer=kinetic regularizer.kinetic.", {"regularizer.kinetic.weight="}),  # which Hydra is asked
    ],
)
def test_completion_knows_groups_and_options(line: str, expected: set[str], tmp_path: Path) -> None:
    finished = ode_run("-sc", "query=bash", cwd=tmp_path, env={"COMP_LINE": line})
    assert set(finished.stdout.split()) == expected


def test_exit_code_is_0_when_completed_and_1_when_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("trainer=quick", "trainer.max_steps=1", "logger=none", *TINY)
    assert typed(*command, cwd=tmp_path).returncode == 0

    def fail(*positional: object, **named: object) -> None:
        raise RuntimeError("bang")

    monkeypatch.setattr(Trainer, "train_step", fail)
    ended = typed(*command, "rerun=true", cwd=tmp_path)
    assert ended.returncode == 1
    assert "failed: RuntimeError: bang" in ended.stdout


def test_an_interrupt_while_modules_are_imported_shows_no_traceback(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom ode_runner.cli import main\n"
        "class Impatient:\n    def find_spec(*arguments):\n        raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Impatient)\n"
        "main()\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (finished.returncode, finished.stderr) == (130, "")


def test_an_unfinished_line_on_the_terminal_is_never_wrapped_into_the_log(tmp_path: Path) -> None:
    ended = typed("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY, cwd=tmp_path)
    folder = run_folder(tmp_path)
    assert "\x1b" not in ended.stdout
    assert str(folder.relative_to(tmp_path)) in ended.stdout
    said = [line for line in ended.stdout.splitlines() if line.startswith("1/1")]
    assert said
    assert all(line in (folder / "ode-run.log").read_text() for line in said)


@pytest.mark.sampled(10)
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 130),
        (("seed=3",), 130),
        (("-m",), 130),
        (("--cfg", "job"), 0),
        (("-c", "job", "--resolve"), 0),
        (("--info", "searchpath"), 0),
        (("--version",), 0),
        (("--help",), 0),
        (("-cd",), 2),
        (("--config-dir",), 2),
        (("-cd", "nowhere"), 2),
        (("--cfg",), 2),
        (("-m", "-cd"), 2),
        (("--unheard-of",), 2),
        (("",), 2),
        (("-",), 2),
        (("=",), 2),
    ],
)
def test_ode_run_with_no_word_one_word_and_only_flags(
    words: tuple[str, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training, which `ode-run` alone begins, is broken off in its second step."""

    def stop() -> None:
        raise KeyboardInterrupt

    before_step(monkeypatch, 2, stop)
    ended = typed(*words, cwd=tmp_path)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    if code == 130:
        assert ("1 not finished" if "-m" in words else "half_moons · odenet · dopri5 · backprop") in ended.stdout
    if code == 2:
        assert ended.stderr.count("\n") == 1
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 2),
        (("--reverse",), 2),
        (("--by",), 2),
        (("--help",), 0),
        (("--version",), 0),
        (("diff",), 2),
        (("verify",), 2),
        (("verify", "--trust"), 2),
        (("nowhere",), 2),
    ],
)
def test_ode_report_with_no_word_one_word_and_only_flags(words: tuple[str, ...], code: int, tmp_path: Path) -> None:
    ended = reported(*words, cwd=tmp_path)
    assert ended.returncode == code
    assert ended.stderr.count("\n") == (1 if code else 0)


@pytest.mark.parametrize(("words", "code"), [(["nothing"], 2), (["--help"], 0), (["--unheard-of"], 2)])
def test_python_m_with_one_word(words: list[str], code: int, tmp_path: Path) -> None:
    for module in ("ode_runner", "ode_runner.recipes"):
        command = [sys.executable, "-m", module, *words]
        finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert finished.returncode == code, finished.stderr
        assert "Traceback" not in finished.stderr
        assert finished.stderr.count("\n") <= 2, finished.stderr  # argparse of the recipes says its usage first
