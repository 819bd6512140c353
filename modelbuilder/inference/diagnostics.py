"""What a fit says about its parameters: uncertainties, pulls, post-fit yields, and cabinetry's pictures of them.

cabinetry is imported only when asked for, and contained: it sets pyhf's global optimiser, keeps a cache, and hands its
arguments on to code that changes them.
"""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.inference.results import ChannelPrediction, FitResult, Pull, SamplePrediction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference.impacts import Impact
    from modelbuilder.inference.likelihood import Likelihood
    from modelbuilder.inference.pyhf_likelihood import PyhfLikelihood

_SMALLEST_EIGENVALUE = 1e-10  # of the Hessian scaled to a unit diagonal: below, a direction is flat


def fit_with_uncertainties(
    likelihood: Likelihood,
    data: ArrayLike | None = None,
    *,
    start: Sequence[float] | None = None,
    poi_lower: float | None = None,
) -> FitResult:
    """Fit all free parameters, with the covariance from the Hessian at the minimum.

    poi_lower: lower bound of the signal strength, in place of that of the model.

    A parameter on its bound has no parabola: its uncertainty is the distance into the allowed region at which twice the
    NLL has risen by one, the other parameters refitted (to second order). Their movement enters the covariance, which
    becomes the inverse Hessian where the bound only just touches, and forgets the parameter where it presses hard.
    Raises FitFailure("singular-hessian") where some combination of parameters is not constrained at all.
    """
    fit = likelihood.fit(data, start=start, poi_lower=poi_lower)
    before = likelihood.counters.evaluations
    derivatives = likelihood.derivatives(fit.bestfit, data)
    hessian = np.asarray(derivatives.hessian)
    n = len(fit.bestfit)
    fixed = np.array([parameter.fixed for parameter in likelihood.parameters])
    bound = np.array([name in fit.at_bounds for name in fit.parameter_names])
    inside = np.flatnonzero(~fixed & ~bound)
    inner = _inverse_half_hessian(hessian[np.ix_(inside, inside)], fit, inside)
    covariance = np.zeros((n, n))
    covariance[np.ix_(inside, inside)] = inner
    for index in np.flatnonzero(bound):
        drag = -0.5 * inner @ hessian[inside, index]  # how the others move when they are refitted
        curvature = max(float(hessian[index, index] + drag @ hessian[inside, index]), 0.0)
        slope = abs(float(derivatives.gradient[index]))
        rise = slope + math.sqrt(slope**2 + 2.0 * curvature)  # slope d + curvature d^2/2 = 1
        if rise == 0.0:
            reason, detail = "singular-hessian", f"{fit.parameter_names[index]}, on its bound, changes nothing"
            raise FitFailure(reason, detail)
        move = np.zeros(n)
        move[index] = 1.0
        move[inside] = drag
        covariance += np.outer(move, move) * (2.0 / rise) ** 2
    covariance.setflags(write=False)
    return replace(
        fit,
        uncertainties=tuple(np.sqrt(np.diag(covariance)).tolist()),
        covariance=covariance,
        evaluations=fit.evaluations + likelihood.counters.evaluations - before,
    )


def pulls(likelihood: Likelihood, fit: FitResult) -> tuple[Pull, ...]:
    """Pulls of the constrained parameters that are free in the fit, in the order of the parameters."""
    uncertainties = _uncertainties(fit)
    return tuple(
        Pull(
            parameter=parameter.name,
            pull=(value - parameter.centre) / parameter.width,
            uncertainty=uncertainty / parameter.width,
        )
        for parameter, value, uncertainty in zip(likelihood.parameters, fit.bestfit, uncertainties, strict=True)
        if parameter.centre is not None and parameter.width and not parameter.fixed
    )


def cabinetry_fit_results(fit: FitResult) -> Any:
    """The fit as `cabinetry.fit.FitResults`, of fresh arrays."""
    with _contained_cabinetry() as cabinetry:
        return cabinetry.fit.FitResults(
            np.array(fit.bestfit),
            np.array(_uncertainties(fit)),
            list(fit.parameter_names),
            np.array(fit.correlation),
            fit.twice_nll,
        )


def predict(likelihood: PyhfLikelihood, fit: FitResult, data: ArrayLike | None = None) -> tuple[ChannelPrediction, ...]:
    """Yields at the best fit per channel, sample and bin, with the total uncertainty from the covariance.

    data: what `observed` is filled with; None for the observed data.
    """
    observed = np.asarray(likelihood.observed_data if data is None else data, dtype=float)
    results = cabinetry_fit_results(fit)
    with _contained_cabinetry() as cabinetry:
        prediction = cabinetry.model_utils.prediction(likelihood.model, fit_results=results)
    config = likelihood.model.config
    channels = []
    for index, channel in enumerate(config.channels):
        yields = np.array(prediction.model_yields[index], dtype=float)
        stdevs = np.array(prediction.total_stdev_model_bins[index], dtype=float)
        present = {
            sample["name"]
            for described in likelihood.model.spec["channels"]
            if described["name"] == channel
            for sample in described["samples"]
        }
        channels.append(
            ChannelPrediction(
                channel=str(channel),
                samples=tuple(
                    SamplePrediction(sample=str(sample), values=_floats(yields[row]), stdevs=_floats(stdevs[row]))
                    for row, sample in enumerate(config.samples)
                    if sample in present
                ),
                total=_floats(yields.sum(axis=0)),
                total_stdevs=_floats(stdevs[-1]),
                total_stdev=float(prediction.total_stdev_model_channels[index][-1]),
                observed=_floats(observed[config.channel_slices[channel]]),
            )
        )
    return tuple(channels)


