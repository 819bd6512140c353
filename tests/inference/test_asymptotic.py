"""Limits and significances against closed forms, against pyhf solved tightly, and against themselves rescaled."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from modelbuilder.errors import FitFailure
from modelbuilder.inference import AsymptoticCalculator, CompiledLikelihood, PyhfLikelihood, discovery, upper_limit
from modelbuilder.inference.asymptotic import FEW_EVENTS
from modelbuilder.inference.likelihood import Counters, Derivatives, Parameter
from modelbuilder.inference.results import FitResult

METHODS = ["cls", "profile-likelihood"]
COUNTS = [
    pytest.param(1.0, 10.0, 10.0, id="as expected"),
    pytest.param(1.0, 10.0, 17.0, id="excess"),
    pytest.param(1.0, 10.0, 6.0, id="deficit"),
    pytest.param(2.5, 3.0, 0.0, id="no events"),
    pytest.param(1e-4, 50.0, 52.0, id="limit of 1e5"),
    pytest.param(1e6, 50.0, 52.0, id="limit of 1e-5"),
    pytest.param(1.0, 1e6, 1.0005e6, id="a million events"),
    pytest.param(3.0, 0.01, 0.0, id="hardly any background"),
    pytest.param(1.0, 20.0, 95.0, id="strong signal"),
]


class Counting:
    """The formulas of arXiv:1007.1727 for one bin without nuisance parameters, written down once more."""

    def __init__(self, signal, background, count):
        self.s, self.b, self.n = signal, background, count
        self.best = max((count - background) / signal, 0.0)

    def deviance(self, count, mu):
        expected = mu * self.s + self.b
        if count == 0.0:
            return 2.0 * expected
        excess = (expected - count) / count
        return 2.0 * count * (excess - math.log1p(excess))

    def q(self, mu):
        return self.deviance(self.n, mu) - self.deviance(self.n, self.best) if mu > self.best else 0.0

    def qa(self, mu):
        return self.deviance(self.b, mu)

    def p_values(self, mu):
        q, qa = self.q(mu), self.qa(mu)
        root = math.sqrt(qa)
        above = math.sqrt(q) if q <= qa else (q + qa) / (2.0 * root)
        return norm.sf(above), norm.sf(above - root)

    def root(self, function, low):
        high = max(2.0 * low, 1e-3 / self.s)
        while function(high) < 0.0:
            high *= 2.0
        return brentq(function, low if low > 0.0 else 1e-9 * high, high, xtol=1e-300, rtol=1e-13)

    def expected(self, method, alpha, n_sigma):
        fraction = norm.cdf(n_sigma) if method == "cls" else 1.0
        if method != "cls" and norm.isf(alpha) + n_sigma <= 0.0:
            return 0.0
        return self.root(
            lambda mu: alpha - norm.sf(math.sqrt(self.qa(mu)) - n_sigma) / fraction,
            0.0,
        )

    def observed(self, method, alpha):
        def distance(mu):
            cl_sb, cl_b = self.p_values(mu)
            return alpha - (cl_sb / cl_b if method == "cls" else cl_sb)

        if distance(max(self.best, 1e-5 / self.s) * (1.0 + 1e-12)) > 0.0:
            return 0.0
        return self.root(distance, self.best)

    @property
    def q0(self):
        return self.deviance(self.n, 0.0) - self.deviance(self.n, self.best)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize(("signal", "background", "count"), COUNTS)
def test_counting_limit_has_a_closed_form(models, method, level, signal, background, count):
    """Reference: closed form. Catches a wrong test statistic, target, branch or level, at any scale of the signal."""
    closed = Counting(signal, background, count)
    likelihood = PyhfLikelihood(models.counting([signal], [background], [count]))
    found = upper_limit(likelihood, method=method, confidence_level=level)
    alpha = 1.0 - level
    assert found.observed == pytest.approx(closed.observed(method, alpha), rel=1e-6, abs=1e-6 / signal)
    assert found.expected == pytest.approx([closed.expected(method, alpha, n) for n in (-2, -1, 0, 1, 2)], rel=1e-6)
    assert found.poi_hat == pytest.approx(closed.best, rel=1e-5, abs=1e-6 / signal)
    assert found.effective_background_events == pytest.approx(background, rel=1e-6)
    assert (found.method, found.confidence_level, found.poi_name) == (method, level, "mu")


@pytest.mark.parametrize(("signal", "background", "count"), COUNTS)
def test_counting_tests_have_a_closed_form(models, signal, background, count):
    """Reference: closed form of q0, qmu_tilde and the p-values."""
    closed = Counting(signal, background, count)
    calculator = AsymptoticCalculator(PyhfLikelihood(models.counting([signal], [background], [count])))
    found = calculator.discovery()
    assert found.q0 == pytest.approx(closed.q0, rel=1e-7, abs=1e-9)
    assert found.significance == pytest.approx(math.sqrt(closed.q0), rel=1e-7, abs=1e-5)
    assert found.p_value == pytest.approx(norm.sf(found.significance), rel=1e-12)
    for mu in (0.5 * closed.best, closed.best + 1.0 / signal, closed.best + 5.0 / signal):
        test = calculator.hypothesis_test(mu)
        cl_sb, cl_b = closed.p_values(mu) if mu > 0.0 else (0.5, 0.5)
        assert test.qmu_tilde == pytest.approx(closed.q(mu), rel=1e-7, abs=1e-9)
        assert test.qmu_tilde_asimov == pytest.approx(closed.qa(mu), rel=1e-7, abs=1e-9)
        assert (test.cl_sb, test.cl_b) == pytest.approx((cl_sb, cl_b), abs=1e-7)
        assert test.cl_s == pytest.approx(cl_sb / cl_b, rel=1e-6)


def test_no_signal_strength_at_all_is_tested_without_a_nan(models):
    """Issue: pyhf's CLs at POI = 0 is 0/0, and ends its scan."""
    test = AsymptoticCalculator(PyhfLikelihood(models.counting([5.0], [10.0], [10.0]))).hypothesis_test(0.0)
    assert (test.cl_s, test.cl_sb, test.cl_b) == pytest.approx((1.0, 0.5, 0.5))
    assert test.expected_cl_s == pytest.approx((1.0,) * 5)


