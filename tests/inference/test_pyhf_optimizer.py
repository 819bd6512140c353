"""pyhf with our optimizer against pyhf with its own, solved tightly."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, nullcontext

import numpy as np
import pyhf
import pytest

from modelbuilder.inference.pyhf_optimizer import CompiledOptimizer, CompiledOptimizerWarning, cabinetry_fits


@contextmanager
def ours():
    backend, optimizer = pyhf.get_backend()
    pyhf.set_backend("numpy", custom_optimizer=CompiledOptimizer())
    try:
        yield
    finally:
        pyhf.set_backend(backend, optimizer)


@pytest.mark.parametrize("name", ["staterror", "shapesys", "bump"])
def test_hypothesis_tests_and_limits_of_pyhf(models, reference, name):
    """Reference: catches parameters in another order, bounds or fixed values that are ignored, another minimum."""
    solved = reference(models.bump() if name == "bump" else models.binwise(name))
    expected = solved.hypotest(0.8)
    with ours():
        cls, tails, band = pyhf.infer.hypotest(
            0.8, solved.data, solved.model, return_tail_probs=True, return_expected_set=True
        )
    assert float(cls) == pytest.approx(expected[0], abs=1e-6)
    assert [float(tail) for tail in tails] == pytest.approx(expected[1], abs=1e-6)
    assert [float(value) for value in band] == pytest.approx(expected[2], abs=1e-6)


def test_documented_example():
    """Reference: the example of pyhf's README: CLs 0.05251497, expected 0.06445320."""
    model = pyhf.simplemodels.uncorrelated_background(signal=[12.0, 11.0], bkg=[50.0, 52.0], bkg_uncertainty=[3.0, 7.0])
    data = [51, 48, *model.config.auxdata]
    with ours():
        observed, expected = pyhf.infer.hypotest(1.0, data, model, test_stat="qtilde", return_expected=True)
    assert float(observed) == pytest.approx(0.05251497, abs=2e-5)
    assert float(expected) == pytest.approx(0.06445320, abs=2e-5)


def test_bounds_fixed_parameters_and_all_that_can_be_returned(models, reference):
    """Reference: catches a fixed parameter that moves, and a bound of the caller that is not that of the model."""
    solved = reference(models.binwise("staterror"))
    model = solved.model
    n = model.config.npars
    rate = model.config.par_slice("rate").start
    inits, bounds, fixed = (
        list(some)
        for some in (model.config.suggested_init(), model.config.suggested_bounds(), model.config.suggested_fixed())
    )
    inits[rate], fixed[rate] = 0.7, True
    bounds[model.config.poi_index] = (0.0, 0.1)
    inits[model.config.poi_index] = 0.05

    def fitted():
        return pyhf.infer.mle.fit(solved.data, model, inits, bounds, fixed, return_fitted_val=True)

    with solved.tight():
        theirs, their_value = fitted()
    with ours():
        found, value = fitted()
        every = pyhf.infer.mle.fit(
            solved.data, model, return_uncertainties=True, return_correlations=True, return_result_obj=True
        )
    assert found == pytest.approx(theirs, abs=1e-4)
    assert found[rate] == 0.7
    assert found[model.config.poi_index] <= 0.1
    assert float(value) == pytest.approx(float(np.squeeze(their_value)), abs=1e-8)
    assert every[0].shape == (n, 2)
    assert every[1].shape == (n, n)
    assert np.diag(every[1]) == pytest.approx(1.0)
    assert every[2].success


def test_uncertainties_are_those_of_minuit(models, reference):
    """Reference: catches a factor 2 between -2 ln L and its half."""
    solved = reference(models.binwise("staterror"))
    backend, optimizer = pyhf.get_backend()
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-4))
    try:
        theirs = pyhf.infer.mle.fit(solved.data, solved.model, return_uncertainties=True)
    finally:
        pyhf.set_backend(backend, optimizer)
    with ours():
        found = pyhf.infer.mle.fit(solved.data, solved.model, return_uncertainties=True)
    assert found[:, 1] == pytest.approx(theirs[:, 1], rel=0.05)  # minuit stretches a parameter near its bound


def test_what_cannot_be_compiled_is_left_to_pyhf(models, reference):
    """Catches a fall-back that is silent, or wrong."""
    solved = reference(models.binwise("staterror"))
    with ours(), pytest.warns(CompiledOptimizerWarning, match="options tolerance"):
        found = pyhf.infer.mle.fit(solved.data, solved.model, tolerance=1e-10)
    with ours(), warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = pyhf.infer.mle.fit(solved.data, solved.model)
    assert found == pytest.approx(compiled, abs=1e-3)


