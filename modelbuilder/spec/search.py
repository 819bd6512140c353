"""The search file: signal, grid, selection, channels, backgrounds, systematics, statistics."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from modelbuilder.spec.base import FileName, Name, Source, SpecModel, WholeNumber, refusal
from modelbuilder.spec.comparisons import Comparisons
from modelbuilder.spec.conditions import Condition
from modelbuilder.spec.cuts import Cut, ObservableText, dimension_of
from modelbuilder.spec.expectations import Expectation
from modelbuilder.spec.experiment import ConstantEfficiency, Experiment
from modelbuilder.spec.functions import (
    Efficiency,
    HasSource,
    IntegerOfMass,
    PositiveEnergyOfMass,
    PositiveSquaredEnergyOfMass,
    RawValue,
    RelativeSizeOfMass,
    SpectrumInterpolation,
    parsed,
)
from modelbuilder.spec.inputs import FromFile, Observed, SignalAtMass
from modelbuilder.spec.interpretations import Interpretations
from modelbuilder.spec.methods import Method, Prior
from modelbuilder.spec.observables import arguments_of, unit_of
from modelbuilder.spec.plane import EventsInPlane, Nodes, PlaneChannel, kind_of_channel, kind_of_expectation
from modelbuilder.spec.process import FinalState, Lifetimes, Simulated
from modelbuilder.spec.quantities import (
    NUMBER_OF,
    Count,
    CrossSection,
    Energy,
    Fraction,
    Luminosity,
    PositiveEnergy,
    PositiveResolutions,
    PositiveStep,
    Quantity,
    RelativeSize,
)
from modelbuilder.spec.rates import RATES, KnownFraction, Produced, Rate
from modelbuilder.spec.sideband import AnySideband, SidebandBeside, TransferSystematic
from modelbuilder.spec.topology import Topology

SIGNAL = "signal"

# The observables whose peak a window follows, and how: the mass itself, its square, or sqrt(M^2 - 4 m^2).
MASS_LIKE = {
    "mass": "mass",
    "recoil": "mass",
    "constrained_mass": "mass",
    "mass2": "mass2",
    "recoil2": "mass2",
    "reduced_mass": "reduced_mass",
}


class IntegratedLuminosity(SpecModel):
    """The integrated luminosity and its relative uncertainty."""

    value: Luminosity
    uncertainty: RelativeSize = Field(description="relative, one standard deviation")
    source: Source


class StepInResolutions(SpecModel):
    """Grid points that follow the mass resolution of the channel."""

    from_: PositiveEnergy = Field(alias="from")
    to: PositiveEnergy
    step: PositiveResolutions
    source: Source


class StepInEnergy(SpecModel):
    """Equidistant grid points."""

    from_: PositiveEnergy = Field(alias="from")
    to: PositiveEnergy
    step: PositiveStep
    source: Source


class LogarithmicSteps(SpecModel):
    """Grid points in equal ratios, both ends included."""

    from_: PositiveEnergy = Field(alias="from")
    to: PositiveEnergy
    points: WholeNumber = Field(ge=2, le=100_000, description="number of masses in equal ratios, both ends included")
    source: Source


class ListedPoints(SpecModel):
    """Grid points one by one."""

    values: list[PositiveEnergy] = Field(min_length=1, description="the masses, rising")
    source: Source


def _kind_of_segment(value: object) -> str:
    keys = value if isinstance(value, dict) else {}
    if "values" in keys:
        return "listed points"
    if "points" in keys:
        return "logarithmic steps"
    return "steps in resolutions" if "resolution" in str(keys.get("step", "")) else "steps in energy"


Segment = Annotated[
    Annotated[StepInResolutions, Tag("steps in resolutions")]
    | Annotated[StepInEnergy, Tag("steps in energy")]
    | Annotated[LogarithmicSteps, Tag("logarithmic steps")]
    | Annotated[ListedPoints, Tag("listed points")],
    Discriminator(_kind_of_segment),
]


class Gap(SpecModel):
    """A vetoed range of mass: it has no grid points, and stays a gap in tables and figures."""

    low: Energy
    high: Energy
    source: Source


class GridAxis(SpecModel):
    """The mass hypotheses along one axis: segments in rising order, and gaps."""

    segments: list[Segment] = Field(min_length=1, description="ranges of mass with their steps, one after the other")
    gaps: list[Gap] = Field(default_factory=list, description="vetoed ranges of mass")


class Signal(Simulated, HasSource):
    """The process that is searched for."""

    events: WholeNumber = Field(
        0,
        ge=1000,
        le=1_000_000_000,
        description="simulated events per grid point, or per node; without it there are none",
    )
    nodes: Nodes | None = Field(None, description="of a grid of two masses: where the signal is simulated")
    efficiency: Efficiency = Field(description="of everything that the simulated selection does not contain")
    lifetime: Lifetimes | None = Field(None, description="the second axis of the grid: c tau of a particle that flies")
    files: dict[Name, list[SignalAtMass]] | None = Field(
        None,
        min_length=1,
        description="in place of events: by channel, a histogram or events for each mass of the grid",
    )
    produced: Produced | None = Field(
        None, description="where particles of known number decay: the limit is then on their branching fraction"
    )
    ratio_to: str | None = Field(
        None, description="a background: the limit is then on the ratio to it, as between two branching fractions"
    )
    branching_fractions: dict[str, KnownFraction] = Field(
        default_factory=dict, description="of decays in the process that the limit does not contain, by decay"
    )

    @model_validator(mode="after")
    def _one_rate(self) -> Signal:
        if self.produced is not None and self.ratio_to is not None:
            reason = "found both produced and ratio_to; the limit is on one of them"
            raise refusal(reason, ("ratio_to",))
        return self

    @model_validator(mode="after")
    def _one_origin(self) -> Signal:
        for key in ("events", "nodes", "lifetime"):
            if self.files is not None and getattr(self, key):
                reason = f"found files and {key}; a signal from files is what it is there, remove one of them"
                raise refusal(reason, (key,))
        return self

    @model_validator(mode="after")
    def _nodes_have_events(self) -> Signal:
        if self.nodes is not None and not self.events:
            reason = "missing; say how many events to simulate at each of the nodes"
            raise refusal(reason, ("events",))
        return self


def rate_of(signal: Signal) -> Rate:
    """What limits on a signal are on."""
    if signal.produced is not None:
        return RATES["branching fraction"]
    return RATES["cross section" if signal.ratio_to is None else "ratio"]


class SecondObservable(SpecModel):
    """A second observable of the same events, in equal bins of a fixed range."""

    observable: ObservableText = Field(
        description="what is measured, with one value in an event", examples=["recoil_theta_cm(mu+ mu-)"]
    )
    range: tuple[RawValue, RawValue] = Field(description="[low, high], with units; events outside are not counted")
    bins: WholeNumber = Field(ge=1, le=1000, description="number of equal bins of the range")

    @model_validator(mode="after")
    def _rises(self) -> SecondObservable:
        _limits(self.observable, self.range)
        return self

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the range, in the unit of the observable."""
        return _limits(self.observable, self.range)


