"""The likelihood against pyhf itself: values, derivatives, minima; its failures; and pyhf left as found."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from modelbuilder.errors import FitFailure, WorkspaceError
from modelbuilder.inference import PyhfLikelihood

SMALL = ["counting", "bump", "staterror", "shapesys", "two channels", "shapefactor"]


@pytest.fixture(params=SMALL)
def spec(request, models):
    if request.param == "counting":
        return models.counting(
            [5.0, 3.0],
            [10.0, 8.0],
            [9.0, 8.0],
            signal_modifiers=[models.normsys("efficiency", 1.1, 0.8)],
            background_modifiers=[
                models.normsys("rate", 1.1, 0.9),
                models.histosys("shape", [11.0, 7.0], [9.5, 8.5]),
            ],
        )
    if request.param == "bump":
        return models.bump()
    if request.param == "two channels":
        return two_channels(models)
    if request.param == "shapefactor":
        found = two_channels(models)
        for channel in found["channels"]:
            channel["samples"][1]["modifiers"].append({"name": "free", "type": "shapefactor", "data": None})
        return found
    return models.binwise(request.param)


def two_channels(models):
    """A signal region and a control region, listed in the order in which pyhf does not keep them."""
    found = models.counting([4.0], [6.0], [8.0], background_modifiers=[models.normfactor("k")])
    found["channels"].append(
        {
            "name": "CR",
            "samples": [
                {"name": "signal", "data": [0.1], "modifiers": [models.normfactor("mu")]},
                {"name": "background", "data": [50.0], "modifiers": [models.normfactor("k")]},
            ],
        }
    )
    found["observations"].append({"name": "CR", "data": [61.0]})
    return found


def random_points(likelihood, n):
    rng = np.random.default_rng(5)
    for _ in range(n):
        yield [
            p.init if p.fixed else float(np.clip(p.init + rng.normal(0.0, 0.3), max(p.lower, -3.0) + 1e-3, p.upper))
            for p in likelihood.parameters
        ]


def test_twice_nll_is_that_of_pyhf(spec, reference):
    """Reference. Catches a forgotten constant, a wrong auxiliary order, a wrong factor of a Poisson constraint."""
    likelihood, other = PyhfLikelihood(spec), reference(spec)
    assert likelihood.parameter_names == tuple(other.model.config.par_names)
    assert likelihood.observed_data.tolist() == pytest.approx(other.data)
    for point in random_points(likelihood, 10):
        assert likelihood.twice_nll(point) == pytest.approx(-2.0 * other.model.logpdf(point, other.data)[0], rel=1e-12)


def test_derivatives_are_those_of_the_value(spec):
    """Invariant. Catches parameters that share a direction without acting on different bins, and left-out pairs."""
    likelihood = PyhfLikelihood(spec)
    for point in random_points(likelihood, 3):
        found = likelihood.derivatives(point)
        for index, parameter in enumerate(likelihood.parameters):
            if parameter.fixed:
                assert found.gradient[index] == 0.0
                continue
            step = 1e-4 * max(1.0, abs(point[index]))
            up, down = list(point), list(point)
            up[index] += step
            down[index] -= step
            slope = (likelihood.twice_nll(up) - likelihood.twice_nll(down)) / (2.0 * step)
            assert found.gradient[index] == pytest.approx(slope, rel=1e-5, abs=1e-5)
            row = (likelihood.derivatives(up).gradient - likelihood.derivatives(down).gradient) / (2.0 * step)
            assert found.hessian[index] == pytest.approx(row, rel=2e-3, abs=1e-3)


def test_minimum_is_that_of_tight_pyhf(spec, reference):
    """Reference. Catches a minimiser that stops early; the free fit and the conditional ones."""
    likelihood, other = PyhfLikelihood(spec), reference(spec)
    for poi in (None, 0.0, 1.5):
        fit = likelihood.fit() if poi is None else likelihood.fit_fixed_poi(poi)
        assert fit.twice_nll <= other.minimum(poi) + 1e-9
        assert fit.twice_nll == pytest.approx(other.minimum(poi), abs=1e-6)  # SLSQP is the one that is above
        assert fit.twice_nll == pytest.approx(-2.0 * other.model.logpdf(list(fit.bestfit), other.data)[0], abs=1e-10)
        for parameter, value in zip(likelihood.parameters, fit.bestfit, strict=True):
            if parameter.name != "mu":
                assert parameter.lower <= value <= parameter.upper


def test_minimum_does_not_depend_on_the_start(spec):
    """Invariant. Catches an early stop that the tolerance of the reference would hide: 1e-8 on twice the NLL."""
    likelihood = PyhfLikelihood(spec)
    best = likelihood.fit().twice_nll
    for point in random_points(likelihood, 3):
        assert likelihood.fit(start=point).twice_nll == pytest.approx(best, abs=1e-8)


def test_asimov_data_give_their_parameters_back(spec):
    """Invariant. Catches auxiliary data in the wrong place or without the factor of a Poisson constraint."""
    likelihood = PyhfLikelihood(spec)
    point = next(iter(random_points(likelihood, 1)))
    asimov = likelihood.asimov_data(point)
    assert likelihood.fit(asimov, start=point).twice_nll == pytest.approx(likelihood.twice_nll(point, asimov), abs=1e-9)
    assert np.abs(likelihood.derivatives(point, asimov).gradient).max() < 1e-6


def test_asimov_data_are_those_of_pyhf(spec, reference):
    """Reference. Catches an order of the auxiliary data that differs from pyhf's."""
    likelihood, other = PyhfLikelihood(spec), reference(spec)
    point = likelihood.fit().bestfit
    assert likelihood.asimov_data(point).tolist() == pytest.approx(other.model.expected_data(list(point)).tolist())


