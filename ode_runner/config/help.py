"""`ode-run --help`: groups and their choices, read from the yaml files. Imports neither Hydra nor torch."""

import difflib
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ode_runner.config.arguments import parse

COLUMNS = 100
MOST_SIGNS = 420  # characters of a list of names in a message
GROUPS = {
    "task": "the data, the loss and the metrics",
    "model": "how depth, a density or samples are computed",
    "network": "the layers; each task has its own default",
    "solver": "the numerical method, or the sampler",
    "gradient": "how a solve is differentiated",
    "regularizer": "what training minimises besides the loss; several: regularizer=[a,b]",
    "optimizer": "",
    "schedule": "learning rate over the run",
    "trainer": "how long and how to train",
    "logger": "where the curves go, besides metrics.jsonl; several: logger=[tensorboard,csv]",
    "diagnostics": "what is measured between epochs",
    "experiment": "complete settings from the literature",
    "grid": "presets of sweeps",
    "search": "presets of searches for the best options, by Optuna",
}

USAGE = (
    "ode-run runs an experiment with neural differential equations.\n\n"
    "  ode-run task=digits model=odenet solver=dopri5 gradient=adjoint  one run\n"
    "  ode-run task=digits solver.rtol=1e-4 trainer.epochs=5            any option, by its dotted name\n"
    "  ode-run -m model=resnet,odenet solver=rk4,dopri5 seed=0,1,2      a sweep\n"
    "  ode-run search=digits                                            a search for the best options\n"
    "  ode-run task=mnist processes=2                                   one run shared by two processes\n"
    "  ode-run solver.per_sample=true                                   a step size for every sample\n"
    "  ode-run evaluate=RUN_FOLDER solver=euler                         a trained run, another solver\n"
    "  ode-run predict=RUN_FOLDER times=0:5:101                         its states at any times\n"
    "  ode-run predict=RUN_FOLDER data=new.csv                          its answers to other data\n"
    "  ode-run predict=RUN_FOLDER samples=64                            samples of what it learned\n"
    "  ode-run export=RUN_FOLDER format=onnx                            the model for other programs\n"
    "  ode-run replay=RUN_FOLDER solver=kvaerno3                        repeat the solve that failed\n"
    "  ode-run audit=true task=digits                                   the error of each gradient mode\n"
    "  ode-run hypersolve=RUN_FOLDER solver=euler                       a network that corrects its steps\n"
    "  ode-run new PATH                                                 a project of your own\n"
    "  ode-run pack RUN_FOLDER                                          a run and its code, to be sent\n\n"
    "The same command again resumes an interrupted run, or shows a completed one; rerun=all repeats it.\n"
)
FLAGS = (
    "* default; a task or model may choose another. --cfg job shows it, with every option and its value.\n\n"
    "flags, anywhere on the line:\n"
    "  -m, --multirun            run every combination of comma-separated values\n"
    "  --cfg job                 print the configuration, run nothing\n"
    "  -cd FOLDER                add a folder of your own choices (FOLDER/model/mine.yaml: model=mine)\n"
    "  -sc install=bash          print how to get tab completion (bash, zsh or fish)\n"
    "  --help task=digits        the options of a choice, with their defaults\n"
    "  --version, --hydra-help   this program's version; every flag of Hydra"
)


def conf_dir() -> Path:
    """The folder `conf` of built-in choices: in the package if installed from a wheel, at the top of a checkout."""
    here = Path(__file__).resolve().parents[1]
    packaged = here / "conf"
    return packaged if packaged.is_dir() else here.parent / "conf"


def print_version() -> None:
    """Print the program's name and version."""
    from ode_runner.config.version import VERSION

    print(f"ode-run {VERSION}")


def print_help(arguments: list[str]) -> None:
    """Print usage, every group with its choices, and the flags. Imports neither Hydra nor torch."""
    folders = [conf_dir(), *user_folders(arguments)]
    defaults = defaults_of(folders[0] / "config.yaml")
    print(USAGE)
    for group, meaning in GROUPS.items():
        if options := _options(folders, group):
            _print_group(group, meaning, options, default=defaults.get(group))
    print(FLAGS)