def _limits(observable: str, range_: tuple[object, object], *within: str) -> tuple[float, float]:
    """Ends of a range, in the unit of an observable; the refusal if it does not rise. within: the key of the range."""
    quantity = Quantity(dimension_of(observable, "observable"))
    low, high = (parsed(quantity, value, (*within, "range", index)) for index, value in enumerate(range_))
    if low >= high:
        reason = "found the lower end at or above the upper end; write [low, high]"
        raise refusal(reason, (*within, "range"))
    return low, high


class Channel(SpecModel):
    """An observable and the masses that it is fitted for: in a window that follows the mass, or in a fixed range."""

    observable: ObservableText = Field(
        description="what is measured and fitted", examples=["mass2(gamma gamma)", "recoil(mu+ mu-)"]
    )
    where: Condition | None = Field(None, description="the grid points of this channel; all, if absent")
    resolution: PositiveEnergyOfMass | None = Field(
        None, description="standard deviation of the mass; sets grid, bins and windows"
    )
    resolution2: PositiveSquaredEnergyOfMass | None = Field(
        None, description="standard deviation of the squared mass, for squared masses whose windows reach zero"
    )
    window: PositiveResolutions | None = Field(None, description="full width of the fit window around the mass")
    bin_width: PositiveResolutions | None = Field(None, description="of the fine binning that all windows share")
    range: tuple[RawValue, RawValue] | None = Field(
        None,
        description="a fixed range, in place of window; or with it, the range of equal bins that windows are made of",
    )
    bins: WholeNumber | None = Field(None, ge=1, le=100_000, description="number of equal bins of the range")
    count: bool = Field(False, description="sum the bins of a window into one: a counting experiment")
    second: SecondObservable | None = Field(
        None, description="a second observable: the template has both axes, and is fitted in bins of both"
    )
    sideband: AnySideband | None = Field(
        None, description="of a count: where events say how much of a background with a free rate there is"
    )
    source: Source = Field(description="of the switch between the channels, the window and the bin width")

    @model_validator(mode="after")
    def _complete(self) -> Channel:
        dimension_of(self.observable, "observable")
        if self.range is None and self.window is None:
            reason = "found neither range nor window; give a window that follows the mass, or a fixed range"
            raise refusal(reason)
        if self.window is not None and self.resolution is None and self.resolution2 is None:
            reason = "missing; with `window` a channel needs it"
            raise refusal(reason, ("resolution",))
        if self.resolution is not None and self.resolution2 is not None:
            reason = "found both resolution and resolution2; give one of them"
            raise refusal(reason, ("resolution2",))
        if self.resolution2 is not None and unit_of(self.observable) != "GeV^2":
            reason = f"{self.observable!r} is no squared mass; give `resolution`"
            raise refusal(reason, ("resolution2",))
        if self.range is not None and self.bin_width is not None:
            reason = "a range has equal `bins`; remove bin_width, or the range"
            raise refusal(reason, ("bin_width",))
        if self.range is not None and self.bins is None:
            reason = "missing; with `range` a channel needs it"
            raise refusal(reason, ("bins",))
        if self.range is None and self.bins is not None:
            reason = "found bins without a range; a window has `bin_width`, or equal bins of a `range`"
            raise refusal(reason, ("bins",))
        if self.range is None and self.bin_width is None:
            reason = "missing; with `window` a channel needs it, or a `range` with `bins`"
            raise refusal(reason, ("bin_width",))
        if self.range is not None:
            _limits(self.observable, self.range)
        is_mass = arguments_of(self.observable)[0] in MASS_LIKE and " / " not in self.observable
        if self.window is not None and not is_mass:
            reason = f"a window follows a mass: {', '.join(MASS_LIKE)}; give `range` and `bins` for {self.observable!r}"
            raise refusal(reason, ("window",))
        if self.count:
            self._check_count()
        if self.sideband is not None:
            self._check_sideband()
        return self

    def _check_count(self) -> None:
        if self.second is not None:
            reason = "found count and second; a number of events has no second observable, remove one of them"
            raise refusal(reason, ("second",))
        if self.window is None or self.bin_width is None:
            reason = "a count is that of a window with `bin_width`; in a fixed range write `bins: 1`, and remove count"
            raise refusal(reason, ("count",))
        half = 0.5 * self.window / self.bin_width
        if round(half) < 1 or abs(half - round(half)) > 1e-6 * half:
            reason = (
                f"found bins of {self.bin_width:g} resolution in a window of {self.window:g}; for a count there must be a"
                f" whole number of them on each side of the mass, as with {0.5 * self.window:g} resolution"
            )
            raise refusal(reason, ("bin_width",))

    def _check_sideband(self) -> None:
        if not (self.count or self.bins == 1) or self.second is not None:
            reason = (
                "found a sideband, which is for one number of events; write `count: true`, or `bins: 1` with a range"
            )
            raise refusal(reason, ("sideband",))
        sideband = self.sideband
        if not isinstance(sideband, SidebandBeside):
            if self.range is not None and sideband is not None and sideband.transfer.variables:
                reason = "found a function of the mass; a fixed range has one number of events, so give one number"
                raise refusal(reason, ("sideband", "transfer"))
            return
        if self.window is None:
            for key in ("window", "left_out"):
                if getattr(sideband, key) is not None:
                    reason = "found a width in resolutions; the channel has a fixed range, so give `range`"
                    raise refusal(reason, ("sideband", key))
            (low, high), (lower, upper) = self.limits, self.sideband_limits
            if not (lower <= low and high <= upper and (lower, upper) != (low, high)):
                reason = "found a range that does not reach beyond that of the channel on either side; make it wider"
                raise refusal(reason, ("sideband", "range"))
            return
        if sideband.left_out is not None and sideband.left_out < self.window:
            reason = f"found {sideband.left_out:g} resolution, less than the window of {self.window:g}; remove the key"
            raise refusal(reason, ("sideband", "left_out"))
        if sideband.window is not None and sideband.window <= (inner := sideband.left_out or self.window):
            reason = f"found {sideband.window:g} resolution, no more than the {inner:g} in its middle; make it wider"
            raise refusal(reason, ("sideband", "window"))
        _ = self.sideband_limits

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the fixed range, in the unit of the observable."""
        assert self.range is not None
        return _limits(self.observable, self.range)

    @property
    def sideband_limits(self) -> tuple[float, float]:
        """Ends of the sideband in the same observable, in its unit; infinite where it follows the mass."""
        if not isinstance(self.sideband, SidebandBeside) or self.sideband.range is None:
            return -math.inf, math.inf
        return _limits(self.observable, self.sideband.range, "sideband")


AnyChannel = Annotated[
    Annotated[Channel, Tag("a line")] | Annotated[PlaneChannel, Tag("a plane")], Discriminator(kind_of_channel)
]


class BernsteinShape(SpecModel):
    """A polynomial that is positive by construction: one free sample for each Bernstein basis polynomial."""

    bernstein: IntegerOfMass = Field(description="the order of the polynomial", examples=[4])
    source: Source


def _kind_of_shape(value: object) -> str:
    return "a free shape" if isinstance(value, dict | BernsteinShape) else "a named shape"


Shape = Annotated[
    Annotated[Literal["simulated"], Tag("a named shape")] | Annotated[BernsteinShape, Tag("a free shape")],
    Discriminator(_kind_of_shape),
]
StatedShape = Annotated[
    Annotated[Literal["stated"], Tag("a named shape")] | Annotated[BernsteinShape, Tag("a free shape")],
    Discriminator(_kind_of_shape),
]


ShapeFromFiles = Annotated[
    Annotated[Literal["simulated", "stated"], Tag("a named shape")] | Annotated[BernsteinShape, Tag("a free shape")],
    Discriminator(_kind_of_shape),
]


def _refuse_fixed_polynomial(shape: object, rate: str) -> None:
    if isinstance(shape, BernsteinShape) and rate == "fixed":
        reason = "a Bernstein shape has free coefficients; write `rate: free`"
        raise refusal(reason, ("rate",))


class KnownCrossSection(SpecModel):
    """A measured or assumed cross section, times branching fractions, before any selection."""

    value: CrossSection
    source: Source


class Background(Simulated):
    """A background. Without `cross_section` the simulated process brings its own (lowest order)."""

    title: str = Field(description="for figures")
    events: WholeNumber = Field(ge=1000, le=1_000_000_000, description="simulated events")
    cross_section: KnownCrossSection | None = None
    efficiency: ConstantEfficiency = Field(description="of everything that the simulated selection does not contain")
    shape: Shape = Field(description="the simulated one, or a free smooth function")
    rate: Literal["free", "fixed"] = Field(description="fixed: the expected yield, with the rate systematics on it")
    smooth: WholeNumber | None = Field(
        None,
        ge=2,
        le=1000,
        description="the simulated spectrum as a spline with a knot every so many bins; for a free shape",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Background:
        if self.smooth is not None and not isinstance(self.shape, BernsteinShape):
            reason = (
                "the shape is the simulated one, whose errors a spline would hide; remove smooth, or give a free shape"
            )
            raise refusal(reason, ("smooth",))
        _refuse_fixed_polynomial(self.shape, self.rate)
        return self


class Spectrum(SpecModel):
    """Events that are expected per interval of an observable, as a figure shows them."""

    events: list[Count] | None = Field(
        None, min_length=1, description="after all cuts; one number, or one for each of `at`"
    )
    at: list[RawValue] | None = Field(None, description="rising values of the observable; beyond, as at the nearest")
    table: dict[str, list[RawValue]] | None = Field(None, description="both as columns, `at` and `events`")
    csv: str | None = Field(None, description="a file with these columns, relative to this one")
    columns: dict[str, str] | None = Field(
        None, description="of the file", examples=[{"at": "m_GeV", "events": "events"}]
    )
    units: dict[str, str] | None = Field(None, description="of the columns", examples=[{"at": "GeV", "events": ""}])
    interpolation: SpectrumInterpolation = Field(
        "linear", description="between the points; monotone-cubic has no kinks"
    )
    per: RawValue = Field(description="the interval of the observable that the events are counted in, such as 10 MeV")
    luminosity: Luminosity = Field(description="that the events are for; they are scaled to that of the search")
    second: list[Count] | None = Field(
        None, description="where the channel has a second observable: how the events are shared among its bins"
    )
    source: Source

    @model_validator(mode="after")
    def _a_function(self) -> Spectrum:
        if self.csv is not None:
            return self  # the file could not be read, which is reported
        if (self.events is None) == (self.table is None):
            found = "neither events nor a table" if self.events is None else "both events and a table"
            reason = f"found {found}; give `events`, with `at` if there are several, or a table or csv with both"
            raise refusal(reason)
        if self.table is not None:
            if set(self.table) != {"at", "events"} or self.at is not None:
                reason = f"found the columns {', '.join(self.table) or 'none'}; expected at, events"
                raise refusal(reason, ("table",))
            points = len(self.table["at"])
        else:
            points = 1 if self.at is None else len(self.at)
        events = self._events
        if len(events) != points or not points:
            found = "no `at`" if self.table is None and self.at is None else f"{points} of at"
            reason = f"found {len(events)} of events and {found}; each point needs one number"
            raise refusal(reason, ("events",) if self.table is None else ("table",))
        if not any(events):
            reason = "found no event at all; a limit needs a background that is not exactly zero"
            raise refusal(reason, ("events",) if self.table is None else ("table",))
        if self.second is not None and not any(self.second):
            reason = "found no share above zero"
            raise refusal(reason, ("second",))
        return self

    @property
    def _events(self) -> list[float]:
        if self.table is None:
            return list(self.events or ())
        number = Quantity(NUMBER_OF, low=0.0)
        return [parsed(number, value, ("table", "events", i)) for i, value in enumerate(self.table["events"])]

    def density(self, observable: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Points, in the unit of the observable, and events per unit and fb^-1 there; the refusal if they are none."""
        dimension = dimension_of(observable)
        per = parsed(Quantity(dimension, low=0.0, exclusive=True), self.per, ("per",))
        at: tuple[str, ...] = ("at",) if self.table is None else ("table", "at")
        given = self.at if self.table is None else self.table["at"]
        points = [parsed(Quantity(dimension), value, (*at, index)) for index, value in enumerate(given or ())]
        if any(two <= one for one, two in itertools.pairwise(points)):
            reason = "found values that do not rise; write them in rising order"
            raise refusal(reason, at)
        return tuple(points or [0.0]), tuple(events / per / self.luminosity for events in self._events)


