"""Impacts against cabinetry's ranking, pyhf solved tightly, and a counting experiment."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modelbuilder.errors import FitFailure
from modelbuilder.inference import CompiledLikelihood, PyhfLikelihood
from modelbuilder.inference import diagnostics as diag
from modelbuilder.inference.impacts import impacts

BARS = ("prefit_up", "prefit_down", "postfit_up", "postfit_down")


def model(models):
    """Global, bin-wise and free nuisance parameters; the signal strength far from its bounds."""
    return models.workspace(
        {
            "signal": ([2.0, 5.0, 3.0, 8.0], [models.normfactor("mu"), models.normsys("efficiency", 1.1, 0.9)]),
            "qcd": (
                [12.0, 9.0, 6.0, 4.0],
                [
                    {"name": "mc", "type": "shapesys", "data": [1.5, 1.0, 0.8, 0.9]},
                    models.histosys("shape", [13.0, 9.5, 6.1, 3.9], [11.2, 8.8, 5.5, 4.3]),
                ],
            ),
            "top": ([30.0, 20.0, 10.0, 7.0], [{"name": "st", "type": "staterror", "data": [2.0, 1.4, 0.9, 0.8]}]),
            "fake": ([13.0, 12.0, 1.0, 0.5], [models.normfactor("k")]),
        },
        [60.0, 54.0, 28.0, 25.0],
        poi_bounds=(-10.0, 10.0),
    )


def test_impacts_are_those_of_cabinetry(models, reference):
    """Reference: cabinetry.fit.ranking at the same best fit. Catches a sign, a width, and pre-fit taken for post-fit."""
    import cabinetry
    import pyhf

    spec = model(models)
    likelihood = CompiledLikelihood(spec)
    fit = diag.fit_with_uncertainties(likelihood)
    theirs, before = reference(spec), pyhf.get_backend()
    try:
        ranking = cabinetry.fit.ranking(
            theirs.model, theirs.data, fit_results=diag.cabinetry_fit_results(fit), strategy=2, tolerance=1e-4
        )
    finally:
        pyhf.set_backend(*before)
    found = {impact.parameter: impact for impact in impacts(likelihood, fit=fit)}
    assert set(found) == set(ranking.labels)
    for bar in BARS:
        for name, theirs_bar in zip(ranking.labels, getattr(ranking, bar), strict=True):
            ours = getattr(found[name], bar)
            if ours is None:  # no constraint: cabinetry has 0
                assert (name, bar.startswith("prefit"), theirs_bar) == ("k", True, 0.0)
            else:
                assert ours == pytest.approx(theirs_bar, abs=1e-4)


@pytest.mark.parametrize("likelihood_type", [CompiledLikelihood, PyhfLikelihood])
def test_impacts_are_those_of_tight_fits(models, reference, likelihood_type):
    """Reference: pyhf with a tolerance of 1e-12; what cabinetry's own fits leave open is 1e-4."""
    from pyhf.infer import mle

    spec = model(models)
    likelihood, theirs = likelihood_type(spec), reference(spec)
    fit = diag.fit_with_uncertainties(likelihood)
    chosen = ["shape", "mc[1]", "st[3]", "k"]
    names = list(fit.parameter_names)
    for impact in impacts(likelihood, fit=fit, parameters=chosen):
        index = names.index(impact.parameter)
        for sign, ours in ((1.0, impact.postfit_up), (-1.0, impact.postfit_down)):
            init, fixed = list(fit.bestfit), theirs.model.config.suggested_fixed()
            init[index], fixed[index] = fit.bestfit[index] + sign * fit.uncertainties[index], True
            with theirs.tight():
                moved = mle.fit(theirs.data, theirs.model, init_pars=init, fixed_params=fixed, par_bounds=theirs.bounds)
            assert ours == pytest.approx(float(moved[names.index("mu")]) - fit.poi_value, abs=2e-6)


def test_impact_of_a_rate_in_closed_form(models):
    """n = 5 mu + 100 + 20 alpha: one sigma of the rate is 4 of mu, before and after the fit."""
    rate = models.histosys("rate", [120.0], [80.0])
    spec = models.counting([5.0], [100.0], [130.0], background_modifiers=[rate], poi_bounds=(-50.0, 50.0))
    (impact,) = impacts(CompiledLikelihood(spec))
    assert [getattr(impact, bar) for bar in BARS] == pytest.approx([-4.0, 4.0, -4.0, 4.0], rel=1e-6)
    assert (impact.pull, impact.pull_uncertainty) == pytest.approx((0.0, 1.0), abs=1e-6)
    assert impact.size == pytest.approx(4.0, rel=1e-6)
    assert impact.cut_short == ()


def test_the_largest_comes_first(models):
    """Catches an order by name, or by signed impacts."""
    found = impacts(CompiledLikelihood(model(models)))
    sizes = [impact.size for impact in found]
    assert sizes == sorted(sizes, reverse=True)
    assert all(impact.size == max(abs(impact.postfit_up), abs(impact.postfit_down)) for impact in found)
    assert "mu" not in [impact.parameter for impact in found]


