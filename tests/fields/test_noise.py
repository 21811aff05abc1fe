"""A Brownian path is a function: of seed, sample, element and time, whoever asks, in whatever order and company."""

import itertools
import math

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from ode_runner.noise import hashed_numbers, levy_construction
from ode_runner.noise.brownian_path import BrownianPath, Increment, Noise

PATH = BrownianPath(seed=5, cells=4, depth=10)
MANY = 20_000  # paths: a standard error of 1 % in a variance
SPANS = [(0.0, 0.25), (0.25, 0.5), (0.0, 1.0), (0.1, 0.37), (0.013, 0.02), (0.3, 2.9), (-0.7, 0.2), (0.125, 0.25)]


def increment(t0: float, t1: float, *, path: BrownianPath = PATH, samples: int = MANY) -> Increment:
    return path.increment(t0, t1, path.keys(torch.arange(samples), (2,)), dtype=torch.float64)


def length(t0: float, t1: float) -> float:
    return PATH.nearest(t1) - PATH.nearest(t0)


def correlation(a: Tensor, b: Tensor) -> float:
    return float((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt())


def test_the_hash_is_splitmix64_on_numbers_and_on_tensors() -> None:
    assert hashed_numbers.hashed_number(0) == 0xE220A8397B1DCDAF, "its first output from 0"
    numbers = [0, 1, -1, 2**62, -(2**63), 123456789]
    expected = [hashed_numbers.signed(hashed_numbers.hashed_number(x & hashed_numbers.WORD)) for x in numbers]
    assert hashed_numbers.hashed(torch.tensor(numbers)).tolist() == expected


def test_the_numbers_are_those_of_other_versions_and_machines() -> None:
    found = PATH.increment(0.1, 0.6, PATH.keys(torch.arange(2), (2,)), dtype=torch.float64)
    expected = Increment(
        torch.tensor(
            [[0.5738677663637458, 0.7014353387972827], [0.5451060989512594, 0.5198696061856827]], dtype=torch.float64
        ),
        torch.tensor(
            [[0.0627728542763642, 0.35715463941682857], [0.07431179827136225, -0.37754497425146616]],
            dtype=torch.float64,
        ),
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    drawn = Noise(path=PATH, samples=torch.arange(2)).uniform(torch.tensor(0.3, dtype=torch.float64), 1, (2,))
    pinned = [[0.1439982620542482, 0.8445729393371741], [0.8469828149700331, 0.2367683045987688]]
    torch.testing.assert_close(drawn, torch.tensor(pinned, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("t0", "t1"), SPANS)
def test_an_increment_and_its_area_have_their_law(t0: float, t1: float) -> None:
    w, h = increment(t0, t1)
    span = length(t0, t1)
    limit = 4 / math.sqrt(2 * MANY)  # four standard errors of a mean of unit variance
    assert abs(float(w.mean())) < limit * math.sqrt(span)
    assert abs(float(h.mean())) < limit * math.sqrt(span / 12)
    assert abs(float(w.var()) / span - 1) < limit * math.sqrt(2)
    assert abs(float(h.var()) * 12 / span - 1) < limit * math.sqrt(2)
    assert abs(correlation(w, h)) < limit
    for part, scale in ((w, span), (h, span / 12)):
        assert kstest((part / math.sqrt(scale)).flatten().numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize(("first", "second"), [((0.1, 0.2), (0.2, 0.31)), ((0.0, 0.25), (0.25, 0.5)), ((0, 1), (3, 4))])
def test_increments_over_disjoint_spans_are_independent(
    first: tuple[float, float], second: tuple[float, float]
) -> None:
    for a, b in itertools.product(increment(*first), increment(*second)):
        assert abs(correlation(a, b)) < 4 / math.sqrt(2 * MANY)


def test_the_path_has_the_covariance_of_brownian_motion() -> None:
    times = [0.06, 0.25, 0.31, 0.5, 0.77, 1.0, 1.9]
    values = [increment(0, t).w for t in times]
    for (s, a), (t, b) in itertools.combinations_with_replacement(zip(times, values, strict=True), 2):
        expected = min(s, t)
        error = math.sqrt((s * t + expected**2) / (2 * MANY))
        assert abs(float((a * b).mean()) - expected) < 4 * error + 1e-3  # times are rounded to 1 / 4096


@pytest.mark.parametrize("middle", [0.25, 0.5, 0.37, 0.126, 2.0])
def test_increments_add_up_and_areas_compose(middle: float) -> None:
    (t0, t1), whole = (0.1, 2.2), increment(0.1, 2.2, samples=50)
    one, two = increment(t0, middle, samples=50), increment(middle, t1, samples=50)
    a, b = length(t0, middle), length(middle, t1)
    torch.testing.assert_close(one.w + two.w, whole.w, rtol=0, atol=1e-13)
    integral = a * (one.w / 2 + one.h) + b * one.w + b * (two.w / 2 + two.h)
    torch.testing.assert_close(integral / (a + b) - whole.w / 2, whole.h, rtol=0, atol=1e-13)


def test_halved_steps_are_of_the_same_path() -> None:
    for cell, parts in itertools.product(range(3), (2, 8, 128)):
        fine = [increment((cell + i / parts) / 4, (cell + (i + 1) / parts) / 4, samples=5).w for i in range(parts)]
        whole = increment(cell / 4, (cell + 1) / 4, samples=5).w
        torch.testing.assert_close(torch.stack(fine).sum(dim=0), whole, rtol=0, atol=1e-12)


def test_a_deeper_path_is_the_same_path() -> None:
    deeper = BrownianPath(seed=5, cells=4, depth=20)
    torch.testing.assert_close(increment(0.125, 0.75, path=deeper), increment(0.125, 0.75), rtol=0, atol=1e-14)


def test_the_order_of_the_questions_does_not_matter() -> None:
    first = {span: increment(*span, samples=7) for span in SPANS}
    levy_construction.plan_draws.cache_clear()
    for span in reversed(SPANS):
        again = increment(*span, samples=7)
        assert torch.equal(first[span].w, again.w)
        assert torch.equal(first[span].h, again.h)


def test_a_sample_has_its_path_in_any_company() -> None:
    numbers = torch.randperm(40)
    together = PATH.increment(0.1, 0.8, PATH.keys(numbers, (3, 2)), dtype=torch.float32)
    for batch in numbers.split([4, 1, 20, 15]):
        apart = PATH.increment(0.1, 0.8, PATH.keys(batch, (3, 2)), dtype=torch.float32)
        rows = [numbers.tolist().index(int(number)) for number in batch]
        assert torch.equal(together.w[rows], apart.w)
        assert torch.equal(together.h[rows], apart.h)


@pytest.mark.parametrize("t", [0.0, 0.25, 0.3, -1.0])
def test_over_no_time_nothing_happens(t: float) -> None:
    path = BrownianPath(seed=0, cells=4, depth=3)
    found = path.increment(t, t, path.keys(torch.arange(5), (2,)), dtype=torch.float64)
    assert found.w.shape == found.h.shape == (5, 2)
    assert not found.w.any()
    assert not found.h.any()


def test_backwards_is_the_same_path() -> None:
    there, back = increment(0.1, 0.8, samples=5), increment(0.8, 0.1, samples=5)
    assert torch.equal(there.w, -back.w)
    assert torch.equal(there.h, back.h)
    assert not increment(0.3, 0.3, samples=5).w.any()


def test_neighbours_in_seed_sample_element_and_cell_have_nothing_in_common() -> None:
    keys = PATH.keys(torch.arange(MANY + 1), (2,))
    here = PATH.increment(0, 0.25, keys, dtype=torch.float64).w
    other = BrownianPath(seed=6, cells=4, depth=10)
    pairs = {
        "seed": (here, other.increment(0, 0.25, other.keys(torch.arange(MANY + 1), (2,)), dtype=torch.float64).w),
        "sample": (here[:-1], here[1:]),
        "element": (here[:, 0], here[:, 1]),
        "cell": (here, PATH.increment(0.25, 0.5, keys, dtype=torch.float64).w),
        "level": (here, PATH.increment(0, 0.125, keys, dtype=torch.float64).w - here / 2),
    }
    for name, (a, b) in pairs.items():
        assert abs(correlation(a, b)) < 4 / math.sqrt(a.numel()), name


def test_torchs_generators_take_no_part() -> None:
    first = increment(0, 1, samples=4)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert torch.equal(increment(0, 1, samples=4).w, first.w)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("cells", "depth"), [(0, 1), (1, -1), (1, 41)])
def test_no_grid_at_all_is_refused(cells: int, depth: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1, and depth"):
        BrownianPath(seed=0, cells=cells, depth=depth)


def test_an_increment_is_made_of_what_lies_above_its_ends_alone() -> None:
    """Two normal numbers of the cell, and of each midpoint on the way down to an end within it."""
    for ends, count in (((0, 1024), 1), ((0, 512), 2), ((512, 768), 3), ((1, 2), 11), ((-1, 1024), 12), ((7, 7), 0)):
        alone = levy_construction.plan_draws((ends,), cells=4, depth=10, several=100)
        both = levy_construction.plan_draws(((1, 2), ends), cells=4, depth=10, several=3)
        assert sum(draws.nodes.numel() for draws in alone.draws) == count
        place = 1 if both.order is None else int(both.order[1])
        columns = [draws.weights[..., place : place + 1] for draws in both.draws]
        assert sum(int(weights.any(dim=3).any(dim=2).any(dim=1).sum()) for weights in columns) == count


def test_what_lies_above_several_steps_is_drawn_once() -> None:
    """A cell, its midpoint, and the midpoints of its halves: 4 nodes for 4 steps, each below 3 of them."""
    steps = tuple((256 * i, 256 * (i + 1)) for i in range(4))
    [draws] = levy_construction.plan_draws(steps, cells=4, depth=10, several=100).draws
    assert draws.places is not None
    assert (len(draws.nodes), draws.places.shape) == (4, (3, 4))
    [*_, last] = levy_construction.plan_draws((*steps, (1, 2)), cells=4, depth=10, several=1).draws
    assert last.nodes.shape == (1, 1)  # of the one step that lies deeper


def test_uniform_numbers_are_those_between_multiples() -> None:
    """Of 2^-53, so that none is 0; the last is rounded to 1."""
    found = hashed_numbers.uniform(torch.tensor([0, 1 << 11, 1 << 62, -1]))
    assert found.tolist() == [2**-54, 3 * 2**-54, 0.25 + 2**-54, 1.0]


def test_no_number_draws_what_has_no_weight() -> None:
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0])
    uniform = torch.tensor([2**-54, 0.2, 0.3, 1 - 2**-53, 1.0], dtype=torch.float64)  # 1 - 2 ** -54 is rounded to 1
    assert hashed_numbers.draw_categorical(weights.expand(5, 5), uniform).tolist() == [1, 1, 3, 3, 3]


def test_copies_of_a_batch_have_paths_of_their_own_and_the_first_those_of_the_batch() -> None:
    noise = Noise(path=PATH, samples=torch.tensor([3, 8]))
    of_batch, of_copies = (one.increment(0.1, 0.6, (), dtype=torch.float64).w for one in (noise, noise.copies(3)))
    assert torch.equal(of_copies[:2], of_batch)
    assert len(of_copies.unique()) == 6