Expected = Annotated[
    Annotated[Spectrum, Tag("a spectrum")] | Annotated[EventsInPlane, Tag("a plane")],
    Discriminator(kind_of_expectation),
]


class StatedBackground(SpecModel):
    """A background of which nothing is simulated: the spectrum that is expected of it, or a free shape in its place."""

    title: str = Field(description="for figures")
    expected: dict[Name, Expected] = Field(
        min_length=1, description="by channel: the spectrum that pseudo-data and expected limits are made from"
    )
    efficiency: ConstantEfficiency | None = Field(None, description="of what `expected` does not contain; 1 without")
    shape: StatedShape = Field(description="stated: that of `expected`; or a free smooth function, which the fit finds")
    rate: Literal["free", "fixed"] = Field(description="fixed: the expected yield, with the rate systematics on it")

    @model_validator(mode="before")
    @classmethod
    def _not_simulated(cls, value: Any) -> Any:
        both = [key for key in dict(value) if key in Background.model_fields and key not in cls.model_fields]
        if both:
            reason = f"found {both[0]} and expected; a background is either simulated or stated, remove one of them"
            raise refusal(reason, (both[0],))
        return value

    @model_validator(mode="after")
    def _consistent(self) -> StatedBackground:
        _refuse_fixed_polynomial(self.shape, self.rate)
        return self