def small(models, name):
    if name == "two bins":
        return models.counting(
            [5.0, 3.0],
            [10.0, 8.0],
            [9.0, 12.0],
            signal_modifiers=[models.normsys("efficiency", 1.1, 0.9)],
            background_modifiers=[models.normsys("rate", 1.2, 0.9), models.histosys("tilt", [11.0, 7.0], [9.2, 8.8])],
        )
    if name == "free background":
        return models.counting([5.0, 1.0], [3.0, 30.0], [4.0, 33.0], background_modifiers=[models.normfactor("k")])
    return models.binwise(name)


@pytest.mark.parametrize("name", ["two bins", "free background", "staterror", "shapesys"])
def test_limits_are_those_of_tight_pyhf(models, reference, name):
    """Reference: pyhf's own root finder on pyhf's own CLs, minimised to 1e-12."""
    spec = small(models, name)
    other = reference(spec)
    observed, expected = other.limits(0.01, 10.0, 0.05)
    found = upper_limit(PyhfLikelihood(spec), method="cls")
    assert found.observed == pytest.approx(observed, rel=1e-5)
    assert found.expected == pytest.approx(expected, rel=1e-5)
    assert discovery(PyhfLikelihood(spec)).p_value == pytest.approx(other.discovery_p_value(), abs=1e-6)


@pytest.mark.parametrize("name", ["two bins", "free background", "staterror", "shapesys", "bump"])
def test_p_values_are_those_of_tight_pyhf(models, reference, name):
    """Reference. Catches Asimov data made with other nuisance parameters than the best fit at mu = 0."""
    spec = models.bump() if name == "bump" else small(models, name)
    other, calculator = reference(spec), AsymptoticCalculator(PyhfLikelihood(spec))
    for poi in (0.3, 1.0, 2.2):
        cls, tails, band = other.hypotest(poi)
        test = calculator.hypothesis_test(poi)
        assert test.cl_s == pytest.approx(cls, abs=1e-6)
        assert (test.cl_sb, test.cl_b) == pytest.approx(tails, abs=1e-6)
        assert test.expected_cl_s == pytest.approx(band, abs=1e-6)


