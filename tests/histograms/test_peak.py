"""Fits of simulated peaks: against samples of known shape, an unbinned fit, and shapes that have no peak."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import crystalball, kstest, norm

from modelbuilder.errors import FitFailure
from modelbuilder.histograms.peak import PeakFit, Shape, _cdf, fit_peak, peak_edges
from modelbuilder.kinematics.resolution import central_half_width

Floats = npt.NDArray[np.float64]
LOCATION, SIGMA, ALPHA, N = 3.0, 0.05, 1.2, 3.0
EDGES = np.linspace(2.5, 3.3, 321)


def left_ball(rng: np.random.Generator, n: int) -> Floats:
    """A Crystal Ball with its tail to the left."""
    return np.asarray(crystalball.rvs(ALPHA, N, loc=LOCATION, scale=SIGMA, size=n, random_state=rng))


def double_ball(rng: np.random.Generator, n: int) -> Floats:
    """Two Crystal Balls back to back, left alpha 1.2 and n 3, right alpha 1.5 and n 5; continuous at the top."""
    balls = [crystalball(ALPHA, N), crystalball(1.5, 5.0)]
    # the half of each below its top, in units of the height of the top
    sizes = [float(ball.cdf(0.0) / ball.pdf(0.0)) for ball in balls]
    on_left = rng.random(n) < sizes[0] / sum(sizes)
    u = rng.random(n)
    halves = [np.asarray(ball.ppf(u * ball.cdf(0.0))) for ball in balls]
    return LOCATION + SIGMA * np.where(on_left, halves[0], -halves[1])


def fit(x: Floats, weights: Floats | None = None, edges: Floats = EDGES, shape: Shape = "auto") -> PeakFit:
    w = np.ones_like(x) if weights is None else weights
    values, variances = np.histogram(x, edges, weights=w)[0], np.histogram(x, edges, weights=w**2)[0]
    return fit_peak(edges, values, variances, shape=shape)


# ------------------------------------------------------------------------------------------------ known shapes


@pytest.mark.parametrize("weighted", [False, True])
def test_pulls_of_a_crystal_ball(weighted: bool) -> None:
    """Reference: catches biased estimates, and uncertainties that forget the weights, over 150 samples.

    Weights: log-normal, of which 3000 are worth about 1100 equal ones. For a unit normal the mean of 150 pulls has a
    standard deviation of 0.08, their width one of 0.06; 4.5 of these, and a tenth for what is not normal at this size.
    """
    rng = np.random.default_rng(7)
    pulls = []
    p_values = []
    for _ in range(150):
        x = left_ball(rng, 3000)
        weights = rng.lognormal(0.0, 1.0, len(x)) if weighted else np.ones(len(x))
        found = fit(x, weights, shape="crystal-ball-left")
        assert found.left is not None
        assert found.right is None
        inverse_n, inverse_n_stdev = 1.0 / found.left.n, found.left.n_stdev / found.left.n**2
        pulls.append(
            [
                (found.location - LOCATION) / found.location_stdev,
                (found.sigma - SIGMA) / found.sigma_stdev,
                (found.left.alpha - ALPHA) / found.left.alpha_stdev,
                (inverse_n - 1.0 / N) / inverse_n_stdev,
            ]
        )
        p_values.append(found.p_value)
    table = np.array(pulls)
    assert np.mean(table[:, :2], axis=0) == pytest.approx([0.0, 0.0], abs=0.46)
    assert np.std(table[:, :2], axis=0) == pytest.approx([1.0, 1.0], abs=0.37)
    defined = table[np.isfinite(table).all(axis=1)]
    assert len(defined) > 135  # others have a tail at the end of its range
    assert np.std(defined[:, 2:], axis=0) == pytest.approx([1.0, 1.0], abs=0.37)
    # the goodness of fit is one: its p-values are flat enough to exclude at the per mille
    assert kstest(p_values, "uniform").pvalue > 1e-3


def test_fine_bins_do_not_bias_a_weighted_fit() -> None:
    """Reference: catches a scale of its own for each bin, which pulls sigma down by 5 % here: 40 of these errors."""
    rng = np.random.default_rng(3)
    sigmas = []
    for _ in range(60):
        x = rng.normal(LOCATION, SIGMA, 3000)
        sigmas.append(fit(x, rng.lognormal(0.0, 1.0, 3000), np.linspace(2.5, 3.5, 401), "gauss").sigma)
    stdev = float(np.std(sigmas)) / math.sqrt(60)
    assert stdev < 0.004 * SIGMA
    assert float(np.mean(sigmas)) == pytest.approx(SIGMA, abs=4.0 * stdev + 0.002 * SIGMA)


def test_double_crystal_ball() -> None:
    """Reference: catches sides that are swapped, and tails that are not continuous with the core."""
    found = fit(double_ball(np.random.default_rng(2), 200_000), edges=np.linspace(2.4, 3.6, 481))
    assert found.shape == "double-crystal-ball"
    assert found.acceptable
    assert found.left is not None
    assert found.right is not None
    for value, stdev, true in (
        (found.location, found.location_stdev, LOCATION),
        (found.sigma, found.sigma_stdev, SIGMA),
        (found.left.alpha, found.left.alpha_stdev, ALPHA),
        (found.left.n, found.left.n_stdev, N),
        (found.right.alpha, found.right.alpha_stdev, 1.5),
        (found.right.n, found.right.n_stdev, 5.0),
    ):
        assert value == pytest.approx(true, abs=4.5 * stdev)
        assert 0.0 < stdev < 0.2 * true


def test_mirror() -> None:
    """Invariant: catches a left tail that is treated unlike a right one."""
    x = left_ball(np.random.default_rng(4), 20_000)
    one, other = fit(x), fit(2.0 * LOCATION - x, edges=np.sort(2.0 * LOCATION - EDGES))
    assert (one.shape, other.shape) == ("crystal-ball-left", "crystal-ball-right")
    assert other.sigma == pytest.approx(one.sigma, rel=1e-3)
    assert other.location - LOCATION == pytest.approx(LOCATION - one.location, abs=1e-3 * SIGMA)
    assert one.left is not None
    assert other.right is not None
    assert other.right.alpha == pytest.approx(one.left.alpha, rel=1e-2)


def test_against_an_unbinned_fit() -> None:
    """Reference: scipy's density, unbinned, in the same window; catches a shift of half a bin, and a lost normalisation."""
    x = left_ball(np.random.default_rng(8), 20_000)
    found = fit(x, shape="crystal-ball-left")
    inside = x[(x >= found.low) & (x < found.high)]

    def cost(p: Floats) -> float:
        ball = crystalball(p[2], p[3], loc=p[0], scale=math.exp(p[1]))
        return -float(np.sum(ball.logpdf(inside)) - len(inside) * math.log(ball.cdf(found.high) - ball.cdf(found.low)))

    best = minimize(cost, [3.0, math.log(0.06), 1.5, 4.0], method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-4})
    assert best.success
    assert found.left is not None
    # bins of a twentieth of sigma cost nothing that shows beside the statistical errors
    assert found.location == pytest.approx(best.x[0], abs=0.05 * found.location_stdev)
    assert found.sigma == pytest.approx(math.exp(best.x[1]), abs=0.05 * found.sigma_stdev)
    assert found.left.alpha == pytest.approx(best.x[2], abs=0.1 * found.left.alpha_stdev)
    assert found.left.n == pytest.approx(best.x[3], abs=0.1 * found.left.n_stdev)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_units(factor: float) -> None:
    """Invariant: catches an absolute step or limit in the fit, in the observable or in the weights."""
    x = left_ball(np.random.default_rng(9), 20_000)
    one = fit(x)
    for other, scale in (
        (fit(factor * x, edges=factor * EDGES), factor),
        (fit(x, np.full(len(x), factor)), 1.0),
    ):
        assert other.shape == one.shape
        assert other.location == pytest.approx(scale * one.location, rel=1e-5)
        assert other.sigma == pytest.approx(scale * one.sigma, rel=1e-3)
        assert other.sigma_stdev == pytest.approx(scale * one.sigma_stdev, rel=1e-2)
        assert other.effective_sample_size == pytest.approx(one.effective_sample_size, rel=1e-9)
        assert other.p_value == pytest.approx(one.p_value, abs=0.01)