class BackgroundFromFiles(SpecModel):
    """A background whose events come from files, as histograms or event by event."""

    title: str = Field(description="for figures")
    files: dict[Name, FromFile] = Field(
        min_length=1, description="for each channel a histogram, or events with the columns of the observables"
    )
    efficiency: ConstantEfficiency | None = Field(None, description="of what the files do not contain; 1 without")
    shape: ShapeFromFiles = Field(
        description="simulated: that of the files, with their statistical errors; stated: without; or a free smooth function"
    )
    rate: Literal["free", "fixed"] = Field(description="fixed: the expected yield, with the rate systematics on it")

    @model_validator(mode="before")
    @classmethod
    def _from_files_alone(cls, value: Any) -> Any:
        others = (*Background.model_fields, *StatedBackground.model_fields)
        both = [key for key in dict(value) if key in others and key not in cls.model_fields]
        if both:
            reason = f"found {both[0]} and files; a background is simulated, stated or from files, remove one of them"
            raise refusal(reason, (both[0],))
        return value

    @model_validator(mode="after")
    def _consistent(self) -> BackgroundFromFiles:
        _refuse_fixed_polynomial(self.shape, self.rate)
        return self


def _kind_of_background(value: object) -> str:
    if isinstance(value, dict):
        return "stated" if "expected" in value else "from files" if "files" in value else "to simulate"
    if isinstance(value, StatedBackground):
        return "stated"
    return "from files" if isinstance(value, BackgroundFromFiles) else "to simulate"


