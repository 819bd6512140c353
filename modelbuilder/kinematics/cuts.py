"""Cuts and turn-ons on observables, cut flow, histograms, and resolutions of measured events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.measure import MeasuredEvents
from modelbuilder.kinematics.observables import evaluate_entries
from modelbuilder.kinematics.resolution import CENTRAL_FRACTION, central_half_width
from modelbuilder.kinematics.shards import ordered_sum, shard_bounds
from modelbuilder.kinematics.simulate import SimulatedHistogram
from modelbuilder.spec.observables import Observable

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """low <= observable <= high, for all entries of an event, or for at least so many of them.

    An entry with a particle that is not found is not within any bounds; for `at_least` None there must be at least one
    entry that is found, and all that are found must be within.
    """

    observable: Observable
    low: float = -math.inf
    high: float = math.inf
    at_least: int | None = None

    def __post_init__(self) -> None:
        text = self.observable.text
        if not self.low < self.high:
            msg = f"cut on {text}: from {self.low:g} to {self.high:g}; it must be ascending"
            raise KinematicsError(msg)
        if self.low == -math.inf and self.high == math.inf:
            msg = f"cut on {text}: it has no bounds"
            raise KinematicsError(msg)
        most = len(self.observable.entries)
        if self.at_least is not None and not 1 <= self.at_least <= most:
            msg = f"cut on {text}: at least {self.at_least} entries; an event has {most}"
            raise KinematicsError(msg)

    @property
    def text(self) -> str:
        """The cut in words."""
        unit = "" if self.observable.unit == "1" else f" {self.observable.unit}"
        low = f"{self.low:g}{unit} <= " if self.low > -math.inf else ""
        high = f" <= {self.high:g}{unit}" if self.high < math.inf else ""
        number = "" if self.at_least is None else f", at least {self.at_least}"
        return f"{low}{self.observable.text}{high}{number}"

    def passed(self, events: MeasuredEvents, beams: Beams) -> npt.NDArray[np.bool_]:
        """Whether an event passes, shape (n_events,)."""
        values = evaluate_entries(self.observable, events, beams)
        within = (values >= self.low) & (values <= self.high)
        if self.at_least is not None:
            enough: npt.NDArray[np.bool_] = np.count_nonzero(within, axis=0) >= self.at_least
            return enough
        missing = np.isnan(values)
        result: npt.NDArray[np.bool_] = np.all(within | missing, axis=0) & np.any(within, axis=0)
        return result


@dataclass(frozen=True, kw_only=True)
class TurnOn:
    """Efficiency of a trigger as a function of an observable of one entry.

    points: ascending values of the observable, and the efficiency there; linear between, constant beyond.
    An event whose particles are not found is not triggered.
    """

    observable: Observable
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        text = self.observable.text
        x = np.array([point for point, _ in self.points], dtype=float)
        if len(x) < 2 or not np.all(np.isfinite(x)) or not np.all(np.diff(x) > 0.0):
            msg = f"turn-on in {text}: its points must be at least two finite ascending numbers"
            raise KinematicsError(msg)
        if not all(0.0 <= value <= 1.0 for _, value in self.points):
            msg = f"turn-on in {text}: every efficiency must be from 0 to 1"
            raise KinematicsError(msg)
        if len(self.observable.entries) != 1:
            msg = f"turn-on in {text}: an event has {len(self.observable.entries)} entries; name one combination"
            raise KinematicsError(msg)

    @property
    def text(self) -> str:
        """The turn-on in words."""
        return f"turn-on in {self.observable.text}"

    def efficiency(self, events: MeasuredEvents, beams: Beams) -> Floats:
        """Of each event, shape (n_events,)."""
        from modelbuilder.kinematics import _measure

        values = evaluate_entries(self.observable, events, beams)[0]
        known = ~np.isnan(values)
        factors: Floats = known.astype(np.float64)
        table = np.array(self.points)
        _measure.multiply_by_line(np.where(known, values, 0.0), table[:, 0].copy(), table[:, 1].copy(), factors)
        return factors


def error_function_turn_on(
    observable: Observable, *, threshold: float, width: float, plateau: float = 1.0, n_points: int = 81
) -> TurnOn:
    """plateau/2 (1 + erf((x - threshold)/(sqrt(2) width))) at points to four widths either side."""
    if not (math.isfinite(threshold) and 0.0 < width < math.inf and 0.0 < plateau <= 1.0):
        msg = (
            f"turn-on in {observable.text}: threshold {threshold:g}, width {width:g}, plateau {plateau:g}; the width must"
            " be positive and the plateau above 0 and at most 1"
        )
        raise KinematicsError(msg)
    steps = np.linspace(-4.0, 4.0, n_points)
    points = tuple(
        (float(threshold + width * step), float(plateau * 0.5 * (1.0 + math.erf(step / math.sqrt(2.0)))))
        for step in steps
    )
    return TurnOn(observable=observable, points=points)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of a cut flow.

    sum_weights, sum_squared_weights: of the events that are left.
    efficiency: of all steps to here, relative to what was simulated; efficiency_stdev its statistical error.
    """

    text: str
    sum_weights: float
    sum_squared_weights: float
    efficiency: float
    efficiency_stdev: float


