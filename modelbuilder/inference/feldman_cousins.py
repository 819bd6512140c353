"""Intervals of G. J. Feldman and R. D. Cousins, Phys. Rev. D 57 (1998) 3873, physics/9711021.

A signal strength mu >= 0 is in the interval if the data are not among the 1 - CL least likely ones, ordered by the
likelihood ratio L(mu)/L(best), the best fit at 0 or above; that is, by tmu_tilde. With nuisance parameters both are
profiled, and toys are thrown from the best fit at each mu (profile construction). For a counting experiment without
nuisance parameters the sums of Poisson probabilities are done exactly.

The set of accepted mu can have holes, since counts are whole numbers; the interval is from its lowest to its highest.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelbuilder.errors import FitFailure
from modelbuilder.inference.toys import Estimate, ToyCalculator

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
    from modelbuilder.inference.toys import PValue

_MAX_STEPS = 40
_LAST_WIDTH = 1e-3  # relative: an edge that is bracketed so closely is a jump of the p-value


@dataclass(frozen=True, kw_only=True)
class CountingInterval:
    """Feldman-Cousins interval for the events of a signal, the background known; exact."""

    count: int
    background: float
    confidence_level: float
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class FeldmanCousinsInterval:
    """Feldman-Cousins interval for the POI, from toys; the interval of each edge is that of its p-value over its slope.

    lower: 0 where mu = 0 is accepted.    tests: values of the POI that were tested.    n_toys: the most for one of them.
    """

    poi_name: str
    confidence_level: float
    lower: Estimate
    upper: Estimate
    poi_hat: float
    tests: int
    n_toys: int
    precision_reached: bool
    warnings: tuple[str, ...]


def feldman_cousins_counting(
    count: int, background: float, *, confidence_level: float = 0.9, monotone: bool = False
) -> CountingInterval:
    """The interval for `count` events where the known `background` is expected; edges to 1e-12.

    monotone: raise the upper edge to the largest for any larger background, as the tables of the paper are; more
    background may otherwise give a higher limit, since counts are whole numbers. Looked for in steps of 0.005.
    """
    if count < 0 or count != int(count):
        msg = f"count: found {count}; it is a whole number, 0 or more"
        raise ValueError(msg)
    if not (math.isfinite(background) and background >= 0.0):
        msg = f"background: found {background}; it is finite, 0 or more"
        raise ValueError(msg)
    _check_level(confidence_level)
    n, b = int(count), float(background)
    lower, upper = _counting_edges(n, b, confidence_level)
    if monotone:
        step = 0.005
        for k in range(1, math.ceil((n + 5.0) / step)):
            upper = max(upper, _counting_edges(n, b + k * step, confidence_level)[1])
    return CountingInterval(count=n, background=b, confidence_level=confidence_level, lower=lower, upper=upper)


def feldman_cousins(
    likelihood: CompiledLikelihood,
    data: ArrayLike | None = None,
    *,
    seed: int,
    confidence_level: float = 0.9,
    precision: float = 0.05,
    max_toys: int = 200_000,
    n_toys: int | None = None,
    n_threads: int = 1,
) -> FeldmanCousinsInterval:
    """The interval of the POI by toys; options as in `ToyCalculator`.

    The p-value is taken to rise from mu = 0 to the best fit and to fall beyond, but for jumps smaller than the steps
    of the search.
    """
    _check_level(confidence_level)
    calculator = ToyCalculator(
        likelihood,
        data,
        seed=seed,
        statistic="tmu_tilde",
        precision=precision,
        max_toys=max_toys,
        n_toys=n_toys,
        n_threads=n_threads,
    )
    alpha = 1.0 - confidence_level
    best = likelihood.fit(data, poi_lower=0.0)
    tested: dict[float, PValue] = {}

    def p_value(poi: float) -> PValue:
        if poi not in tested:
            tested[poi] = calculator.p_value(poi)
        return tested[poi]

    width = _first_width(calculator, best.poi_value, alpha)
    upper = _edge(p_value, tested, best.poi_value, best.poi_value + width, alpha)
    if best.poi_value <= 0.0 or p_value(0.0).value >= alpha:
        lower = Estimate(value=0.0, lower=0.0, upper=0.0)
    else:
        lower = _edge(p_value, tested, best.poi_value, max(best.poi_value - width, 0.25 * best.poi_value), alpha)
    most = max(p.n_toys for p in tested.values())
    near = [
        p
        for poi, p in tested.items()
        for edge in (lower, upper)
        if edge.value > 0.0 and abs(poi / edge.value - 1.0) < 0.05
    ]
    reached = n_toys is not None or all(p.relative_precision <= precision for p in near)
    warnings = () if reached else (f"p-values at the edges are not known to {precision:g} with {most} toys",)
    return FeldmanCousinsInterval(
        poi_name=likelihood.poi_name,
        confidence_level=confidence_level,
        lower=lower,
        upper=upper,
        poi_hat=best.poi_value,
        tests=len(tested),
        n_toys=most,
        precision_reached=reached,
        warnings=warnings,
    )


def _check_level(confidence_level: float) -> None:
    if not 0.0 < confidence_level < 1.0:
        msg = f"confidence_level: found {confidence_level}; it lies above 0 and below 1, such as 0.9"
        raise ValueError(msg)


# ------------------------------------------------------------------------------------------------------- counting


def _counting_edges(n: int, b: float, level: float) -> tuple[float, float]:
    """Lowest and highest accepted signal.

    With lambda = s + b, ln R(n') = n' ln lambda - lambda - c(n'), and n' overtakes n at one lambda, known in closed
    form. Between two of these the counts that are likelier than n are the same ones, all those between two numbers, and
    their probability has one maximum in lambda: n is accepted where it is below the confidence level.
    """

    def constant(k: int) -> float:
        best = max(float(k), b)
        return (k * math.log(best) if k > 0 else 0.0) - best

    def overtaking(k: int) -> float:
        """The lambda where k and n are equally likely by their ratio."""
        return math.exp(min((constant(k) - constant(n)) / (k - n), 700.0))

    largest = n + b + 40.0 + 12.0 * math.sqrt(n + b + 1.0)
    while b + 1.0 > largest:
        largest *= 2.0
    above: list[tuple[float, int]] = []
    k = n + 1
    while (at := overtaking(k)) < largest:
        above.append((at, k))
        k += 1
    below = sorted((overtaking(k), k) for k in range(n))
    edges = sorted({b, largest, *(at for at, _ in above), *(at for at, _ in below)})
    edges = [edge for edge in edges if b <= edge <= largest]

    def pieces() -> list[tuple[float, float, int, int]]:
        """(left, right, first, last likelier count) of each piece; first > last where there is none."""
        found = []
        for left, right in itertools.pairwise(edges):
            middle = 0.5 * (left + right)
            likelier = [k for at, k in above if at < middle] + [k for at, k in below if at > middle]
            found.append((left, right, min(likelier, default=0), max(likelier, default=-1)))
        return found

    def excess(lam: float, first: int, last: int) -> float:
        return _poisson_between(first, last, lam) - level

    all_pieces = pieces()
    lower = upper = math.nan
    for left, right, first, last in all_pieces:
        at_left, at_right = excess(left, first, last), excess(right, first, last)
        if at_left < 0.0:
            lower = left
        elif at_right < 0.0:
            lower = _bisected(first, last, level, left, right)
        else:
            continue
        break
    for left, right, first, last in reversed(all_pieces):
        at_left, at_right = excess(left, first, last), excess(right, first, last)
        if at_right < 0.0:
            upper = right
        elif at_left < 0.0:
            upper = _bisected(first, last, level, left, right)
        else:
            continue
        break
    if math.isnan(upper):  # only for a confidence level so low that no signal is likely enough
        reason, detail = "empty-interval", f"no signal is accepted for {n} events and a background of {b:g}"
        raise FitFailure(reason, detail)
    return max(lower - b, 0.0), max(upper - b, 0.0)


def _poisson_between(first: int, last: int, mean: float) -> float:
    """Probability of first ... last events."""
    from scipy.special import pdtr, pdtrc

    if last < first:
        return 0.0
    if mean <= 0.0:
        return 1.0 if first == 0 else 0.0
    if first > mean:  # differences of the smaller tails
        return float(pdtrc(first - 1, mean) - pdtrc(last, mean))
    return float(pdtr(last, mean) - (pdtr(first - 1, mean) if first > 0 else 0.0))


def _bisected(first: int, last: int, level: float, left: float, right: float) -> float:
    """The mean between these at which first ... last events have the probability `level`."""
    from scipy.optimize import brentq

    return float(brentq(lambda mean: _poisson_between(first, last, mean) - level, left, right, xtol=1e-13, rtol=1e-14))


# ----------------------------------------------------------------------------------------------------------- toys


def _first_width(calculator: ToyCalculator, best: float, alpha: float) -> float:
    """Distance from the best fit at which tmu_tilde reaches its asymptotic critical value."""
    from scipy.special import ndtri

    target = float(ndtri(0.5 * alpha)) ** 2
    width = best if best > 0.0 else 1.0
    for _ in range(200):
        found = calculator.observed(best + width)
        if 0.9 < found / target < 1.1:
            return width
        if width > 1e30:
            break
        width *= min(max(math.sqrt(target / max(found, 1e-300)), 0.02), 50.0)
    reason, detail = "flat-likelihood", "no signal strength is excluded"
    raise FitFailure(reason, detail)


def _edge(
    p_value: Callable[[float], PValue], tested: dict[float, PValue], inside: float, guess: float, alpha: float
) -> Estimate:
    """Where the p-value crosses alpha on the way from `inside`, where it is 1, past `guess`."""
    side = 1.0 if guess > inside else -1.0
    accepted, refused, poi = inside, math.nan, guess
    heights: dict[float, float] = {}
    for _ in range(_MAX_STEPS):
        p = p_value(poi)
        heights[poi] = math.log(p.value / alpha) if p.value > 0.0 else -math.inf
        if heights[poi] >= 0.0:
            accepted = poi
        else:
            refused = poi
        if math.isnan(refused):
            poi = inside + 1.6 * (poi - inside) if side > 0.0 else 0.5 * poi
            continue
        near = 0.25 * (p.upper - p.lower) / max(p.value, 1e-300)
        closed = abs(refused - accepted) <= _LAST_WIDTH * max(refused, accepted)
        if closed or (abs(heights[poi]) <= near and len(heights) > 1):
            return _solved(p, poi, heights, alpha, side, jump=closed and abs(heights[poi]) > 2.0 * near)
        top = heights.get(accepted, -math.log(alpha))
        share = top / (top - heights[refused]) if heights[refused] > -math.inf else 0.5
        poi = accepted + min(max(share, 0.15), 0.85) * (refused - accepted)
    reason, detail = "limit-not-found", f"no edge between {accepted:.6g} and {refused:.6g} in {_MAX_STEPS} steps"
    raise FitFailure(reason, detail)


def _solved(p: PValue, poi: float, heights: dict[float, float], alpha: float, side: float, *, jump: bool) -> Estimate:
    """The edge, on a straight line through the points on either side; a jump is where it is."""
    others = [other for other, height in heights.items() if height > -math.inf and abs(other / poi - 1.0) > 0.02]
    other = min(others, key=lambda one: abs(one - poi), default=None)
    slope = 0.0 if other is None else (heights[other] - heights[poi]) / (other - poi)
    if jump or slope * side >= 0.0:
        return Estimate(value=poi, lower=poi * (1.0 - _LAST_WIDTH), upper=poi * (1.0 + _LAST_WIDTH))

    def at(value: float) -> float:
        return max(poi - math.log(max(value, 1e-300) / alpha) / slope, 0.0)

    ends = (at(p.lower), at(p.upper)) if p.lower > 0.0 else (at(p.upper), at(p.upper))
    return Estimate(value=at(p.value), lower=min(*ends, at(p.value)), upper=max(*ends, at(p.value)))
