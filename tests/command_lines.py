"""Random command lines as somebody might type them, most of them wrong; reproducible from a seed and a number."""

import random
from collections.abc import Callable, Sequence
from functools import cache

from omegaconf import OmegaConf

from ode_runner.config.help import conf_dir
from tests.helpers import TINY, options

GROUPS = (
    "task",
    "model",
    "network",
    "solver",
    "gradient",
    "regularizer",
    "optimizer",
    "schedule",
    "trainer",
    "logger",
    "diagnostics",
)
PRESETS = ("experiment", "grid", "search", "hydra/sweeper", "hydra/launcher")
KEYS = (
    *("seed", "rerun", "plan", "sweep", "output_dir", "tolerance", "processes", "recipe"),
    *("solver.rtol", "solver.atol", "solver.max_steps", "solver.per_sample", "solver.num_steps", "solver.step_size"),
    *("gradient.rtol", "optimizer.lr", "optimizer.weight_decay", "optimizer.momentum", "optimizer.betas"),
    *("schedule.warmup", "schedule.milestones", "schedule.gamma", "network.width", "network.depth"),
    *("network.activation", "task.train", "task.validation", "task.test", "task.noise", "task.points", "task.window"),
    *("task.horizon", "task.box", "task.y0", "task.data_dir", "model.extra", "model.blocks", "trainer.epochs"),
    *("trainer.batch_size", "trainer.eval_batch_size", "trainer.max_grad_norm", "trainer.precision"),
    *("trainer.device", "trainer.compile", "trainer.log_every", "trainer.audit_every", "trainer.max_steps"),
    *("trainer.max_seconds", "trainer.max_nfe", "trainer.save_every_seconds", "diagnostics.every", "times", "inputs"),
    *("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name", "hydra.searchpath", "hydra.verbose"),
    *(
        "regularizer.kinetic.weight",
        "regularizer.taylor.order",
        "regularizer.steer.spread",
        "regularizer.jacobian.noise",
    ),
    *("hydra.mode", "hydra.sweeper.trials", "hydra.sweeper.params", "hydra.launcher.n_jobs"),
)
RIGHT = ("seed=1", "tolerance=1e-2", "solver.rtol=1e-4", "trainer.epochs=2", "optimizer.lr=0.01", "network.width=8")
WRONG = (
    *("true", "false", "null", "", "abc", "[]", "{}", "[1]", "[[1,2],[3]]", "{a:1}", "1.5", "-1", "0", "nan", "inf"),
    *("-inf", "'1'", "'true'", "1e3", "0x10", "1_000", "None", "[null]", "{1:2}", "1+1j", "a:b", "???", "1,2"),
)
EXTREME = (
    *("1e308", "1e400", "-1e308", "1e-320", "-0.0", "9223372036854775807", "9223372036854775808", "2147483648"),
    *("-9223372036854775809", "18446744073709551616", "9" * 400, "1" + "0" * 5000, "0." + "0" * 400 + "1", "1e-300"),
    *("100000000000", "1e11", "2e9", "4294967296", "9007199254740993"),
)
UNICODE = (
    "é",
    "日本",
    "🙂",
    "\u202e",
    "\x1b[31m",
    "\n",
    "\t",
    "\r",
    "１２",
    "−1",
    "\udce9",
    "e\u0301",
    "\u200b",
    "ﬁ",
    "½",
)
QUOTES = (
    '"',
    "'",
    "''",
    "\"'",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "\\",
    ",",
    ",,",
    "=",
    "a b",
    '"a b"',
    "a\\,b",
    "[1",
    "'[1]'",
)
INTERPOLATIONS = (
    *("${seed}", "${nope}", "${seed", "$seed", "${", "${}", "${oc.env:HOME}", "${oc.env:NOPE_NOPE}", "${oc.env:A,1}"),
    *("${folder:run}", "${folder:nope}", "${tolerance}", "${.}", "${..seed}", "${hydra:runtime.cwd}", "${trainer}"),
    *("${solver.rtol}", "${nope:1}", "${oc.decode:'['}", "${oc.select:a}", "${${seed}}", "\\${seed}", "a${seed}b"),
)
SWEEPS = (
    *("range(3)", "range(0)", "range(1,10,0)", "range(3,1)", "range(1.5)", "range()", "range(a)", "choice()"),
    *("choice(1)", "choice(1,a)", "glob(*)", "glob(nope*)", "interval(0,1)", "int(interval(1,9))", "shuffle(1,2)"),
    *("sort(2,1)", "tag(log,interval(1e-4,1))", "tag(log,1)", "1,", ",1", "1,1", "true,false", "null,1", "[1],[2]"),
    *(
        "range(0,100000000000)",
        "range(1" + "0" * 400 + ")",
        "range(0,1,1e-320)",
        "range(nan)",
        "range(0,inf)",
        "sort()",
        "extend_list(1)",
        "nope(1)",
        "str(1)",
        "float(a)",
        "json_str([1])",
        "1,2,",
    ),
)
FLAGS = (
    *("-m", "--multirun", "-cd", "--config-dir", "-cd conf", "-cd nope", "-cd a_file", "--config-dir=conf", "-cd="),
    *("--cfg", "--cfg job", "--cfg=job", "--cfg all", "--cfg hydra", "--cfg nope", "-c job", "-c", "--resolve", "-p"),
    *("--package", "-p trainer", "-p nope", "--package=x.y", "--info", "--info defaults", "--info nope", "-i", "-h"),
    *("--help", "--version", "--hydra-help", "-sc", "-sc install=bash", "-sc nope", "--shell-completion", "-cn nope"),
    *("-cn", "--config-name=nope", "-cp nope", "--config-path", "--run", "-r", "--", "-", "---", "-1", "-x", "-mm"),
    *("--help=1", "--nope", "--dry-run", "-v", "-vv", "--multi", "--cfg job --resolve", "--cfg job -p task"),
)
WAYS = ("evaluate", "predict", "audit", "replay")
FOLDERS = (
    *("run", "exact", "torn_record", "torn_weights", "no_weights", "no_overrides", "bad_overrides", "empty", "a_file"),
    *("foreign", "list_record", "nope", "", ".", "..", "run/", "run/.hydra", "run/record.json", "true", "null", "~"),
    *("lost_config", "${seed}", "[run]", "{a:run}", "1", "run,exact", "'run'", "no_rows", "running"),
)
TIMES = (
    *("0:1:3", "[0,1]", "0", "1:0:3", "0:1", "::", "a:b:c", "0:1:0", "0:1:-1", "0:1:1.5", "0:inf:3", "nan:1:3", "[]"),
    *("[nan]", "[inf]", "[a]", "[true]", "[null]", "[[0,1]]", "{a:1}", "true", "[0,0]", "[1,0]", "0:1:100000000000"),
    *("0:1e308:3", "[0,1e300]", "[1e400]", "0:1:1e3", "", "null", "[9" + "9" * 400 + "]", "-1:1:3", "0:1e-300:3"),
    *("[0,1e-30]", "[1e-320]", "0:1:3:4", "'0:1:3'", "0: 1 :3", "０:1:3", "0:1:9223372036854775808", "abc", "0.1"),
)
INPUTS = (
    *("[[1.0,2.0]]", "[]", "[[]]", "[1,2]", "[[1]]", "[[1,2,3]]", "[[nan,1]]", "[[inf,1]]", "[[a,b]]", "[[true,1]]"),
    *("[[null,1]]", "1", "abc", "{a:1}", "[[1,2],[3]]", "[[[1,2]]]", "[[1e400,1]]", "[[1e308,1e308]]", "null", "true"),
    *("[[9" + "9" * 400 + ",1]]", "", "[[1,2],a]", "[{a:1}]"),
)
HABITS = (
    *("patience=3", "trainer.patience=3", "clip=1", "lr=0.1", "learning_rate=0.1", "batch=8", "batch_size=8", "bs=8"),
    *("epochs=3", "epoch=3", "logger=comet", "wandb=true", "early_stopping=true", "steps=10", "gpu=0", "device=cpu"),
    *("num_workers=2", "dry_run=true", "max_epochs=3", "optimizer=adamw", "fp16=true", "name=x", "resume=true"),
)


