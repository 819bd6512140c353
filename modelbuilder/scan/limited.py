"""What a limit on the signal strength means: for the cross section, and for the couplings of models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from modelbuilder.scan.table import BANDS, UPPER_EDGE, Quantity, Row
from modelbuilder.theory.model import Excluded

SAME = 1e-6
"""Relative difference below which two searches say the same of a coupling."""


@dataclass(frozen=True, kw_only=True)
class Limited:
    """A limited quantity at a grid point.

    excluded: its values that a limit on the signal strength excludes; None where that is not one answer.
    """

    quantity: Quantity
    excluded: Callable[[float], Excluded | None]


def proportional(quantity: Quantity, factor: float) -> Limited:
    """A quantity that is `factor` times the signal strength."""
    return Limited(quantity=quantity, excluded=lambda mu: Excluded(intervals=((factor * mu, math.inf),)))


def agreeing(several: Sequence[Limited]) -> Limited:
    """One quantity as several searches know it: what they all say, if they say the same."""
    first, *others = several

    def excluded(mu: float) -> Excluded | None:
        found = first.excluded(mu)
        return found if all(_same(found, other.excluded(mu)) for other in others) else None

    return Limited(quantity=first.quantity, excluded=excluded)


def _same(one: Excluded | None, two: Excluded | None) -> bool:
    if one is None or two is None:
        return False
    pairs = zip(_edges(one), _edges(two), strict=False)
    return len(_edges(one)) == len(_edges(two)) and all(math.isclose(a, b, rel_tol=SAME) for a, b in pairs)


def _edges(found: Excluded) -> list[float]:
    return [edge for interval in found.intervals for edge in interval]


def cells_of(limited: Iterable[Limited], observed: float, expected: Sequence[float]) -> tuple[Row, list[str]]:
    """The cells of a row, and what is worth a warning.

    observed, expected: limits on the signal strength; `expected` at -2, ..., +2 sigma, empty where the method has no
    band. Where no value of a quantity is excluded, its cell stays empty.
    """
    cells: Row = {}
    warnings = []
    limits = {"observed": observed, **dict(zip(BANDS, expected, strict=bool(expected)))}
    for one in limited:
        name, nothing = one.quantity.name, []
        answers = {band: one.excluded(mu) for band, mu in limits.items()}
        for band, found in answers.items():
            if found is None:
                warnings.append(f"{name} follows from the signal strength in another way in each search")
                break
            if not found.intervals:
                nothing.append(band)
                continue
            lower, upper = found.widest
            cells[f"{name}_{band}"] = lower
            if one.quantity.reopens and band in ("observed", "expected") and not math.isinf(upper):
                cells[f"{name}_{band}_{UPPER_EDGE}"] = upper
        if nothing:
            warnings.append(f"no value of {name} is excluded: {', '.join(nothing)}")
    return cells, warnings
