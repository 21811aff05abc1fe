"""`make bench`: our training step against a plain torchdiffeq loop, a ResNet, and what our loop costs.

One process, one sample of each contender in turn, batch 128, dopri5 at 1e-3, SGD 0.1 with momentum 0.9. The ODE-Net
is trained for a few steps first, so that its field is no longer trivial; then both sides hold the same weights and
a learning rate of 0, so that every step solves the same equation. A ResNet costs the same whatever its weights.
"""

import argparse
import os
import sys
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from ode_runner.models.depth.odenet import ODENet
from ode_runner.training.trainer import Trainer
from tests.benchmarks.accuracy import race
from tests.benchmarks.agreement import EVALUATIONS_PER_STEP, Agreement, check_odenet, check_resnet
from tests.benchmarks.clock import add_pairs
from tests.benchmarks.measure import (
    BenchmarkFailed,
    Sample,
    alternate,
    evaluations,
    our_contender,
    plain_contender,
)
from tests.benchmarks.ours import as_dataset, find_mnist, freeze, freeze_ours, make_trainer, train, under_plain_names
from tests.benchmarks.overhead import measure_overhead
from tests.benchmarks.plain import PlainLoop, PlainODENet, PlainResNet, plain_loader
from tests.benchmarks.report import Findings, describe, markdown, print_table

OUTPUTS = Path("outputs/bench")


def main() -> int:
    """0: done; 1: the two sides do not compute the same thing; 2: there is no MNIST."""
    options = parse()
    mnist = find_mnist(options.data_dir)
    if mnist is None:
        print(
            f"bench: no MNIST in {options.data_dir}; point --data-dir or ODE_RUN_DATA at a folder with MNIST/raw.",
            file=sys.stderr,
        )
        return 2
    try:
        findings = measure(options, mnist)
    except BenchmarkFailed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    console = Console(highlight=False)
    console.width = min(console.width, 100) if console.is_terminal else 100
    print_table(findings, console)
    print(f"Every sample: {findings.write(OUTPUTS)}")
    if options.markdown:
        (OUTPUTS / "README-table.md").write_text(markdown(findings), encoding="utf-8")
        print(f"Markdown:     {OUTPUTS / 'README-table.md'}")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training", description=__doc__)
    add_pairs(parser, default=10, of="samples of each contender")
    parser.add_argument("--warmup", type=int, default=2, help="samples of each thrown away first (default 2)")
    parser.add_argument("--train-steps", type=int, default=60, help="steps that make the weights (default 60)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("ODE_RUN_DATA") or "data"))
    parser.add_argument("--accuracy", action="store_true", help="also train both to 98 %% on the test set (minutes)")
    parser.add_argument("--markdown", action="store_true", help=f"also write {OUTPUTS}/README-table.md")
    options = parser.parse_args()
    if options.warmup < 0 or options.train_steps < 0:
        parser.error("--warmup and --train-steps must be at least 0")
    return options


def measure(options: argparse.Namespace, mnist: Path) -> Findings:
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    )
    environment = describe(device)
    counts = {"pairs": options.pairs, "warmup": options.warmup}
    say(f"training the ODE-Net for {options.train_steps} steps")
    trainer = make_trainer(mnist, device, "model=odenet")
    train(trainer, options.train_steps)
    samples: dict[str, dict[str, list[Sample]]] = {}
    agreement: dict[str, Agreement] = {}
    samples["ODE-Net"], agreement["ODE-Net"] = compare(trainer, mnist, "odenet", counts)
    resnet = make_trainer(mnist, device, "model=resnet")
    samples["ResNet"], agreement["ResNet"] = compare(resnet, mnist, "resnet", counts)
    check_like_counts(samples["ODE-Net"])
    say("what Trainer.fit costs beyond the bare step")
    blocks = max(1, options.pairs // 2)
    overhead = measure_overhead(mnist, device, trainer.model.state_dict(), blocks=blocks, scratch=OUTPUTS)
    if options.accuracy:
        say("training both to 98 % on the test set")
    return Findings(
        options={key: value for key, value in vars(options).items() if key != "data_dir"},  # a path of this machine
        environment=environment,
        agreement=agreement,
        samples=samples,
        overhead=overhead,
        race=race(mnist, mnist, device) if options.accuracy else {},
    )


def compare(
    trainer: Trainer, mnist: Path, model: str, counts: dict[str, int]
) -> tuple[dict[str, list[Sample]], Agreement]:
    """Ours in fp32, the plain loop and ours in bf16 in turn, on the weights that `trainer` has now."""
    say(f"{model}: do both sides agree?")
    weights = trainer.model.state_dict()
    plain, agreement = with_plain(trainer, weights)
    lower = make_trainer(mnist, trainer.device, f"model={model}", "trainer.precision=bf16")
    lower.model.load_state_dict(weights)
    loop = PlainLoop(plain, plain_loader(as_dataset(trainer, mnist), trainer.options.batch_size), trainer.device)
    freeze(loop.optimizer)
    freeze_ours(trainer)
    freeze_ours(lower)
    say(f"{model}: {counts['warmup']} + {counts['pairs']} pairs")
    contenders = {
        "ours": our_contender(trainer),
        "plain": plain_contender(loop),
        "ours bf16": our_contender(lower),
    }
    return alternate(contenders, **counts), agreement


def with_plain(trainer: Trainer, weights: dict[str, Tensor]) -> tuple[PlainODENet | PlainResNet, Agreement]:
    """The plain model with our weights, once its gradient is known to be ours."""
    plain = PlainODENet() if isinstance(trainer.model, ODENet) else PlainResNet()
    plain.load_state_dict(under_plain_names(weights))
    plain.to(trainer.device)
    agreement = check_odenet(trainer, plain) if isinstance(plain, PlainODENet) else check_resnet(trainer, plain)
    return plain, agreement


def check_like_counts(samples: dict[str, list[Sample]]) -> None:
    """Times of unequal work are not compared."""
    ours, plain = evaluations(samples["ours"]), evaluations(samples["plain"])
    if abs(ours - plain) > EVALUATIONS_PER_STEP:
        raise BenchmarkFailed(f"{ours:.0f} evaluations a step against {plain:.0f}: times are not comparable.")


def say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
