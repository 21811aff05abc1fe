"""The files of `.hydra/` and the folders of choices that a job was composed from."""

from collections.abc import Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ode_runner.config.yaml_text import to_yaml


def command_files(cfg: DictConfig) -> dict[str, str]:
    """The content of each file of `.hydra/`, by name, as Hydra itself would write them."""
    job = HydraConfig.instance().cfg
    contents = {"config.yaml": cfg, "hydra.yaml": job, "overrides.yaml": HydraConfig.get().overrides.task}
    return {name: to_yaml(content) for name, content in contents.items()}


def own_config_dirs(hydra: DictConfig | None = None) -> list[Path]:
    """The user's folders of choices that a job was composed from, as absolute paths.

    `hydra` is the node of that name in the job's configuration; by default that of the present job.
    """
    sources = (hydra or HydraConfig.get()).runtime.config_sources
    return [Path(source.path) for source in sources if source.schema == "file" and source.provider != "main"]


def own_choice_files(choices: Mapping[str, str]) -> dict[str, Path]:
    """All yaml files, in the user's folders of choices, of groups from which something was chosen; by group and name.

    `choices` are Hydra's: the group solver at the place solver.base is `solver@solver.base`.
    """
    files: dict[str, Path] = {}
    for folder in own_config_dirs():
        for group in sorted({name.partition("@")[0] for name in choices}):
            for path in sorted((folder / group).glob("*.yaml")):
                files.setdefault(f"{group}/{path.name}", path)
    return files


def typed_overrides() -> list[str]:
    """The overrides of the present job; if a command names a run, the run's own precede those typed now."""
    return list(HydraConfig.get().overrides.task)