def test_poi_slope_is_that_of_the_profile(models):
    """Invariant (envelope theorem). Catches a slope taken in the wrong parameter: roots would still be found, slowly."""
    likelihood = PyhfLikelihood(models.bump())
    up, here, down = (likelihood.fit_fixed_poi(poi) for poi in (1.001, 1.0, 0.999))
    assert here.poi_gradient == pytest.approx((up.twice_nll - down.twice_nll) / 0.002, rel=1e-5)


def test_poi_is_not_held_back_by_its_upper_bound(models):
    """Issue: pyhf raises, or stops the best fit at the bound. 95 events on 18 with signal 8: mu = 14.6."""
    narrow = PyhfLikelihood(models.counting([5.0, 3.0], [10.0, 8.0], [80.0, 55.0], poi_bounds=(0.0, 10.0)))
    wide = PyhfLikelihood(models.counting([5.0, 3.0], [10.0, 8.0], [80.0, 55.0], poi_bounds=(0.0, 100.0)))
    assert narrow.fit().poi_value == pytest.approx(wide.fit().poi_value, rel=1e-9)
    assert narrow.fit().poi_value > 14.0


def test_best_fit_at_bounds_is_named(models):
    """A deficit puts the POI at 0, and the result says which parameters ended on a bound."""
    fit = PyhfLikelihood(models.counting([5.0], [10.0], [6.0])).fit()
    assert fit.poi_value == 0.0
    assert fit.at_bounds == ("mu",)
    assert fit["mu"] == 0.0
    with pytest.raises(KeyError):
        fit["nu"]


def test_poi_lower_replaces_the_bound_of_the_model(models):
    spec = models.counting([5.0], [10.0], [6.0], poi_bounds=(-5.0, 10.0))
    likelihood = PyhfLikelihood(spec)
    assert likelihood.fit().poi_value == pytest.approx(-0.8, rel=1e-6)
    assert likelihood.fit(poi_lower=0.0).poi_value == 0.0


def test_fixed_parameters_stay(models):
    """Catches a fixed parameter that is fitted, or whose constraint is forgotten."""
    spec = models.counting([5.0], [10.0], [16.0], background_modifiers=[models.normsys("rate", 1.2, 0.8)])
    spec["measurements"][0]["config"]["parameters"].append({"name": "rate", "inits": [0.5], "fixed": True})
    likelihood = PyhfLikelihood(spec)
    fit = likelihood.fit()
    assert fit["rate"] == 0.5
    yields = likelihood.expected_yields(fit.bestfit)
    assert yields.tolist() == pytest.approx([16.0])


def test_flat_direction_is_fitted(models):
    """Two free factors on one sample: the minimum is a line, and any point of it will do."""
    factors = [models.normfactor("k1"), models.normfactor("k2")]
    fit = PyhfLikelihood(models.counting([5.0, 3.0], [10.0, 8.0], [9.0, 8.0], background_modifiers=factors)).fit()
    single = PyhfLikelihood(
        models.counting([5.0, 3.0], [10.0, 8.0], [9.0, 8.0], background_modifiers=factors[:1])
    ).fit()
    assert fit.twice_nll == pytest.approx(single.twice_nll, abs=1e-8)


def test_empty_bin_below_zero_counts_as_empty(models):
    """pyhf lets L grow without limit there: its twice NLL falls by 2 for each event below zero."""
    shape = models.histosys("shape", [12.0, 3.0], [8.0, -9.0])
    likelihood = PyhfLikelihood(models.counting([5.0, 0.0], [10.0, 1.0], [5.0, 0.0], background_modifiers=[shape]))
    fit = likelihood.fit_fixed_poi(0.0)
    assert fit.clipped_bins == ("SR[1]",)
    assert -3.0 < fit["shape"] < -0.1


def test_work_is_counted(models):
    """Counts are what the speed is judged by; a fit takes a handful of calls from a good start."""
    likelihood = PyhfLikelihood(models.bump())
    before = likelihood.counters.evaluations
    fit = likelihood.fit()
    assert fit.fits == 1
    assert fit.evaluations == likelihood.counters.evaluations - before
    again = likelihood.fit(start=fit.bestfit)
    assert again.evaluations < fit.evaluations < 60