AnyBackground = Annotated[
    Annotated[Background, Tag("to simulate")]
    | Annotated[StatedBackground, Tag("stated")]
    | Annotated[BackgroundFromFiles, Tag("from files")],
    Discriminator(_kind_of_background),
]


def has_luminosity(background: AnyBackground) -> bool:
    """Whether a background is a simulated cross section times the luminosity, so that the uncertainty of this is its own."""
    if isinstance(background, BackgroundFromFiles):
        return background.shape == "simulated"
    return isinstance(background, Background)


class LuminositySystematic(SpecModel):
    """The uncertainty of the luminosity, on everything with a rate from simulation."""

    kind: Literal["luminosity"] = Field(
        description="the uncertainty of the luminosity, on everything with a rate from simulation"
    )
    also: list[str] = Field(
        default_factory=list,
        description="stated backgrounds, in the spec or in files, whose expectation is a cross section times the luminosity, not a count in data",
    )


class ProducedSystematic(SpecModel):
    """The uncertainty of the number of particles that were produced, on the signal."""

    kind: Literal["produced"] = Field(description="the uncertainty of the number of particles that were produced")
    also: list[str] = Field(
        default_factory=list, description="backgrounds at a fixed rate that are decays of the same particles"
    )


class RateSystematic(HasSource):
    """A relative uncertainty of the yield."""

    kind: Literal["rate"] = Field(description="changes yields by a factor, the same in all bins")
    size: RelativeSizeOfMass = Field(description="relative, one standard deviation")
    on: list[str] = Field(min_length=1, description="samples: `signal` or names of backgrounds")


