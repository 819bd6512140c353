"""What a limit on the signal strength means: for the cross section, and for the couplings of models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from modelbuilder.scan.table import BANDS, UPPER_EDGE, Quantity, Row
from modelbuilder.theory.model import Excluded


@dataclass(frozen=True, kw_only=True)
class Limited:
    """A limited quantity at a grid point. excluded: its values that a limit on the signal strength excludes."""

    quantity: Quantity
    excluded: Callable[[float], Excluded]


def proportional(quantity: Quantity, factor: float) -> Limited:
    """A quantity that is `factor` times the signal strength."""
    return Limited(quantity=quantity, excluded=lambda mu: Excluded(intervals=((factor * mu, math.inf),)))


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
        for band, mu in limits.items():
            found = one.excluded(mu)
            if not found.intervals:
                nothing.append(band)
                continue
            cells[f"{name}_{band}"] = found.lower
            if one.quantity.reopens and band in ("observed", "expected") and found.upper is not None:
                cells[f"{name}_{band}_{UPPER_EDGE}"] = found.upper
        if nothing:
            warnings.append(f"no value of {name} is excluded: {', '.join(nothing)}")
    return cells, warnings
