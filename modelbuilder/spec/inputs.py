"""Data and backgrounds from files: histograms, and events with the columns that their observables are in.

Contents of histograms are read when a spec is loaded, and stand in it as a table from then on. Events stay in their file;
the spec holds its SHA-256.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Discriminator, Field, Tag, model_validator

from modelbuilder.spec.base import Name, Source, SpecModel, refusal, shown
from modelbuilder.spec.cuts import Cut, ObservableText, dimension_of
from modelbuilder.spec.functions import RawValue, parsed
from modelbuilder.spec.quantities import NUMBER_OF, Luminosity, PositiveEnergy, PositiveNumber, Quantity

FloatArray = npt.NDArray[np.float64]

HISTOGRAM_FILES = ("csv", "root", "uhi", "hepdata")
EVENT_FILES = ("parquet", "root")
MAX_CANDIDATES = 64
TOLERANCE = 1e-3
"""Edges that differ by less than this part of the narrower bin beside them are the same: published ones are rounded."""
WHOLE = 1e-6
"""Numbers of events within this of a whole number are whole: files may keep them in single precision."""
SAME_MASS = 1e-7
"""GeV; grid points are decimals that are rounded to more digits than that."""
_AXES = (("low", "high"), ("second_low", "second_high"))


@dataclass(frozen=True)
class Contents:
    """What a histogram holds, in the units of the observables.

    edges: of one or two observables, each of shape (n + 1,).    values, variances: of shape (n,) or (n, m); variances
    are None where the file has none.
    """

    edges: tuple[FloatArray, ...]
    values: FloatArray
    variances: FloatArray | None


class Histogram(SpecModel):
    """Events in bins of the observable of a channel, and of its second one if there is one."""

    csv: str | None = Field(None, description="a file with one row for each bin, relative to this one")
    root: str | None = Field(None, description="a ROOT file with a TH1 or TH2, relative to this one")
    uhi: str | None = Field(None, description="a JSON file of UHI histograms, relative to this one")
    hepdata: str | None = Field(None, description="a data table (YAML) of a HEPData submission, relative to this one")
    histogram: str | None = Field(None, description="its name in a ROOT or UHI file", examples=["folder/mass"])
    columns: dict[str, str] | None = Field(
        None,
        description="of a CSV file: low and high of the bins, or their centres `at`, events, error; "
        "of a HEPData table: the headers of `at`, `second` and `events`",
        examples=[{"low": "m_low", "high": "m_high", "events": "n"}],
    )
    units: dict[str, str] | None = Field(None, description="of the columns of a CSV file")
    unit: str | list[str] | None = Field(
        None, description="of the observable, or of both; UHI and HEPData files may say it themselves", examples=["GeV"]
    )
    error: str | None = Field(None, description="of a HEPData table with several errors: the label of the statistical")
    table: dict[str, list[RawValue]] | None = Field(
        None,
        description="the bins in place of a file: low, high, events, error, and second_low, second_high",
        examples=[{"low": ["0 GeV", "1 GeV"], "high": ["1 GeV", "2 GeV"], "events": [3, 5]}],
    )
    source: Source

    @model_validator(mode="after")
    def _complete(self) -> Histogram:
        files = [key for key in HISTOGRAM_FILES if getattr(self, key) is not None]
        if self.table is None:
            if len(files) != 1:
                found = f"found {' and '.join(files)}" if files else "found no file"
                reason = f"{found}; name one file with csv, root, uhi or hepdata, or events with parquet or root"
                raise refusal(reason)
            return self  # the file could not be read, which is reported
        for key in (*files, "histogram", "units", "unit", "error"):
            if getattr(self, key) is not None:
                reason = f"found {key} beside a table; the numbers come from a file or stand in the spec, remove one"
                raise refusal(reason, (key,))
        self._numbers()
        return self

    def _numbers(self) -> tuple[FloatArray, FloatArray | None]:
        """Events and errors as they are listed."""
        table = self.table or {}
        one = {"at"} if "at" in table else {"low", "high"}
        wanted = one | {"events"} | ({"second_low", "second_high"} & set(table) and {"second_low", "second_high"})
        if set(table) - {"error"} != wanted:
            reason = (
                f"found the columns {', '.join(table) or 'none'}; expected low, high (or at) and events, perhaps error, and"
                " second_low, second_high where the channel has a second observable"
            )
            raise refusal(reason, ("table",))
        lengths = {len(column) for column in table.values()}
        if len(lengths) > 1 or lengths == {0}:
            numbers = ", ".join(f"{len(column)} of {name}" for name, column in table.items())
            reason = f"found columns of different lengths, or without bins: {numbers}"
            raise refusal(reason, ("table",))
        events = _numbers_of(table["events"], Quantity(NUMBER_OF), ("table", "events"))
        if "error" not in table:
            return events, None
        return events, _numbers_of(table["error"], Quantity(NUMBER_OF, low=0.0), ("table", "error"))

    def contents(self, observables: Iterable[str]) -> Contents:
        """In the units of these observables, one or two; the refusal if it does not have bins of them."""
        table, names = self.table or {}, tuple(observables)
        events, errors = self._numbers()
        number = 2 if "second_low" in table else 1
        if number != len(names):
            expected = "one observable" if len(names) == 1 else f"two, {' and '.join(names)}"
            reason = (
                f"found bins of {'one observable' if number == 1 else 'two observables'}; the channel has {expected}"
            )
            raise refusal(reason, ("table",))
        edges, places = [], []
        for name, columns in zip(names, _AXES, strict=False):
            own, place = self._axis(name, columns)
            edges.append(own)
            places.append(place)
        shape = tuple(len(one) - 1 for one in edges)
        flat = np.ravel_multi_index(tuple(places), shape)
        if len(np.unique(flat)) != len(flat) or len(flat) != np.prod(shape):
            reason = f"found {len(flat)} rows for {' times '.join(map(str, shape))} bins; each bin needs one row"
            raise refusal(reason, ("table",))
        order = np.argsort(flat)
        variances = None if errors is None else np.square(errors)[order].reshape(shape)
        return Contents(tuple(edges), events[order].reshape(shape), variances)

    def _axis(self, observable: str, columns: tuple[str, str]) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Edges, and the bin that each row lies in."""
        table, quantity = self.table or {}, Quantity(dimension_of(observable))
        low, high = columns
        if low == "low" and "at" in table:
            centres = _numbers_of(table["at"], quantity, ("table", "at"))
            points = np.unique(centres)
            steps = np.diff(points)
            if len(points) < 2 or float(np.ptp(steps)) > TOLERANCE * float(steps.min()):
                reason = "found points that are not equally far apart; give the edges of their bins, `low` and `high`"
                raise refusal(reason, ("table", "at"))
            width = float(steps.mean())
            edges = points[0] + width * (np.arange(len(points) + 1) - 0.5)
            return edges, np.searchsorted(points, centres)
        lows, highs = (_numbers_of(table[key], quantity, ("table", key)) for key in columns)
        starts, first = np.unique(lows, return_index=True)
        ends = highs[first]
        for row, (one, two) in enumerate(zip(lows.tolist(), highs.tolist(), strict=True)):
            if not one < two:
                reason = f"found {high} {two:g} at {low} {one:g} (row {row + 1}); a bin ends above where it begins"
                raise refusal(reason, ("table", high))
        widths = ends - starts
        for index, (end, start) in enumerate(zip(ends.tolist(), starts[1:].tolist(), strict=False)):
            if abs(end - start) > TOLERANCE * float(min(widths[index], widths[index + 1])):
                what = "a gap" if start > end else "an overlap"
                reason = f"found {what}: a bin ends at {end:g}, and the next one begins at {start:g}"
                raise refusal(reason, ("table", low))
        return np.append(starts, ends[-1]), np.searchsorted(starts, lows)