Varied = Literal[
    "photons.energy_scale",
    "photons.energy_resolution",
    "photons.angle_resolution",
    "photons.resolution",
    "photons.efficiency",
    "tracks.momentum_scale",
    "tracks.momentum_resolution",
    "tracks.angle_resolution",
    "tracks.efficiency",
    "tracks.identification",
    "tracks.misidentification",
    "photons.efficiency_table",
    "tracks.efficiency_table",
    "tracks.identification_table",
    "tracks.misidentification_table",
]


class ShapeSystematic(HasSource):
    """The change of a template when a parameter of the response is varied by one standard deviation."""

    kind: Literal["shape"] = Field(description="changes yields bin by bin, as a varied response of the detector does")
    vary: Varied = Field(
        description="a parameter of the response; photons.resolution: energy and angle together; ..._table: each bin of "
        "the tables by its own uncertainty"
    )
    size: RelativeSizeOfMass = Field(
        description="relative change of the parameter; of a ..._table in its uncertainties, 100 % is one standard deviation"
    )
    on: list[str] = Field(min_length=1, description="samples: `signal` or names of backgrounds")


class SpuriousSignal(SpecModel):
    """The choice of the background shape: the signal that the fit finds in the simulated shape, as an uncertainty."""

    kind: Literal["spurious-signal"] = Field(description="the signal that a polynomial background leaves by itself")
    of: str = Field(description="the background with the free shape")
    source: Source