# ------------------------------------------------------------------------------------------- choice and window


def test_auto_takes_the_simplest_shape() -> None:
    """Catches a choice that always takes the most flexible shape, or that never leaves the normal one."""
    rng = np.random.default_rng(11)
    assert fit(rng.normal(LOCATION, SIGMA, 50_000)).shape == "gauss"
    assert fit(left_ball(rng, 50_000)).shape == "crystal-ball-left"


def test_a_large_sample_may_differ_a_little() -> None:
    """Catches a choice by p-value alone, which refuses each shape once there are events enough; and a criterion that
    calls everything acceptable.

    A tenth of the events 1.2 times wider than the others differ from the best normal by chi-square 4e-4 per event (by
    numerical integration), which 1e6 events see easily. Twice as wide differ by 2e-2.
    """
    rng = np.random.default_rng(12)

    def mixture(ratio: float) -> Floats:
        return rng.normal(LOCATION, SIGMA * np.where(rng.random(1_000_000) < 0.1, ratio, 1.0))

    wide = np.linspace(2.3, 3.7, 701)
    close = fit(mixture(1.2), edges=wide, shape="gauss")
    assert close.p_value < 0.01 or close.deviance / close.n_dof < 2.0
    assert close.acceptable
    assert not fit(mixture(2.0), edges=wide, shape="gauss").acceptable