def _numbers_of(column: list[Any], quantity: Quantity, at: tuple[str, ...]) -> FloatArray:
    return np.array([parsed(quantity, value, (*at, index)) for index, value in enumerate(column)])


class ObservedHistogram(Histogram):
    """The data of a channel in bins."""

    weighted: bool = Field(False, description="the contents are sums of weights, which need not be whole numbers")

    @model_validator(mode="after")
    def _counts(self) -> ObservedHistogram:
        if self.table is None:
            return self
        events, _ = self._numbers()
        for row, number in enumerate(events.tolist(), start=1):
            if number < 0.0:
                reason = f"found {number:g} events in row {row}; data are numbers of events, 0 at least"
                raise refusal(reason, ("table", "events"))
            if not self.weighted and abs(number - round(number)) > WHOLE * max(1.0, number):
                reason = (
                    f"found {number:g} events in row {row}; data are whole numbers, write `weighted: true` if these are sums"
                    " of weights"
                )
                raise refusal(reason, ("table", "events"))
        return self


class ExpectedHistogram(Histogram):
    """What is expected in bins, with its statistical errors."""

    @model_validator(mode="after")
    def _not_negative(self) -> ExpectedHistogram:
        if self.table is None:
            return self
        events, _ = self._numbers()
        for row, number in enumerate(events.tolist(), start=1):
            if number < 0.0:
                reason = (
                    f"found {number:g} events in row {row}; what is expected is 0 at least, merge it with its neighbour"
                )
                raise refusal(reason, ("table", "events"))
        if not events.any():
            reason = "found no event at all; a limit needs a signal, and a background, that are not exactly zero"
            raise refusal(reason, ("table", "events"))
        return self

    def statistical(self, contents: Contents) -> FloatArray:
        """Variances: those of the file, or of counts; the refusal where the contents are no counts."""
        if contents.variances is not None:
            return contents.variances
        if np.any(np.abs(contents.values - np.round(contents.values)) > WHOLE * np.maximum(1.0, contents.values)):
            reason = "found no errors of contents that are not counts; give `error`, or write `shape: stated`"
            raise refusal(reason, ("table",))
        return contents.values


