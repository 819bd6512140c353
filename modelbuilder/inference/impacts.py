"""Impacts: by how much the fitted POI moves when a nuisance parameter is held one uncertainty from its best fit.

All other parameters are refitted, as in `cabinetry.fit.ranking`. The covariance tells where these fits will end, so
that each begins next to its minimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.inference.diagnostics import fit_with_uncertainties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from modelbuilder.inference.likelihood import Likelihood
    from modelbuilder.inference.results import FitResult

OUTSIDE = "outside-bounds"


@dataclass(frozen=True, kw_only=True)
class Impact:
    """Changes of the POI for one nuisance parameter, at its best fit plus and minus an uncertainty.

    postfit_up, postfit_down: the uncertainty of the fit.    prefit_up, prefit_down: that of its constraint; None for a
    parameter without one.    pull, pull_uncertainty: as in `Pull`; None without a constraint.
    failures: by the name of the field, why it is None although it should be a number.
    cut_short: fields in whose fit the POI ended on a bound; without it, the impact would be larger.
    """

    parameter: str
    bestfit: float
    uncertainty: float
    pull: float | None
    pull_uncertainty: float | None
    postfit_up: float | None
    postfit_down: float | None
    prefit_up: float | None
    prefit_down: float | None
    failures: tuple[tuple[str, str], ...] = ()
    cut_short: tuple[str, ...] = ()

    @property
    def size(self) -> float | None:
        """The larger post-fit impact, without its sign; None where neither is known."""
        known = [abs(impact) for impact in (self.postfit_up, self.postfit_down) if impact is not None]
        return max(known, default=None)


def impacts(
    likelihood: Likelihood,
    data: ArrayLike | None = None,
    *,
    fit: FitResult | None = None,
    parameters: Sequence[str] | None = None,
) -> tuple[Impact, ...]:
    """Impacts on the POI, the largest first; those of which no fit succeeded come last.

    fit: that of all parameters with uncertainties, if it is known already.    parameters: by default, all that are free.
    A value outside the bounds of its parameter is not fitted, and said to be `outside-bounds`.
    """
    if fit is None or fit.covariance is None:
        fit = fit_with_uncertainties(likelihood, data, start=None if fit is None else fit.bestfit)
    free = [p.name for p in likelihood.parameters if not p.fixed and p.name != likelihood.poi_name]
    for name in parameters or ():
        if name not in free:
            msg = f"parameters: {name!r} is not a free nuisance parameter; such are {', '.join(free[:10]) or 'none'}"
            raise ValueError(msg)
    chosen = set(free if parameters is None else parameters)
    found = [_impact(likelihood, data, fit, index) for index, name in enumerate(fit.parameter_names) if name in chosen]
    return tuple(sorted(found, key=lambda impact: -1.0 if impact.size is None else impact.size, reverse=True))


def _impact(likelihood: Likelihood, data: ArrayLike | None, fit: FitResult, index: int) -> Impact:
    assert fit.uncertainties is not None
    assert fit.covariance is not None
    parameter, best, sigma = likelihood.parameters[index], fit.bestfit[index], fit.uncertainties[index]
    slopes = np.asarray(fit.covariance)[index] / sigma**2  # of all parameters, when this one is moved
    changes: dict[str, float | None] = {}
    failures: list[tuple[str, str]] = []
    cut_short: list[str] = []
    for name, size in (("postfit", sigma), ("prefit", parameter.width)):
        for direction, move in (("up", size), ("down", None if size is None else -size)):
            key = f"{name}_{direction}"
            changes[key] = None
            if move is None:
                continue
            value = best + move
            if not parameter.lower <= value <= parameter.upper:
                failures.append((key, OUTSIDE))
                continue
            start = (np.array(fit.bestfit) + move * slopes).tolist()
            try:
                moved = likelihood.fit_fixed({parameter.name: value}, data, start=start)
            except FitFailure as failure:
                failures.append((key, failure.reason))
                continue
            changes[key] = moved.poi_value - fit.poi_value
            if likelihood.poi_name in moved.at_bounds:
                cut_short.append(key)
    pull = pull_uncertainty = None
    if parameter.centre is not None and parameter.width:
        pull, pull_uncertainty = (best - parameter.centre) / parameter.width, sigma / parameter.width
    return Impact(
        parameter=parameter.name,
        bestfit=best,
        uncertainty=sigma,
        pull=pull,
        pull_uncertainty=pull_uncertainty,
        postfit_up=changes["postfit_up"],
        postfit_down=changes["postfit_down"],
        prefit_up=changes["prefit_up"],
        prefit_down=changes["prefit_down"],
        failures=tuple(failures),
        cut_short=tuple(cut_short),
    )