def draw_pulls(values: Sequence[Pull]) -> Figure:
    """cabinetry's pull plot; the caller saves it. cabinetry leaves out parameters called `staterror_...`."""
    with _contained_cabinetry() as cabinetry:
        results = cabinetry.fit.FitResults(
            np.array([pull.pull for pull in values]),
            np.array([pull.uncertainty for pull in values]),
            [pull.parameter for pull in values],
            np.eye(len(values)),
            math.nan,
        )
        figure: Figure = cabinetry.visualize.pulls(results, save_figure=False, close_figure=True)
    return figure


def draw_correlations(fit: FitResult, *, pruning_threshold: float = 0.0) -> Figure:
    """cabinetry's correlation matrix, without parameters whose correlations all stay below the threshold."""
    results = cabinetry_fit_results(fit)
    with _contained_cabinetry() as cabinetry:
        figure: Figure = cabinetry.visualize.correlation_matrix(
            results, pruning_threshold=pruning_threshold, save_figure=False, close_figure=True
        )
    return figure


def draw_ranking(values: Sequence[Impact], *, poi_name: str, max_parameters: int = 20) -> Figure:
    """cabinetry's ranking plot of the largest impacts; the caller saves it.

    A bar that is missing, because its fit failed or lies beyond a bound, is said to be so beside the parameter.
    """
    from modelbuilder.inference.impacts import OUTSIDE

    def label(impact: Impact) -> str:
        reasons = {reason for _, reason in impact.failures}
        why = "" if not reasons else " (one-sided)" if reasons == {OUTSIDE} else " (a fit failed)"
        return impact.parameter + why

    chosen = [impact for impact in values if impact.size is not None][:max_parameters]
    if not chosen:
        msg = "values: none of the impacts is known; there is nothing to draw"
        raise ValueError(msg)

    def column(name: str, missing: float) -> NDArray[np.float64]:
        found = (getattr(impact, name) for impact in chosen)
        return np.array([missing if number is None else number for number in found])

    bars = {name: column(name, 0.0) for name in ("prefit_up", "prefit_down", "postfit_up", "postfit_down")}
    with _contained_cabinetry() as cabinetry, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # limits of cabinetry's axis if there are no pre-fit impacts
        results = cabinetry.fit.RankingResults(
            column("pull", math.nan),
            column("pull_uncertainty", math.nan),
            [label(impact) for impact in chosen],
            *bars.values(),
        )
        figure: Figure = cabinetry.visualize.ranking(results, save_figure=False, close_figure=True)
    below, above = figure.axes
    furthest = np.nanmax(np.append(np.abs(results.bestfit) + results.uncertainty, 1.9))
    below.set_xlim(-furthest - 0.1, furthest + 0.1)
    above.set_xlabel(rf"$\Delta$ {poi_name}")
    largest = max(float(np.max(np.abs(bar))) for bar in bars.values())
    if largest > 0.0:
        above.set_xlim(-1.1 * largest, 1.1 * largest)
    return figure


def _inverse_half_hessian(hessian: NDArray[np.float64], fit: FitResult, indices: NDArray[np.intp]) -> Any:
    """Covariance of the parameters `indices` from the Hessian of twice the NLL."""
    if not len(indices):
        return hessian
    diagonal = np.diag(hessian)
    if (diagonal <= 0.0).any():
        flat = [fit.parameter_names[indices[index]] for index in np.flatnonzero(diagonal <= 0.0)]
    else:
        scale = 1.0 / np.sqrt(diagonal)
        values, vectors = np.linalg.eigh(hessian * np.outer(scale, scale))
        if values[0] > _SMALLEST_EIGENVALUE:
            return 2.0 * np.outer(scale, scale) * ((vectors / values) @ vectors.T)
        flat = [fit.parameter_names[indices[index]] for index in np.flatnonzero(np.abs(vectors[:, 0]) > 0.1)]
    reason, detail = "singular-hessian", f"the data do not constrain this combination of parameters: {', '.join(flat)}"
    raise FitFailure(reason, detail)


def _uncertainties(fit: FitResult) -> tuple[float, ...]:
    if fit.uncertainties is None:
        msg = "fit: has no uncertainties; it must come from fit_with_uncertainties"
        raise ValueError(msg)
    return fit.uncertainties


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(values.tolist())


@contextmanager
def _contained_cabinetry() -> Iterator[Any]:
    """cabinetry, with pyhf's backend, matplotlib's settings and cabinetry's cache put back afterwards."""
    import cabinetry
    import matplotlib as mpl
    from cabinetry import model_utils

    from modelbuilder.inference._pyhf_backend import numpy_backend

    cache = dict(model_utils._YIELD_STDEV_CACHE)
    with numpy_backend(), mpl.rc_context():
        try:
            yield cabinetry
        finally:
            model_utils._YIELD_STDEV_CACHE.clear()
            model_utils._YIELD_STDEV_CACHE.update(cache)
