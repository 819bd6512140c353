"""Uncertainties against minuit and closed forms; cabinetry's pictures and predictions, and cabinetry contained."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modelbuilder.errors import FitFailure
from modelbuilder.inference import PyhfLikelihood
from modelbuilder.inference import diagnostics as diag


def test_uncertainties_have_a_closed_form(models):
    """Counting with a rate uncertainty of 20 %: var(mu) = (n + (0.2 b)^2)/s^2, near enough exp(ln 1.2 alpha)."""
    spec = models.counting([5.0], [100.0], [130.0], background_modifiers=[models.histosys("rate", [120.0], [80.0])])
    likelihood = PyhfLikelihood(spec)
    fit = diag.fit_with_uncertainties(likelihood)
    sigma = dict(zip(fit.parameter_names, fit.uncertainties, strict=True))
    assert sigma["mu"] == pytest.approx(math.sqrt(130.0 + 20.0**2) / 5.0, rel=1e-6)
    assert sigma["rate"] == pytest.approx(1.0, rel=1e-6)
    correlation = fit.correlation[fit.parameter_names.index("mu"), fit.parameter_names.index("rate")]
    assert correlation == pytest.approx(-20.0 / math.sqrt(130.0 + 20.0**2), rel=1e-6)


def test_uncertainties_are_those_of_minuit(models, reference):
    """Reference: iminuit's Hessian on pyhf's likelihood, where no parameter is on a bound."""
    import pyhf

    spec = models.binwise("shapesys")
    spec["observations"][0]["data"] = [25.0, 34.0, 21.0]
    fit = diag.fit_with_uncertainties(PyhfLikelihood(spec))
    assert fit.at_bounds == ()
    other = reference(spec)
    bounds = [
        (-1e3, 1e3) if name != "mc" else (1e-10, 10.0)
        for name in other.model.config.par_order
        for _ in range(3 if name == "mc" else 1)
    ]
    old = pyhf.get_backend()
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-6, strategy=2))
    try:
        best, correlation = pyhf.infer.mle.fit(
            other.data, other.model, par_bounds=bounds, return_uncertainties=True, return_correlations=True
        )
    finally:
        pyhf.set_backend(*old)
    assert fit.uncertainties == pytest.approx(best[:, 1], rel=2e-3)
    assert fit.correlation == pytest.approx(correlation, abs=2e-3)


def test_parameter_on_its_bound_has_a_one_sided_uncertainty(models):
    """The distance at which twice the NLL has risen by one, which a fit at that distance confirms."""
    likelihood = PyhfLikelihood(models.counting([5.0], [100.0], [95.0]))
    fit = diag.fit_with_uncertainties(likelihood)
    assert fit.at_bounds == ("mu",)
    rise = likelihood.fit_fixed_poi(fit.uncertainties[0]).twice_nll - fit.twice_nll
    assert rise == pytest.approx(1.0, rel=0.05)


def test_bump_has_a_sane_covariance(models):
    """With Bernstein coefficients at 0: positive, symmetric, and a correlation matrix with ones on the diagonal."""
    fit = diag.fit_with_uncertainties(PyhfLikelihood(models.bump()))
    assert fit.at_bounds
    assert (np.linalg.eigvalsh(fit.correlation) > 0.0).all()
    assert fit.correlation == pytest.approx(fit.correlation.T)
    assert np.diag(fit.correlation) == pytest.approx(1.0)
    assert all(sigma > 0.0 for sigma in fit.uncertainties)


def test_fixed_parameter_has_no_uncertainty(models):
    spec = models.counting([5.0], [10.0], [16.0], background_modifiers=[models.normsys("rate", 1.2, 0.8)])
    spec["measurements"][0]["config"]["parameters"].append({"name": "rate", "inits": [0.5], "fixed": True})
    likelihood = PyhfLikelihood(spec)
    fit = diag.fit_with_uncertainties(likelihood)
    assert fit.uncertainties[fit.parameter_names.index("rate")] == 0.0
    assert diag.pulls(likelihood, fit) == ()


def test_flat_direction_fails_by_name(models):
    """Two free factors on one sample have no covariance, and the failure names them."""
    spec = models.counting(
        [5.0, 3.0], [10.0, 8.0], [9.0, 8.0], background_modifiers=[models.normfactor("k1"), models.normfactor("k2")]
    )
    with pytest.raises(FitFailure, match=r"singular-hessian: .*: k1, k2") as caught:
        diag.fit_with_uncertainties(PyhfLikelihood(spec))
    assert caught.value.reason == "singular-hessian"


def test_pulls_are_in_units_of_the_constraint(models):
    """One bin far from nominal: the lumi of width 0.01 and the shapesys of width 1/sqrt(tau) move by pulls of order 1."""
    spec = models.binwise("shapesys")
    likelihood = PyhfLikelihood(spec)
    fit = diag.fit_with_uncertainties(likelihood)
    found = {pull.parameter: pull for pull in diag.pulls(likelihood, fit)}
    assert set(found) == {"efficiency", "rate", "mc[0]", "mc[1]", "mc[2]"}
    assert found["rate"].pull == pytest.approx(fit["rate"])
    assert found["mc[0]"].pull == pytest.approx((fit["mc[0]"] - 1.0) * 12.0 / 1.5)
    assert all(0.0 < pull.uncertainty < 1.1 for pull in found.values())


def test_prediction_adds_up(models):
    """Samples sum to the total, the total is what the likelihood expects, and uncertainties include correlations."""
    likelihood = PyhfLikelihood(models.bump())
    fit = diag.fit_with_uncertainties(likelihood)
    (channel,) = diag.predict(likelihood, fit)
    assert channel.channel == "SR"
    assert [sample.sample for sample in channel.samples] == [*(f"bernstein{k}" for k in range(5)), "signal"]
    assert np.sum([sample.values for sample in channel.samples], axis=0) == pytest.approx(np.array(channel.total))
    assert channel.total == pytest.approx(likelihood.expected_yields(fit.bestfit).tolist())
    assert channel.observed == tuple(likelihood.observed_data[:40])
    # a free normalisation makes the fitted total as uncertain as a Poisson count, whatever the shapes do
    assert channel.total_stdev == pytest.approx(math.sqrt(sum(channel.observed)), rel=0.15)
    slopes = []
    for index, sigma in enumerate(fit.uncertainties):
        up, down = list(fit.bestfit), list(fit.bestfit)
        up[index] += sigma
        down[index] -= sigma
        slopes.append((likelihood.expected_yields(up) - likelihood.expected_yields(down)) / (2.0 * sigma))
    variance = np.einsum("ib,ij,jb->b", slopes, fit.covariance, slopes)
    assert channel.total_stdevs == pytest.approx(np.sqrt(variance), rel=1e-6)


def test_figures_and_pyhf_left_as_found(models):
    """cabinetry sets pyhf's optimiser and keeps a cache; pyplot keeps figures. None of that stays behind."""
    import matplotlib.pyplot as plt
    import pyhf
    from cabinetry import model_utils

    likelihood = PyhfLikelihood(models.binwise("shapesys"))
    fit = diag.fit_with_uncertainties(likelihood)
    before = pyhf.get_backend(), plt.get_fignums(), dict(plt.rcParams), len(model_utils._YIELD_STDEV_CACHE)
    results = diag.cabinetry_fit_results(fit)
    assert results.labels == list(fit.parameter_names)
    figures = diag.draw_pulls(diag.pulls(likelihood, fit)), diag.draw_correlations(fit)
    diag.predict(likelihood, fit)
    labels = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert labels == ["efficiency", "rate", "mc[0]", "mc[1]", "mc[2]"] or set(labels) == {
        pull.parameter for pull in diag.pulls(likelihood, fit)
    }
    assert (pyhf.get_backend(), plt.get_fignums(), dict(plt.rcParams), len(model_utils._YIELD_STDEV_CACHE)) == before


def test_a_fit_without_uncertainties_is_refused(models):
    likelihood = PyhfLikelihood(models.counting([5.0], [10.0], [10.0]))
    with pytest.raises(ValueError, match="fit: has no uncertainties; it must come from fit_with_uncertainties"):
        diag.pulls(likelihood, likelihood.fit())
