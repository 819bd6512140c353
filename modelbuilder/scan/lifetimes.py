"""From limits at given lifetimes to couplings, which say themselves how far a particle flies.

A coupling is excluded where the rate that it gives reaches the limit at the lifetime that it gives. Between lifetimes the
logarithm of the limit is interpolated in that of c tau by a monotone cubic; beyond them, and beside a limit that failed,
nothing is excluded.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelbuilder.scan.table import BANDS, CTAU, UPPER_EDGE, Row
from modelbuilder.spec.interpretations import Interpretation
from modelbuilder.spec.load import Loaded, LoadedCombination, LoadedSearch
from modelbuilder.spec.process import Lifetimes
from modelbuilder.theory.model import Excluded

_KEPT = ("channel", "method", "confidence_level", "data", "searches")
"""Cells that are the same at all lifetimes."""


class LimitOfLifetime:
    """A limit on a rate as a function of c tau (cm), from its values at some of them; infinite where it is not known.

    ctaus: rising; the first may be 0, a prompt decay, from where the logarithm of the limit is linear in c tau.
    limits: positive; infinite or NaN where there is none.
    """

    def __init__(self, ctaus: Sequence[float], limits: Sequence[float]) -> None:
        self.ctaus = list(ctaus)
        self._logs = [math.log(limit) if 0.0 < limit < math.inf else math.nan for limit in limits]
        self._pieces = [self._piece(first, last) for first, last in self._known_runs()]

    def _known_runs(self) -> list[tuple[int, int]]:
        """First and last place of each run of known limits at positive c tau, of two at least."""
        runs, first = [], None
        for place, (ctau, log) in enumerate(zip(self.ctaus, self._logs, strict=True)):
            known = ctau > 0.0 and not math.isnan(log)
            if known and first is None:
                first = place
            if first is not None and (not known or place == len(self.ctaus) - 1):
                last = place if known else place - 1
                if last > first:
                    runs.append((first, last))
                first = None
        return runs

    def _piece(self, first: int, last: int) -> tuple[float, float, Callable[[float], Any]]:
        from scipy.interpolate import PchipInterpolator

        places = slice(first, last + 1)
        curve = PchipInterpolator(np.log(self.ctaus[places]), self._logs[places])
        return self.ctaus[first], self.ctaus[last], curve

    def __call__(self, ctau: float) -> float:
        place = bisect.bisect_left(self.ctaus, ctau)
        if place < len(self.ctaus) and self.ctaus[place] == ctau:
            return math.inf if math.isnan(self._logs[place]) else math.exp(self._logs[place])
        if self.ctaus[0] == 0.0 and len(self.ctaus) > 1 and ctau < self.ctaus[1]:
            log = self._logs[0] + (self._logs[1] - self._logs[0]) * ctau / self.ctaus[1]
            return math.inf if math.isnan(log) else math.exp(log)
        for low, high, curve in self._pieces:
            if low <= ctau <= high:
                return math.exp(float(curve(math.log(ctau))))
        return math.inf


def with_couplings(search: Loaded, rows: Iterable[Row]) -> list[Row]:
    """The rows of a run, and after those of each mass the couplings at the lifetimes that they give themselves."""
    lifetime = lifetime_of(search)
    rows = list(rows)
    if lifetime is None:
        return rows
    solver = _Solver.of(search)
    found: list[Row] = []
    for _, group in itertools.groupby(rows, key=lambda row: row[f"{search.spec.grid_variable}_gev"]):
        at_lifetimes = list(group)
        found += [*at_lifetimes, *solver.rows(at_lifetimes)]
    return found


def lifetime_of(search: Loaded) -> Lifetimes | None:
    """The lifetimes that are scanned: of a search, or of those of a combination, which share them."""
    first = next(iter(search.searches.values())) if isinstance(search, LoadedCombination) else search
    return first.spec.signal.lifetime


@dataclass(frozen=True, kw_only=True)
class _Solver:
    """variable: of the grid.    rate: the column that the limit on the rate stands in; none where the limit is on the
    coupling at a lifetime, from which the rate follows.
    """

    variable: str
    interpretations: Mapping[str, Interpretation]
    rate: str | None
    sqrt_s: float

    @classmethod
    def of(cls, search: Loaded) -> _Solver:
        if isinstance(search, LoadedSearch):
            spec, names, rate = search.spec, list(search.spec.interpretations), search.spec.rate.column
            variable = spec.grid_variable
        else:
            spec, names, rate = next(iter(search.searches.values())).spec, search.spec.shared_interpretations, None
            variable = search.spec.grid_variable
        flying = {name: spec.interpretations[name] for name in names if spec.interpretations[name].theory.lifetime}
        return cls(variable=variable, interpretations=flying, rate=rate, sqrt_s=spec.experiment.beams.sqrt_s)

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """One for each method."""
        if not self.interpretations:
            return []
        methods: dict[str, list[Row]] = {}
        for row in rows:
            methods.setdefault(str(row["method"]), []).append(row)
        return [self._row(found) for found in methods.values()]

    def _row(self, rows: Sequence[Row]) -> Row:
        first = rows[0]
        mass = f"{self.variable}_gev"
        row: Row = {"point": str(first["point"]).split("_ctau_")[0], mass: first[mass]}
        row.update({name: first[name] for name in _KEPT if name in first})
        if not any(one["status"] == "ok" for one in rows):
            return {**row, "status": first["status"]}
        row["status"] = "ok"
        warnings: list[str] = []
        for name in self.interpretations:
            cells, notes = self._cells(name, rows)
            row.update(cells)
            warnings += notes
        row["warnings"] = "; ".join(warnings)
        return row

    def _cells(self, name: str, rows: Sequence[Row]) -> tuple[Row, list[str]]:
        """The excluded values of a coupling, and what is worth a warning."""
        one = self.interpretations[name]
        masses = one.masses_at({self.variable: float(rows[0][f"{self.variable}_gev"] or 0.0)})
        cells: Row = {}
        nothing, warnings = [], []
        for band in ("observed", *BANDS):
            limits = [self._limit(name, masses, row, band) for row in rows]
            if all(math.isnan(limit) for limit in limits):
                continue
            curve = LimitOfLifetime([float(row[CTAU] or 0.0) for row in rows], limits)
            found = one.theory.excluded(self.sqrt_s, masses, curve, one.parameters)
            if not found.intervals:
                nothing.append(band)
                continue
            cells[f"{name}_{band}"] = found.lower
            if band in ("observed", "expected"):
                if found.upper is not None:
                    cells[f"{name}_{band}_{UPPER_EDGE}"] = found.upper
                if len(found.intervals) > 1:
                    warnings.append(f"{name} {band}: excluded are {_text(found)}")
        if nothing:
            warnings.append(f"no value of {name} is excluded: {', '.join(nothing)}")
        return cells, warnings

    def _limit(self, name: str, masses: tuple[float, ...], row: Row, band: str) -> float:
        """On the rate; NaN where there is none."""
        cell = row.get(f"{name if self.rate is None else self.rate}_{band}")
        if cell is None:
            return math.nan
        if self.rate is not None:
            return float(cell)
        one = self.interpretations[name]
        return one.theory.rate(self.sqrt_s, masses, float(cell), one.parameters)


def _text(found: Excluded) -> str:
    return " and ".join(f"{low:.3g} to {high:.3g}" for low, high in found.intervals)
