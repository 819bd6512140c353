"""Fits with any parameter fixed, profiles and intervals, against pyhf, MINOS and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import chi2

from modelbuilder.errors import FitFailure
from modelbuilder.inference import CompiledLikelihood, PyhfLikelihood
from modelbuilder.inference.profiles import ONE_SIGMA, profile_interval, profile_scan


def every_modifier(models):
    """Two backgrounds with a bin-wise modifier of each type, of which some are eliminated by the compiled fit."""
    shapefactor = {"name": "free", "type": "shapefactor", "data": None}
    return models.workspace(
        {
            "signal": ([2.0, 5.0, 3.0], [models.normfactor("mu"), models.normsys("efficiency", 1.1, 0.9)]),
            "qcd": (
                [12.0, 9.0, 6.0],
                [
                    {"name": "mc", "type": "shapesys", "data": [1.5, 1.0, 0.8]},
                    models.histosys("shape", [13.0, 9.5, 6.1], [11.2, 8.8, 5.5]),
                ],
            ),
            "top": ([30.0, 20.0, 10.0], [{"name": "st", "type": "staterror", "data": [2.0, 1.4, 0.9]}]),
            "fake": ([3.0, 2.0, 1.0], [models.normfactor("k")]),
            "odd": ([0.0, 0.0, 4.0], [shapefactor]),
        },
        [50.0, 41.0, 28.0],
        poi_bounds=(-10.0, 10.0),
    )


def move(parameter, fit):
    """A value of the parameter away from its best fit, and away from zero."""
    return fit[parameter] + (0.31 if parameter not in ("mc[0]", "st[1]") else 0.07)


def test_any_parameter_can_be_fixed(models, reference):
    """Reference: pyhf solved tightly. Catches a parameter, eliminated ones above all, that is fixed elsewhere or not."""
    from pyhf.infer import mle

    spec = every_modifier(models)
    likelihood, other, theirs = CompiledLikelihood(spec), PyhfLikelihood(spec), reference(spec)
    best, names = likelihood.fit(), theirs.model.config.par_names
    free = [p.name for p in likelihood.parameters if not p.fixed]
    assert {"mc[1]", "st[2]", "k", "mu", "shape", "free[2]"} <= set(free)
    bounds = [(-100.0, 100.0) if name == "mu" else b for name, b in zip(names, theirs.bounds, strict=True)]
    for name in free:
        value = move(name, best)
        init, fixed = list(best.bestfit), theirs.model.config.suggested_fixed()
        init[names.index(name)], fixed[names.index(name)] = value, True
        with theirs.tight():
            _, least = mle.fit(
                theirs.data, theirs.model, init_pars=init, fixed_params=fixed, par_bounds=bounds, return_fitted_val=True
            )
        found = likelihood.fit_fixed({name: value})
        assert found[name] == value
        assert found.twice_nll == pytest.approx(float(least), abs=1e-9)
        assert found.twice_nll == pytest.approx(likelihood.twice_nll(found.bestfit), rel=1e-12)
        assert found.twice_nll == pytest.approx(other.fit_fixed({name: value}).twice_nll, abs=1e-8)
        assert name not in found.at_bounds


@pytest.mark.parametrize("likelihood_type", [CompiledLikelihood, PyhfLikelihood])
def test_fixing_is_consistent_and_leaves_no_trace(models, likelihood_type):
    """Invariant: at its best fit a fixed parameter costs nothing; several go together; the likelihood is as before."""
    likelihood = likelihood_type(every_modifier(models))
    best, before = likelihood.fit(), likelihood.parameters
    for name in ("mc[0]", "st[1]", "free[2]", "shape", "mu"):
        assert likelihood.fit_fixed({name: best[name]}).twice_nll == pytest.approx(best.twice_nll, abs=1e-8)
    both = likelihood.fit_fixed({"mu": 1.0, "mc[1]": 1.1, "k": 0.5})
    assert (both["mu"], both["mc[1]"], both["k"], both.poi_fixed) == (1.0, 1.1, 0.5, True)
    assert likelihood.fit_fixed({"mu": 1.0}).twice_nll == likelihood.fit_fixed_poi(1.0).twice_nll
    assert likelihood.fit_fixed({}).twice_nll == pytest.approx(best.twice_nll, abs=1e-10)
    assert likelihood.parameters == before
    assert likelihood.fit().twice_nll == best.twice_nll


@pytest.mark.parametrize("likelihood_type", [CompiledLikelihood, PyhfLikelihood])
def test_what_cannot_be_fixed(models, likelihood_type):
    spec = every_modifier(models)
    spec["measurements"][0]["config"]["parameters"].append({"name": "k", "inits": [1.0], "fixed": True})
    likelihood = likelihood_type(spec)
    with pytest.raises(ValueError, match="fixed: 'k' is fixed by the model"):
        likelihood.fit_fixed({"k": 1.0})
    with pytest.raises(ValueError, match=r"fixed: 'mc\[9\]' is not there"):
        likelihood.fit_fixed({"mc[9]": 1.0})
    with pytest.raises(ValueError, match="fixed: found mu = nan"):
        likelihood.fit_fixed({"mu": math.nan})
    with pytest.raises(ValueError, match="parameter: 'k' is fixed by the model"):
        profile_interval(likelihood, "k")
    with pytest.raises(ValueError, match="parameter: found 'nu'; the model has "):
        profile_scan(likelihood, "nu")
    with pytest.raises(ValueError, match="confidence_level: found 95"):
        profile_interval(likelihood, "mu", 95)


@pytest.mark.parametrize("confidence_level", [ONE_SIGMA, 0.95])
@pytest.mark.parametrize("count", [3.0, 40.0])
def test_interval_of_a_poisson_mean(models, count, confidence_level):
    """Closed form: 2 (m - n + n ln(n/m)) = quantile. Catches symmetric uncertainties, and a level that is ignored."""
    likelihood = CompiledLikelihood(models.counting([1.0], [0.0], [count], poi_bounds=(0.0, 5.0)))

    def above(mean):
        return 2.0 * (mean - count + count * math.log(count / mean)) - chi2.ppf(confidence_level, 1)

    found = profile_interval(likelihood, "mu", confidence_level)
    assert found.lower == pytest.approx(brentq(above, 1e-9, count, xtol=1e-12), rel=1e-7)
    assert found.upper == pytest.approx(brentq(above, count, 20.0 * count, xtol=1e-12), rel=1e-7)
    assert (found.lower_is_bound, found.upper_is_bound) == (False, False)
    assert found.bestfit == pytest.approx(count)


def test_intervals_are_those_of_minos(models, reference):
    """Reference: MINOS through cabinetry, for parameters of each kind, bin-wise ones included."""
    import cabinetry
    import pyhf

    spec = every_modifier(models)
    del spec["channels"][0]["samples"][-1]  # two parameters of its shapefactor change nothing: MINUIT gives up
    theirs, before = reference(spec), pyhf.get_backend()
    names = ["mu", "shape", "mc[0]", "st[1]"]
    try:
        fit = cabinetry.fit.fit(theirs.model, theirs.data, minos=names, strategy=2, tolerance=1e-3)
    finally:
        pyhf.set_backend(*before)
    assert set(fit.minos_uncertainty) == set(names)
    likelihood = CompiledLikelihood(spec)
    for name, (down, up) in fit.minos_uncertainty.items():
        found = profile_interval(likelihood, name)
        assert found.lower - found.bestfit == pytest.approx(down, rel=2e-4)
        assert found.upper - found.bestfit == pytest.approx(up, rel=2e-4)


@pytest.mark.parametrize("likelihood_type", [CompiledLikelihood, PyhfLikelihood])
def test_the_ends_of_an_interval_are_where_it_says(models, likelihood_type):
    """Invariant: a fit at either end lies exactly the quantile above the best fit."""
    likelihood = likelihood_type(every_modifier(models))
    best = likelihood.fit()
    for name in ("mc[2]", "st[0]", "k", "efficiency", "mu"):
        found = profile_interval(likelihood, name, 0.9)
        for end, is_bound in ((found.lower, found.lower_is_bound), (found.upper, found.upper_is_bound)):
            rise = likelihood.fit_fixed({name: end}).twice_nll - best.twice_nll
            if is_bound:
                assert rise < chi2.ppf(0.9, 1)
            else:
                assert rise == pytest.approx(chi2.ppf(0.9, 1), rel=1e-6)


def test_a_bound_makes_it_one_sided(models):
    """Catches an interval that goes on into what is not allowed, or that fails there."""
    likelihood = CompiledLikelihood(models.counting([5.0], [100.0], [95.0]))
    found = profile_interval(likelihood, "mu")
    assert (found.lower, found.lower_is_bound, found.upper_is_bound) == (0.0, True, False)
    assert likelihood.fit_fixed_poi(found.upper).twice_nll - likelihood.fit().twice_nll == pytest.approx(1.0, rel=1e-6)


def test_up_to_impossible_data(models):
    """Closed form: catches an interval lost where the only background is scaled to nothing, and -2 ln L is infinite."""
    spec = models.counting(
        [0.0, 5.0], [1.0, 0.0], [1.0, 6.0], background_modifiers=[models.normfactor("k")], poi_bounds=(0.0, 10.0)
    )
    found = profile_interval(CompiledLikelihood(spec), "k", 0.9)
    assert found.lower == pytest.approx(brentq(lambda k: 2.0 * (k - 1.0 - math.log(k)) - chi2.ppf(0.9, 1), 1e-9, 1.0))
    assert not found.lower_is_bound


def test_without_constraint_there_is_no_end(models):
    """Catches a number for what the data do not know: the whole range within bounds, a named failure without."""
    flat = [models.normfactor("k1"), models.normfactor("k2")]
    likelihood = CompiledLikelihood(models.counting([5.0, 3.0], [10.0, 8.0], [9.0, 8.0], background_modifiers=flat))
    found = profile_interval(likelihood, "k1", 0.9)
    assert found.upper_is_bound
    assert found.upper == 10.0
    nothing = CompiledLikelihood(models.counting([0.0], [10.0], [12.0]))
    with pytest.raises(FitFailure, match="interval-not-found: -2 ln L rises by less than 1 from mu"):
        profile_interval(nothing, "mu")


def test_scan(models):
    """Reference: fits one by one. Catches values in another order, and a range that is not that of the uncertainty."""
    likelihood = CompiledLikelihood(every_modifier(models))
    best = likelihood.fit()
    found = profile_scan(likelihood, "mc[0]", [1.2, 0.9, 1.0])
    assert found.values == (1.2, 0.9, 1.0)
    rises = [likelihood.fit_fixed({"mc[0]": value}).twice_nll - best.twice_nll for value in found.values]
    assert found.rises == pytest.approx(rises, abs=1e-8)
    assert found.failures == (None,) * 3
    automatic = profile_scan(likelihood, "st[1]", n_points=13, n_sigma=2.0)
    assert len(automatic.values) == 13
    assert automatic.rises[0] == pytest.approx(4.0, rel=0.1)
    assert automatic.rises[-1] == pytest.approx(4.0, rel=0.1)
    assert automatic.rises[6] == pytest.approx(0.0, abs=1e-8)
    assert profile_scan(likelihood, "k", n_sigma=100.0).values[0] == 0.0  # its bound


def test_a_scan_names_its_failures(models):
    """Catches a number where the fit failed: here the data are impossible."""
    spec = models.counting([0.0, 5.0], [3.0, 0.0], [2.0, 6.0], background_modifiers=[models.normfactor("k")])
    found = profile_scan(CompiledLikelihood(spec), "k", [0.0, 0.5])
    assert (found.rises[0], found.failures) == (None, ("nll-not-finite", None))
    assert found.rises[1] is not None


def test_a_better_minimum_on_the_way(models, monkeypatch):
    """Catches rises that are measured from a fit which was not the best, as another minimum would have it."""
    spec = every_modifier(models)
    del spec["channels"][0]["samples"][-1]  # with flat directions there would be a second fit from the beginning
    likelihood = CompiledLikelihood(spec)
    expected, best, fit = profile_interval(likelihood, "shape"), likelihood.fit(), likelihood.fit
    wrong = [likelihood.fit_fixed({"shape": -0.8})]

    def first_wrong(data=None, **options):
        return wrong.pop() if wrong else fit(data, **options)

    monkeypatch.setattr(likelihood, "fit", first_wrong)
    found = profile_interval(likelihood, "shape")
    assert not wrong
    assert found.bestfit == pytest.approx(best["shape"], abs=1e-5)
    assert [found.lower, found.upper] == pytest.approx([expected.lower, expected.upper], rel=1e-6)
    wrong.append(likelihood.fit_fixed({"shape": -0.8}))
    scanned = profile_scan(likelihood, "shape", np.linspace(-1.0, 1.0, 5).tolist())
    assert not wrong
    rises = [likelihood.fit_fixed({"shape": value}).twice_nll - best.twice_nll for value in scanned.values]
    assert scanned.rises == pytest.approx(rises, abs=1e-8)