def test_fits_rankings_and_limits_of_cabinetry(models):
    """Reference: cabinetry with Minuit; catches options of its calls that send fits elsewhere, and errors of the ranking."""
    import cabinetry

    spec = models.binwise("staterror")
    config = spec["measurements"][0]["config"]
    model = pyhf.Model(
        {"channels": spec["channels"], "parameters": config["parameters"]}, poi_name="mu", validate=False
    )
    data = [14.0, 13.0, 8.0, *model.config.auxdata]
    found = []
    for fitted, tight in ((cabinetry_fits(), {}), (nullcontext(), {"tolerance": 1e-6})):
        with fitted, warnings.catch_warnings():
            warnings.simplefilter("error", CompiledOptimizerWarning)
            fit = cabinetry.fit.fit(model, data, **tight)
            ranking = cabinetry.fit.ranking(model, data, fit_results=fit, **tight)
            limit = cabinetry.fit.limit(model, data, bracket=(0.1, 8.0), poi_tolerance=1e-4, **tight)
        found.append((fit, ranking, limit))
    (fit, ranking, limit), (their_fit, their_ranking, their_limit) = found
    assert fit.labels == their_fit.labels
    assert fit.best_twice_nll == pytest.approx(their_fit.best_twice_nll, abs=1e-6)
    assert fit.bestfit == pytest.approx(their_fit.bestfit, abs=2e-4)
    assert fit.uncertainty == pytest.approx(
        their_fit.uncertainty, rel=0.05
    )  # minuit stretches a parameter near its bound
    for name in ("prefit_up", "prefit_down", "postfit_up", "postfit_down"):
        assert getattr(ranking, name) == pytest.approx(
            getattr(their_ranking, name), abs=0.02
        )  # as the uncertainties do
    assert limit.observed_limit == pytest.approx(their_limit.observed_limit, rel=1e-3)
    assert limit.expected_limit == pytest.approx(their_limit.expected_limit, rel=1e-3)


@pytest.fixture
def documented():
    """The model of pyhf's documentation, its data, and what its test statistics take."""
    model = pyhf.simplemodels.uncorrelated_background(signal=[12.0, 11.0], bkg=[50.0, 52.0], bkg_uncertainty=[3.0, 7.0])
    return model, [51, 48, *model.config.auxdata]


def test_documented_fits(documented):
    """Reference: the examples of pyhf.infer.mle and of its test statistics, to the digits that SLSQP gets right."""
    model, data = documented
    bounds, wide = model.config.suggested_bounds(), model.config.suggested_bounds()
    wide[model.config.poi_index] = (-10.0, 10.0)
    settings = model.config.suggested_init(), bounds, model.config.suggested_fixed()
    settings_wide = model.config.suggested_init(), wide, model.config.suggested_fixed()
    statistics = pyhf.infer.test_statistics
    with ours():
        bestfit, twice_nll = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
        assert bestfit == pytest.approx([0.0, 1.0030512, 0.96266961], abs=1e-4)
        assert float(twice_nll) == pytest.approx(24.98393521, abs=1e-6)
        assert float(statistics.qmu_tilde(1.0, data, model, *settings)) == pytest.approx(3.93824492, abs=1e-5)
        assert float(statistics.tmu_tilde(1.0, data, model, *settings)) == pytest.approx(3.93824492, abs=1e-5)
        assert float(statistics.qmu(1.0, data, model, *settings_wide)) == pytest.approx(3.9549891, abs=1e-5)
        assert float(statistics.tmu(1.0, data, model, *settings_wide)) == pytest.approx(3.9549891, abs=1e-5)
        excess = [60, 65, *model.config.auxdata]
        assert float(statistics.q0(0.0, excess, model, *settings)) == pytest.approx(2.98339447, abs=1e-5)


def test_documented_band_and_limits(documented):
    """Reference: the examples of pyhf.infer.hypotest, and of upper_limit on a fixed scan."""
    model, data = documented
    with ours():
        cls, tails, band = pyhf.infer.hypotest(1.0, data, model, return_tail_probs=True, return_expected_set=True)
        scan = np.linspace(0.0, 5.0, 21)
        observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(data, model, scan)
    assert float(cls) == pytest.approx(0.05251497, abs=2e-5)
    assert [float(tail) for tail in tails] == pytest.approx([0.02332502, 0.4441594], abs=5e-5)
    documented_band = [0.00260626, 0.01382005, 0.06445321, 0.23525644, 0.57303621]
    assert [float(value) for value in band] == pytest.approx(documented_band, abs=5e-5)
    assert float(observed) == pytest.approx(1.01764089, abs=1e-4)
    documented_limits = [0.59576921, 0.76169166, 1.08504773, 1.50170482, 2.06654952]
    assert [float(value) for value in expected] == pytest.approx(documented_limits, abs=2e-4)
