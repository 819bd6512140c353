"""Bayesian limits against closed forms, scipy's quadrature of likelihoods written out here, and themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import nquad, quad
from scipy.optimize import brentq

from modelbuilder.errors import FitFailure
from modelbuilder.inference import CompiledLikelihood
from modelbuilder.inference.bayesian import bayesian_counting_limit, bayesian_counting_limits, bayesian_upper_limit


def limit_by_quad(density, confidence_level, end):
    """Where the integral of the density from 0 is this share of that to `end`; by scipy, in pieces."""
    edges = np.linspace(0.0, end, 21)

    def integral(left, right):
        return quad(density, left, right, epsabs=0.0, epsrel=1e-11)[0]

    parts = [integral(a, b) for a, b in itertools.pairwise(edges)]
    cumulative = np.concatenate([[0.0], np.cumsum(parts)])
    target = confidence_level * cumulative[-1]
    panel = int(np.searchsorted(cumulative, target)) - 1
    return brentq(
        lambda x: cumulative[panel] + integral(edges[panel], x) - target, edges[panel], edges[panel + 1], rtol=1e-12
    )


@pytest.mark.parametrize("level", [0.683, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(("count", "background"), [(0, 0.0), (0, 5.0), (3, 3.0), (12, 1.5), (4, 30.0), (1e4, 1e4)])
def test_counting_limits_are_those_of_cls(count, background, level):
    """Reference: with a flat prior and a known background the limit is that of CLs, which sums probabilities."""
    found = float(bayesian_counting_limits(count, background, confidence_level=level))

    def log_cls(signal):
        both = stats.poisson.logcdf(count, background + signal) - stats.poisson.logcdf(count, background)
        return both - np.log1p(-level)

    assert found == pytest.approx(brentq(log_cls, 1e-9, 20.0 + count + 12.0 * np.sqrt(count + 1.0)), rel=1e-9)


@pytest.mark.parametrize(("count", "background"), [(0, 900.0), (3, 800.0), (10, 2000.0)])
def test_deep_deficits_have_limits(count, background):
    """Reference: catches 0/0 where hardly any count is as low; far below b the density is exp(-s (1 - n/b)), nearly."""
    found = float(bayesian_counting_limits(count, background, confidence_level=0.9))
    assert found == pytest.approx(np.log(10.0) / (1.0 - count / background), rel=1e-3)


def test_classical_numbers():
    """Reference: no events, no background, 90%: ln 10 = 2.30; and no events mean the same for any background."""
    limits = bayesian_counting_limits([0, 0, 0], [0.0, 3.0, 700.0], confidence_level=0.9)
    assert limits == pytest.approx(np.log(10.0), rel=1e-9)


def test_counting_limits_cover_on_average_over_the_prior():
    """Reference: catches a limit of another level: over mu from its flat prior the coverage is the level, exactly."""
    background, level = 2.0, 0.9
    counts = np.arange(120)
    limits = bayesian_counting_limits(counts, background, confidence_level=level)
    for n in (0, 3, 9):  # of the posterior of each count
        inside = quad(lambda mu, n=n: stats.poisson.pmf(n, mu + background), 0.0, limits[n])[0]
        whole = quad(lambda mu, n=n: stats.poisson.pmf(n, mu + background), 0.0, 60.0)[0]
        assert inside / whole == pytest.approx(level, rel=1e-7)
    for truth in (0.2, 1.0, 3.0, 8.0):  # and nowhere less than the level
        assert stats.poisson.pmf(counts, truth + background)[limits >= truth].sum() >= level


def test_band_of_a_counting_experiment():
    """Invariant: catches a band of other counts."""
    found = bayesian_counting_limit(4, 6.2, signal=2.0, confidence_level=0.95)
    quantiles = stats.poisson.ppf(stats.norm.cdf([-2, -1, 0, 1, 2]), 6.2)
    expected = bayesian_counting_limits(quantiles, 6.2, signal=2.0, confidence_level=0.95)
    assert found.expected == pytest.approx(tuple(expected), rel=1e-12)
    assert (np.diff(found.expected) > 0.0).all()


@pytest.mark.parametrize(
    ("count", "background", "signal"), [(0, 2.0, 1.0), (5, 3.0, 1e-4), (60, 3.0, 2.0), (4, 12.0, 1e5)]
)
def test_posterior_without_nuisance_parameters_is_the_closed_form(models, count, background, signal):
    """Reference: catches a range of mu that cuts, panels that are too wide, and a scale of mu that is assumed."""
    likelihood = CompiledLikelihood(models.counting([signal], [background], [count]))
    for level in (0.9, 0.99):
        found = bayesian_upper_limit(likelihood, confidence_level=level)
        exact = bayesian_counting_limits(count, background, signal=signal, confidence_level=level)
        assert found.observed == pytest.approx(float(exact), rel=1e-8)
        assert found.marginalisation == "none"


def test_inverse_root_prior(models):
    """Reference: catches a prior that is not used, or its singularity that is integrated badly; mu = t^2."""
    likelihood = CompiledLikelihood(models.counting([2.0], [3.0], [4.0]))
    root = limit_by_quad(lambda t: stats.poisson.pmf(4, 3.0 + 2.0 * t * t), 0.9, 5.0)
    assert bayesian_upper_limit(likelihood, prior="inverse-sqrt").observed == pytest.approx(root**2, rel=1e-8)


def test_one_nuisance_parameter(models):
    """Reference: catches a constraint that is used twice, or not at all, and bounds that are ignored."""
    modifier = {"name": "mc", "type": "staterror", "data": [4.0]}
    likelihood = CompiledLikelihood(models.counting([2.0], [9.0], [8.0], background_modifiers=[modifier]))
    width = 4.0 / 9.0

    def density(mu):
        def term(gamma):
            return stats.poisson.pmf(8, 2.0 * mu + 9.0 * gamma) * np.exp(-0.5 * ((gamma - 1.0) / width) ** 2)

        return quad(term, 1e-10, 5.0, epsabs=0.0, epsrel=1e-11, points=(0.5, 1.0, 2.0))[0]

    assert bayesian_upper_limit(likelihood).observed == pytest.approx(limit_by_quad(density, 0.9, 25.0), rel=1e-6)


def two_nuisances(models):
    return CompiledLikelihood(
        models.counting(
            [2.0],
            [6.0],
            [7.0],
            signal_modifiers=[models.normsys("efficiency", 1.2, 0.85)],
            background_modifiers=[{"name": "mc", "type": "shapesys", "data": [2.0]}],
        ),
        normsys_code="code1",
    )


def test_two_nuisance_parameters(models):
    """Reference: the same, of a normal and a Poisson constraint and a kinked interpolation, against scipy's nquad."""
    tau = 9.0

    def density(mu):
        def term(alpha, gamma):
            efficiency = 1.2**alpha if alpha > 0.0 else 0.85**-alpha
            return (
                stats.poisson._pmf(7, 2.0 * mu * efficiency + 6.0 * gamma)
                * np.exp(-0.5 * alpha**2)
                * np.exp(tau * (np.log(gamma) - gamma + 1.0))
            )

        options = [{"epsrel": 1e-9, "epsabs": 1e-13, "points": [0.0]}, {"epsrel": 1e-9, "epsabs": 1e-13}]
        return nquad(term, [(-5.0, 5.0), (1e-10, 5.0)], opts=options)[0]

    found = bayesian_upper_limit(two_nuisances(models))
    assert (found.marginalisation, found.n_nuisances) == ("quadrature", 2)
    assert found.relative_error < 1e-7
    unit, weights = np.polynomial.legendre.leggauss(20)

    def integral(left, right):
        half = 0.5 * (right - left)
        return half * sum(w * density(left + half * (1.0 + x)) for x, w in zip(unit, weights, strict=True))

    inside = integral(0.0, found.observed)
    outside = integral(found.observed, 8.0) + integral(8.0, 25.0)
    # the posterior probability below the limit; its slope turns the difference into one of the limit
    slope = density(found.observed) / (inside + outside)
    assert (inside / (inside + outside) - 0.9) / slope / found.observed == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("n_nuisances", [2, 3])
