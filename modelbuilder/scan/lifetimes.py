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
import numpy.typing as npt

from modelbuilder.scan.table import BANDS, CTAU, UPPER_EDGE, Row
from modelbuilder.spec.interpretations import Interpretation
from modelbuilder.spec.load import Loaded, LoadedCombination, LoadedSearch
from modelbuilder.spec.process import Lifetimes
from modelbuilder.spec.search import SearchSpec
from modelbuilder.theory.model import Excluded, Model, Parameters

_KEPT = ("channel", "method", "confidence_level", "data", "searches")
"""Cells that are the same at all lifetimes."""


_BETWEEN = 32
"""Samples between two lifetimes."""
_ALMOST_PROMPT = 1e-9
FloatArray = npt.NDArray[np.float64]


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

    def _piece(self, first: int, last: int) -> tuple[float, float, Callable[[Any], Any]]:
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

    def samples(self) -> list[FloatArray]:
        """Rising c tau in each range where the limit is known, close enough that between two nothing turns unseen."""
        found = []
        for low, high, _ in self._pieces:
            nodes = np.log([ctau for ctau in self.ctaus if low <= ctau <= high])
            fine = np.interp(np.arange((len(nodes) - 1) * _BETWEEN + 1) / _BETWEEN, np.arange(len(nodes)), nodes)
            values = np.exp(fine)
            values[0], values[-1] = low, high
            found.append(values)
        if self.ctaus[0] == 0.0 and len(self.ctaus) > 1 and not any(math.isnan(log) for log in self._logs[:2]):
            prompt = np.append(0.0, self.ctaus[1] * np.geomspace(_ALMOST_PROMPT, 1.0, 4 * _BETWEEN))
            joined = bool(found) and found[0][0] == self.ctaus[1]
            found = [np.append(prompt[:-1], found[0]), *found[1:]] if joined else [prompt, *found]
        return found

    def logs(self, ctaus: FloatArray) -> FloatArray:
        """The logarithm of the limit at c tau of one of `samples`."""
        values = np.empty(len(ctaus))
        prompt = ctaus < self.ctaus[1] if self.ctaus[0] == 0.0 else np.zeros(len(ctaus), dtype=bool)
        if prompt.any():
            values[prompt] = self._logs[0] + (self._logs[1] - self._logs[0]) * ctaus[prompt] / self.ctaus[1]
        rest = ~prompt
        if rest.any():
            first = ctaus[rest][0]
            curve = next((curve for low, high, curve in self._pieces if low <= first <= high), None)
            values[rest] = self._logs[1] if curve is None else curve(np.log(ctaus[rest]))
        return values


def excluded(
    theory: Model, sqrt_s: float, masses: tuple[float, ...], limit: LimitOfLifetime, parameters: Parameters
) -> Excluded:
    """As `Model.excluded`, a hundred times faster where rate and width are powers of the coupling, so that c tau says it."""
    assert theory.lifetime is not None
    per_coupling = theory.lifetime(masses, 1.0, parameters)
    is_power = theory.power is not None and all(
        math.isclose(theory.lifetime(masses, g, parameters) * g**2, per_coupling, rel_tol=1e-9) for g in (1e-6, 1e-3)
    )
    if not is_power:
        return theory.excluded(sqrt_s, masses, limit, parameters)
    unit = theory.rate(sqrt_s, masses, 1.0, parameters)
    if unit <= 0.0 or not 0.0 < per_coupling < math.inf:
        return Excluded(intervals=())
    assert theory.power is not None
    half_power = 0.5 * theory.power
    intervals = []
    for ctaus in limit.samples():
        excess = math.log(unit) - limit.logs(ctaus)
        if half_power:
            with np.errstate(divide="ignore"):
                excess += half_power * (math.log(per_coupling) - np.log(ctaus))
        edges = [_root(limit, unit, per_coupling, half_power, *ctaus[i : i + 2]) for i in _crossings(excess)]
        if excess[0] >= 0.0:
            edges.insert(0, float(ctaus[0]))
        if excess[-1] >= 0.0:
            edges.append(float(ctaus[-1]))
        intervals += [
            (math.sqrt(per_coupling / high), math.sqrt(per_coupling / low) if low > 0.0 else math.inf)
            for low, high in zip(edges[::2], edges[1::2], strict=True)
        ]
    return Excluded(intervals=tuple(sorted(intervals)))


def _crossings(excess: FloatArray) -> list[int]:
    """Places after which the sign changes."""
    return [int(i) for i in np.flatnonzero((excess[1:] >= 0.0) != (excess[:-1] >= 0.0))]