def command_line(seed: int, i: int) -> list[str]:
    """The words of line `i` of a seed: one or two kinds of mistakes, perhaps with a valid option."""
    rng = random.Random(f"{seed} {i}")
    words = [word for kind in rng.sample(KINDS, rng.choice((1, 1, 1, 2))) for word in kind(rng)]
    words += rng.sample(RIGHT, rng.choice((0, 0, 1)))
    if rng.random() < 0.3:
        rng.shuffle(words)
    return words


def _right(rng: random.Random) -> str:
    group = rng.choice(GROUPS)
    return rng.choice((f"{group}={rng.choice(options(group))}", rng.choice(RIGHT), f"{rng.choice(KEYS)}=1"))


def _misspelt(rng: random.Random) -> list[str]:
    word = _right(rng)
    at = rng.randrange(len(word))
    changed = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + rng.choice("aex_./=-") + word[at:],
    )
    return [rng.choice((*changed, word[::-1], word.upper(), word.replace("=", " ="), word.replace("=", ".")))]


def _valued(values: Sequence[str]) -> Callable[[random.Random], list[str]]:
    def kind(rng: random.Random) -> list[str]:
        return [f"{rng.choice((*KEYS, *GROUPS, *WAYS))}={rng.choice(values)}"]

    return kind