def test_sampling_agrees_with_quadrature(models, n_nuisances):
    """Reference: catches weights without a factor, bounds that are crossed, and an error that is too small."""
    likelihood = two_nuisances(models)
    if n_nuisances == 3:
        spec = models.counting(
            [2.0, 1.0],
            [6.0, 9.0],
            [7.0, 8.0],
            signal_modifiers=[models.normsys("efficiency", 1.2, 0.85)],
            background_modifiers=[{"name": "mc", "type": "staterror", "data": [2.0, 3.0]}],
        )
        likelihood = CompiledLikelihood(spec)
    exact = bayesian_upper_limit(likelihood)
    assert exact.n_nuisances == n_nuisances
    assert exact.relative_error < 1e-4
    for seed in (1, 2):
        found = bayesian_upper_limit(likelihood, marginalisation="importance-sampling", seed=seed)
        assert found.observed == pytest.approx(exact.observed, rel=5.0 * found.relative_error)
        assert found.relative_error < 3e-3
        assert found.effective_samples > 2000.0


def test_many_nuisance_parameters(models):
    """Invariant: catches samples that are useless in many dimensions, and a limit that is far from the profile's."""
    from modelbuilder.inference import compiled_upper_limit

    likelihood = CompiledLikelihood(models.bump(n_bins=20))
    found, again = (bayesian_upper_limit(likelihood, seed=seed, n_samples=2048) for seed in (1, 2))
    assert found.marginalisation == "importance-sampling"
    assert found.effective_samples > 400.0
    assert found.observed == pytest.approx(
        again.observed, rel=5.0 * np.hypot(found.relative_error, again.relative_error)
    )
    assert found.observed == pytest.approx(compiled_upper_limit(likelihood, confidence_level=0.9).observed, rel=0.25)


def test_the_confidence_level_is_used(models):
    """Invariant: catches a level that is ignored."""
    likelihood = two_nuisances(models)
    limits = [bayesian_upper_limit(likelihood, confidence_level=level).observed for level in (0.5, 0.9, 0.95, 0.99)]
    assert (np.diff(limits) > 0.0).all()


def test_too_few_samples_are_a_failure(models):
    """Catches a number from a sample that represents nothing."""
    with pytest.raises(FitFailure, match="sampling-failed"):
        bayesian_upper_limit(two_nuisances(models), marginalisation="importance-sampling", n_samples=64)


@pytest.mark.parametrize(
    "arguments", [{"prior": "jeffreys"}, {"confidence_level": 1.0}, {"marginalisation": "laplace"}]
)
def test_wrong_questions_are_refused(models, arguments):
    """Catches an argument that is not looked at."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        bayesian_upper_limit(two_nuisances(models), **arguments)
    with pytest.raises(ValueError, match="quadrature over 10"):
        bayesian_upper_limit(CompiledLikelihood(models.bump()), marginalisation="quadrature")
    with pytest.raises(ValueError, match="finite"):
        bayesian_counting_limits(-1, 2.0)