@pytest.mark.parametrize(("mass", "seed"), [(0.5, 3), (0.3, 5), (0.93, 8)])
def test_bump_limits_are_where_tight_pyhf_finds_cls_of_5_percent(models, reference, mass, seed):
    """Reference, for the model this is made for: 40 bins, 11 parameters, some Bernstein coefficients at 0.

    CLs falls by more than its own size per unit of ln mu there, so 5e-7 of 0.05 is 1e-5 of the limit or better.
    """
    spec = models.bump(mass=mass, seed=seed)
    other = reference(spec)
    calculator = AsymptoticCalculator(PyhfLikelihood(spec))
    found = calculator.upper_limit(method="cls")
    assert other.hypotest(found.observed)[0] == pytest.approx(0.05, abs=5e-7)
    for index, limit in enumerate(found.expected):
        assert other.hypotest(limit)[2][index] == pytest.approx(0.05, abs=5e-7)
    one_sided = calculator.upper_limit(method="profile-likelihood")
    assert other.hypotest(one_sided.observed)[1][0] == pytest.approx(0.05, abs=5e-7)
    assert calculator.discovery().p_value == pytest.approx(other.discovery_p_value(), abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_confidence_level_is_used_and_monotone(models, method):
    """Issue: pyhf's `upper_limit` without a scan ignores its level."""
    calculator = AsymptoticCalculator(PyhfLikelihood(models.bump()))
    limits = [calculator.upper_limit(method=method, confidence_level=level) for level in (0.68, 0.9, 0.95, 0.99)]
    for column in zip(*((limit.observed, *limit.expected[2:]) for limit in limits), strict=True):
        assert all(a < b for a, b in itertools.pairwise(column))


@pytest.mark.parametrize("method", METHODS)
def test_bands_are_ordered(models, method):
    limit = upper_limit(PyhfLikelihood(models.bump()), method=method)
    assert all(a < b for a, b in zip(limit.expected, limit.expected[1:], strict=False))
    assert (limit.expected[0] == 0.0) == (method == "profile-likelihood")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [1e4, 1e-4, 1e-8])
def test_limits_scale_with_the_signal(models, method, factor):
    """Issue: pyhf returned 1.00005 for a limit of 9.459e-5, silently. Nothing here may know a scale of mu."""
    nominal = upper_limit(PyhfLikelihood(models.bump()), method=method)
    scaled = upper_limit(PyhfLikelihood(models.bump(signal_events=30.0 * factor)), method=method)
    assert scaled.observed * factor == pytest.approx(nominal.observed, rel=1e-6)
    assert np.array(scaled.expected) * factor == pytest.approx(np.array(nominal.expected), rel=1e-6)


def test_weak_limit_is_never_below_the_cls_free_one(models):
    """Invariant: CLb < 1, so CLs > CLs+b, and the limit with CLs is the weaker one."""
    for seed in range(4):
        calculator = AsymptoticCalculator(PyhfLikelihood(models.bump(seed=seed)))
        cls, without = (calculator.upper_limit(method=method) for method in METHODS)
        assert cls.observed > without.observed
        assert all(a > b for a, b in zip(cls.expected, without.expected, strict=True))


def test_empty_data_have_limits(models):
    """Zero counts in all 40 bins: all Bernstein coefficients end at 0, and no background is expected either."""
    spec = models.bump()
    spec["observations"][0]["data"] = [0.0] * 40
    limit = upper_limit(PyhfLikelihood(spec), method="cls")
    # q = 2 mu S for observed and Asimov data alike, S = 30 signal events: CLs = Phi(-sqrt q)/0.5
    closed = norm.isf(0.025) ** 2 / (2.0 * 30.0)
    assert limit.observed == pytest.approx(closed, rel=0.01)
    assert limit.asymptotics_doubtful


def test_a_deep_deficit_excludes_everything_without_cls(models):
    """The documented zero: 50 events expected, 20 seen. With CLs there is a positive limit."""
    calculator = AsymptoticCalculator(PyhfLikelihood(models.counting([5.0], [50.0], [20.0])))
    assert calculator.upper_limit(method="profile-likelihood").observed == 0.0
    assert calculator.upper_limit(method="cls").observed > 0.1


def test_limit_goes_to_zero_smoothly(models):
    """The straight line near zero joins the root finder's results: limits fall steadily as counts do."""
    limits = [
        upper_limit(PyhfLikelihood(models.counting([5.0], [50.0], [count])), method="profile-likelihood").observed
        for count in np.linspace(36.0, 44.0, 33)
    ]
    steps = np.diff(limits)
    assert limits[0] == 0.0
    assert (steps >= 0.0).all()
    positive = steps[np.array(limits[:-1]) > 0.0]
    assert positive.max() < 1.3 * positive.min()