def _root(
    limit: LimitOfLifetime, unit: float, per_coupling: float, half_power: float, low: float, high: float
) -> float:
    """c tau (cm) between two at which the rate reaches the limit."""
    from scipy.optimize import brentq

    def excess(x: float) -> float:
        ctau = math.exp(x)
        return math.log(unit) + half_power * (math.log(per_coupling) - x) - math.log(limit(ctau))

    start = math.log(low) if low > 0.0 else math.log(high) - 80.0
    return math.exp(brentq(excess, start, math.log(high), xtol=1e-13, rtol=1e-13))


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
    """variable: of the grid.    names: of the interpretations whose models have a lifetime.    searches: by name.
    rate: the column that the limit on the rate stands in; none where the limit is on the coupling at a lifetime, from which
    the rate follows.
    """

    variable: str
    names: Sequence[str]
    searches: Mapping[str, SearchSpec]
    rate: str | None

    @classmethod
    def of(cls, search: Loaded) -> _Solver:
        variable = search.spec.grid_variable
        if isinstance(search, LoadedSearch):
            names, rate, searches = list(search.spec.interpretations), search.spec.rate.column, {"": search.spec}
        else:
            names, rate = search.spec.shared_interpretations, None
            searches = {name: one.spec for name, one in search.searches.items()}
        first = next(iter(searches.values()))
        flying = [name for name in names if first.interpretations[name].theory.lifetime]
        return cls(variable=variable, names=flying, searches=searches, rate=rate)

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """One for each method."""
        if not self.names:
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
        for name in self.names:
            cells, notes = self._cells(name, rows)
            row.update(cells)
            warnings += notes
        row["warnings"] = "; ".join(warnings)
        return row

    def _cells(self, name: str, rows: Sequence[Row]) -> tuple[Row, list[str]]:
        """The excluded values of a coupling, and what is worth a warning."""
        spec = self._taking_part(rows[0])
        one, sqrt_s = spec.interpretations[name], spec.experiment.beams.sqrt_s
        masses = one.masses_at({self.variable: float(rows[0][f"{self.variable}_gev"] or 0.0)})
        cells: Row = {}
        nothing, warnings = [], []
        for band in ("observed", *BANDS):
            limits = [self._limit(one, name, sqrt_s, masses, row, band) for row in rows]
            if all(math.isnan(limit) for limit in limits):
                continue
            if 0.0 in limits:
                warnings.append(f"{name} {band}: at some lifetime every positive signal is excluded; see CLs")
                continue
            curve = LimitOfLifetime([float(row[CTAU] or 0.0) for row in rows], limits)
            if not curve.samples():
                warnings.append(f"{name} {band}: limits at single lifetimes, with nothing known between them")
                continue
            found = excluded(one.theory, sqrt_s, masses, curve, one.parameters).up_to(one.theory.largest)
            if not found.intervals:
                nothing.append(band)
                continue
            lower, upper = found.widest
            cells[f"{name}_{band}"] = lower
            if band in ("observed", "expected"):
                if not math.isinf(upper):
                    cells[f"{name}_{band}_{UPPER_EDGE}"] = upper
                if any(_is_end(one, masses, edge, curve) for edge in (lower, upper)):
                    warnings.append(f"{name} {band}: an edge is where what is known of the lifetimes ends")
                if len(found.intervals) > 1:
                    warnings.append(f"{name} {band}: the widest of what is excluded, which is {_text(found)}")
        if nothing:
            warnings.append(f"no value of {name} is excluded: {', '.join(nothing)}")
        return cells, warnings

    def _taking_part(self, row: Row) -> SearchSpec:
        """The search, or the first one of a combination that has something to say at this mass."""
        first = str(row.get("searches") or "").split()
        return self.searches[first[0]] if first else next(iter(self.searches.values()))

    def _limit(
        self, one: Interpretation, name: str, sqrt_s: float, masses: tuple[float, ...], row: Row, band: str
    ) -> float:
        """On the rate; NaN where there is none."""
        cell = row.get(f"{name if self.rate is None else self.rate}_{band}")
        if cell is None:
            return math.nan
        return float(cell) if self.rate is not None else one.theory.rate(sqrt_s, masses, float(cell), one.parameters)


def _is_end(one: Interpretation, masses: tuple[float, ...], edge: float, curve: LimitOfLifetime) -> bool:
    """Whether a coupling gives a lifetime at which what is known ends."""
    if math.isinf(edge) or one.theory.lifetime is None:
        return False
    ctau = one.theory.lifetime(masses, edge, one.parameters)
    ends = (end for found in curve.samples() for end in (found[0], found[-1]))
    return any(end > 0.0 and math.isclose(ctau, end, rel_tol=1e-6) for end in ends)


def _text(found: Excluded) -> str:
    return " and ".join(f"{low:.3g} to {high:.3g}" for low, high in found.intervals)
