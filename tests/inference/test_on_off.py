"""A count and its sideband: fits, limits and coverage against closed forms, quadrature and pyhf, also where nothing is seen."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pyhf
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import nbinom, norm, poisson

from modelbuilder.inference.bayesian import bayesian_upper_limit
from modelbuilder.inference.choice import LimitRequest, find_limit
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.counting import counting_limit
from modelbuilder.inference.feldman_cousins import feldman_cousins
from modelbuilder.inference.on_off import on_off_limit, on_off_model
from modelbuilder.inference.on_off_coverage import OnOffPairs, coverage
from modelbuilder.inference.results import N_SIGMA
from modelbuilder.inference.toys import ToyCalculator

TRANSFER = 0.2
SIGNAL = 5.0  # events at mu = 1
FEW = tuple(itertools.product(range(4), (0, 1, 3)))


def workspace(
    n1: float,
    n2: float,
    *,
    leakage: float = 0.0,
    others: tuple[float, float] = (0.0, 0.0),
    sizes: dict[str, float] | None = None,
) -> dict[str, Any]:
    """As a build writes it. sizes: uncertainties of `efficiency`, `transfer` and `others`."""
    sizes = sizes or {}

    def rate(name: str) -> list[dict[str, Any]]:
        if name not in sizes:
            return []
        size = 1.0 + sizes[name]
        return [{"name": name, "type": "normsys", "data": {"hi": size, "lo": 1.0 / size}}]

    mu, free = ([{"name": name, "type": "normfactor", "data": None}] for name in ("mu", "b_rate"))
    channels = []
    for name, signal, background, other, transfer in (
        ("window", SIGNAL, TRANSFER, others[0], rate("transfer")),
        ("window_sideband", leakage * SIGNAL, 1.0, others[1], []),
    ):
        samples = [{"name": "b", "data": [background], "modifiers": [*free, *transfer]}]
        if signal:
            samples.append({"name": "signal", "data": [signal], "modifiers": [*mu, *rate("efficiency")]})
        if other:
            samples.append({"name": "c", "data": [other], "modifiers": rate("others")})
        channels.append({"name": name, "samples": samples})
    most = 10.0 * (n1 + n2 + 2.0)
    parameters = [
        {"name": "mu", "inits": [1.0], "bounds": [[0.0, 20.0]]},
        {"name": "b_rate", "inits": [1.0], "bounds": [[0.0, most]]},
    ]
    return {
        "channels": channels,
        "observations": [{"name": "window", "data": [float(n1)]}, {"name": "window_sideband", "data": [float(n2)]}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": parameters}}],
        "version": "1.0.0",
    }


def term(n: float, expected: float) -> float:
    """-2 ln of a Poisson probability, without what depends on n alone."""
    if expected <= 0.0:
        return 0.0 if n == 0 else math.inf
    return -2.0 * (n * math.log(expected) - expected)


def profiled(n1: int, n2: int, signal: float) -> float:
    """-2 ln L at the best background for a signal, from the roots of the quadratic of Rolke, Lopez and Conrad."""
    r = 1.0 + 1.0 / TRANSFER
    middle = n1 + n2 - r * signal
    background = (middle + math.sqrt(middle**2 + 4.0 * r * n2 * signal)) / (2.0 * r)
    return term(n1, signal + background) + term(n2, background / TRANSFER)


@pytest.mark.parametrize(("n1", "n2"), FEW)
def test_profile_likelihood(n1: int, n2: int) -> None:
    """Closed form, and pyhf: catches a fit that stops short of a rate of zero, or fails where nothing is seen."""
    likelihood = CompiledLikelihood(workspace(n1, n2))
    model = pyhf.Workspace(workspace(n1, n2)).model()
    values = {name: index for index, name in enumerate(model.config.par_order)}
    best = max(n1 - TRANSFER * n2, 0.0)
    found = likelihood.fit(poi_lower=0.0)
    assert found.poi_value * SIGNAL == pytest.approx(best, abs=1e-5)
    for mu in (0.0, 0.1, 1.0, 3.0):
        fixed = likelihood.fit_fixed_poi(mu)
        expected = profiled(n1, n2, mu * SIGNAL) - profiled(n1, n2, best)
        assert fixed.twice_nll - found.twice_nll == pytest.approx(expected, abs=1e-8)
        point = dict(zip(likelihood.parameter_names, fixed.bestfit, strict=True))
        parameters = [point[name] for name in sorted(values, key=values.__getitem__)]
        at_best = -2.0 * model.logpdf(parameters, [n1, n2])[0]
        assert at_best == pytest.approx(fixed.twice_nll, abs=1e-9)


def density(n1: int, n2: int, mu: float, *, leakage: float, others: tuple[float, float]) -> float:
    """Flat in the rate: the integral over it, by quadrature."""

    def at(rate: float) -> float:
        window = mu * SIGNAL + TRANSFER * rate + others[0]
        beside = mu * SIGNAL * leakage + rate + others[1]
        return float(poisson.pmf(n1, window) * poisson.pmf(n2, beside))

    return quad(at, 0.0, n1 + n2 + 40.0, points=[0.5, n2 + 1.0, n2 + 8.0], limit=200)[0]


@pytest.mark.parametrize(
    ("n1", "n2", "leakage", "others"),
    [
        (0, 0, 0.0, (0.0, 0.0)),
        (3, 0, 0.0, (0.0, 0.0)),
        (1, 4, 0.0, (0.0, 0.0)),
        (2, 3, 0.1, (0.0, 0.0)),
        (2, 3, 0.05, (0.7, 1.5)),
        (0, 2, 0.3, (0.2, 0.0)),
    ],
)
def test_flat_priors(n1: int, n2: int, leakage: float, others: tuple[float, float]) -> None:
    """Quadrature over both: catches each of the binomials, and what leaks or lies under both counts."""
    end, nodes = 4.0, np.polynomial.legendre.leggauss(60)
    grid = 0.5 * end * (nodes[0] + 1.0)
    values = np.array([density(n1, n2, mu, leakage=leakage, others=others) for mu in grid])
    coefficients = np.polynomial.legendre.legfit(nodes[0], values, 40)
    integral = np.polynomial.legendre.legint(coefficients, lbnd=-1.0)

    def below(mu: float) -> float:
        return float(np.polynomial.legendre.legval(2.0 * mu / end - 1.0, integral))

    wanted = brentq(lambda mu: below(mu) / below(end) - 0.95, 0.01, end)
    found = on_off_limit(workspace(n1, n2, leakage=leakage, others=others), confidence_level=0.95)
    assert found is not None
    assert found.observed == pytest.approx(wanted, rel=2e-5)


def test_background_is_negative_binomial() -> None:
    """Closed form: without leakage and others, the posterior for known background averaged over Gamma(n2 + 1)."""
    n1, n2 = 3, 2
    chance = nbinom.pmf(n1 - np.arange(n1 + 1), n2 + 1, 1.0 / (1.0 + TRANSFER))

    def above(signal: float) -> float:
        return float((chance * poisson.cdf(np.arange(n1 + 1), signal)).sum() / chance.sum())

    found = on_off_limit(workspace(n1, n2), confidence_level=0.9)
    assert found is not None
    assert found.observed * SIGNAL == pytest.approx(brentq(lambda s: above(s) - 0.1, 0.1, 30.0), rel=1e-9)


@pytest.mark.parametrize(("n1", "n2", "leakage"), [(0, 0, 0.0), (1, 2, 0.0), (4, 6, 0.1), (12, 40, 0.0)])
def test_constraints_are_integrated(n1: int, n2: int, leakage: float) -> None:
    """Second method: the general quadrature. Catches a constraint that acts in one channel only, or on the wrong sample."""
    model = workspace(n1, n2, leakage=leakage, others=(0.4, 1.0), sizes={"efficiency": 0.15, "transfer": 0.3})
    general = bayesian_upper_limit(CompiledLikelihood(model), confidence_level=0.95)
    found = on_off_limit(model, confidence_level=0.95)
    assert found is not None
    assert found.n_nuisances == general.n_nuisances == 3
    assert found.observed == pytest.approx(general.observed, rel=2e-6)


def test_a_constraint_of_signal_and_background() -> None:
    """Second method, as above, for a factor that signal and another background share, as the luminosity is."""
    model = workspace(2, 3, others=(0.8, 2.0), sizes={"efficiency": 0.2, "others": 0.2})
    for channel in model["channels"]:
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                modifier["name"] = modifier["name"].replace("others", "efficiency")
    general = bayesian_upper_limit(CompiledLikelihood(model), confidence_level=0.95)
    found = on_off_limit(model, confidence_level=0.95)
    assert found is not None
    assert found.n_nuisances == general.n_nuisances == 2
    assert found.observed == pytest.approx(general.observed, rel=2e-6)


@pytest.mark.parametrize("leakage", [0.0, 0.1])
def test_expected_limits(leakage: float) -> None:
    """Enumeration: the limit of each pair of counts on its own, and quantiles of their distribution.

    Catches probabilities of the observed pair instead of that of background alone, and quantiles between two limits.
    """
    n1, n2 = 1, 5
    rate = (n1 + n2) / (1.0 + TRANSFER)
    pairs = list(itertools.product(range(9), range(22)))
    chances = np.array([poisson.pmf(one, rate * TRANSFER) * poisson.pmf(two, rate) for one, two in pairs])
    likely = chances > 1e-5
    limits = np.array(
        [
            _observed(workspace(one, two, leakage=leakage)) if good else math.inf
            for (one, two), good in zip(pairs, likely, strict=True)
        ]
    )
    order = np.argsort(limits)
    share = np.cumsum(chances[order])
    wanted = [limits[order][np.searchsorted(share, ndtr(n_sigma))] for n_sigma in N_SIGMA[:-1]]
    found = on_off_limit(workspace(n1, n2, leakage=leakage), confidence_level=0.95)
    assert found is not None
    assert found.expected is not None
    assert found.expected[:-1] == pytest.approx(wanted, rel=1e-7)
    assert found.expected[-1] > found.expected[-2]


def _observed(model: dict[str, Any]) -> float:
    limit = on_off_limit(model, confidence_level=0.95, with_expected=False)
    assert limit is not None
    return limit.observed


def test_what_it_does_not_treat() -> None:
    """Catches a closed form that is used where it does not hold: the general way is then asked."""
    assert on_off_model(workspace(1, 1)) is not None
    assert counting_limit(workspace(1, 1), confidence_level=0.95) is None
    close = workspace(1, 1)
    close["measurements"][0]["config"]["parameters"][1]["bounds"] = [[0.0, 3.0]]
    assert on_off_model(close) is None
    fraction = workspace(1, 1)
    fraction["observations"][0]["data"] = [0.5]
    assert on_off_model(fraction) is None
    alone = workspace(1, 1)
    alone["channels"][1]["samples"][0]["modifiers"] = []
    assert on_off_model(alone) is None
    shape = workspace(1, 1)
    shape["channels"][0]["samples"][0]["modifiers"].append(
        {"name": "shape", "type": "histosys", "data": {"hi_data": [0.3], "lo_data": [0.1]}}
    )
    assert on_off_model(shape) is None
    two_bins = workspace(1, 1)
    two_bins["channels"][0]["samples"][0]["data"] = [0.1, 0.1]
    assert on_off_model(two_bins) is None


@pytest.mark.parametrize(("n1", "n2"), [(0, 0), (1, 0), (2, 4)])
def test_toys_find_the_sums(n1: int, n2: int) -> None:
    """Enumeration: p-values from toys are sums of Poisson probabilities, also where the best rate is zero.

    Catches toys thrown from another rate than the best fit at the tested signal, and ties that fall to either side.
    """
    pairs = OnOffPairs(transfer=TRANSFER, most=(60, 80))
    which = np.zeros((61, 81), dtype=bool)
    which[n1, n2] = True
    likelihood = CompiledLikelihood(workspace(n1, n2))
    for mu, two_sided in itertools.product((0.4, 1.0), (False, True)):
        statistic = pairs.statistic(mu * SIGNAL, two_sided=two_sided)
        (exact,) = pairs.p_values(statistic, mu * SIGNAL, mu * SIGNAL, which)
        calculator = ToyCalculator(likelihood, seed=3, statistic="tmu_tilde" if two_sided else "qmu_tilde", n_toys=4000)
        p = calculator.p_value(mu)
        assert p.value == pytest.approx(exact, abs=4.0 * math.sqrt(exact * (1.0 - exact) / 4000) + 1e-3)
        assert statistic[n1, n2] == pytest.approx(calculator.observed(mu), abs=1e-6)


def test_limits_with_toys_and_feldman_cousins() -> None:
    """Enumeration: the signal at the limit by toys has the p-value that the limit is made of."""
    n1, n2, level = 1, 1, 0.95
    pairs = OnOffPairs(transfer=TRANSFER, most=(60, 80))
    which = np.zeros((61, 81), dtype=bool)
    which[n1, n2] = True
    likelihood = CompiledLikelihood(workspace(n1, n2))

    def cls(signal: float) -> float:
        statistic = pairs.statistic(signal, two_sided=False)
        (one,), (two,) = (pairs.p_values(statistic, signal, hypothesis, which) for hypothesis in (signal, 0.0))
        return float(one / two)

    request = LimitRequest(method="cls", confidence_level=level, toys=4000, seed=5)
    limit = find_limit(likelihood, request).observed * SIGNAL
    assert cls(0.93 * limit) > 1.0 - level > cls(1.07 * limit)

    def accepted(signal: float) -> float:
        statistic = pairs.statistic(signal, two_sided=True)
        return float(pairs.p_values(statistic, signal, signal, which)[0])

    interval = feldman_cousins(likelihood, seed=5, confidence_level=level, n_toys=4000)
    upper = interval.upper.value * SIGNAL
    assert interval.lower.value == 0.0
    assert accepted(0.93 * upper) > 1.0 - level > accepted(1.07 * upper)


def test_coverage_without_background() -> None:
    """Closed form: nothing is in the sideband, so the signal is excluded where the window counts too few.

    Catches sums over the wrong hypothesis, and a limit for an empty sideband that differs from that of a workspace.
    """
    for signal in (2.0, 4.0, 8.0):
        found = coverage(signal, 0.0, transfer=TRANSFER, confidence_level=0.95)
        excluding = [n for n in range(20) if _observed(workspace(n, 0)) * SIGNAL < signal]
        assert found["bayesian"] == pytest.approx(1.0 - sum(poisson.pmf(n, signal) for n in excluding), abs=1e-8)
    assert coverage(2.9, 0.0, transfer=TRANSFER, confidence_level=0.95)["bayesian"] == pytest.approx(1.0)


@pytest.mark.parametrize(("signal", "background"), [(1.0, 0.3), (4.0, 1.0)])
def test_coverage_of_thrown_experiments(signal: float, background: float) -> None:
    """Monte Carlo: thrown counts and the limits that workspaces have. Catches sums that miss a part of the pairs."""
    rng = np.random.default_rng(1)
    n = 3000
    counts = zip(
        rng.poisson(signal + background, n).tolist(), rng.poisson(background / TRANSFER, n).tolist(), strict=True
    )
    limits: dict[tuple[int, int], float] = {}
    covered = 0
    for pair in counts:
        if pair not in limits:
            limits[pair] = _observed(workspace(*pair)) * SIGNAL
        covered += limits[pair] >= signal
    exact = coverage(signal, background, transfer=TRANSFER, confidence_level=0.95, methods=["bayesian"])["bayesian"]
    assert covered / n == pytest.approx(exact, abs=4.0 * math.sqrt(exact * (1.0 - exact) / n) + 1e-3)


@pytest.mark.parametrize("signal", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("background", [0.0, 0.3, 3.0])
def test_coverage(signal: float, background: float) -> None:
    """Invariant: flat priors and CLs cover at least what they state; inverting a test may miss by its fitted background.

    Catches a limit that is too low where few events are expected, as asymptotic formulas give.
    """
    found = coverage(signal, background, transfer=TRANSFER, confidence_level=0.95)
    assert found["bayesian"] >= 0.95
    assert found["cls"] >= found["profile-likelihood"] >= 0.945
    assert found["feldman-cousins"] >= 0.945


def test_many_events_become_normal() -> None:
    """Limiting case: with many events the limit is that of a normal distribution with the error of both counts."""
    n1, n2 = 110, 500
    found = on_off_limit(workspace(n1, n2), confidence_level=0.95)
    assert found is not None
    centre, width = n1 - TRANSFER * n2, math.sqrt(n1 + TRANSFER**2 * n2)
    below = norm.cdf(0.0, centre, width)
    wanted = norm.ppf(below + 0.95 * (1.0 - below), centre, width)
    assert found.observed * SIGNAL == pytest.approx(wanted, rel=0.05)
