"""What is composed in less time is what Hydra composes."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal import defaults_list
from hydra._internal.config_repository import ConfigRepository
from omegaconf import DictConfig, OmegaConf

from ode_runner.config.composition_cost import less_composing
from ode_runner.config.help import conf_dir


def composed(*words: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=list(words), return_hydra_config=True)


def test_the_configuration_is_the_same_to_the_last_key() -> None:
    words = ("task=digits", "model=cnf", "regularizer=[kinetic]", "solver.rtol=1e-4", "seed=3")  # cnf's own of digits
    plain = OmegaConf.to_yaml(composed(*words))
    with less_composing():
        assert [OmegaConf.to_yaml(composed(*words)) for _ in range(2)] == [plain, plain]
        assert composed("task=digits", "model=cnf").seed == 0  # an override is of its own cell


def test_a_yaml_that_has_changed_is_read_again(tmp_path: Path) -> None:
    words = (f"hydra.searchpath=[file://{tmp_path}]", "model=mine")
    (tmp_path / "model").mkdir()
    mine = tmp_path / "model" / "mine.yaml"
    with less_composing():
        for width in (8, 16):
            mine.write_text(f"_target_: own.Mine\nwidth: {width}\n")
            assert composed(*words).model.width == width


def test_a_script_s_own_hydra_is_left_as_it_was() -> None:
    before = ConfigRepository.load_config, defaults_list._create_interpolation_map
    with less_composing():
        assert ConfigRepository.load_config is not before[0]
    assert (ConfigRepository.load_config, defaults_list._create_interpolation_map) == before