def test_narrow_peak_in_a_wide_range() -> None:
    """Catches a width that is that of the range: a third of the entries in a peak of 1/1000 of the range."""
    rng = np.random.default_rng(13)
    x = np.concatenate([rng.normal(3.0, 0.01, 20_000), rng.uniform(0.0, 10.0, 40_000)])
    found = fit(x, edges=np.linspace(0.0, 10.0, 5001))
    assert found.shape == "double-crystal-ball"  # 4 % of the entries in the window are of the flat part: tails
    assert found.sigma == pytest.approx(0.01, rel=0.05)
    assert found.location == pytest.approx(3.0, abs=5e-4)
    assert found.fraction == pytest.approx((2.0 + 0.4 * (found.high - found.low)) / 6.0, abs=0.005)
    assert found.high - found.low < 1.0
    assert found.half_width > 1.0  # that of everything, which is why it is not the resolution here


@pytest.mark.parametrize("cut", [-1.0, 0.0, 1.5])
def test_peak_at_the_end_of_the_range(cut: float) -> None:
    """Catches a density that is not normalised to the range: only what is above `cut` sigmas is there."""
    rng = np.random.default_rng(14)
    x = rng.normal(0.0, 1.0, 50_000)
    edges = np.linspace(cut, 6.0, 121)
    if cut >= 0.0:  # no maximum within
        with pytest.raises(FitFailure, match="falls from its end"):
            fit(x, edges=edges, shape="gauss")
        return
    found = fit(x, edges=edges, shape="gauss")
    assert found.sigma == pytest.approx(1.0, abs=4.0 * found.sigma_stdev)
    assert found.location == pytest.approx(0.0, abs=4.0 * found.location_stdev)


def test_radiation_tail() -> None:
    """Catches a core that is widened by a long tail to the right, as of a recoil mass with radiation.

    Half of the events lose x with density b x^(b - 1), b = 0.1: most of these next to nothing.
    """
    rng = np.random.default_rng(15)
    x = rng.normal(1.0, 0.02, 100_000) + np.where(rng.random(100_000) < 0.5, rng.random(100_000) ** 10.0, 0.0)
    edges = peak_edges(x[:10_000])
    found = fit(x, edges=edges)
    assert found.right is not None
    assert found.left is None or found.left.alpha > found.right.alpha
    assert found.sigma == pytest.approx(0.02, rel=0.06)
    assert fit(x, edges=edges, shape="gauss").deviance > found.deviance
    assert found.half_width > found.sigma


# --------------------------------------------------------------------------------------------------- no peak

BROAD: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "flat": lambda rng, n: rng.random(n),
    "three-body": lambda rng, n: rng.beta(1.5, 1.5, n),
    "bump": lambda rng, n: rng.beta(2.0, 2.0, n),
    "skewed": lambda rng, n: rng.beta(2.0, 4.0, n),
    "falling": lambda rng, n: rng.exponential(0.2, n),
    "rising": lambda rng, n: 1.0 - rng.exponential(0.2, n),
    "triangle": lambda rng, n: np.asarray(rng.triangular(0.0, 0.5, 1.0, n)),
}


@pytest.mark.parametrize("name", sorted(BROAD))
@pytest.mark.parametrize("shape", ["auto", "gauss", "double-crystal-ball"])
def test_no_width_is_quoted_where_there_is_no_peak(name: str, shape: Shape) -> None:
    """Catches a width of a continuum, which a reader would take for a resolution."""
    x = BROAD[name](np.random.default_rng(16), 50_000)
    with pytest.raises(FitFailure) as caught:
        fit(x, edges=peak_edges(x[:5000]), shape=shape)
    assert caught.value.reason == "no-peak"