class BackgroundHistogram(ExpectedHistogram):
    """The expected events of a background in bins."""

    luminosity: Luminosity = Field(
        description="that of the file, from which the events are scaled to that of the search"
    )


class SignalHistogram(ExpectedHistogram):
    """The signal of one mass in bins."""

    at: dict[Name, PositiveEnergy] = Field(min_length=1, description="the mass", examples=[{"m_a": "1 GeV"}])
    generated: PositiveNumber = Field(description="all events that were generated, or the sum of their weights")


class FileColumn(SpecModel):
    """The column of an observable, or one for each of its values in an event, and their unit."""

    column: str | list[str] = Field(
        description="its name, or one for each of the values that an event has", examples=["m_gg"]
    )
    unit: str = Field(description="the unit of the numbers in the file; empty for pure numbers", examples=["MeV"])

    @model_validator(mode="after")
    def _few(self) -> FileColumn:
        if not 1 <= len(self.names) <= MAX_CANDIDATES:
            reason = f"found {len(self.names)} columns; expected from 1 to {MAX_CANDIDATES}"
            raise refusal(reason, ("column",))
        return self

    @property
    def names(self) -> list[str]:
        return [self.column] if isinstance(self.column, str) else self.column


def _kind_of_cuts(value: object) -> str:
    return "a word" if isinstance(value, str) else "a list"


CutsOfEvents = Annotated[
    Annotated[Literal["selection"], Tag("a word")] | Annotated[list[Cut], Tag("a list")], Discriminator(_kind_of_cuts)
]


class Events(SpecModel):
    """Events of a file, one in each row, as they are measured."""

    parquet: str | None = Field(None, description="a Parquet file, relative to this one")
    root: str | None = Field(None, description="a ROOT file, relative to this one; with `tree`")
    tree: str | None = Field(
        None, description="the name of the TTree, or RNTuple, in a ROOT file", examples=["folder/events"]
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of the file, if it must be this one; a run writes it down"
    )
    observables: dict[ObservableText, FileColumn] = Field(
        min_length=1,
        description="where the observable of the channel, and the quantities of cuts, are",
        examples=[{"mass(gamma gamma)": {"column": "m_gg", "unit": "MeV"}}],
    )
    weight: str | None = Field(None, description="the column of weights; without it each event counts once")
    cuts: CutsOfEvents = Field(
        default_factory=list,
        description="that are still to be made: a list as in `selection`, or `selection` for those of the search",
    )
    source: Source

    @model_validator(mode="after")
    def _complete(self) -> Events:
        files = [key for key in EVENT_FILES if getattr(self, key) is not None]
        if len(files) != 1:
            reason = f"found {' and '.join(files) or 'no file'}; events have one of parquet, root"
            raise refusal(reason)
        if (self.root is None) != (self.tree is None):
            reason = (
                "missing; say which TTree, or RNTuple, of the file"
                if self.tree is None
                else "a Parquet file has no trees; remove it"
            )
            raise refusal(reason, ("tree",))
        for text, column in self.observables.items():
            dimension = dimension_of(text, "observables", text)
            parsed(Quantity(dimension), f"1 {column.unit}".strip(), ("observables", text, "unit"))
        if len({_plain(text) for text in self.observables}) < len(self.observables):
            reason = "found an observable twice"
            raise refusal(reason, ("observables",))
        for index, cut in enumerate(self.listed_cuts):
            at: tuple[str | int, ...] = ("cuts", index)
            if cut.where is not None:
                reason = "a cut that depends on the mass stands in `selection`; write `cuts: selection` to make those"
                raise refusal(reason, (*at, "where"))
            if cut.turn_on is not None:
                reason = "a turn-on is for simulated events; these have met the trigger"
                raise refusal(reason, (*at, "turn_on"))
            self.check_cut(cut, at)
        return self

    def check_cut(self, cut: Cut, at: tuple[str | int, ...]) -> None:
        """The refusal of a cut that cannot be made."""
        column = self.column_of(cut.quantity)
        if column is None:
            reason = f"found no column for {shown(cut.quantity)}, which is cut on; name it in `observables`"
            raise refusal(reason, at)
        if cut.at_least is not None and cut.at_least > len(column.names):
            reason = f"found {cut.at_least}; {cut.quantity} has {len(column.names)} columns in `observables`"
            raise refusal(reason, (*at, "at_least"))

    @property
    def listed_cuts(self) -> list[Cut]:
        """Those of its own."""
        return [] if self.cuts == "selection" else list(self.cuts)

    def column_of(self, quantity: str) -> FileColumn | None:
        """Where an observable is, however its blanks are written."""
        return {_plain(text): column for text, column in self.observables.items()}.get(_plain(quantity))

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        names = [name for column in self.observables.values() for name in column.names]
        return tuple(dict.fromkeys(names if self.weight is None else [*names, self.weight]))

    def values(self, quantity: str, columns: Mapping[str, FloatArray]) -> FloatArray:
        """Of an observable, in its unit; shape (n_values, n_events)."""
        column = self.column_of(quantity)
        assert column is not None
        factor = Quantity(dimension_of(quantity)).parse(f"1 {column.unit}".strip())
        return factor * np.array([columns[name] for name in column.names])