def _print_group(group: str, meaning: str, options: Mapping[str, str], *, default: str | None) -> None:
    """Print a group and its choices, each with the header of its yaml; a star marks the default."""
    print(f"{group}" + (f": {meaning}" if meaning else ""))
    width = max(len(name) for name in options)
    for name, header in options.items():
        first = f"  {'*' if default == name else ' '} {name:<{width}}  "
        rest = " " * len(first)
        print(textwrap.fill(f"{first}{header}", COLUMNS, subsequent_indent=rest, break_on_hyphens=False))
    print()


def targets_in(path: Path) -> list[str]:
    """The classes that a choice's yaml names, in order, read without a yaml parser; empty if there is no such file.

    `_target_` stands at the beginning of a line, or in braces: `{_target_: my_module.Mine, width: 3}`.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    uncommented = re.sub(r"(^|\s)#.*", "", text)  # examples in comments do not count
    return re.findall(r"""(?:^|[{,])\s*["']?_target_["']?\s*:\s*["']?([\w.]+)""", uncommented, re.MULTILINE)


def did_you_mean(name: str, offered: list[str], *, closeness: float = 0.6) -> str:
    """The sentence " Did you mean 'x'?" for the closest of the names offered, or for two equally close; else "".

    `closeness` is the least similarity, from 0 to 1, where 1 is the same word.
    """
    close: dict[tuple[float, bool], list[str]] = {}
    for other in difflib.get_close_matches(name, offered, n=5, cutoff=closeness):
        likeness = difflib.SequenceMatcher(None, other, name).ratio(), other[0] == name[0]
        close.setdefault(likeness, []).append(other)
    nearest = sorted(set(close[max(close)]))[:2] if close else []
    return f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""


def available(names: Iterable[str]) -> str:
    """The sentence "Available: a, b, c", in alphabetical order, cut after `MOST_SIGNS` characters."""
    return f"Available: {listed(sorted(names), most=MOST_SIGNS)}"


def listed(names: Sequence[str], *, most: int) -> str:
    """Names separated by commas, in at most `most` characters, and how many more there are."""
    left, shown = list(names), list[str]()
    while left and sum(map(len, [*shown, left[0]])) + 2 * len(shown) <= most:
        shown.append(left.pop(0))
    return ", ".join(shown) + (f", and {len(left)} more: see ode-run --help" if left else "")


def _options(folders: list[Path], group: str) -> dict[str, str]:
    """The names of a group's choices, each with the first comment line of its yaml."""
    found: dict[str, str] = {}
    for folder in folders:
        for path in sorted((folder / group).glob("*.yaml")):
            comments = (line[1:].strip() for line in _text(path).splitlines() if line[:1] == "#")
            found.setdefault(path.stem, next((line for line in comments if not line.startswith("@")), ""))
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")  # a user's yaml may have another encoding


def user_folders(words: list[str]) -> list[Path]:
    """The folders of choices that are named on the command line, by -cd or hydra.searchpath."""
    arguments = parse(words)
    searched = [word for word in arguments.overrides if word.startswith("hydra.searchpath=")]
    url = r"""(["'])file://(.+?)\1|file://([^,\]\s'"]+)"""  # between quotes, or bare
    places = [place for word in searched for place in re.findall(url, word)]
    return [Path(place) for place in [*arguments.config_dirs(), *(quoted or bare for _, quoted, bare in places)]]


def search_path(folders: Iterable[Path]) -> str:
    """The override that adds folders to Hydra's search path, quoted so that any characters are allowed."""
    places = (f"file://{folder}".replace('"', '\\"') for folder in folders)
    return "hydra.searchpath=[" + ",".join(f'"{place}"' for place in places) + "]"


def defaults_of(config: Path) -> dict[str, str]:
    """The defaults list, read without a yaml parser: one `- group: choice` per line."""
    pairs = (
        line.strip()[2:].split(":", 1)
        for line in config.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith("- ")
    )
    return {pair[0].strip(): pair[1].partition("  #")[0].strip() for pair in pairs if len(pair) == 2}
