"""What is composed in less time is what Hydra composes."""

import copy
import pkgutil
from pathlib import Path

import omegaconf.base
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from omegaconf import DictConfig, OmegaConf
from omegaconf.base import Metadata

from ode_runner.config import composition_cost
from ode_runner.config.composition_cost import FIELDS, SIGNATURES, _replacements, less_composing
from ode_runner.config.help import conf_dir
from tests.helpers import TINY, typed


def composed(*words: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=list(words), return_hydra_config=True)


def test_the_configuration_is_the_same_to_the_last_key() -> None:
    words = ("task=digits", "model=cnf", "regularizer=[kinetic]", "solver.rtol=1e-4", "seed=3")  # cnf's own of digits
    plain = OmegaConf.to_yaml(composed(*words))
    with less_composing():
        assert [OmegaConf.to_yaml(composed(*words)) for _ in range(3)] == [plain] * 3
        assert composed("task=digits", "model=cnf").seed == 0  # an override is of its own cell


@pytest.mark.parametrize("own", [(), ("seed=1",), ("+mine.width=3",), ("trainer.epochs=7", "solver=rk4")])
def test_cells_of_the_same_choices_differ_in_what_is_typed(own: tuple[str, ...]) -> None:
    words = ("task=digits", "regularizer=[kinetic]", *own)
    plain = OmegaConf.to_yaml(composed(*words))
    with less_composing():
        composed("task=digits", "regularizer=[kinetic]", "trainer.epochs=3", "+mine.depth=2", "seed=5")
        assert OmegaConf.to_yaml(composed(*words)) == plain


def test_a_yaml_that_has_changed_is_read_again(tmp_path: Path) -> None:
    words = (f"hydra.searchpath=[file://{tmp_path}]", "model=mine")
    (tmp_path / "model").mkdir()
    mine = tmp_path / "model" / "mine.yaml"
    for width in (8, 16):
        mine.write_text(f"_target_: own.Mine\nwidth: {width}\n")
        with less_composing():  # one command each
            assert composed(*words).model.width == width


def test_a_sweep_composes_each_cell_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compose_anew, asked = ConfigLoaderImpl._load_configuration_impl, []

    def noted(loader: ConfigLoaderImpl, **named: object) -> DictConfig:
        asked.append(named["overrides"])
        return compose_anew(loader, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", noted)
    ended = typed("-m", "seed=0,1", "model=resnet", "trainer.max_steps=1", "logger=none", *TINY, cwd=tmp_path)
    assert (ended.returncode, ended.stdout.count("completed in ")) == (0, 2)
    assert len(asked) == 3  # what is of the sweep, and of either cell


def test_a_copy_has_flags_and_resolved_values_of_its_own() -> None:
    cfg = OmegaConf.create({"inner": {"width": 1}})
    OmegaConf.get_cache(cfg)["now"]["%H"] = "12"
    with less_composing():
        copied = copy.deepcopy(cfg)
    assert OmegaConf.get_cache(copied) == {"now": {"%H": "12"}}
    OmegaConf.set_readonly(copied.inner, True)
    OmegaConf.clear_cache(copied)
    assert OmegaConf.is_readonly(cfg.inner) is None
    assert OmegaConf.get_cache(cfg) == {"now": {"%H": "12"}}


def test_a_script_s_own_hydra_is_left_as_it_was() -> None:
    def now() -> tuple[object, ...]:
        return (
            ConfigLoaderImpl.load_configuration,
            ConfigRepository.load_config,
            defaults_list._create_interpolation_map,
            getattr(Metadata, "__deepcopy__", None),
            omegaconf.base.parse,
        )

    before = now()
    with less_composing():
        assert not set(now()) & set(before)
    assert now() == before


PRIVATE = [
    (name, new) for name in SIGNATURES for new in (None, lambda *one, **other: None)
]  # missing; other parameters


@pytest.mark.parametrize(("name", "new"), PRIVATE, ids=lambda part: part if isinstance(part, str) else str(bool(part)))
def test_what_a_version_has_otherwise_is_left_alone(name: str, new: object, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, _, attribute = name.replace(":", ".").rpartition(".")
    place = pkgutil.resolve_name(owner)
    if new is None:
        monkeypatch.delattr(place, attribute)
    else:
        monkeypatch.setattr(place, attribute, new)
    with less_composing():
        assert vars(place).get(attribute) is new
    assert len([one for one in _replacements() if one.known()]) == len(_replacements()) - 1


def test_metadata_of_more_than_is_known_is_copied_as_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition_cost, "FIELDS", FIELDS[:-1])
    with less_composing():
        assert "__deepcopy__" not in vars(Metadata)


def test_without_any_of_it_a_configuration_is_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition_cost, "SIGNATURES", dict.fromkeys(SIGNATURES, ()))
    monkeypatch.setattr(composition_cost, "FIELDS", ())
    with less_composing():
        assert composed("seed=3").seed == 3
