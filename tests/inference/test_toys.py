"""Toys against sums of Poisson probabilities, asymptotic formulas, pyhf's toys, and themselves."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from modelbuilder.errors import FitFailure
from modelbuilder.inference import AsymptoticCalculator, CompiledLikelihood
from modelbuilder.inference import toys as toys_module
from modelbuilder.inference.toys import ToyCalculator, ToyShard, merge_shards, toy_data, toy_statistics

SEED = 20


def counting_model(models, *, count=4.0, background=3.0, signal=2.0):
    return CompiledLikelihood(models.counting([signal], [background], [count]))


def exact_cls(count, background, events):
    """CLs of a counting experiment that is ordered by its count."""
    return stats.poisson.cdf(count, background + events) / stats.poisson.cdf(count, background)


def with_nuisances(models):
    return {
        "staterror": models.binwise("staterror"),
        "shapesys": models.binwise("shapesys"),
        "mixed": models.counting(
            [5.0, 3.0],
            [40.0, 8.0],
            [42.0, 7.0],
            signal_modifiers=[models.normsys("efficiency", 1.1, 0.8)],
            background_modifiers=[
                models.normsys("rate", 1.3, 0.7),
                {"name": "a", "type": "shapesys", "data": [4.0, 1.0]},
                {"name": "b", "type": "staterror", "data": [3.0, 1.0]},
            ],
        ),
    }


@pytest.mark.parametrize("mean", [0.2, 3.0, 29.9, 30.1, 400.0, 2e5])
def test_counts_are_poisson(models, mean):
    """Reference: catches a wrong generator of counts, and a seam between its two methods."""
    likelihood = counting_model(models, background=mean, signal=1.0)
    counts = toy_data(likelihood, [0.0], seed=SEED, hypothesis="background", n_toys=20_000)[:, 0]
    edges = np.unique(stats.poisson.ppf(np.linspace(0.0, 1.0, 31)[1:-1], mean))
    expected = np.diff([0.0, *stats.poisson.cdf(edges, mean), 1.0])
    found = np.bincount(np.searchsorted(edges, counts), minlength=len(expected))
    kept = expected > 0.0
    assert found[~kept].sum() == 0
    if kept.sum() > 1:
        assert stats.chisquare(found[kept], expected[kept] * len(counts)).pvalue > 1e-4
    assert counts.mean() == pytest.approx(mean, abs=4.5 * math.sqrt(mean / len(counts)))
    assert (counts == np.floor(counts)).all()


def test_every_datum_is_thrown_from_its_own_distribution(models):
    """Reference: catches a constraint thrown with the wrong width, as the wrong kind, or in the wrong place."""
    likelihood = CompiledLikelihood(with_nuisances(models)["mixed"])
    truth = likelihood.fit_fixed_poi(0.7).bestfit
    data = toy_data(likelihood, truth, seed=SEED, hypothesis="signal", n_toys=20_000)
    mean = likelihood.asimov_data(truth)
    n_bins = len(likelihood.bin_names)
    variance = np.array(mean)
    constraints = likelihood.flat.constraints
    variance[n_bins + constraints.normal_data] = constraints.normal_width**2
    assert data.mean(axis=0) == pytest.approx(mean, abs=4.5 * np.sqrt(variance / len(data)).max())
    assert ((data.mean(axis=0) - mean) / np.sqrt(variance / len(data))) == pytest.approx(np.zeros(len(mean)), abs=4.5)
    assert data.var(axis=0) / variance == pytest.approx(np.ones(len(mean)), abs=0.06)
    whole = data[:, n_bins + constraints.poisson_data]
    assert (whole == np.floor(whole)).all()
    correlation = np.corrcoef(data.T) - np.eye(len(mean))
    assert np.abs(correlation).max() < 4.5 / math.sqrt(len(data))


@pytest.mark.parametrize("name", ["staterror", "shapesys", "mixed"])
@pytest.mark.parametrize("statistic", ["q0", "qmu", "qmu_tilde", "tmu", "tmu_tilde"])
def test_each_statistic_is_that_of_fits_one_by_one(models, name, statistic):
    """Reference: catches a short cut that is taken wrongly, a loose fit, and a toy that is not the one thrown."""
    spec = with_nuisances(models)[name]
    spec["measurements"][0]["config"]["parameters"][0]["bounds"] = [[-1.0, 10.0]]
    likelihood = CompiledLikelihood(spec)
    poi = 0.0 if statistic == "q0" else 0.5
    truth = likelihood.fit_fixed_poi(poi).bestfit
    shard = toy_statistics(
        likelihood, truth, statistic=statistic, poi=poi, seed=SEED, hypothesis="signal", n_toys=40, first=7
    )
    data = toy_data(likelihood, truth, seed=SEED, hypothesis="signal", n_toys=40, first=7)
    expected = []
    for toy in data:
        fixed = likelihood.fit_fixed_poi(poi, toy)
        free = likelihood.fit(toy, start=fixed.bestfit, poi_lower=0.0 if statistic.endswith("tilde") else -1.0)
        agrees = {"q": free.poi_value > poi, "t": False}[statistic[0]] if statistic != "q0" else free.poi_value < 0.0
        expected.append(0.0 if agrees else fixed.twice_nll - free.twice_nll)
    assert shard.statistics == pytest.approx(expected, abs=2e-7)
    assert max(expected) > 0.0


@pytest.mark.parametrize("keep_reads", [False, True])
def test_background_toys_that_are_used_again_give_the_same(models, keep_reads):
    """Invariant: catches free fits that are remembered for the wrong toys, or depend on the value tested before."""
    likelihood = CompiledLikelihood(with_nuisances(models)["mixed"])
    calculator = ToyCalculator(likelihood, seed=SEED, n_toys=300)
    if keep_reads:
        calculator.test(1.7)
    truth = likelihood.fit_fixed_poi(0.0).bestfit
    shard = toy_statistics(
        likelihood, truth, statistic="qmu_tilde", poi=0.4, seed=SEED, hypothesis="background", n_toys=300
    )
    observed = calculator.observed(0.4)
    assert calculator.test(0.4).cl_b == shard.p_value(observed, failed_are_above=False)


def test_shards_and_threads_change_no_bit(models):
    """Invariant: catches a toy that depends on those before it, or on the thread."""
    likelihood = CompiledLikelihood(with_nuisances(models)["mixed"])
    truth = likelihood.fit_fixed_poi(0.5).bestfit

    def shard(first, n_toys, n_threads=1):
        return toy_statistics(
            likelihood,
            truth,
            statistic="qmu_tilde",
            poi=0.5,
            seed=SEED,
            hypothesis="signal",
            first=first,
            n_toys=n_toys,
            n_threads=n_threads,
        )

    whole = shard(0, 1500)
    merged = merge_shards([shard(900, 600, 3), shard(0, 17), shard(17, 883, 2)])
    assert merged == whole
    assert np.array_equal(merged.statistics, whole.statistics)
    assert not np.array_equal(shard(1, 1500).statistics, whole.statistics)
    with pytest.raises(ValueError, match="begin at 17"):
        merge_shards([shard(0, 17), shard(18, 5)])
    with pytest.raises(ValueError, match="begin at 17"):
        merge_shards([shard(0, 17), shard(16, 5)])
    with pytest.raises(ValueError, match="none"):
        merge_shards([])


def test_results_are_the_same_for_any_number_of_threads(models):
    """Invariant: catches a result that depends on how toys are shared out."""
    likelihood = CompiledLikelihood(with_nuisances(models)["shapesys"])
    one, three = (ToyCalculator(likelihood, seed=SEED, n_toys=1100, n_threads=n) for n in (1, 3))
    assert one.test(0.8) == three.test(0.8)
    assert one.discovery() == three.discovery()


def test_seed_and_hypothesis_are_used(models):
    """Invariant: catches one stream for everything."""
    likelihood = counting_model(models, background=50.0)
    data = {
        (seed, hypothesis): toy_data(likelihood, [0.0], seed=seed, hypothesis=hypothesis, n_toys=50).tobytes()
        for seed in (1, 2)
        for hypothesis in ("signal", "background")
    }
    assert len(set(data.values())) == 4


def shard_of(values):
    return ToyShard(
        statistic="qmu",
        poi=1.0,
        truth=(1.0,),
        seed=1,
        hypothesis="signal",
        first=0,
        statistics=np.array(values, dtype=float),
    )


def test_failed_toys_bound_the_p_value_on_either_side():
    """Catches failed toys that are dropped, or only counted on the convenient side."""
    values = [5.0] * 10 + [0.0] * 80 + [math.nan] * 10
    p = shard_of(values).p_value(2.0)
    assert (p.n_toys, p.n_above, p.n_failed, p.value) == (100, 10, 10, 0.2)
    assert shard_of(values).p_value(2.0, failed_are_above=False).value == 0.1
    low = stats.binomtest(10, 100).proportion_ci(0.6826894921370859, method="exact").low
    high = stats.binomtest(20, 100).proportion_ci(0.6826894921370859, method="exact").high
    assert (p.lower, p.upper) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize(("above", "total"), [(0, 50), (50, 50), (3, 1000)])
def test_interval_is_that_of_clopper_and_pearson(above, total):
    """Reference: catches an interval that is empty, or leaves [0, 1], at no toys or all."""
    p = shard_of([3.0] * above + [1.0] * (total - above)).p_value(2.0)
    for level in (0.6826894921370859, 0.95):
        expected = stats.binomtest(above, total).proportion_ci(level, method="exact")
        assert p.at_confidence(level) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_too_many_failed_toys_are_a_failure(models, monkeypatch):
    """Catches a p-value that rests on what is left of the toys."""

    def nothing_works(*arguments, **options):
        """Leaves all statistics NaN."""

    monkeypatch.setattr(toys_module._Stream, "run", nothing_works)
    with pytest.raises(FitFailure, match="toys-failed"):
        ToyCalculator(counting_model(models), seed=SEED).p_value(1.0)


@pytest.mark.parametrize(("count", "background"), [(0.0, 3.0), (2.0, 3.0), (4.0, 3.0), (9.0, 12.0)])
def test_counting_p_values_are_sums_of_poisson_probabilities(models, count, background):
    """Reference: catches a wrong ordering, ties that are counted by chance, and CLb without its equality."""
    likelihood = counting_model(models, count=count, background=background)
    poi = 2.6
    test = ToyCalculator(likelihood, seed=SEED, n_toys=20_000).test(poi)
    for found, mean in ((test.cl_sb, background + 2.0 * poi), (test.cl_b, background)):
        low, high = found.at_confidence(0.9999)
        assert low <= stats.poisson.cdf(count, mean) <= high
    assert test.cl_s.value == pytest.approx(
        exact_cls(count, background, 2.0 * poi), abs=4.5 * (test.cl_s.upper - test.cl_s.lower) / 2.0
    )


@pytest.mark.parametrize("count", [3.0, 6.0, 11.0])
def test_counting_discovery_is_a_sum_of_poisson_probabilities(models, count):
    """Reference: catches a significance on the wrong side, or with q0 = 0 for an excess."""
    found = ToyCalculator(counting_model(models, count=count), seed=SEED, n_toys=40_000).discovery()
    exact = stats.poisson.sf(count - 1.0, 3.0) if count > 3.0 else 1.0
    low, high = found.p_value.at_confidence(0.9999)
    assert low <= exact <= high
    assert found.significance.lower <= found.significance.value <= found.significance.upper


@pytest.mark.parametrize("count", [0.0, 4.0])
def test_counting_limits_are_the_exact_ones(models, count):
    """Reference: catches a search that stops elsewhere, a band of the wrong toys, an uncertainty that is too small."""
    background = 3.0
    limit = ToyCalculator(counting_model(models, count=count), seed=SEED, n_toys=8000).upper_limit(confidence_level=0.9)
    quantiles = stats.poisson.ppf(stats.norm.cdf([-2, -1, 0, 1, 2]), background)
    for found, n in zip([limit.observed, *limit.expected], [count, *quantiles], strict=True):
        exact = brentq(lambda mu, n=n: exact_cls(n, background, 2.0 * mu) - 0.1, 0.01, 20.0)
        spread = max(found.upper - found.value, found.value - found.lower)
        assert found.value == pytest.approx(exact, abs=4.0 * spread)
        assert found.lower < found.value < found.upper
        assert spread < 0.12 * exact


def test_limits_without_cls_may_be_zero(models):
    """Catches a search for a limit that does not exist: no events where many are expected excludes every signal."""
    limit = ToyCalculator(counting_model(models, count=0.0, background=9.0), seed=SEED, n_toys=1000).upper_limit(
        method="profile-likelihood", confidence_level=0.9
    )
    assert limit.observed.value == 0.0
    assert limit.expected[2].value > 0.0


@pytest.mark.parametrize("method", ["cls", "profile-likelihood"])
def test_limits_cover(models, method):
    """Reference: catches limits that are too low: the probability, summed over counts, to find one above the truth."""
    background, signal, level = 2.0, 1.0, 0.9
    limits = [
        ToyCalculator(counting_model(models, count=float(n), background=background, signal=signal), seed=n, n_toys=700)
        .upper_limit(method=method, confidence_level=level)
        .observed
        for n in range(13)
    ]
    assert (np.diff([limit.value for limit in limits]) > 0.0).all()
    for truth in (0.3, 1.0, 2.0, 4.0):
        p = stats.poisson.pmf(np.arange(13), background + signal * truth)
        covered = 1.0 - p[[limit.upper + (limit.upper - limit.value) < truth for limit in limits]].sum()
        assert covered >= level
        assert method == "cls" or 1.0 - p[[limit.value < truth for limit in limits]].sum() <= level + 0.1


def test_large_counts_are_asymptotic(models):
    """Reference: catches a nuisance parameter that toys or fits treat otherwise than the asymptotic formulas do."""
    likelihood = CompiledLikelihood(
        models.counting(
            [60.0, 40.0],
            [2000.0, 1500.0],
            [2010.0, 1520.0],
            background_modifiers=[
                models.normsys("rate", 1.02, 0.98),
                {"name": "mc", "type": "staterror", "data": [20.0, 15.0]},
            ],
        )
    )
    toys = ToyCalculator(likelihood, seed=SEED, n_toys=4000)
    formulas = AsymptoticCalculator(likelihood)
    poi = formulas.upper_limit(confidence_level=0.9).observed
    ours, theirs = toys.test(poi), formulas.hypothesis_test(poi)
    assert ours.cl_s.value == pytest.approx(theirs.cl_s, abs=4.0 * (ours.cl_s.upper - ours.cl_s.value))
    # not at +2 sigma: there the best fit is above the limit, q is 0 and CLs is 1, which the formulas do not know
    for found, expected in zip(ours.expected_cl_s[:4], theirs.expected_cl_s[:4], strict=True):
        spread = max(found.upper - found.value, found.value - found.lower)
        assert found.value == pytest.approx(expected, abs=4.0 * spread)
    found = toys.discovery()
    p = formulas.discovery().p_value
    assert found.p_value.value == pytest.approx(p, abs=4.0 * (found.p_value.upper - found.p_value.value))


def test_distributions_are_those_of_pyhf(models, reference):
    """Reference: catches another convention for toys than pyhf's, in either hypothesis."""
    from pyhf.infer.calculators import ToyCalculator as PyhfToys

    spec = with_nuisances(models)["shapesys"]
    solved = reference(spec)
    poi = 0.8
    np.random.seed(SEED)  # noqa: NPY002 (pyhf throws with the global generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SLSQP says so when it clips a step to the bounds
        calculator = PyhfToys(solved.data, solved.model, ntoys=150, track_progress=False)
        theirs = calculator.distributions(poi)
        observed = float(calculator.teststatistic(poi))
    likelihood = CompiledLikelihood(spec)
    ours = ToyCalculator(likelihood, seed=SEED, n_toys=100)
    assert ours.observed(poi) == pytest.approx(observed, abs=1e-4)
    for distribution, truth_poi, hypothesis in zip(theirs, (poi, 0.0), ("signal", "background"), strict=True):
        shard = toy_statistics(
            likelihood,
            likelihood.fit_fixed_poi(truth_poi).bestfit,
            statistic="qmu_tilde",
            poi=poi,
            seed=SEED,
            hypothesis=hypothesis,
            n_toys=4000,
        )
        samples = np.round(np.asarray(distribution.samples), 3), np.round(shard.statistics, 3)
        assert stats.ks_2samp(*samples).pvalue > 1e-3


