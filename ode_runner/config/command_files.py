"""The files of `.hydra/` and the folders of choices that a job was composed from."""

from collections.abc import Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf


def command_files(cfg: DictConfig) -> dict[str, str]:
    """The content of each file of `.hydra/` by its name, as Hydra itself would write them."""
    job = HydraConfig.instance().cfg
    contents = {"config.yaml": cfg, "hydra.yaml": job, "overrides.yaml": HydraConfig.get().overrides.task}
    return {name: OmegaConf.to_yaml(content) for name, content in contents.items()}


def own_config_dirs(hydra: DictConfig | None = None) -> list[Path]:
    """Folders of choices besides the built-in one that a job was composed from, absolute.

    `hydra` is the node of that name of the job's configuration; by default that of the job which runs.
    """
    sources = (hydra or HydraConfig.get()).runtime.config_sources
    return [Path(source.path) for source in sources if source.schema == "file" and source.provider != "main"]


def own_choice_files(choices: Mapping[str, str]) -> dict[str, Path]:
    """Files of the groups in one's own folders of choices from which something was chosen, by group and name.

    `choices` are Hydra's: the group solver at the place solver.base is `solver@solver.base`.
    """
    files: dict[str, Path] = {}
    for folder in own_config_dirs():
        for group in sorted({name.partition("@")[0] for name in choices}):
            for path in sorted((folder / group).glob("*.yaml")):
                files.setdefault(f"{group}/{path.name}", path)
    return files


def typed_overrides() -> list[str]:
    """The overrides of the job that runs, those of a command's run before those typed now."""
    return list(HydraConfig.get().overrides.task)