def test_negative_best_fit_is_replaced_by_zero(models):
    """The tilde: a model that allows mu < 0 has the limits of one that does not; pyhf would use qmu instead."""
    bounded = models.counting([5.0, 3.0], [10.0, 8.0], [6.0, 7.0])
    unbounded = models.counting([5.0, 3.0], [10.0, 8.0], [6.0, 7.0], poi_bounds=(-2.0, 10.0))
    for method in METHODS:
        one, other = (upper_limit(PyhfLikelihood(spec), method=method) for spec in (bounded, unbounded))
        assert other.observed == pytest.approx(one.observed, rel=1e-6)
        assert other.expected == pytest.approx(one.expected, rel=1e-6)
        assert one.poi_hat == 0.0
        assert other.poi_hat < -0.1
    assert discovery(PyhfLikelihood(unbounded)).significance == 0.0
    assert discovery(PyhfLikelihood(unbounded)).p_value == 0.5


def test_given_data_are_used(models):
    """Catches the observed data sneaking in where Asimov data or toys were given."""
    likelihood = PyhfLikelihood(models.bump())
    asimov = likelihood.asimov_data(likelihood.fit_fixed_poi(0.0).bestfit)
    limit = upper_limit(likelihood, asimov, method="cls")
    assert limit.observed == pytest.approx(limit.expected[2], rel=1e-5)
    assert limit.poi_hat == pytest.approx(0.0, abs=1e-5)
    assert discovery(likelihood, asimov).q0 == pytest.approx(0.0, abs=1e-9)


def test_answers_share_their_fits(models):
    """All three questions cost about one set of fits, and asking again costs none; the order does not matter."""
    likelihood = PyhfLikelihood(models.bump())
    calculator = AsymptoticCalculator(likelihood)
    cls = calculator.upper_limit(method="cls")
    without = calculator.upper_limit(method="profile-likelihood")
    found = calculator.discovery()
    assert found.fits == 0
    assert cls.fits + without.fits == likelihood.counters.fits <= 40
    assert likelihood.counters.evaluations < 500
    assert calculator.upper_limit(method="cls").fits == 0
    alone = upper_limit(PyhfLikelihood(models.bump()), method="profile-likelihood")
    assert alone.observed == pytest.approx(without.observed, rel=1e-7)
    assert alone.expected == pytest.approx(without.expected, rel=1e-7)


@pytest.mark.parametrize(("background", "doubtful"), [(0.9 * FEW_EVENTS, True), (1.1 * FEW_EVENTS, False)])
def test_few_events_are_called_doubtful(models, background, doubtful):
    limit = upper_limit(PyhfLikelihood(models.counting([5.0], [background], [5.0])), method="cls")
    assert limit.asymptotics_doubtful is doubtful
    assert bool(limit.warnings) is doubtful
    if doubtful:
        assert limit.warnings[0] == ("4.5 effective background events, fewer than 5: asymptotic formulas are doubtful")


def test_effective_background_ignores_a_control_region(models):
    """Many events where there is next to no signal do not make a limit safe."""
    limit = upper_limit(PyhfLikelihood(models.counting([5.0, 1e-3], [2.0, 1e5], [2.0, 1e5])), method="cls")
    assert limit.effective_background_events == pytest.approx(2.0, rel=1e-2)


def test_signal_without_background_has_a_limit(models):
    """No event, no background: qA = 2 mu s is not a parabola at all."""
    limit = upper_limit(PyhfLikelihood(models.counting([2.0], [0.0], [0.0])), method="cls")
    assert limit.observed == pytest.approx(norm.isf(0.025) ** 2 / 4.0, rel=1e-6)
    assert limit.effective_background_events == 0.0


def test_no_signal_fails_by_name(models):
    with pytest.raises(FitFailure) as caught:
        upper_limit(PyhfLikelihood(models.counting([0.0, 0.0], [10.0, 8.0], [9.0, 8.0])), method="cls")
    assert str(caught.value) == "no-signal: mu changes no expected yield in any bin: there is no limit on it"


def test_impossible_background_only_fails_by_name(models):
    """Events in a bin that has signal only: no conditional fit at mu = 0, so no Asimov data, so no limit."""
    with pytest.raises(FitFailure) as caught:
        upper_limit(PyhfLikelihood(models.counting([5.0, 3.0], [10.0, 0.0], [9.0, 2.0])), method="cls")
    assert caught.value.reason == "nll-not-finite"
    assert "SR[1] has 2 events and expects 0" in caught.value.detail


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0, 95.0, math.nan])
def test_confidence_level_out_of_range(models, level):
    """Catches 95 for 95 %, and levels at which a limit below the best fit would be wanted."""
    calculator = AsymptoticCalculator(PyhfLikelihood(models.counting([5.0], [10.0], [10.0])))
    with pytest.raises(ValueError, match=r"confidence_level: found .*; it lies above 0\.5 and below 1"):
        calculator.upper_limit(confidence_level=level)


