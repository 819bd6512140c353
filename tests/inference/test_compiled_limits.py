"""Compiled limits against the readable route, against pyhf solved tightly, and against themselves."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr

from modelbuilder.errors import FitFailure
from modelbuilder.inference import (
    AsymptoticCalculator,
    CompiledLikelihood,
    PyhfLikelihood,
    compiled_upper_limit,
    compiled_upper_limits,
)

METHODS = ["cls", "profile-likelihood"]
COUNTS = [
    pytest.param(1.0, 10.0, 10.0, id="as expected"),
    pytest.param(1.0, 10.0, 17.0, id="excess"),
    pytest.param(1.0, 10.0, 6.0, id="deficit"),
    pytest.param(1.0, 100.0, 55.0, id="strong deficit"),
    pytest.param(2.5, 3.0, 0.0, id="no events"),
    pytest.param(1e-4, 50.0, 52.0, id="limit of 1e5"),
    pytest.param(1e6, 50.0, 52.0, id="limit of 1e-5"),
    pytest.param(1.0, 1e6, 1.0005e6, id="a million events"),
    pytest.param(3.0, 0.01, 0.0, id="hardly any background"),
    pytest.param(3.0, 0.0, 0.0, id="no background"),
    pytest.param(1.0, 20.0, 95.0, id="strong signal"),
]


def numbers(limit):
    return [limit.observed, *limit.expected]


def models_with_nuisances(models):
    return {
        "staterror": models.binwise("staterror"),
        "shapesys": models.binwise("shapesys"),
        "bump": models.bump(),
        "bump elsewhere": models.bump(mass=0.31, seed=8),
        "counting": models.counting(
            [5.0, 3.0],
            [10.0, 8.0],
            [12.0, 7.0],
            signal_modifiers=[models.normsys("efficiency", 1.1, 0.8)],
            background_modifiers=[models.normsys("rate", 1.3, 0.7), models.normfactor("k")],
        ),
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("signal", "background", "count"), COUNTS)
def test_counting_limits_are_those_of_the_readable_route(models, signal, background, count, method):
    """Reference: catches a wrong formula, start, bracket or stop of the compiled route in any regime of one bin."""
    spec = models.counting([signal], [background], [count])
    for level in (0.683, 0.9, 0.95, 0.999):
        ours = compiled_upper_limit(CompiledLikelihood(spec), method=method, confidence_level=level)
        calculator = AsymptoticCalculator(PyhfLikelihood(spec))
        theirs = calculator.upper_limit(method=method, confidence_level=level)
        assert numbers(ours) == pytest.approx(numbers(theirs), rel=1e-6)
        assert ours.poi_hat == pytest.approx(theirs.poi_hat, rel=1e-6, abs=1e-7 / signal)
        assert ours.effective_background_events == pytest.approx(theirs.effective_background_events, rel=1e-6)
        assert ours.warnings == theirs.warnings


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["staterror", "shapesys", "bump", "bump elsewhere", "counting"])
def test_limits_with_nuisance_parameters_are_those_of_the_readable_route(models, name, method):
    """Reference: catches a wrong profile: tangent starts, Asimov data, or slopes that forget a nuisance parameter."""
    spec = models_with_nuisances(models)[name]
    ours = compiled_upper_limit(CompiledLikelihood(spec), method=method, confidence_level=0.9)
    theirs = AsymptoticCalculator(PyhfLikelihood(spec)).upper_limit(method=method, confidence_level=0.9)
    assert numbers(ours) == pytest.approx(numbers(theirs), rel=1e-6, abs=1e-9)
    assert ours.poi_hat == pytest.approx(theirs.poi_hat, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", ["staterror", "shapesys", "counting"])
def test_limits_and_cls_are_those_of_pyhf(models, reference, name):
    """Reference: catches an error that both of our routes share, against pyhf solved tightly."""
    spec = models_with_nuisances(models)[name]
    likelihood, solved = CompiledLikelihood(spec), reference(spec)
    limit = compiled_upper_limit(likelihood, confidence_level=0.95)
    observed, expected = solved.limits(0.05, 9.0, 0.05)
    assert numbers(limit) == pytest.approx([observed, *expected], rel=1e-5)
    for poi in (0.4, limit.observed):
        test = AsymptoticCalculator(likelihood).hypothesis_test(poi)
        cls, tails, band = solved.hypotest(poi)
        assert test.cl_s == pytest.approx(cls, abs=1e-6)
        assert [test.cl_sb, test.cl_b] == pytest.approx(tails, abs=1e-6)
        assert test.expected_cl_s == pytest.approx(band, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_confidence_level_is_used_and_limits_rise_with_it(models, method):
    """Invariant: catches a level that is ignored, and a limit that is not where its equation is solved."""
    for spec in models_with_nuisances(models).values():
        likelihood = CompiledLikelihood(spec)
        levels = [0.6, 0.8, 0.9, 0.9001, 0.95, 0.99, 0.9999]
        limits = [compiled_upper_limit(likelihood, method=method, confidence_level=level) for level in levels]
        rows = np.array([numbers(limit) for limit in limits])
        steps = np.diff(rows, axis=0)
        assert ((steps > 0.0) | (rows[:-1] == 0.0)).all()
        assert (np.diff(rows[:, 1:], axis=1) >= 0.0).all()


def test_work_is_bounded(models):
    """Catches a return to scanning: a set of limits takes at most 30 fits and 80 evaluations."""
    for spec in models_with_nuisances(models).values():
        limit = compiled_upper_limit(CompiledLikelihood(spec))
        assert limit.fits <= 30
        assert limit.evaluations <= 80


@pytest.mark.parametrize("n_threads", [2, 7])
def test_threads_change_no_bit(models, n_threads):
    """Invariant: catches scratch space, or a starting point, that one point leaves to the next."""
    specs = list(models_with_nuisances(models).values())
    likelihoods = [CompiledLikelihood(spec) for spec in specs] * 12
    rng = np.random.default_rng(4)
    data = []
    for likelihood in likelihoods:
        values = likelihood.observed_data.copy()
        n_bins = len(likelihood.bin_names)
        values[:n_bins] = rng.poisson(values[:n_bins] + 1.0)
        data.append(values)
    alone = [compiled_upper_limits([one], [some])[0] for one, some in zip(likelihoods, data, strict=True)]
    assert compiled_upper_limits(likelihoods, data, n_threads=1) == alone
    assert compiled_upper_limits(likelihoods, data, n_threads=n_threads) == alone


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_limits_scale_with_the_signal(models, scale):
    """Invariant: catches a bracket, a step or a tolerance in units of mu."""
    plain = models.counting([5.0, 3.0], [10.0, 8.0], [14.0, 12.0], background_modifiers=[models.normsys("a", 1.2, 0.9)])
    scaled = copy.deepcopy(plain)
    scaled["channels"][0]["samples"][0]["data"] = [5.0 * scale, 3.0 * scale]
    first, second = (compiled_upper_limit(CompiledLikelihood(spec)) for spec in (plain, scaled))
    assert [value * scale for value in numbers(second)] == pytest.approx(numbers(first), rel=1e-7)


def test_limit_beyond_the_bound_of_the_poi(models):
    """Catches a limit that stops at the upper bound of the POI."""
    wide, narrow = (models.counting([1.0], [20.0], [40.0], poi_bounds=bounds) for bounds in ((0.0, 500.0), (0.0, 10.0)))
    first, second = (compiled_upper_limit(CompiledLikelihood(spec)) for spec in (wide, narrow))
    assert first.observed > 10.0
    assert numbers(second) == pytest.approx(numbers(first), rel=1e-9)


def test_poi_that_may_be_negative(models):
    """Catches a best fit below zero that is used in qmu_tilde, or not reported."""
    spec = models.counting([1.0], [20.0], [12.0], poi_bounds=(-10.0, 10.0))
    limit = compiled_upper_limit(CompiledLikelihood(spec))
    assert limit.poi_hat == pytest.approx(-8.0, rel=1e-6)
    bounded = models.counting([1.0], [20.0], [12.0])
    assert numbers(limit) == pytest.approx(numbers(compiled_upper_limit(CompiledLikelihood(bounded))), rel=1e-7)


def test_failures_have_their_names_and_stop_nobody(models):
    """Catches a number where there is no limit, and a batch that is lost for one point."""
    good = CompiledLikelihood(models.counting([5.0], [10.0], [9.0]))
    nothing = CompiledLikelihood(models.counting([0.0], [10.0], [9.0]))
    impossible = CompiledLikelihood(models.counting([5.0, 0.0], [10.0, 0.0], [9.0, 1.0]))
    found = compiled_upper_limits([good, nothing, impossible, good])
    assert [one.reason if isinstance(one, FitFailure) else "ok" for one in found] == [
        "ok",
        "no-signal",
        "nll-not-finite",
        "ok",
    ]
    assert found[0] == found[3]
    with pytest.raises(FitFailure, match="no-signal"):
        compiled_upper_limit(nothing)


@pytest.mark.parametrize("arguments", [{"method": "bayes"}, {"confidence_level": 0.3}, {"data": [[1.0], [2.0]]}])
def test_wrong_questions_are_refused(models, arguments):
    """Catches an argument that is not looked at."""
    with pytest.raises(ValueError, match=r"method|confidence_level|data"):
        compiled_upper_limits([CompiledLikelihood(models.counting([5.0], [10.0], [9.0]))], **arguments)


# ------------------------------------------------------------------------------------------------- several minima

ALPHAS = np.linspace(-5.0, 5.0, 401)


def lowest(likelihood, mu, data):
    """-2 ln L at its lowest over one nuisance parameter, by a grid over all of it and a search around each low point."""
    assert likelihood.parameter_names == ("mu", "rate") or likelihood.parameter_names == ("rate", "mu")
    order = likelihood.poi_index

    def value(alpha):
        return likelihood.twice_nll([mu, alpha] if order == 0 else [alpha, mu], data)

    values = [value(alpha) for alpha in ALPHAS]
    low = [k for k in range(1, len(ALPHAS) - 1) if values[k] <= values[k - 1] and values[k] <= values[k + 1]]
    found = [
        minimize_scalar(value, bounds=(ALPHAS[k - 1], ALPHAS[k + 1]), method="bounded", options={"xatol": 1e-9}).fun
        for k in low
    ]
    return min([*found, values[0], values[-1]])


@given(
    background=st.sampled_from([3.0, 30.0, 100.0, 1000.0]),
    pull=st.floats(-4.0, 6.0),
    strength=st.sampled_from([0.3, 1.0, 3.0]),
    high=st.floats(0.5, 1.6),
    low=st.floats(0.5, 1.6),
)
@example(background=1000.0, pull=4.74, strength=1.0, high=0.7, low=0.85)
@example(background=100.0, pull=4.0, strength=1.0, high=1.05, low=0.85)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_limits_are_those_of_the_lowest_minimum(models, background, pull, strength, high, low):
    """Reference: a grid over the one nuisance parameter. Catches a limit from a local minimum, as an asymmetric rate has
    where data and expectation differ: once 14.1 for 19.5, without a word. One parameter is no reason to fail either.
    """
    count = round(background + pull * math.sqrt(background))
    assume(count >= 0)
    spec = models.counting(
        [strength * math.sqrt(background)],
        [background],
        [float(count)],
        background_modifiers=[models.normsys("rate", high, low)],
        poi_bounds=(0.0, 1000.0),
    )
    likelihood = CompiledLikelihood(spec)
    limit = compiled_upper_limit(likelihood)
    assert all(a <= b for a, b in itertools.pairwise(limit.expected))
    null = likelihood.fit_fixed_poi(0.0)
    assert null.twice_nll == pytest.approx(lowest(likelihood, 0.0, None), abs=1e-6)
    asimov = likelihood.asimov_data(null.bestfit)
    best_asimov = lowest(likelihood, 0.0, asimov)
    for n_sigma, mu in zip((-2, 0, 2), limit.expected[::2], strict=True):
        share = 0.5 * math.erfc(-n_sigma / math.sqrt(2.0))
        root = math.sqrt(max(lowest(likelihood, mu, asimov) - best_asimov, 0.0))
        # CLs = 5 % where CLb is its quantile: Phi(n - root)/Phi(n)
        assert math.exp(log_ndtr(n_sigma - root)) / share == pytest.approx(0.05, rel=1e-3)
    best = min(lowest(likelihood, mu, None) for mu in (0.0, likelihood.fit(poi_lower=0.0).poi_value))
    q = max(lowest(likelihood, limit.observed, None) - best, 0.0)
    qa = max(lowest(likelihood, limit.observed, asimov) - best_asimov, 0.0)
    deviate = math.sqrt(q) if q <= qa else (q + qa) / (2.0 * math.sqrt(qa))
    assert math.exp(log_ndtr(-deviate) - log_ndtr(math.sqrt(qa) - deviate)) == pytest.approx(0.05, rel=1e-3)
