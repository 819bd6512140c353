"""Bayesian limits against closed forms, scipy's quadrature of likelihoods written out here, and themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import nquad, quad
from scipy.optimize import brentq
from scipy.special import gammainc, gammaln

from modelbuilder.errors import FitFailure
from modelbuilder.inference import CompiledLikelihood, bayesian, posterior_sampling
from modelbuilder.inference.bayesian import (
    bayesian_counting_limit,
    bayesian_counting_limits,
    bayesian_upper_limit,
    bayesian_upper_limits,
)
from modelbuilder.inference.toys import toy_data


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
    assert found.effective_samples > 0.1 * 2048
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
    likelihood, _ = skewed(models, 16)
    with pytest.raises(FitFailure, match=r"sampling-failed: .* of 32768"):
        bayesian_upper_limit(likelihood, marginalisation="importance-sampling")


@pytest.mark.parametrize("n_bins", [6, 8, 10])
def test_samples_of_a_skewed_posterior(models, n_bins):
    """Reference: gamma-Poisson bins in closed form. Catches samples from a distribution with thinner tails than the
    posterior: limits from a normal one were 1 to 2 % low, five times what they said of their error."""
    likelihood, log_marginal = skewed(models, n_bins)
    exact = exact_limit(log_marginal)
    pulls = []
    for seed in range(3):
        found = bayesian_upper_limit(likelihood, marginalisation="importance-sampling", seed=seed)
        assert found.relative_error < 0.01
        pulls.append((found.observed / exact - 1.0) / found.relative_error)
    assert abs(sum(pulls)) / 3.0**0.5 < 4.0


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


# ------------------------------------------------------------------------------------------------- many limits at once


def channel(name, samples, count):
    """Name, samples as name -> (yield, modifiers), and events of a channel of one bin."""
    samples = [{"name": key, "data": [value], "modifiers": modifiers} for key, (value, modifiers) in samples.items()]
    return {"name": name, "samples": samples}, {"name": name, "data": [float(count)]}


def with_control_bin(models, *, signal, background, tau, counts, efficiency=(1.0, 1.0), largest=200.0):
    """A signal bin with background k b and a control bin with k tau b, k free."""
    k = [models.normfactor("k")]
    modifiers = [models.normfactor("mu"), models.normsys("efficiency", *efficiency)]
    both = [
        channel("SR", {"signal": (signal, modifiers), "b": (background, k)}, counts[0]),
        channel("CR", {"b": (tau * background, k)}, counts[1]),
    ]
    spec = models.workspace({}, [])
    spec["channels"], spec["observations"] = [list(part) for part in zip(*both, strict=True)]
    spec["measurements"][0]["config"]["parameters"].append({"name": "k", "bounds": [[0.0, largest]], "inits": [1.0]})
    return CompiledLikelihood(spec)


def limit_with_control_bin(confidence_level, *, signal, background, tau, counts, efficiency=None):
    """Closed form in mu and k: the binomial series of (mu s + k b)^n; the efficiency, code 4, by scipy in pieces."""
    n, m = counts
    j = np.arange(n + 1.0)
    logs = -gammaln(j + 1.0) + gammaln(m + j + 1.0) - (m + j + 1.0) * np.log1p(tau)
    weights = np.exp(logs - logs.max())  # of j events of background among n; ln b goes the same way in all

    def share(upper, s):
        return float(weights @ gammainc(n - j + 1.0, upper * s)) / s

    def factor(alpha):
        hi, lo = efficiency
        if abs(alpha) >= 1.0:
            return hi**alpha if alpha > 0.0 else lo**-alpha
        # value, slope and curvature at both ends: the polynomial of degree 6 with 1 at zero
        powers = np.arange(1, 7)
        rows = [np.array([s**p for p in powers]) for s in (1.0, -1.0)]
        rows += [np.array([p * s ** (p - 1) for p in powers]) for s in (1.0, -1.0)]
        rows += [np.array([p * (p - 1) * s ** (p - 2) for p in powers]) for s in (1.0, -1.0)]
        right = [hi - 1.0, lo - 1.0, np.log(hi) * hi, -np.log(lo) * lo, np.log(hi) ** 2 * hi, np.log(lo) ** 2 * lo]
        return 1.0 + float(np.linalg.solve(np.array(rows), np.array(right)) @ alpha**powers)

    def probability(upper):
        if efficiency is None:
            return share(upper, signal)
        return sum(
            quad(
                lambda a: np.exp(-0.5 * a * a) * share(upper, signal * factor(a)),
                left,
                right,
                epsabs=0.0,
                epsrel=1e-10,
            )[0]
            for left, right in ((-5.0, -1.0), (-1.0, 1.0), (1.0, 5.0))
        )

    whole = probability(1e9)
    return brentq(lambda mu: probability(mu) / whole - confidence_level, 1e-9, 1e4, rtol=1e-11)


@pytest.mark.parametrize(
    ("counts", "tau", "background", "efficiency"),
    [
        ((4, 12), 3.0, 4.0, None),
        ((0, 5), 5.0, 1.0, None),
        ((3, 0), 4.0, 6.0, None),
        ((25, 40), 2.0, 18.0, None),
        ((4, 12), 3.0, 4.0, (1.1, 0.9)),
        ((3, 0), 4.0, 6.0, (1.1, 0.9)),
        ((30, 4), 2.0, 10.0, (1.3, 0.8)),
    ],
)
def test_a_control_bin(models, counts, tau, background, efficiency):
    """Reference: catches a grid that misses a part, a bound that cuts nothing, and interpolation that is smoothed over."""
    arguments = {"signal": 2.0, "background": background, "tau": tau, "counts": counts}
    likelihood = with_control_bin(models, **arguments, efficiency=efficiency or (1.0, 1.0))
    for level in (0.9, 0.95):
        found = bayesian_upper_limit(likelihood, confidence_level=level)
        exact = limit_with_control_bin(level, **arguments, efficiency=efficiency)
        assert found.observed == pytest.approx(exact, rel=5e-7)
        assert found.marginalisation == "quadrature"


def test_a_background_counted_elsewhere_is_a_negative_binomial(models):
    """Reference: gamma and Poisson in closed form; catches a constraint of shapesys that is another distribution."""
    background, uncertainty, count = 6.0, 2.0, 9
    tau = (background / uncertainty) ** 2
    modifier = {"name": "mc", "type": "shapesys", "data": [uncertainty]}
    likelihood = CompiledLikelihood(models.counting([2.0], [background], [count], background_modifiers=[modifier]))
    exact = limit_with_control_bin(0.9, signal=2.0, background=1.0, tau=tau / background, counts=(count, tau))
    assert bayesian_upper_limit(likelihood).observed == pytest.approx(exact, rel=5e-7)


def some_models(models):
    """Hypotheses of many kinds, all with few nuisance parameters."""
    rng = np.random.default_rng(8)
    found = []
    for index in range(24):
        background = float(np.exp(rng.uniform(np.log(0.05), np.log(60.0))))
        wide, narrow = rng.uniform(0.05, 0.3), rng.uniform(0.04, 0.15)
        bottom = [models.normsys("rate", 1.0 + wide, 1.0 - 0.8 * wide)]
        if index % 3 == 1:
            bottom = [{"name": "rate", "type": "shapesys", "data": [wide * background]}]
        top = [models.normsys("efficiency", 1.0 + narrow, 1.0 / (1.0 + narrow))]
        if index % 3 == 2:
            top = [
                models.histosys("scale", [1.0 + 0.5 * narrow], [1.0 - 0.5 * narrow]),
                models.histosys("width", [1.05], [0.96]),
            ]
        count = rng.poisson(background) + (20.0 if index % 8 == 7 else 0.0)
        found.append(
            CompiledLikelihood(
                models.counting([1.0], [background], [count], signal_modifiers=top, background_modifiers=bottom)
            )
        )
    return found


def test_the_short_way_agrees_with_the_careful_one(models, monkeypatch):
    """Reference: two quadratures that share nothing but -2 ln L; catches whatever either does wrong, and a sum of
    histosys that is taken for a product."""
    likelihoods = some_models(models)[:9]
    quick = bayesian_upper_limits(likelihoods)
    monkeypatch.setattr(bayesian, "_short", lambda some, *_: [None] * len(some))
    slow = bayesian_upper_limits(likelihoods)
    for one, other in zip(quick, slow, strict=True):
        # the careful grid of three dimensions is no better than some 1e-5, and says so
        assert one.relative_error < 3e-7
        assert one.observed == pytest.approx(other.observed, rel=3e-6 + 2.0 * other.relative_error)


def test_many_limits_do_not_depend_on_threads_or_company(models):
    """Invariant: catches scratch space that is shared, and numbers that depend on what was computed before."""
    likelihoods = some_models(models)
    one, two = (bayesian_upper_limits(likelihoods, n_threads=n) for n in (1, 3))
    assert [limit.observed for limit in one] == [limit.observed for limit in two]
    backwards = bayesian_upper_limits(likelihoods[::-1])
    assert [limit.observed for limit in backwards[::-1]] == [limit.observed for limit in one]
    assert bayesian_upper_limit(likelihoods[5]).observed == one[5].observed


def test_a_limit_that_does_not_exist_stands_in_its_place(models):
    """Catches one failure that ends them all, or that becomes a number."""
    good = CompiledLikelihood(models.counting([1.0], [3.0], [4.0]))
    nothing = CompiledLikelihood(models.counting([0.0], [3.0], [4.0]))
    limits = bayesian_upper_limits([good, nothing, good], n_threads=2)
    assert isinstance(limits[1], FitFailure)
    assert limits[0] == limits[2] == bayesian_upper_limit(good)


def test_a_signal_that_systematics_can_remove_has_no_limit(models):
    """Catches a number from an integral that diverges: no mu is too large where the signal may vanish."""
    top = [models.histosys("scale", [1.3], [0.7])]
    likelihood = CompiledLikelihood(models.counting([1.0], [3.0], [3.0], signal_modifiers=top))
    assert isinstance(bayesian_upper_limits([likelihood])[0], FitFailure)


def test_data_of_each(models):
    """Catches data that are ignored, or given to another likelihood."""
    likelihood = CompiledLikelihood(models.counting([1.0], [3.0], [4.0]))
    found = [limit.observed for limit in bayesian_upper_limits([likelihood] * 3, [None, [0.0], [9.0]])]
    assert found == pytest.approx(bayesian_counting_limits([4, 0, 9], 3.0).tolist(), rel=1e-7)
    with pytest.raises(ValueError, match="2 sets for 1"):
        bayesian_upper_limits([likelihood], [None, None])


# ----------------------------------------------------------------------------------------------------- expected limits


def test_expected_limits_of_counts(models):
    """Reference: without nuisance parameters the toys are Poisson numbers, and the band is that of their quantiles."""
    likelihood = CompiledLikelihood(models.counting([2.0], [6.2], [4.0]))
    found = bayesian_upper_limit(likelihood, n_toys=20_000, seed=3)
    exact = bayesian_counting_limit(4, 6.2, signal=2.0)
    assert found.observed == pytest.approx(exact.observed, rel=1e-7)
    assert found.expected == pytest.approx(exact.expected, rel=1e-7)
    assert (found.band.n_toys, found.band.n_failed) == (20_000, 0)
    assert bayesian_upper_limit(likelihood).expected is None


def test_expected_limits_are_quantiles_of_limits_of_toys(models):
    """Reference: catches toys of another truth, auxiliary data that stay, and quantiles of something else."""
    likelihood = two_nuisances(models)
    found = bayesian_upper_limit(likelihood, n_toys=60, seed=5)
    truth = likelihood.fit_fixed_poi(0.0).bestfit
    toys = toy_data(likelihood, truth, seed=5, hypothesis="background", n_toys=60)
    each = [bayesian_upper_limit(likelihood, toy).observed for toy in toys]
    quantiles = np.quantile(each, stats.norm.cdf([-2, -1, 0, 1, 2]), method="inverted_cdf")
    assert found.expected == pytest.approx(quantiles, rel=1e-12)
    for value, (low, high) in zip(found.expected, found.band.intervals, strict=True):
        assert low <= value <= high
    again = bayesian_upper_limit(likelihood, n_toys=60, seed=5, n_threads=2)
    assert again == found


def test_intervals_of_expected_limits_cover():
    """Reference: catches ranks that are off, and failed toys that are forgotten."""
    rng = np.random.default_rng(1)
    truth = stats.norm.cdf([-2, -1, 0, 1, 2])  # quantiles of uniform numbers
    inside = np.zeros(5)
    for _ in range(1000):
        _, intervals = bayesian.toy_quantiles(np.sort(rng.random(400)), 0)
        inside += [low <= q <= high for q, (low, high) in zip(truth, intervals, strict=True)]
    assert (inside / 1000.0 > 0.683 - 4.0 * np.sqrt(0.683 * 0.317 / 1000.0)).all()
    limits = np.sort(rng.random(400))
    few, many = (bayesian.toy_quantiles(limits, n)[1] for n in (0, 20))
    assert all(a[0] >= b[0] and a[1] <= b[1] for a, b in zip(few, many, strict=True))
    assert few != many


def test_toys_without_a_limit_are_counted(models, monkeypatch):
    """Catches failed toys that vanish, and a band from those that are left of many."""
    likelihood = CompiledLikelihood(models.counting([2.0], [6.2], [4.0]))
    batch = bayesian._batch

    def failing(worst):
        def some(question, likelihoods, data, n_threads):
            found = batch(question, likelihoods, data, n_threads)
            return [
                FitFailure("not-converged", "") if one is not None and one[0] >= worst else limit
                for limit, one in zip(found, data, strict=True)
            ]

        return some

    monkeypatch.setattr(bayesian, "_batch", failing(12.0))
    found = bayesian_upper_limit(likelihood, n_toys=1000)
    assert 0 < found.band.n_failed < 50
    assert "toys have no limit" in found.warnings[-1]
    monkeypatch.setattr(bayesian, "_batch", failing(6.0))
    with pytest.raises(FitFailure, match="toys-failed"):
        bayesian_upper_limit(likelihood, n_toys=1000)


# ------------------------------------------------------------------------------------------------------ Markov chains


def skewed(models, n_bins):
    """Bins whose background was counted with one event, and the exact ln of their marginal likelihood."""
    rng = np.random.default_rng(4)
    background, signal = rng.uniform(1.0, 4.0, n_bins), rng.uniform(0.5, 2.0, n_bins)
    counts = rng.poisson(background)
    modifier = {"name": "mc", "type": "shapesys", "data": background.tolist()}
    spec = models.counting(signal, background, counts, background_modifiers=[modifier])

    def log_marginal(mu):
        total = 0.0
        for n, b, s in zip(counts, background, signal, strict=True):
            j = np.arange(n + 1.0)
            terms = gammaln(j + 2.0) - gammaln(j + 1.0) - gammaln(n - j + 1.0) + (n - j) * np.log(mu * s)
            total += np.logaddexp.reduce(terms + j * np.log(b) - (j + 2.0) * np.log1p(b)) - mu * s
        return total

    return CompiledLikelihood(spec), log_marginal


def exact_limit(log_marginal):
    top = log_marginal(0.5)
    return limit_by_quad(lambda mu: np.exp(log_marginal(max(mu, 1e-12)) - top), 0.9, 12.0)


def test_chains_where_importance_sampling_is_poor(models, monkeypatch):
    """Reference: six gamma-Poisson bins in closed form, far from normal. Catches a sample of few that is believed, a
    sampler that converges to something else (emcee's snooker moves do), and an error that is too small."""
    likelihood, log_marginal = skewed(models, 6)
    monkeypatch.setattr(bayesian, "_LEAST_SAMPLES", 1e4)
    found = bayesian_upper_limit(likelihood)
    assert found.marginalisation == "mcmc"
    assert found.chains.converged
    assert found.observed == pytest.approx(exact_limit(log_marginal), rel=4.0 * found.relative_error)
    assert found.relative_error < 0.03


@pytest.mark.parametrize("prior", ["flat", "inverse-sqrt"])
def test_chains_agree_with_quadrature(models, prior):
    """Reference: catches a prior or a bound that the chains do not know, and a seed that is not used, or not alone."""
    likelihood = two_nuisances(models)
    exact = bayesian_upper_limit(likelihood, prior=prior)
    found, same, other = (
        bayesian_upper_limit(likelihood, prior=prior, marginalisation="mcmc", seed=seed) for seed in (1, 1, 2)
    )
    assert found == same
    assert found.observed != other.observed
    for one in (found, other):
        assert one.observed == pytest.approx(exact.observed, rel=4.0 * one.relative_error)
        assert one.relative_error < 0.03


def test_chains_that_do_not_converge_are_a_failure(models, monkeypatch):
    """Catches a number from chains that are too short."""
    monkeypatch.setattr(posterior_sampling, "LEAST_LENGTH", 1e4)
    with pytest.raises(FitFailure, match=r"sampling-not-converged: after 1000 steps.*autocorrelation"):
        posterior_sampling.limit_from_chains(
            two_nuisances(models), None, confidence_level=0.9, prior="flat", seed=1, most_steps=1000
        )


def test_diagnostics_of_chains():
    """Reference: an autoregressive process of known time; catches halves that disagree unnoticed."""
    rng = np.random.default_rng(2)
    memory = 0.9
    chains = np.zeros((4, 6000, 20))
    for step in range(1, 6000):
        chains[:, step] = memory * chains[:, step - 1] + rng.standard_normal((4, 20))
    good = posterior_sampling.diagnose(chains[:, 100:])
    assert good.autocorrelation == pytest.approx((1.0 + memory) / (1.0 - memory), rel=0.15)
    assert good.converged
    limit, error = posterior_sampling.quantile_with_error(chains[:, 100:], 0.9)
    width = 1.0 / np.sqrt(1.0 - memory**2)
    assert limit == pytest.approx(1.2815516 * width, abs=4.0 * error)
    assert error < 0.03 * width
    apart = chains.copy()
    apart[0] += 0.5 * width
    assert not posterior_sampling.diagnose(apart[:, 100:]).converged
    drifting = chains + np.linspace(0.0, width, 6000)[:, None]
    assert posterior_sampling.diagnose(drifting[:, 100:]).r_hat > posterior_sampling.MOST_R_HAT


def test_where_interpolation_jumps():
    """Reference: the jump of code 4 at one sigma is nothing if lo is 1/hi; catches breaks that are lost where it is not."""
    from modelbuilder.inference._posterior_grid import _LEAST_JUMP, _jump
    from modelbuilder.inference.flatten import normsys_coefficients

    class Model:
        integers = np.zeros(64, dtype=np.int64)

    for hi, lo, expected in ((1.2, 1.0 / 1.2, False), (1.2, 0.85, True), (1.1, 0.9, True)):
        Model.floats = normsys_coefficients(np.array([hi]), np.array([lo]))[0]
        assert (_jump.py_func(Model, 0) > _LEAST_JUMP) == expected