@dataclass(frozen=True, kw_only=True)
class Selected:
    """weights: after detector, cuts and turn-ons, shape (n_events,).    flow: what is left after each."""

    weights: Floats
    flow: tuple[Step, ...]

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2 of what is left."""
        squared = self.flow[-1].sum_squared_weights
        return self.flow[-1].sum_weights ** 2 / squared if squared > 0.0 else 0.0


def select(events: MeasuredEvents, cuts: Sequence[Cut | TurnOn], beams: Beams) -> Selected:
    """Apply cuts in their order."""
    flow = [
        _step("simulated", events.true_weights, events.true_weights),
        _step("detector", events.weights, events.true_weights),
    ]
    weights = events.weights
    for cut in cuts:
        factor = cut.passed(events, beams) if isinstance(cut, Cut) else cut.efficiency(events, beams)
        weights = weights * factor
        flow.append(_step(cut.text, weights, events.true_weights))
    return Selected(weights=weights, flow=tuple(flow))


def _step(text: str, weights: Floats, before: Floats) -> Step:
    return step_of(text, _sums(weights, before), _sums(before, before), len(before))


def _sums(weights: Floats, before: Floats) -> Floats:
    """What a line of the cut flow needs: sums of w, w^2 and w times the simulated weight."""
    return np.array([np.sum(weights), np.sum(weights**2), np.sum(weights * before)])


def step_of(text: str, sums: Floats, simulated: Floats, n_events: int) -> Step:
    """A line of the cut flow, with the error of a ratio of sums over the same events.

    sums: of w, w^2 and w times the simulated weight, of what is left; simulated: the same of all events.
    """
    left, squares, products = (float(value) for value in sums)
    total = float(simulated[0])
    ratio = left / total if total > 0.0 else math.nan
    # sum of (w - ratio b)^2; rounding may leave a little less than nothing
    spread = max(squares - 2.0 * ratio * products + ratio**2 * float(simulated[1]), 0.0) if total > 0.0 else math.nan
    return Step(
        text=text,
        sum_weights=left,
        sum_squared_weights=squares,
        efficiency=ratio,
        efficiency_stdev=math.sqrt(spread * n_events / max(n_events - 1, 1)) / total if total > 0.0 else math.nan,
    )


def fill(
    observable: Observable, events: MeasuredEvents, weights: Floats, edges: npt.ArrayLike, beams: Beams
) -> SimulatedHistogram:
    """Histogram of all entries; sums of weights, and variances with the correlated entries of an event in one bin."""
    if weights.shape != (len(events.weights),):
        msg = f"{observable.text}: {len(events.weights)} events, but weights of shape {weights.shape}"
        raise KinematicsError(msg)
    checked = checked_edges(observable.text, edges)
    entries = evaluate_entries(observable, events, beams)
    values, variances = fill_entries(entries, np.broadcast_to(weights, entries.shape), checked)
    return SimulatedHistogram(
        edges=checked,
        values=values[1:-1].copy(),
        variances=variances[1:-1].copy(),
        underflow=float(values[0]),
        overflow=float(values[-1]),
    )


def checked_edges(text: str, edges: npt.ArrayLike) -> Floats:
    """The edges of a histogram; KinematicsError if they are none."""
    checked = np.array(edges, dtype=float)
    if checked.ndim != 1 or len(checked) < 2 or not np.all(np.isfinite(checked)) or not np.all(np.diff(checked) > 0.0):
        msg = f"edges of {text} must be at least two finite ascending numbers"
        raise KinematicsError(msg)
    return checked


def flat_entries(first: Floats, second: Floats, edges: Floats, second_edges: Floats) -> Floats:
    """Entries of two observables as one: the middle of the flat bin, counted from 0, the second running fastest.

    first: shape (n_entries, n_events).    second: shape (n_events,).    NaN where either is. What lies below the first
    axis becomes -0.5, what lies outside of either in another way half a bin beyond the last.
    """
    n_first, n_second = len(edges) - 1, len(second_edges) - 1
    one = np.searchsorted(edges, first, side="right")
    two = np.searchsorted(second_edges, np.broadcast_to(second, first.shape), side="right")
    flat = (one - 1) * n_second + two - 0.5
    flat = np.where((one > n_first) | (two < 1) | (two > n_second), n_first * n_second + 0.5, flat)
    flat = np.where(one < 1, -0.5, flat)
    return np.where(np.isnan(first) | np.isnan(second), math.nan, flat)


def fill_entries(entries: Floats, weights: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Sums of weights and variances, shape (n_bins + 2,) with what lies below and above.

    entries, weights: shape (n_entries, n_events), NaN for no entry.
    """
    from modelbuilder.kinematics import _observables, _random

    bounds = shard_bounds(entries.shape[1], _random.BLOCK)
    values = np.zeros((len(bounds) - 1, len(edges) + 1))
    variances = np.zeros_like(values)
    contiguous = np.ascontiguousarray(weights)
    for shard in range(len(bounds) - 1):
        start, stop = int(bounds[shard]), int(bounds[shard + 1])
        _observables.fill(entries, contiguous, edges, start, stop, values[shard], variances[shard])
    return ordered_sum(values), ordered_sum(variances)