def test_unknown_method_and_poi(models):
    calculator = AsymptoticCalculator(PyhfLikelihood(models.counting([5.0], [10.0], [10.0])))
    with pytest.raises(ValueError, match="method: found 'bayes'; known: cls, profile-likelihood"):
        calculator.upper_limit(method="bayes")
    with pytest.raises(ValueError, match="poi: found -1"):
        calculator.hypothesis_test(-1.0)


class Profile:
    """A likelihood of the POI alone, given as a function of it: the formulas need no more than the protocol."""

    poi_name, poi_index, parameter_names = "mu", 0, ("mu",)
    parameters = (Parameter(name="mu", init=1.0, lower=0.0, upper=10.0, fixed=False),)

    def __init__(self, twice_nll, best=0.0):
        self.counters, self.observed_data = Counters(), np.zeros(1)
        self._function, self._best = twice_nll, best

    def fit(self, data=None, *, start=None, poi_lower=None):
        return self.fit_fixed_poi(self._best, data)

    def fit_fixed_poi(self, poi, data=None, *, start=None):
        self.counters.fits += 1
        return FitResult(
            parameter_names=("mu",),
            bestfit=(poi,),
            twice_nll=self._function(poi),
            poi_name="mu",
            poi_value=poi,
            poi_fixed=True,
            poi_gradient=(self._function(poi * 1.001) - self._function(poi * 0.999)) / (0.002 * poi) if poi else 0.0,
            at_bounds=(),
            fits=1,
            evaluations=1,
        )

    def twice_nll(self, parameters, data=None):
        return self._function(parameters[0])

    def derivatives(self, parameters, data=None):
        return Derivatives(twice_nll=0.0, gradient=np.zeros(1), hessian=np.full((1, 1), 2.0))

    def expected_yields(self, parameters):
        return np.array([100.0 + parameters[0]])

    def asimov_data(self, parameters):
        return np.zeros(1)


@pytest.mark.parametrize("sigma", [1e-6, 1.0, 1e5])
def test_any_likelihood_that_keeps_the_protocol_will_do(sigma):
    """Closed form: a parabola at 0 has the limits sigma z(1 - alpha/2) and sigma z(1 - alpha)."""
    calculator = AsymptoticCalculator(Profile(lambda mu: (mu / sigma) ** 2))
    assert calculator.upper_limit(method="cls").observed == pytest.approx(sigma * norm.isf(0.025), rel=1e-8)
    one_sided = calculator.upper_limit(method="profile-likelihood")
    assert one_sided.expected == pytest.approx([0.0] + [sigma * (norm.isf(0.05) + n) for n in (-1, 0, 1, 2)], rel=1e-8)


def test_flat_likelihood_fails_by_name():
    """A signal of which no amount is excluded: twice the NLL levels off at 1."""
    calculator = AsymptoticCalculator(Profile(lambda mu: mu**2 / (1.0 + mu**2)))
    with pytest.raises(FitFailure, match="the likelihood is still flat at mu = ") as caught:
        calculator.upper_limit(method="cls")
    assert caught.value.reason == "flat-likelihood"


def test_free_fit_in_a_lesser_minimum_is_repeated():
    """A conditional fit below the free one gives the free fit its start; if that does not help, it is a failure."""
    profile = Profile(lambda mu: (mu - 1.0) ** 2 * 4.0, best=0.9)
    calculator = AsymptoticCalculator(profile)
    starts = []

    def better(data=None, *, start=None, poi_lower=None):
        starts.append(start)
        return profile.fit_fixed_poi(0.9 if len(starts) == 1 else 1.0)

    profile.fit = better
    assert calculator.hypothesis_test(0.95).qmu_tilde == 0.0
    assert calculator.discovery().poi_hat == 1.0
    assert starts[1] == (0.95,)

    stuck = AsymptoticCalculator(Profile(lambda mu: (mu - 1.0) ** 2 * 4.0, best=0.9))
    with pytest.raises(FitFailure, match=r"not-converged: the free fit ends above the fit at mu = 0\.95"):
        stuck.hypothesis_test(0.95)