def test_refusals() -> None:
    """Catches a fit of next to nothing, of one heavy event, of negative sums, and of a peak within one bin."""
    rng = np.random.default_rng(17)
    x = rng.normal(LOCATION, SIGMA, 5000)
    heavy = np.ones(5000)
    heavy[0] = 1e4
    cases: list[tuple[str, Floats, Floats | None, Floats]] = [
        ("empty-histogram", x + 10.0, None, EDGES),
        ("too-few-events", x[:150], None, EDGES),
        ("too-few-events", x, heavy, EDGES),
        ("negative-weights", x, -np.ones(5000), EDGES),
        ("bins-too-wide", x, None, np.linspace(0.75, 5.75, 11)),
    ]
    for reason, values, weights, edges in cases:
        with pytest.raises(FitFailure) as caught:
            fit(values, weights, edges)
        assert caught.value.reason == reason
    with pytest.raises(ValueError, match="unknown shape 'voigt'"):
        fit(x, shape="voigt")  # type: ignore[arg-type]
    for arrays in ((EDGES, [1.0], [1.0]), ([0.0, 0.0], [1.0], [1.0]), ([0.0, 1.0], [math.nan], [1.0])):
        with pytest.raises(ValueError, match="peak: edges"):
            fit_peak(*arrays)


# ------------------------------------------------------------------------------------------------- the result


def test_what_the_result_says() -> None:
    """Reference: sums of the input, quantiles of the unbinned sample, the normal density; catches mixed-up fields."""
    rng = np.random.default_rng(18)
    x = rng.normal(LOCATION, SIGMA, 40_000)
    weights = rng.uniform(0.5, 1.5, 40_000)
    values, variances = (np.histogram(x, EDGES, weights=weights**k)[0] for k in (1, 2))
    found = fit_peak(EDGES, values, variances, reference=2.99, shape="gauss")
    assert found.bias == pytest.approx(found.location - 2.99)
    assert found.total == pytest.approx(weights.sum(), rel=1e-4)
    assert found.effective_sample_size == pytest.approx(weights.sum() ** 2 / np.sum(weights**2), rel=1e-4)
    assert found.half_width == pytest.approx(central_half_width(x, weights), rel=2e-3)
    assert found.half_width_stdev == pytest.approx(found.half_width / math.sqrt(found.effective_sample_size), rel=1e-3)
    points = LOCATION + SIGMA * np.array([-2.0, 0.0, 1.0])
    expected = found.total * norm.pdf(points, found.location, found.sigma)
    assert found.density(points) == pytest.approx(expected, rel=1e-4)
    assert found.expected(EDGES).sum() == pytest.approx(found.total, rel=1e-6)
    assert found.sigma_stdev == pytest.approx(SIGMA / math.sqrt(2.0 * found.effective_sample_size), rel=0.05)


def test_quantiles_know_of_what_lies_outside() -> None:
    """Catches a half width of what happens to be in the histogram: with a fifth below it the quantile is unknown."""
    x = np.random.default_rng(19).normal(LOCATION, SIGMA, 10_000)
    values = np.histogram(x, EDGES)[0]
    inside = fit_peak(EDGES, values, values)
    some = fit_peak(EDGES, values, values, overflow=1000.0)
    most = fit_peak(EDGES, values, values, underflow=2500.0)
    assert some.half_width > 1.1 * inside.half_width
    assert math.isnan(most.half_width)
    assert some.fraction == pytest.approx(10.0 / 11.0, rel=1e-3)
    assert some.sigma == inside.sigma == most.sigma
    assert inside.bias is None


# -------------------------------------------------------------------------------------------------------- bins


@pytest.mark.parametrize("scale", [1e-5, 1.0, 3e4])
@pytest.mark.parametrize("centre", [0.0, 3.0, -80.0])
def test_edges_are_round_and_fine(scale: float, centre: float) -> None:
    """Invariant: catches edges with tails of digits, bins that do not resolve the peak, and events outside."""
    x = scale * (centre + 0.05 * np.random.default_rng(20).standard_normal(5000))
    edges = peak_edges(x)
    step = float(np.median(np.diff(edges)))
    mantissa = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - nice) for nice in (1.0, 2.0, 5.0)) < 1e-6
    assert all(len(f"{edge:.12g}") <= 12 and float(f"{edge:.12g}") == edge for edge in edges.tolist())
    assert 0.05 * scale / 30.0 < step < 0.05 * scale / 6.0
    assert np.count_nonzero((x >= edges[0]) & (x < edges[-1])) == len(x)
    assert np.array_equal(edges, peak_edges(x[::-1]))  # a function of the set, not of its order