Systematic = Annotated[
    LuminositySystematic | ProducedSystematic | RateSystematic | ShapeSystematic | SpuriousSignal | TransferSystematic,
    Discriminator("kind"),
]


class Radiation(SpecModel):
    """Photons radiated along the beams before the collision, by a collinear structure function."""

    initial_state: Literal["collinear", "none"] = Field(
        description="collinear: photons along the beams; none: no photons"
    )
    source: Source

    def acts_on(self, sample: Simulated, topology: Topology) -> bool:
        """Whether the beams radiate before this collision: a resonance is made at its own energy."""
        radiates = self.initial_state == "collinear" and sample.radiation is None
        return radiates and topology.vertices[0].law.name != "resonance"


class Toys(SpecModel):
    """Toys in place of asymptotic formulas, for `profile-likelihood` and `cls`; `feldman-cousins` always uses them."""

    number: WholeNumber = Field(ge=100, le=10_000_000, description="per hypothesis")
    use: Literal["always", "where-doubtful"] = Field(
        default="always", description="where-doubtful: only at masses with too few background events for the formulas"
    )


class Statistics(SpecModel):
    """How limits are found. The first method is the one of the search; all are reported."""

    methods: list[Method] = Field(
        min_length=1, description="how limits are found; the first is that of the search, all are reported"
    )
    confidence_level: Fraction
    prior: Prior = Field(default="flat", description="of the signal strength, for `bayesian`: flat or 1/sqrt(mu)")
    band_toys: WholeNumber | None = Field(
        default=None,
        ge=100,
        le=1_000_000,
        description="for the expected band of `bayesian`, which has none without, but for windows of one bin",
    )
    toys: Toys | None = None
    source: Source

    @model_validator(mode="after")
    def _sensible(self) -> Statistics:
        if not 0.5 < self.confidence_level < 1.0:
            reason = f"found {self.confidence_level:g}; a confidence level lies between 50 % and 100 %"
            raise refusal(reason, ("confidence_level",))
        if len(set(self.methods)) < len(self.methods):
            reason = "found a method twice; name each once"
            raise refusal(reason, ("methods",))
        return self


class PseudoData(SpecModel):
    """Simulated data without signal, Poisson distributed, from a seed."""

    kind: Literal["pseudo"] = Field(description="data drawn from the expected background")
    seed: WholeNumber = Field(ge=0, lt=2**63, description="of the random numbers")


class AsimovData(SpecModel):
    """The expected background itself as data."""

    kind: Literal["asimov"] = Field(description="the expected background itself")


class ObservedData(SpecModel):
    """Measured data, from files."""

    kind: Literal["observed"] = Field(description="measured data, from files")
    files: dict[Name, Observed] = Field(
        min_length=1, description="for each channel a histogram, or events with the columns of the observables"
    )


Data = Annotated[PseudoData | AsimovData | ObservedData, Discriminator("kind")]