def test_impossible_data_fail_by_name(models):
    """The failure path is reached: one event where nothing is ever expected."""
    likelihood = PyhfLikelihood(models.counting([5.0, 0.0], [10.0, 0.0], [9.0, 1.0]))
    with pytest.raises(FitFailure) as caught:
        likelihood.fit()
    assert caught.value.reason == "nll-not-finite"
    assert "SR[1] has 1 events and expects 0" in caught.value.detail


def test_a_fit_that_needs_another_start_gets_one(models):
    """The retry ladder: at the nominal mu = 0 the event in the bin without background is impossible."""
    spec = models.counting([5.0, 3.0], [10.0, 0.0], [9.0, 2.0])
    spec["measurements"][0]["config"]["parameters"][0]["inits"] = [0.0]
    fit = PyhfLikelihood(spec).fit()
    assert fit.fits > 1
    assert fit.poi_value == pytest.approx(0.4, abs=0.4)
    assert fit.poi_value > 0.0


def test_no_minimum_fails_by_name(models, monkeypatch):
    """The other end of the ladder: each minimiser gives up, and the failure says where the best one stopped."""
    from modelbuilder.inference import pyhf_likelihood

    likelihood = PyhfLikelihood(models.bump())

    def impatient(*arguments, **options):
        return pyhf_likelihood_minimise(*arguments, **{**options, "max_iterations": 1})

    pyhf_likelihood_minimise = pyhf_likelihood.minimise
    monkeypatch.setattr(pyhf_likelihood, "minimise", impatient)
    monkeypatch.setattr("modelbuilder.inference._scipy_minimise.rough_minimum", lambda *arguments: arguments[2])
    with pytest.raises(
        FitFailure, match="not-converged: no minimum from 8 starts; the best stopped at mu = "
    ) as caught:
        likelihood.fit()
    assert caught.value.reason == "not-converged"


def test_second_minimiser_rescues(models, monkeypatch):
    """Newton fails from every start of its own, and converges from where L-BFGS-B ends."""
    from modelbuilder.inference import pyhf_likelihood

    likelihood = PyhfLikelihood(models.counting([5.0, 3.0], [10.0, 8.0], [19.0, 13.0]))
    expected = likelihood.fit().twice_nll
    calls = []
    newton = pyhf_likelihood.minimise

    def lazy(*arguments, **options):
        calls.append(1)
        return newton(*arguments, **({**options, "max_iterations": 1} if len(calls) <= 4 else options))

    monkeypatch.setattr(pyhf_likelihood, "minimise", lazy)
    fit = likelihood.fit()
    assert fit.fits > 4
    assert fit.twice_nll == pytest.approx(expected, abs=1e-8)


def test_data_are_checked(models):
    likelihood = PyhfLikelihood(models.binwise("shapesys"))
    with pytest.raises(WorkspaceError, match=r"data: found shape \(3,\); expected \(8,\): 3 bins and 5 auxiliary"):
        likelihood.fit([1.0, 2.0, 3.0])
    with pytest.raises(WorkspaceError, match=r"data\[0\]: found -1.0; counts are finite and 0 or more"):
        likelihood.fit([-1.0, *likelihood.observed_data[1:]])
    with pytest.raises(WorkspaceError, match=r"data\[2\]: found nan"):
        likelihood.fit([1.0, 1.0, float("nan"), *likelihood.observed_data[3:]])


def test_given_things_are_left_alone(models):
    """The workspace is not written to, and later changes to it do not reach the likelihood."""
    spec = models.bump()
    before = copy.deepcopy(spec)
    likelihood = PyhfLikelihood(spec)
    value = likelihood.fit().twice_nll
    assert spec == before
    spec["channels"][0]["samples"][0]["data"][20] = 1e6
    spec["observations"][0]["data"][0] = 1e6
    assert likelihood.fit().twice_nll == pytest.approx(value, abs=1e-9)
    with pytest.raises(ValueError, match="read-only"):
        likelihood.observed_data[0] = 1.0


@pytest.mark.parametrize("default", [False, True])
def test_pyhf_is_left_as_found(models, default):
    """Single precision and another optimiser in the user's session: our numbers stay those of double precision, theirs stay set."""
    import pyhf

    expected = PyhfLikelihood(models.bump()).fit().twice_nll
    old_default, old = pyhf.get_backend(default=True), pyhf.get_backend()
    optimiser = pyhf.optimize.scipy_optimizer(tolerance=1e-3)
    pyhf.set_backend("numpy", optimiser, precision="32b", default=default)
    try:
        found = pyhf.get_backend(), pyhf.get_backend(default=True)
        likelihood = PyhfLikelihood(models.bump())
        assert likelihood.fit().twice_nll == pytest.approx(expected, abs=1e-9)
        assert (pyhf.get_backend(), pyhf.get_backend(default=True)) == found
        assert likelihood.fit().twice_nll == pytest.approx(expected, abs=1e-9)
    finally:
        pyhf.set_backend(*old_default, default=True)
        pyhf.set_backend(*old)


def test_import_is_light():
    """pyhf takes 0.6 s to import; `--help` must not."""
    import subprocess
    import sys

    code = "import sys, modelbuilder.inference; print(sorted({'pyhf', 'scipy', 'cabinetry', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
