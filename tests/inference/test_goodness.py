"""Goodness of fit against cabinetry, deviances written out, and sums of Poisson probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from modelbuilder.errors import FitFailure
from modelbuilder.inference import CompiledLikelihood, PyhfLikelihood
from modelbuilder.inference.goodness import goodness_of_fit

SEED = 4


def deviance(count, expected):
    """-2 ln of a Poisson probability over that of the same count when it is expected."""
    return 2.0 * (expected - count + (count * math.log(count / expected) if count > 0 else 0.0))


def two_bins(models, count, background, *, counts_under_signal=7.0):
    """The signal has a bin of its own, which it fits exactly; what is left is one Poisson count."""
    spec = models.counting([1.0, 0.0], [0.0, background], [counts_under_signal, count], poi_bounds=(0.0, 100.0))
    return CompiledLikelihood(spec)


def many_models(models):
    free = models.workspace(
        {
            "signal": ([2.0, 5.0, 3.0, 1.0], [models.normfactor("mu")]),
            "qcd": ([12.0, 9.0, 16.0, 20.0], [models.normfactor("k"), models.normsys("rate", 1.2, 0.85)]),
            "top": ([13.0, 12.0, 11.0, 4.0], [{"name": "mc", "type": "shapesys", "data": [1.5, 1.0, 0.8, 0.5]}]),
        },
        [31.0, 24.0, 35.0, 21.0],
        poi_bounds=(-10.0, 10.0),
    )
    return {
        "free": free,
        "shapesys": models.binwise("shapesys"),
        "staterror": models.binwise("staterror"),
        "bump": models.bump(),
    }


@pytest.mark.parametrize("name", ["free", "shapesys", "staterror", "bump"])
@pytest.mark.parametrize("likelihood_type", [CompiledLikelihood, PyhfLikelihood])
def test_as_cabinetry_has_it(models, reference, name, likelihood_type):
    """Reference: catches a term missing from the saturated model, and other degrees of freedom."""
    from cabinetry.fit import _goodness_of_fit

    spec = many_models(models)[name]
    likelihood = likelihood_type(spec)
    fit, theirs = likelihood.fit(), reference(spec)
    found = goodness_of_fit(likelihood)
    assert found.p_value == pytest.approx(_goodness_of_fit(theirs.model, theirs.data, fit.twice_nll), rel=1e-9)
    assert stats.chi2.sf(found.statistic, found.degrees_of_freedom) == pytest.approx(found.p_value, rel=1e-12)


def test_as_a_fit_of_cabinetry_has_it(models, reference):
    """Reference: the same from end to end, with the fit of cabinetry too."""
    import cabinetry
    import pyhf

    spec = many_models(models)["free"]
    theirs, before = reference(spec), pyhf.get_backend()
    try:
        fit = cabinetry.fit.fit(theirs.model, theirs.data, goodness_of_fit=True)
    finally:
        pyhf.set_backend(*before)
    assert goodness_of_fit(CompiledLikelihood(spec)).p_value == pytest.approx(fit.goodness_of_fit, rel=1e-5)


def test_deviance_written_out(models):
    """Closed form: one bin that the signal fits, and one of 12 events where 8 are expected."""
    found = goodness_of_fit(two_bins(models, 12.0, 8.0))
    assert found.statistic == pytest.approx(deviance(12.0, 8.0), rel=1e-9)
    assert found.degrees_of_freedom == 1
    assert found.p_value == pytest.approx(stats.chi2.sf(deviance(12.0, 8.0), 1), rel=1e-9)
    assert (found.toys, found.warnings, found.approximation_doubtful) == (None, (), False)


@pytest.mark.parametrize("likelihood_type", [CompiledLikelihood, PyhfLikelihood])
@pytest.mark.parametrize("data", [None, [47.0, 0.3]])
def test_a_fixed_parameter_is_no_pull(models, likelihood_type, data):
    """Closed form: catches the constraint of a parameter held at 1 sigma, a constant, counted against the model."""
    spec = models.counting(
        [0.0, 5.0], [40.0, 0.0], [44.0, 6.0], background_modifiers=[models.normsys("rate", 1.2, 0.8)]
    )
    spec["measurements"][0]["config"]["parameters"].append({"name": "rate", "inits": [1.0], "fixed": True})
    data = None if data is None else [data[0], 6.0, data[1]]
    count = 44.0 if data is None else data[0]
    found = goodness_of_fit(likelihood_type(spec), data)
    assert found.statistic == pytest.approx(deviance(count, 48.0), abs=1e-9)
    assert found.degrees_of_freedom == 1


def test_no_degrees_of_freedom(models):
    """Catches a p-value, of 1 or NaN, where every bin has a parameter of its own."""
    found = goodness_of_fit(CompiledLikelihood(models.counting([5.0], [10.0], [20.0])))
    assert (found.degrees_of_freedom, found.p_value) == (0, None)
    assert found.statistic == pytest.approx(0.0, abs=1e-9)
    assert "1 bins and 1 free parameters leave 0 degrees of freedom" in found.warnings[0]
    assert found.approximation_doubtful


def test_few_events_are_said_to_be_few(models):
    """Catches a chi-squared approximation that is not questioned where it is poor, or where it is good."""
    few = goodness_of_fit(two_bins(models, 1.0, 0.7))
    assert few.approximation_doubtful
    assert "1 of 2 bins expect fewer than 5 events, the fewest 0.7" in few.warnings[0]
    assert not goodness_of_fit(two_bins(models, 12.0, 8.0)).approximation_doubtful


def test_a_parameter_on_its_bound_is_said(models):
    found = goodness_of_fit(CompiledLikelihood(models.counting([5.0, 1.0], [100.0, 80.0], [80.0, 75.0])))
    assert "free parameters on their bounds (mu)" in found.warnings[0]


@pytest.mark.parametrize(("count", "background"), [(1.0, 0.4), (4.0, 1.3), (12.0, 8.0)])
def test_toys_have_the_exact_p_value(models, count, background):
    """Closed form: the sum of Poisson probabilities of counts at least as unlikely."""
    likelihood = two_bins(models, count, background)
    found = goodness_of_fit(likelihood, toys=3000, seed=SEED)
    counts = np.arange(200)
    extreme = [deviance(n, background) >= deviance(count, background) - 1e-6 for n in counts]
    exact = stats.poisson.pmf(counts[extreme], background).sum()
    assert found.toys.n_toys == 3000
    assert found.toys.n_failed == 0
    low, high = found.toys.at_confidence(0.9999)
    assert low < exact < high
    assert (low < found.p_value < high) == (count > 1.0)  # where the chi-squared approximation is far off


def test_toys_throw_the_auxiliary_data(models):
    """Reference: catches toys whose constraints never move; with many events they follow the chi-squared distribution."""
    spec = models.counting(
        [5.0, 0.0, 0.0], [400.0, 600.0, 500.0], [410.0, 560.0, 540.0],
        background_modifiers=[{"name": "mc", "type": "staterror", "data": [40.0, 60.0, 50.0]}],
        poi_bounds=(-100.0, 100.0),
    )  # fmt: skip
    found = goodness_of_fit(CompiledLikelihood(spec), toys=2000, seed=SEED)
    low, high = found.toys.at_confidence(0.9999)
    assert low < found.p_value < high


def test_toys_are_those_of_the_seed(models):
    likelihood = two_bins(models, 4.0, 1.3)
    found = [goodness_of_fit(likelihood, toys=300, seed=seed).toys.n_above for seed in (1, 1, 2, 3, 4)]
    assert found[0] == found[1]
    assert len(set(found)) > 1


def test_failed_toys_bound_the_p_value(models, monkeypatch):
    """Catches toys that vanish because their fit failed, and a p-value when too many did."""
    likelihood = two_bins(models, 4.0, 1.3)
    best, fit = likelihood.fit(), likelihood.fit
    number, share = [0], [50]

    def sometimes(data=None, **options):
        number[0] += 1
        if number[0] % share[0] == 0:
            raise FitFailure("not-converged", "made up")
        return fit(data, **options)

    monkeypatch.setattr(likelihood, "fit", sometimes)
    found = goodness_of_fit(likelihood, fit=best, toys=500, seed=SEED)
    assert found.toys.n_failed == 10
    assert found.toys.value == (found.toys.n_above + 10) / 500
    assert "10 of 500 toys could not be fitted" in found.warnings[-1]
    share[0] = 5
    with pytest.raises(FitFailure, match="toys-failed: 100 of 500 toys"):
        goodness_of_fit(likelihood, fit=best, toys=500, seed=SEED)


def test_toys_need_the_compiled_likelihood(models):
    likelihood = PyhfLikelihood(models.binwise("shapesys"))
    with pytest.raises(TypeError, match="toys: need a CompiledLikelihood"):
        goodness_of_fit(likelihood, toys=100)
    with pytest.raises(ValueError, match="toys: found 0"):
        goodness_of_fit(likelihood, toys=0)