class SearchSpec(SpecModel):
    """One search, complete."""

    schema_: Literal["search/1"] = Field(alias="schema", description="the version of this format: search/1")
    name: FileName = Field(description="short name for files, such as belle2-alp-gammagamma-2018")
    title: str = Field(description="for people: the process, in a line")
    papers: list[str] = Field(default_factory=list, description="such as arXiv:2007.13071")
    notes: str | None = Field(None, description="what a reader should know about the inputs")
    experiment: Experiment = Field(description="path of the experiment file, relative to this one")
    luminosity: IntegratedLuminosity
    radiation: Radiation
    seed: WholeNumber = Field(1, ge=0, lt=2**63, description="of the simulation")
    signal: Signal
    interpretations: Interpretations
    grid: dict[Name, GridAxis] = Field(
        min_length=1, max_length=2, description="the mass hypotheses, by grid variable; one mass or two"
    )
    grid_where: Condition | None = Field(
        None, description="the part of the grid that is kept", examples=["m_hp < m_Ap and m_Ap + m_hp < 10.5 GeV"]
    )
    final_state: FinalState | None = Field(
        None, description="the particles that are looked for; without it all visible ones of the signal"
    )
    selection: list[Cut] = Field(description="a list of cuts, which may be empty: []")
    channels: dict[Name, AnyChannel] = Field(min_length=1, description="observables and fit windows, by name")
    backgrounds: dict[Name, AnyBackground] = Field(
        description="backgrounds, by name; {} for none, to look at the signal: limits need one"
    )
    systematics: dict[Name, Systematic] = Field(description="systematic uncertainties, by name; {} for none")
    statistics: Statistics
    data: Data = Field(description="the data that limits are found for, such as {kind: pseudo, seed: 1}")
    comparisons: Comparisons
    tests: list[Expectation] = Field(
        default_factory=list, description="what the search expects of itself; `modelbuilder check` looks"
    )

    @property
    def grid_variables(self) -> tuple[str, ...]:
        """The names of the masses that are scanned, such as `m_a`."""
        return tuple(self.grid)

    @property
    def grid_variable(self) -> str:
        """The name of the one mass that is scanned; of a grid of two masses, the first."""
        return self.grid_variables[0]

    @property
    def inputs(self) -> dict[tuple[str | int, ...], Observed | FromFile | SignalAtMass]:
        """What comes from files, by its path in the spec."""
        found: dict[tuple[str | int, ...], Observed | FromFile | SignalAtMass] = {}
        for channel, signals in (self.signal.files or {}).items():
            found |= {("signal", "files", channel, index): one for index, one in enumerate(signals)}
        for name, background in self.backgrounds.items():
            if isinstance(background, BackgroundFromFiles):
                found |= {("backgrounds", name, "files", channel): one for channel, one in background.files.items()}
        if isinstance(self.data, ObservedData):
            found |= {("data", "files", channel): one for channel, one in self.data.files.items()}
        return found

    @property
    def rate(self) -> Rate:
        """What limits are on."""
        return rate_of(self.signal)

    @property
    def events_per_rate(self) -> float:
        """Signal events before any selection for a rate of 1: of 1 fb, or of a branching fraction or ratio of 1."""
        signal = self.signal
        if signal.produced is not None:
            return signal.produced.number
        if signal.ratio_to is None:
            return self.luminosity.value
        background = self.backgrounds[signal.ratio_to]
        assert isinstance(background, Background)
        assert background.cross_section is not None
        return self.luminosity.value * background.cross_section.value

    @property
    def in_plane(self) -> bool:
        """Whether events are counted in ellipses in the plane of two observables."""
        return any(isinstance(channel, PlaneChannel) for channel in self.channels.values())

    def line(self, channel: str) -> Channel:
        """A channel with one observable along which the mass lies."""
        found = self.channels[channel]
        assert isinstance(found, Channel)
        return found

    def plane(self, channel: str) -> PlaneChannel:
        """A channel in the plane of two observables."""
        found = self.channels[channel]
        assert isinstance(found, PlaneChannel)
        return found