def test_data_are_used(models):
    """Catches impacts on the observed data where others were asked for."""
    likelihood = CompiledLikelihood(model(models))
    asimov = likelihood.asimov_data([p.init for p in likelihood.parameters])
    found = {impact.parameter: impact for impact in impacts(likelihood, asimov)}
    assert found["shape"].bestfit == pytest.approx(0.0, abs=1e-6)
    assert found["st[0]"].pull == pytest.approx(0.0, abs=1e-6)
    up = likelihood.fit_fixed({"shape": found["shape"].bestfit + found["shape"].uncertainty}, asimov)
    assert found["shape"].postfit_up == pytest.approx(up.poi_value - 1.0, abs=1e-6)


def test_beyond_a_bound_there_is_no_impact(models):
    """Catches a fit with a negative Bernstein coefficient, and a zero that stands for an impact nobody knows."""
    (impact,) = impacts(CompiledLikelihood(models.bump()), parameters=["c3"])
    assert impact.bestfit == 0.0
    assert impact.postfit_up is not None
    assert (impact.postfit_down, impact.failures) == (None, (("postfit_down", "outside-bounds"),))
    assert (impact.prefit_up, impact.pull) == (None, None)


def test_a_signal_at_its_bound_is_said(models):
    """Catches an impact that looks complete although the signal strength stopped at 0."""
    found = {impact.parameter: impact for impact in impacts(CompiledLikelihood(models.binwise("shapesys")))}
    assert found["rate"].cut_short == ("postfit_up", "prefit_up")
    assert found["mc[0]"].cut_short == ()


def test_failed_fits_are_named(models, monkeypatch):
    """Catches a number, or an exception, where a single fit failed."""
    likelihood = CompiledLikelihood(model(models))
    fit, fixed = diag.fit_with_uncertainties(likelihood), likelihood.fit_fixed

    def failing(values, data=None, **options):
        if "shape" in values or values.get("st[0]", 0.0) > fit["st[0]"]:
            raise FitFailure("not-converged", "made up")
        return fixed(values, data, **options)

    monkeypatch.setattr(likelihood, "fit_fixed", failing)
    found = impacts(likelihood, fit=fit)
    assert found[-1].parameter == "shape"
    assert found[-1].size is None
    assert found[-1].failures == tuple((bar, "not-converged") for bar in (*BARS[2:], *BARS[:2]))
    half = {impact.parameter: impact for impact in found}["st[0]"]
    assert (half.postfit_up, half.prefit_up, half.size) == (None, None, abs(half.postfit_down))
    labels = [label.get_text() for label in diag.draw_ranking(found, poi_name="mu").axes[0].get_yticklabels()]
    assert "st[0] (a fit failed)" in labels
    assert not any("shape" in label for label in labels)


def test_unknown_parameters_are_refused(models):
    with pytest.raises(ValueError, match="parameters: 'mu' is not a free nuisance parameter; such are "):
        impacts(CompiledLikelihood(model(models)), parameters=["mu"])


def test_ranking_figure(models):
    """Catches bars of the wrong length or order, bars cut off by the axis, and pyhf or matplotlib left changed."""
    import matplotlib.pyplot as plt
    import pyhf

    before = pyhf.get_backend(), plt.get_fignums(), dict(plt.rcParams)
    found = impacts(CompiledLikelihood(models.bump()))
    figure = diag.draw_ranking(found, poi_name="mu", max_parameters=7)
    assert (pyhf.get_backend(), plt.get_fignums(), dict(plt.rcParams)) == before
    pulls, bars = figure.axes
    labels = [label.get_text() for label in pulls.get_yticklabels()]
    one_sided = ["c3 (one-sided)" if impact.parameter == "c3" else impact.parameter for impact in found[:7]]
    assert labels == one_sided
    lengths = np.array([container.datavalues for container in bars.containers])
    expected = [[getattr(impact, bar) or 0.0 for impact in found[:7]] for bar in BARS]
    assert lengths == pytest.approx(np.array(expected))
    assert bars.get_xlim()[1] == pytest.approx(1.1 * found[0].size)
    assert bars.get_xlabel() == r"$\Delta$ mu"


def test_ranking_figure_without_constraints(models):
    """Catches matplotlib's complaint about an axis of no length where no parameter has a pre-fit impact."""
    spec = models.counting([5.0, 1.0], [50.0, 80.0], [70.0, 75.0], background_modifiers=[models.normfactor("k")])
    found = impacts(CompiledLikelihood(spec))
    assert diag.draw_ranking(found, poi_name="mu").axes[1].get_xlim()[1] == pytest.approx(1.1 * found[0].size)
    with pytest.raises(ValueError, match="none of the impacts is known"):
        diag.draw_ranking((), poi_name="mu")
    assert not math.isnan(found[0].size)