def _plain(text: str) -> str:
    """An observable without the blanks that do not matter."""
    return re.sub(r"\s*([(),/])\s*", r"\1", " ".join(text.split()))


class ObservedEvents(Events):
    """The data of a channel, event by event."""


class BackgroundEvents(Events):
    """A background, event by event."""

    luminosity: Luminosity = Field(
        description="that of the file, from which the events are scaled to that of the search"
    )


class SignalEvents(Events):
    """The signal of one mass, event by event."""

    at: dict[Name, PositiveEnergy] = Field(min_length=1, description="the mass", examples=[{"m_a": "1 GeV"}])
    generated: PositiveNumber = Field(description="all events that were generated, or the sum of their weights")


def _kind_of_input(value: object) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return "events" if any(key in keys for key in ("parquet", "tree", "observables")) else "a histogram"


Observed = Annotated[
    Annotated[ObservedHistogram, Tag("a histogram")] | Annotated[ObservedEvents, Tag("events")],
    Discriminator(_kind_of_input),
]
FromFile = Annotated[
    Annotated[BackgroundHistogram, Tag("a histogram")] | Annotated[BackgroundEvents, Tag("events")],
    Discriminator(_kind_of_input),
]

SignalAtMass = Annotated[
    Annotated[SignalHistogram, Tag("a histogram")] | Annotated[SignalEvents, Tag("events")],
    Discriminator(_kind_of_input),
]


def is_at(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two points of a grid, GeV, are the same."""
    return one.keys() == other.keys() and all(abs(mass - other[name]) < SAME_MASS for name, mass in one.items())


def merged_bins(have: FloatArray, want: FloatArray, unit: str) -> npt.NDArray[np.int64]:
    """The places, among the edges of a histogram, of the edges of a channel; both rising.

    Raises ValueError that says which edge is in the way.
    """
    widths = np.diff(have)
    beside = np.minimum(np.append(widths, widths[-1]), np.insert(widths, 0, widths[0]))
    above = np.clip(np.searchsorted(have, want), 1, len(have) - 1)
    nearest = np.where(want - have[above - 1] <= have[above] - want, above - 1, above)
    far = np.abs(have[nearest] - want) > TOLERANCE * beside[nearest]
    if not far.any():
        return nearest
    unit = "" if unit == "1" else f" {unit}"
    edge = float(want[int(np.argmax(far))])
    if edge < have[0] or edge > have[-1]:
        msg = (
            f"the histogram goes from {have[0]:.9g} to {have[-1]:.9g}{unit}, the bins of the channel from {want[0]:.9g} to"
            f" {want[-1]:.9g}{unit}; it must cover them"
        )
        raise ValueError(msg)
    index = int(np.searchsorted(have, edge)) - 1
    msg = (
        f"the channel has a bin edge at {edge:.9g}{unit}, within the bin from {have[index]:.9g} to {have[index + 1]:.9g}{unit}"
        " of the histogram; its bins can be merged, not split"
    )
    raise ValueError(msg)


def equal_bins_that_fit(have: FloatArray, low: float, high: float, most: int) -> list[int]:
    """Numbers of equal bins of a range, at most `most`, whose edges a histogram has; the largest first, three at most."""

    def fit(number: int) -> bool:
        try:
            merged_bins(have, np.linspace(low, high, number + 1), "")
        except ValueError:
            return False
        return True

    return list(itertools.islice((n for n in range(min(most, len(have) - 1), 0, -1) if fit(n)), 3))
