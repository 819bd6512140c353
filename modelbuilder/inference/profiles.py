"""The profile of -2 ln L along any parameter, the others refitted; and the interval where it has risen by a quantile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.inference.diagnostics import fit_with_uncertainties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from modelbuilder.inference.likelihood import Likelihood, Parameter
    from modelbuilder.inference.results import FitResult

ONE_SIGMA = 0.6826894921370859
_LOWER = 1e-6  # of -2 ln L: a fit that is lower than the best one by so much is a better one
_HIGHEST = 1e6  # -2 ln L above this, or infinite, is only known to be too high
_MAX_DOUBLINGS = 60
_MAX_RESTARTS = 3


@dataclass(frozen=True, kw_only=True)
class ProfileScan:
    """-2 ln L along one parameter, less its minimum.

    rises: one for each of `values`; None where the fit failed, whose name is then in `failures` (None elsewhere).
    """

    parameter: str
    bestfit: float
    values: tuple[float, ...]
    rises: tuple[float | None, ...]
    failures: tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True)
class ProfileInterval:
    """Where -2 ln L, the other parameters refitted, stays within the quantile of a chi-squared distribution.

    lower_is_bound, upper_is_bound: the parameter may not go further, and -2 ln L has not risen as much up to there.
    """

    parameter: str
    confidence_level: float
    bestfit: float
    lower: float
    upper: float
    lower_is_bound: bool
    upper_is_bound: bool


def profile_scan(
    likelihood: Likelihood,
    parameter: str,
    values: Sequence[float] | None = None,
    *,
    data: ArrayLike | None = None,
    n_points: int = 31,
    n_sigma: float = 3.0,
) -> ProfileScan:
    """-2 ln L at these values of a parameter, bin-wise ones (`mc[3]`) included, the others refitted.

    values: by default `n_points` over the uncertainty of the parameter, `n_sigma` times on either side, in its bounds.
    """
    profile = _Profile(likelihood, parameter, data)
    if values is None:
        low = max(profile.best[parameter] - n_sigma * profile.step, profile.lower)
        high = min(profile.best[parameter] + n_sigma * profile.step, profile.upper)
        values = np.linspace(low, high, n_points).tolist()
    found: dict[float, float | str] = {}
    for value in sorted(set(values), key=lambda value: abs(value - profile.best[parameter])):  # each near another
        try:
            found[value] = profile.twice_nll(value)
        except FitFailure as failure:
            found[value] = failure.reason
    answers = [found[value] for value in values]
    least = profile.best.twice_nll
    return ProfileScan(
        parameter=parameter,
        bestfit=profile.best[parameter],
        values=tuple(float(value) for value in values),
        rises=tuple(None if isinstance(answer, str) else max(answer - least, 0.0) for answer in answers),
        failures=tuple(answer if isinstance(answer, str) else None for answer in answers),
    )


def profile_interval(
    likelihood: Likelihood,
    parameter: str,
    confidence_level: float = ONE_SIGMA,
    *,
    data: ArrayLike | None = None,
    fit: FitResult | None = None,
) -> ProfileInterval:
    """The interval around the best fit, as MINOS finds it: asymmetric, and one-sided where a bound is in the way.

    fit: that of all parameters with uncertainties, if it is known already.
    Raises FitFailure("interval-not-found") where -2 ln L does not rise enough, or jumps.
    """
    from scipy.special import chdtri

    if not 0.0 < confidence_level < 1.0:
        msg = f"confidence_level: found {confidence_level}; it lies between 0 and 1, such as 0.95"
        raise ValueError(msg)
    quantile = float(chdtri(1, 1.0 - confidence_level))
    profile = _Profile(likelihood, parameter, data, fit)
    for _ in range(_MAX_RESTARTS):
        best = profile.best
        lower, lower_is_bound = _end(profile, quantile, -1)
        upper, upper_is_bound = _end(profile, quantile, 1)
        if profile.best is best:  # no better fit was met on the way
            return ProfileInterval(
                parameter=parameter,
                confidence_level=confidence_level,
                bestfit=best[parameter],
                lower=lower,
                upper=upper,
                lower_is_bound=lower_is_bound,
                upper_is_bound=upper_is_bound,
            )
    reason, detail = "not-converged", f"ever lower minima were found along {parameter}"
    raise FitFailure(reason, detail)


class _Profile:
    """Fits with one parameter fixed, kept; `best` is replaced if one of them shows the way to a better one.

    step: its uncertainty, or what else is known of its size.    lower, upper: its bounds; the POI has no upper one.
    """

    def __init__(
        self, likelihood: Likelihood, parameter: str, data: ArrayLike | None, fit: FitResult | None = None
    ) -> None:
        own = _free_parameter(likelihood, parameter)
        self._likelihood, self._data, self.parameter = likelihood, data, parameter
        self.lower = own.lower
        self.upper = math.inf if parameter == likelihood.poi_name else own.upper
        if fit is None or fit.uncertainties is None:
            try:
                fit = fit_with_uncertainties(likelihood, data)
            except FitFailure as failure:  # what others do is no matter, as long as this one is constrained
                if failure.reason != "singular-hessian":
                    raise
                fit = likelihood.fit(data)
        self.best = fit
        self.step = own.width or 0.1 * max(abs(fit[parameter]), 1.0)
        if fit.uncertainties is not None:
            self.step = fit.uncertainties[fit.parameter_names.index(parameter)]
        self._fits: dict[float, FitResult] = {}

    def twice_nll(self, value: float) -> float:
        if value not in self._fits:
            known = {self.best[self.parameter]: self.best, **self._fits}
            start = known[min(known, key=lambda other: abs(other - value))].bestfit
            fit = self._likelihood.fit_fixed({self.parameter: value}, self._data, start=start)
            self._fits[value] = fit
            if fit.twice_nll < self.best.twice_nll - _LOWER:
                better = self._likelihood.fit(self._data, start=fit.bestfit)
                if better.twice_nll > fit.twice_nll + _LOWER:
                    detail = f"the fit of all parameters ends above the fit at {self.parameter} = {value:.6g}"
                    reason = "not-converged"
                    raise FitFailure(reason, detail)
                self.best = better
        return self._fits[value].twice_nll

    def rise(self, value: float) -> float:
        """-2 ln L less its minimum; infinite where no values of the other parameters make the data possible."""
        try:
            return max(self.twice_nll(value) - self.best.twice_nll, 0.0)
        except FitFailure as failure:
            if failure.reason == "nll-not-finite":
                return math.inf
            raise


def _end(profile: _Profile, quantile: float, side: int) -> tuple[float, bool]:
    """One end of the interval, going outwards, and whether it is the bound."""
    from scipy.optimize import brentq

    bound = profile.upper if side > 0 else profile.lower
    inner, step = profile.best[profile.parameter], math.sqrt(quantile) * profile.step
    for _ in range(_MAX_DOUBLINGS):
        outer = side * min(side * inner + step, side * bound)
        if side * (outer - inner) <= 0.0:
            return bound, True
        if profile.rise(outer) >= quantile:
            break
        inner, step = outer, 2.0 * step
    else:
        detail = f"-2 ln L rises by less than {quantile:.4g} from {profile.parameter} = {inner:.6g} on"
        reason = "interval-not-found"
        raise FitFailure(reason, detail)

    def height(value: float) -> float:
        return math.sqrt(min(profile.rise(value), _HIGHEST)) - math.sqrt(quantile)  # almost a straight line

    if height(inner) > 0.0:  # the best fit has moved meanwhile; the caller begins again
        return inner, False
    end = float(brentq(height, inner, outer, xtol=1e-10 * abs(outer - inner), rtol=1e-14))
    if abs(height(end)) > 1e-4 * math.sqrt(quantile):
        detail = f"-2 ln L jumps past {quantile:.4g} at {profile.parameter} = {end:.6g}"
        reason = "interval-not-found"
        raise FitFailure(reason, detail)
    return end, False


def _free_parameter(likelihood: Likelihood, name: str) -> Parameter:
    for parameter in likelihood.parameters:
        if parameter.name == name:
            if parameter.fixed:
                msg = f"parameter: {name!r} is fixed by the model and has no profile"
                raise ValueError(msg)
            return parameter
    known = ", ".join(likelihood.parameter_names[:10])
    msg = f"parameter: found {name!r}; the model has {known}{', ...' if len(likelihood.parameters) > 10 else ''}"
    raise ValueError(msg)