@dataclass(frozen=True, kw_only=True)
class Width:
    """Resolution of an observable, in its unit.

    bias, half_width: middle and half of the central 68.3 % of measured minus true.
    half_width_stdev: about half_width / sqrt(effective sample size), 0.96 of which a normal peak has.
    """

    bias: float
    half_width: float
    half_width_stdev: float
    effective_sample_size: float


def resolution(
    observable: Observable, measured: MeasuredEvents, true: MeasuredEvents, weights: Floats, beams: Beams
) -> Width:
    """Of the difference of measured and true values of all entries."""
    differences = evaluate_entries(observable, measured, beams) - evaluate_entries(observable, true, beams)
    return width_of(differences, weights, observable.text)


def width_of(entries: Floats, weights: Floats, text: str) -> Width:
    """Of values of shape (n_entries, n_events), NaN for none: where they are narrow of themselves."""
    broadcast = np.broadcast_to(weights, entries.shape)
    good = np.isfinite(entries) & (broadcast != 0.0)
    values, kept = entries[good], broadcast[good]
    if len(values) < 2:
        msg = f"resolution of {text}: {len(values)} entries of {entries.size} are left; at least 2 needed"
        raise KinematicsError(msg)
    half_width = central_half_width(values, kept)
    tail = 0.5 - 0.5 * CENTRAL_FRACTION
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(kept[order])
    middle = (cumulative - 0.5 * kept[order]) / cumulative[-1]
    low, high = np.interp([tail, 1.0 - tail], middle, values[order])
    size = float(np.sum(kept) ** 2 / np.sum(kept**2))
    return Width(
        bias=float(0.5 * (low + high)),
        half_width=half_width,
        half_width_stdev=half_width / math.sqrt(size),
        effective_sample_size=size,
    )