def _inserted(pieces: Sequence[str]) -> Callable[[random.Random], list[str]]:
    def kind(rng: random.Random) -> list[str]:
        word, piece = _right(rng), rng.choice(pieces)
        at = rng.choice((0, word.index("="), word.index("=") + 1, len(word)))
        return [rng.choice((word[:at] + piece + word[at:], f"{rng.choice(KEYS)}={piece}", piece))]

    return kind


def _twice(rng: random.Random) -> list[str]:
    key = rng.choice((*KEYS, *GROUPS))
    values = options(key) if key in GROUPS else WRONG
    return [f"{key}={rng.choice(values)}" for _ in range(rng.choice((2, 2, 3)))]


def _prefixed(rng: random.Random) -> list[str]:
    key = rng.choice(
        (*KEYS, *GROUPS, *PRESETS, *WAYS, "foo", "solver.foo", "hydra", "hydra.nope", "solver._target_", "")
    )
    return [f"{rng.choice(('+', '++', '~', '+++', '~~'))}{key}{rng.choice(('', '=1', '=null', '=', '=adam'))}"]


def _option_of_a_choice(rng: random.Random) -> list[str]:
    group = rng.choice(GROUPS)
    choice = rng.choice(options(group))
    own = _options_of(group, choice) or [group]
    keys = rng.sample(own, min(len(own), rng.choice((1, 1, 2))))
    return [f"{group}={choice}", *(f"{key}={rng.choice((*WRONG, *EXTREME))}" for key in keys)]


@cache
def _options_of(group: str, choice: str) -> list[str]:
    """The options in the yaml of a choice, which may also set options of other groups."""
    content = OmegaConf.load(conf_dir() / group / f"{choice}.yaml")
    names = [name for name in content.get(group, content) if name not in ("_target_", "defaults")]
    return [f"{group}.{name}" for name in names]


def _flags(rng: random.Random) -> list[str]:
    return [word for flag in rng.sample(FLAGS, rng.choice((1, 1, 2))) for word in (*flag.split(" "), _right(rng))]


def _revisit(rng: random.Random) -> list[str]:
    words = [f"{rng.choice(WAYS)}={rng.choice(FOLDERS)}"]
    return words + rng.sample([_right(rng), f"times={rng.choice(TIMES)}", "-m", "plan=true"], rng.choice((0, 1, 1)))


def _prediction(rng: random.Random) -> list[str]:
    words = [f"predict={rng.choice(('run', 'exact'))}", f"times={rng.choice(TIMES)}", f"inputs={rng.choice(INPUTS)}"]
    return words[: rng.choice((2, 2, 3))] if rng.random() < 0.7 else [words[0], words[2]]


def _sweep(rng: random.Random) -> list[str]:
    return ["-m", f"{rng.choice((*KEYS, *GROUPS))}={rng.choice(SWEEPS)}", "plan=true"][: rng.choice((2, 3, 3))]


def _preset(rng: random.Random) -> list[str]:
    group = rng.choice(PRESETS)
    names = options(group)
    return [
        f"{group}={rng.choice((*names, *WRONG))}",
        *rng.choice((["plan=true"], ["-m", "plan=true"], ["--cfg", "job"])),
    ]


def _habit(rng: random.Random) -> list[str]:
    return [f"{rng.choice(('', '', '+', '--'))}{rng.choice(HABITS)}"]


KINDS: tuple[Callable[[random.Random], list[str]], ...] = (
    *(_misspelt, _valued(WRONG), _valued(EXTREME), _inserted(UNICODE), _inserted(QUOTES), _twice, _prefixed),
    *(_valued(INTERPOLATIONS), _inserted(INTERPOLATIONS), _option_of_a_choice, _option_of_a_choice, _flags),
    *(_revisit, _prediction, _sweep),
    *(_preset, _habit),
)
SMALL = ("trainer=quick", "trainer.max_steps=1", "logger=none", *TINY)