def test_edges_of_a_narrow_peak_in_a_wide_range_are_few() -> None:
    """Catches a histogram without bound: a quarter of the events in a peak of 1e-5 of the range."""
    rng = np.random.default_rng(21)
    x = np.concatenate([rng.normal(3.0, 1e-4, 5000), rng.uniform(0.0, 10.0, 5000), [math.nan]])
    edges = peak_edges(x)
    assert len(edges) == 2001
    assert edges[0] < 3.0 - 20e-4
    assert edges[-1] > 3.0 + 20e-4
    assert fit(x[:-1], edges=edges).sigma == pytest.approx(1e-4, rel=0.05)


def test_edges_follow_the_weights() -> None:
    """Catches weights that are not used: events of weight 0 a mile away must not widen the bins."""
    x = np.random.default_rng(22).normal(3.0, 0.05, 2000)
    far = np.concatenate([x, np.linspace(-100.0, 100.0, 3000)])
    weights = np.concatenate([np.ones(2000), np.zeros(3000)])
    assert np.array_equal(peak_edges(far, weights), peak_edges(x))


def test_edges_of_equal_values() -> None:
    """Catches a division by the width of a peak that has none, and bins that double precision cannot tell apart."""
    for value in (0.0, 3.0, -1e9):
        edges = peak_edges(np.full(100, value))
        assert np.all(np.diff(edges) > 0.0)
        assert edges[0] <= value < edges[-1]
    with pytest.raises(FitFailure, match="empty-histogram"):
        peak_edges(np.array([math.nan]))


# ------------------------------------------------------------------------------------------------ the function itself


@pytest.mark.parametrize("left", [(1.2, 3.0), (0.2, 1.05), (5.0, 100.0), (30.0, 2.0)])
@pytest.mark.parametrize("right", [(1.5, 5.0), (0.2, 1.1), (30.0, 2.0)])
def test_the_crystal_ball_is_that_of_numba_stats(left: tuple[float, float], right: tuple[float, float]) -> None:
    """Reference: another code, and numerical integration of the density as it is written in the literature.

    Catches a wrong norm, tail or side; the index of a tail near 1 and at its largest.
    """
    from numba_stats import crystalball_ex  # type: ignore[import-untyped]  # compiles on import: not for the product

    x = np.linspace(-8.0, 9.0, 341) * SIGMA + LOCATION
    found = _cdf(x, LOCATION, SIGMA, left, right)
    theirs = crystalball_ex.cdf(x, *left, SIGMA, *right, SIGMA, LOCATION)
    assert found == pytest.approx(theirs, rel=1e-12, abs=1e-13)

    def density(z: float) -> float:
        (alpha, n), far = (left, -z) if z < 0.0 else (right, z)
        if far < alpha:
            return math.exp(-0.5 * z * z)
        return float((n / alpha / (n / alpha - alpha + far)) ** n * math.exp(-0.5 * alpha * alpha))

    ends = [-left[0], 0.0, right[0]]
    whole = sum(quad(density, low, high)[0] for low, high in itertools.pairwise([-math.inf, *ends, math.inf]))
    for z in (-3.0, -0.5, 0.7, 4.0):
        below = sum(quad(density, low, high)[0] for low, high in itertools.pairwise(
            [-math.inf, *(end for end in ends if end < z), z]
        ))  # fmt: skip
        ours = float(_cdf(np.array([LOCATION + SIGMA * z]), LOCATION, SIGMA, left, right)[0])
        assert ours == pytest.approx(below / whole, rel=1e-6)


def test_a_fit_compiles_nothing() -> None:
    """Catches seconds of compilation in every process: numba is not even imported for a fit."""
    code = (
        "import sys, numpy as np\n"
        "from modelbuilder.histograms.peak import fit_peak\n"
        "x = np.random.default_rng(1).normal(3.0, 0.05, 5000)\n"
        "values, edges = np.histogram(x, 80, (2.8, 3.2))\n"
        "assert fit_peak(edges, values.astype(float), values.astype(float)).shape == 'gauss'\n"
        "assert not {'numba', 'numba_stats'} & set(sys.modules), 'numba was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