def test_as_many_toys_as_the_precision_needs(models):
    """Catches a precision that is not looked at, a maximum that is passed, and an imprecise result that says nothing."""
    likelihood = counting_model(models)
    rough, fine = (ToyCalculator(likelihood, seed=SEED, precision=r).p_value(2.6) for r in (0.2, 0.03))
    assert rough.n_toys < fine.n_toys
    assert fine.relative_precision <= 0.03
    few = ToyCalculator(likelihood, seed=SEED, precision=0.001, max_toys=3000).test(2.6)
    assert few.cl_sb.n_toys == 3000
    assert not few.precision_reached
    assert "3000 toys" in few.warnings[0]


def test_an_excess_beyond_all_toys_is_a_bound(models):
    """Catches an infinite significance from a finite number of toys."""
    found = ToyCalculator(counting_model(models, count=40.0), seed=SEED, n_toys=1000).discovery()
    assert found.p_value.n_above == 0
    assert math.isfinite(found.significance.value)
    assert "at least" in found.warnings[0]


@pytest.mark.parametrize(
    "arguments", [{"statistic": "q"}, {"precision": 0.0}, {"max_toys": 0}, {"n_toys": -1}, {"n_threads": 0}]
)
def test_wrong_questions_are_refused(models, arguments):
    """Catches an argument that is not looked at."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ToyCalculator(counting_model(models), seed=SEED, **arguments)
    with pytest.raises(ValueError, match="poi"):
        ToyCalculator(counting_model(models), seed=SEED).test(-1.0)
    with pytest.raises(ValueError, match="statistic"):
        ToyCalculator(counting_model(models), seed=SEED, statistic="q0").upper_limit()


@pytest.mark.parametrize(("count", "background"), [(0.0, 0.5), (5.0, 10.0), (12.0, 10.0)])
def test_few_toys_have_honest_intervals(models, count, background):
    """Issue: a slope between points that are close, made by the toys alone, gave an interval seven times too narrow."""
    likelihood = counting_model(models, count=count, background=background)
    found = ToyCalculator(likelihood, seed=75, n_toys=600).upper_limit()
    exact = brentq(lambda mu: exact_cls(count, background, 2.0 * mu) - 0.05, 0.01, 20.0)
    limit = found.observed
    assert limit.value == pytest.approx(exact, abs=3.0 * max(limit.upper - limit.value, limit.value - limit.lower))
    assert all(math.isfinite(one.value) for one in found.expected)
