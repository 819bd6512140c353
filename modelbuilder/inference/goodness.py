"""Goodness of fit: the likelihood against that of the saturated model, where each bin expects its own count.

-2 ln(L/L_saturated) is Poisson deviance plus the pulls of the constrained parameters. It follows a chi-squared
distribution if bins have more than a few events; the degrees of freedom are the bins less the free parameters without
constraint. (S. Baker and R. Cousins, Nucl. Instrum. Meth. 221 (1984) 437; cabinetry's `goodness_of_fit`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.toys import MAX_FAILED, PValue, p_value_of, toy_data

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from modelbuilder.inference.likelihood import Likelihood
    from modelbuilder.inference.results import FitResult

FEW_EVENTS = 5.0
"""The chi-squared approximation is doubtful if more than a fifth of the bins expect less, or any bin less than 1."""

_CHUNK = 256  # toys in memory at a time


@dataclass(frozen=True, kw_only=True)
class GoodnessOfFit:
    """How well the model describes the data.

    statistic: -2 ln(L/L_saturated).    p_value: chance of a larger one, by its chi-squared approximation; None without
    degrees of freedom.    toys: the same chance by toys thrown from the best fit; None unless asked for.
    approximation_doubtful: not to be trusted without toys; `warnings` says why.
    """

    statistic: float
    degrees_of_freedom: int
    p_value: float | None
    toys: PValue | None
    approximation_doubtful: bool
    warnings: tuple[str, ...]


def goodness_of_fit(
    likelihood: Likelihood,
    data: ArrayLike | None = None,
    *,
    fit: FitResult | None = None,
    toys: int | None = None,
    seed: int = 1,
) -> GoodnessOfFit:
    """Goodness of the fit of all free parameters.

    fit: that fit, if it is known already.    toys: as many are thrown, auxiliary data included, and fitted.
    """
    from scipy.special import chdtrc

    if toys is not None and toys < 1:
        msg = f"toys: found {toys}; at least 1 is needed"
        raise ValueError(msg)
    fit = likelihood.fit(data) if fit is None else fit
    statistic = max(fit.twice_nll - likelihood.saturated_twice_nll(data), 0.0)
    expected = likelihood.expected_yields(fit.bestfit)
    free = [p.name for p in likelihood.parameters if p.width is None and not p.fixed]
    degrees = len(expected) - len(free)
    warnings = []
    if degrees <= 0:
        warnings.append(
            f"{len(expected)} bins and {len(free)} free parameters leave {degrees} degrees of freedom:"
            " there is no asymptotic p-value"
        )
    few, fewest = int(np.count_nonzero(expected < FEW_EVENTS)), float(expected.min())
    if few > 0.2 * len(expected) or fewest < 1.0:
        warnings.append(
            f"{few} of {len(expected)} bins expect fewer than {FEW_EVENTS:g} events, the fewest {max(fewest, 0.0):.3g}:"
            " the chi-squared approximation is doubtful"
        )
    stopped = [name for name in fit.at_bounds if name in free]
    if stopped:
        warnings.append(
            f"free parameters on their bounds ({', '.join(stopped)}): the degrees of freedom are rather more, and so is"
            " the asymptotic p-value"
        )
    by_toys = None if toys is None else _by_toys(likelihood, fit, statistic, toys, seed)
    doubts = tuple(warnings)
    if by_toys is not None and by_toys.n_failed:
        warnings.append(f"{by_toys.n_failed} of {by_toys.n_toys} toys could not be fitted; they widen the interval")
    return GoodnessOfFit(
        statistic=statistic,
        degrees_of_freedom=degrees,
        p_value=float(chdtrc(degrees, statistic)) if degrees > 0 else None,
        toys=by_toys,
        approximation_doubtful=bool(doubts),
        warnings=tuple(warnings),
    )


def _by_toys(likelihood: Likelihood, best: FitResult, observed: float, n_toys: int, seed: int) -> PValue:
    if not isinstance(likelihood, CompiledLikelihood):
        msg = "toys: need a CompiledLikelihood; other likelihoods cannot throw them"
        raise TypeError(msg)
    statistics = np.full(n_toys, np.nan)
    for first in range(0, n_toys, _CHUNK):
        n = min(_CHUNK, n_toys - first)
        thrown = toy_data(likelihood, best.bestfit, seed=seed, hypothesis="signal", n_toys=n, first=first)
        for index, data in enumerate(thrown, first):
            try:
                fit = likelihood.fit(data, start=best.bestfit)
            except FitFailure:
                continue  # stays NaN, which is counted
            statistics[index] = fit.twice_nll - likelihood.saturated_twice_nll(data)
    n_failed = int(np.count_nonzero(np.isnan(statistics)))
    if n_failed > MAX_FAILED * n_toys:
        reason, detail = "toys-failed", f"{n_failed} of {n_toys} toys from the best fit cannot be fitted"
        raise FitFailure(reason, detail)
    return p_value_of(statistics, observed, failed_are_above=True)
