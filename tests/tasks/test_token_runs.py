"""Runs of tasks of texts: what they print, what they write, and what they refuse."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ode_runner.batch import LEARNER, Learner
from ode_runner.building.instantiate import construct
from ode_runner.plots.texts import last_change
from tests.composition import Compose
from tests.helpers import record_of, typed

SMALL = ("task.train=50", "task.validation=20", "task.test=40", "task.samples=60")


@pytest.mark.slow
def test_a_run_prints_a_text_on_its_way_and_completes_one_with_blanks(tmp_path: Path) -> None:
    run = typed("task=markov_text", "solver=left_to_right", *SMALL, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("a text on its way from noise"))
    way = [line.split()[1] for line in lines[first + 1 : first + 10]]
    assert way[0] == "_" * 16
    assert way[4][8:] == "_" * 8
    assert "_" not in way[4][:8] + way[-1]
    metrics = record_of(tmp_path)["metrics"]
    assert metrics["nfe/sample"] == 16
    assert {"test/bigram_tv", "test/bigram_tv_floor", "test/nll", "test/nelbo", "test/valid_rate"} <= metrics.keys()
    folder = next(tmp_path.rglob("record.json")).parent
    shown = EventAccumulator(str(folder)).Reload()
    assert "result/text_summary" in shown.Tags()["tensors"]
    assert way[-1] in (folder / "samples.csv").read_text(encoding="utf-8")
    drawn = typed(f"predict={folder}", "samples=5", "inputs=abca________gbgb", cwd=tmp_path, pictures=True)
    assert drawn.returncode == 0, drawn.stderr
    texts = next(folder.rglob("predictions/*/samples.csv")).read_text(encoding="utf-8").splitlines()[1:]
    assert len(texts) == 5
    assert all(text.startswith("abca") and text.endswith("gbgb") and "_" not in text for text in texts)
    assert next(folder.rglob("predictions/*/unmasking.png")).stat().st_size > 0
    said = drawn.stdout.splitlines()
    assert len([line for line in said if line.startswith("         ")]) == 4, "beside the one on its way"
    alone = typed(f"predict={folder}", "samples=1", cwd=tmp_path).stdout.splitlines()
    assert alone[0] == "a text on its way from noise, at t = 1:"
    assert not [line for line in alone if line.startswith("         ")]
    assert "         and 4 more" in typed(f"predict={folder}", "samples=20", cwd=tmp_path).stdout
    for words, sentence in (
        ((f"predict={folder}", "samples=5", "inputs=abc"), "has 3 tokens, and a text of this task 16"),
        ((f"predict={folder}", "samples=5", f"inputs={'z' * 16}"), "no token of this task is"),
        ((f"predict={folder}", "samples=5", f"inputs=[{'a' * 16}]"), "is no text. Type one alone, without brackets."),
        ((f"predict={folder}",), "model=exact draws texts. Type how many: predict=RUN samples=4"),
        ((f"export={folder}",), "model=exact draws texts, for which there is no file but that of its weights."),
    ):
        refused = typed(*words, cwd=tmp_path)
        assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1)
        assert sentence in refused.stderr


def test_a_model_of_single_tokens_is_told_so(tmp_path: Path) -> None:
    words = ("task=pairs", "model=masked_diffusion", "trainer.max_steps=1", "network.width=8", "network.heads=2")
    run = typed(*words, *SMALL, "logger=none", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "has learned no dependence between tokens yet" in run.stdout
    assert record_of(tmp_path)["metrics"]["test/nelbo_floor"] == pytest.approx(1.386, abs=0.3)


def test_what_cannot_be_learned_is_not_to_be_trained_longer(composed: Compose) -> None:
    task = construct(composed("task=pairs"), "task", seed=0, device=torch.device("cpu"))
    others = ((Learner(joins_tokens=False), "however long"), (Learner(learns=False), ""))
    for learner, told in ((LEARNER, "Train it longer"), *others):
        said = " ".join(task.remarks({"test/nelbo": 9.0, "test/unigram_nll": 2.7}, learner=learner))
        assert told in said
        assert ("Train it longer" in said) == (learner is LEARNER)
        assert bool(said) == bool(told)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "model",
    ["sedd", "diffusion_lm", *(pytest.param(m, marks=pytest.mark.slow) for m in ("logit_flow", "autoregressive"))],
)
def test_other_models_print_and_complete_texts_and_are_told_of_what_they_lack(model: str, tmp_path: Path) -> None:
    words = ("task=pairs", f"model={model}", "trainer.max_steps=1", "network.width=8", "network.heads=2")
    run = typed(*words, *SMALL, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "has learned no dependence between tokens yet" in run.stdout
    assert "a text on its way from noise, at t = 1" in run.stdout
    folder, metrics = next(tmp_path.rglob("record.json")).parent, record_of(tmp_path)["metrics"]
    assert metrics["test/nelbo"] > metrics["test/nelbo_floor"]
    assert "result/text_summary" in EventAccumulator(str(folder)).Reload().Tags()["tensors"]
    words = (folder / "samples.csv").read_text(encoding="utf-8").split()
    assert "_" not in words
    drawn = typed(f"predict={folder}", "samples=5", "inputs=New _", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    _, *texts = next(folder.rglob("predictions/*/samples.csv")).read_text(encoding="utf-8").splitlines()
    assert len(texts) == 5
    assert all(text.startswith("New ") and "_" not in text for text in texts)


def test_a_sampler_that_seeks_modes_is_told_of(tmp_path: Path) -> None:
    run = typed("task=markov_text", "solver=confidence", *SMALL, "logger=none", cwd=tmp_path)
    assert "the sampler seeks modes" in run.stdout


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("task=markov_text", "solver=heun"), "has none, but denoise and rates. Use solver=ancestral, confidence,"),
        (("task=markov_text", "solver=ddim"), "is none, but one of states that jump. Use solver=ancestral,"),
        (("task=markov_text", "model=odenet"), "asks for sequences of tokens, and model=odenet gives values only. Use"),
        (
            ("task=digits", "model=masked_diffusion"),
            "model=masked_diffusion gives sequences of tokens only. Use model=",
        ),
        (("task=digits", "model=exact"), "model=exact needs a task whose true field or density is known. Use task="),
        (
            ("task=ctmc", "task.paths=9", "solver=confidence"),
            "is none, but one of states that jump. Use solver=gillesp",
        ),
        (
            ("task=markov_text", "model=sedd", "solver=heun"),
            "has none, but denoise, rates and logits. Use solver=ancestral, gillespie or tau_leap.",
        ),
        (
            ("task=markov_text", "model=logit_flow", "solver=tau_leap"),
            "leads from noise to points in a space. Use a solver of ordinary equations or a sampler",
        ),
        (("task=dyck", "task.length=7"), "task.length must be even and at most 64, not 7."),
        (("task=pairs", "task.pairs=9"), "task.pairs must be at most 8, not 9."),
        (("task=tiny_table", "task.length=12"), "make a table of 4^12 probabilities, and 65,536 are the most."),
        (("task=markov_text", "task.letters=27"), "task.letters must be at most 26, not 27."),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    run = typed(*words, cwd=tmp_path)
    assert (run.returncode, len(run.stderr.strip().splitlines())) == (2, 1)
    assert sentence in run.stderr


def test_the_last_change_of_a_position_is_the_share_of_the_way_after_which_it_stands() -> None:
    path = torch.tensor([[[9, 9, 9]], [[1, 9, 9]], [[1, 9, 2]], [[1, 9, 3]], [[1, 4, 3]]])
    assert last_change(path).tolist() == [[0.25, 1.0, 0.75]]