def test_results_are_plain(models):
    """Floats and tuples only: what a table or JSON takes without thinking."""
    limit = upper_limit(PyhfLikelihood(models.counting([5.0], [10.0], [10.0])), method="cls")
    found = SimpleNamespace(**{name: type(getattr(limit, name)) for name in limit.__dataclass_fields__})
    assert found.observed is found.poi_hat is found.effective_background_events is float
    assert found.expected is tuple
    assert {type(value) for value in limit.expected} == {float}


# ------------------------------------------------------------------------------------------------ test statistics


@pytest.mark.parametrize("count", [30.0, 52.0, 80.0])
@pytest.mark.parametrize("poi", [0.4, 1.7])
def test_all_statistics_are_those_of_pyhf(models, reference, count, poi):
    """Reference: pyhf, solved tightly; best fits below 0, between 0 and the tested value, and above it."""
    spec = models.counting(
        [10.0], [50.0], [count], background_modifiers=[models.normsys("rate", 1.05, 0.95)], poi_bounds=(-10.0, 10.0)
    )
    calculator = AsymptoticCalculator(CompiledLikelihood(spec))
    theirs = reference(spec)
    config = theirs.model.config
    above = [
        (0.0, high) if name == "mu" else (low, high)
        for name, (low, high) in zip(config.par_order, theirs.bounds, strict=True)
    ]
    with theirs.tight():
        for name in ("q0", "qmu", "qmu_tilde", "tmu", "tmu_tilde"):
            tested = 0.0 if name == "q0" else poi
            value = getattr(theirs.pyhf.infer.test_statistics, name)(
                tested,
                theirs.data,
                theirs.model,
                config.suggested_init(),
                above if name.endswith("tilde") or name == "q0" else theirs.bounds,
                config.suggested_fixed(),
            )
            assert calculator.test(tested, name).value == pytest.approx(float(value), abs=1e-6)


def test_p_values_of_all_statistics():
    """Closed form: a Gaussian measurement. Catches a factor of two, and the branch of a best fit below zero."""
    b, s = 1.0e8, 1.0e4  # sigma of mu is 1
    for measured, poi in ((2.0, 3.0), (-1.0, 0.5), (1.0, 0.5), (-3.0, 1.0)):
        spec = {
            "channels": [
                {
                    "name": "SR",
                    "samples": [
                        {"name": "s", "data": [s], "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]},
                        {"name": "b", "data": [b], "modifiers": []},
                    ],
                }
            ],
            "observations": [{"name": "SR", "data": [b + measured * s]}],
            "measurements": [
                {"name": "m", "config": {"poi": "mu", "parameters": [{"name": "mu", "bounds": [[-10.0, 10.0]]}]}}
            ],
            "version": "1.0.0",
        }
        calculator = AsymptoticCalculator(CompiledLikelihood(spec))
        # the probability, for the true value poi and sigma 1, of a measurement at least as extreme
        two_sided = 2.0 * norm.sf(abs(poi - measured))
        expected = {"tmu": two_sided, "qmu": norm.sf(poi - measured) if measured < poi else 0.5}
        expected["qmu_tilde"] = expected["qmu"]  # the ordering below zero is the same
        t = (poi - measured) ** 2 if measured >= 0.0 else poi**2 - 2.0 * poi * measured
        far = 2.0 * norm.sf(math.sqrt(t)) if t <= poi**2 else norm.sf(math.sqrt(t)) + norm.sf(poi - measured)
        expected["tmu_tilde"] = far
        for name, value in expected.items():
            assert calculator.test(poi, name).p_value == pytest.approx(value, rel=2e-3)
    assert calculator.test(0.0, "q0").p_value == 0.5
    excess = AsymptoticCalculator(CompiledLikelihood({**spec, "observations": [{"name": "SR", "data": [b + 2.0 * s]}]}))
    assert (
        excess.test(0.0, "tmu_tilde").p_value == excess.test(0.0, "q0").p_value == pytest.approx(norm.sf(2.0), rel=2e-3)
    )


def test_wrong_tests_are_refused(models):
    """Catches q0 of something else than 0, and a statistic that nobody knows."""
    calculator = AsymptoticCalculator(CompiledLikelihood(models.counting([5.0], [50.0], [52.0])))
    for poi, name, match in ((1.0, "q0", "q0 tests 0"), (-1.0, "tmu", "0 and more"), (1.0, "q", "known: q0, qmu")):
        with pytest.raises(ValueError, match=match):
            calculator.test(poi, name)
