"""The search file: signal, grid, selection, channels, backgrounds, systematics, statistics."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from modelbuilder.spec.base import Name, Source, SpecModel, WholeNumber, refusal
from modelbuilder.spec.conditions import Condition
from modelbuilder.spec.experiment import ConstantEfficiency, Experiment
from modelbuilder.spec.functions import (
    Efficiency,
    HasSource,
    IntegerOfMass,
    PositiveEnergyOfMass,
    RelativeSizeOfMass,
)
from modelbuilder.spec.quantities import (
    Angle,
    CrossSection,
    Energy,
    Fraction,
    Luminosity,
    Number,
    PositiveEnergy,
    PositiveResolutions,
    PositiveStep,
    RelativeSize,
)

SIGNAL = "signal"

THREE_PHOTONS = "e+ e- -> gamma gamma gamma"
SignalProcess = Literal["e+ e- -> gamma a, a -> gamma gamma"]
BackgroundProcess = Literal[
    "e+ e- -> gamma pi0, pi0 -> gamma gamma",
    "e+ e- -> gamma eta, eta -> gamma gamma",
    "e+ e- -> gamma eta_prime, eta_prime -> gamma gamma",
    "e+ e- -> gamma gamma gamma",
]
Observable = Literal["mass2(gamma gamma)", "recoil2(gamma)"]
Method = Literal["profile-likelihood", "cls"]


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
    points: WholeNumber = Field(ge=2, le=100_000)
    source: Source


class ListedPoints(SpecModel):
    """Grid points one by one."""

    values: list[PositiveEnergy] = Field(min_length=1)
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

    segments: list[Segment] = Field(min_length=1)
    gaps: list[Gap] = Field(default_factory=list)


class Signal(HasSource):
    """The process that is searched for, and the model that its limit is turned into."""

    process: SignalProcess
    model: Literal["alp-photon"] = Field(description="cross section as a function of mass and coupling")
    events: WholeNumber = Field(ge=1000, le=1_000_000_000, description="simulated events per grid point")
    efficiency: Efficiency = Field(description="of everything that the simulated selection does not contain")


class AngleCut(SpecModel):
    """Laboratory polar angle of every photon."""

    quantity: Literal["theta(gamma)"]
    between: tuple[Angle, Angle]
    where: Condition | None = None
    source: Source


class EnergyCut(SpecModel):
    """Laboratory energy of every photon."""

    quantity: Literal["energy(gamma)"]
    above: Energy
    where: Condition | None = None
    source: Source


class MassCut(SpecModel):
    """Invariant mass of the three photons in units of the collision energy."""

    quantity: Literal["mass(gamma gamma gamma) / sqrt_s"]
    between: tuple[Number, Number]
    where: Condition | None = None
    source: Source


Cut = Annotated[AngleCut | EnergyCut | MassCut, Discriminator("quantity")]


class Channel(SpecModel):
    """An observable and the masses that it is fitted for."""

    observable: Observable
    where: Condition | None = Field(None, description="the grid points of this channel; all, if absent")
    resolution: PositiveEnergyOfMass = Field(description="standard deviation of the mass; sets grid, bins and windows")
    window: PositiveResolutions = Field(description="full width of the fit window around the mass")
    bin_width: PositiveResolutions = Field(description="of the fine binning that all windows share")
    source: Source = Field(description="of the switch between the channels, the window and the bin width")


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


class KnownCrossSection(SpecModel):
    """A measured or assumed cross section, times branching fractions, before any selection."""

    value: CrossSection
    source: Source


class Background(SpecModel):
    """A background. Without `cross_section` the simulated process brings its own (lowest order)."""

    title: str = Field(description="for figures")
    process: BackgroundProcess
    events: WholeNumber = Field(ge=1000, le=1_000_000_000, description="simulated events")
    cross_section: KnownCrossSection | None = None
    efficiency: ConstantEfficiency = Field(description="of everything that the simulated selection does not contain")
    shape: Shape = Field(description="the simulated one, or a free smooth function")
    rate: Literal["free", "fixed"] = Field(description="fixed: the expected yield, with the rate systematics on it")

    @model_validator(mode="after")
    def _consistent(self) -> Background:
        if isinstance(self.shape, BernsteinShape) and self.rate == "fixed":
            reason = "a Bernstein shape has free coefficients; write `rate: free`"
            raise refusal(reason, ("rate",))
        has_own = self.process == THREE_PHOTONS
        if has_own and self.cross_section is not None:
            reason = "this process brings its own cross section at lowest order; remove the key"
            raise refusal(reason, ("cross_section",))
        if not has_own and self.cross_section is None:
            reason = "missing; this process does not bring one of its own, so give `cross_section: {value: ..., source: ...}`"
            raise refusal(reason, ("cross_section",))
        return self


class LuminositySystematic(SpecModel):
    """The uncertainty of the luminosity, on everything with a rate from simulation."""

    kind: Literal["luminosity"]


class RateSystematic(HasSource):
    """A relative uncertainty of the yield."""

    kind: Literal["rate"]
    size: RelativeSizeOfMass = Field(description="relative, one standard deviation")
    on: list[str] = Field(min_length=1, description="samples: `signal` or names of backgrounds")


class ShapeSystematic(HasSource):
    """The change of a template when a parameter of the response is varied by one standard deviation."""

    kind: Literal["shape"]
    vary: Literal[
        "photons.energy_scale", "photons.energy_resolution", "photons.angle_resolution", "photons.resolution"
    ] = Field(description="photons.resolution: energy and angle together")
    size: RelativeSizeOfMass = Field(description="relative change of the parameter")
    on: list[str] = Field(min_length=1, description="samples: `signal` or names of backgrounds")


class SpuriousSignal(SpecModel):
    """The choice of the background shape: the signal that the fit finds in the simulated shape, as an uncertainty."""

    kind: Literal["spurious-signal"]
    of: str = Field(description="the background with the free shape")
    source: Source


Systematic = Annotated[LuminositySystematic | RateSystematic | ShapeSystematic | SpuriousSignal, Discriminator("kind")]


class Radiation(SpecModel):
    """Photons radiated along the beams before the collision, by a collinear structure function."""

    initial_state: Literal["collinear", "none"]
    source: Source


class Statistics(SpecModel):
    """How limits are found. The first method is the one of the search; all are reported."""

    methods: list[Method] = Field(min_length=1)
    confidence_level: Fraction
    source: Source

    @model_validator(mode="after")
    def _sensible(self) -> Statistics:
        if not 0.5 <= self.confidence_level < 1.0:
            reason = f"found {self.confidence_level:g}; a confidence level lies between 50 % and 100 %"
            raise refusal(reason, ("confidence_level",))
        if len(set(self.methods)) < len(self.methods):
            reason = "found a method twice; name each once"
            raise refusal(reason, ("methods",))
        return self


class PseudoData(SpecModel):
    """Simulated data without signal, Poisson distributed, from a seed."""

    kind: Literal["pseudo"]
    seed: WholeNumber = Field(ge=0, lt=2**63)


class AsimovData(SpecModel):
    """The expected background itself as data."""

    kind: Literal["asimov"]


Data = Annotated[PseudoData | AsimovData, Discriminator("kind")]


class SearchSpec(SpecModel):
    """One search, complete."""

    schema_: Literal["search/1"] = Field(alias="schema", description="the version of this format: search/1")
    name: str = Field(description="short name for files, such as belle2-alp-gammagamma-2018")
    title: str
    papers: list[str] = Field(default_factory=list, description="such as arXiv:2007.13071")
    notes: str | None = Field(None, description="what a reader should know about the inputs")
    experiment: Experiment = Field(description="path of the experiment file, relative to this one")
    luminosity: IntegratedLuminosity
    radiation: Radiation
    seed: WholeNumber = Field(1, ge=0, lt=2**63, description="of the simulation")
    signal: Signal
    grid: dict[Name, GridAxis] = Field(min_length=1, max_length=1, description="the mass hypotheses, by grid variable")
    selection: list[Cut] = Field(description="a list of cuts, which may be empty: []")
    channels: dict[Name, Channel] = Field(min_length=1, description="observables and fit windows, by name")
    backgrounds: dict[Name, Background] = Field(min_length=1, description="backgrounds, by name")
    systematics: dict[Name, Systematic] = Field(description="systematic uncertainties, by name; {} for none")
    statistics: Statistics
    data: Data = Field(description="the data that limits are found for, such as {kind: pseudo, seed: 1}")

    @model_validator(mode="after")
    def _name_for_files(self) -> SearchSpec:
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,79}", self.name):
            reason = f"found {self.name!r}; use letters, digits, '-', '_' and '.', so that it can name a file"
            raise refusal(reason, ("name",))
        return self

    @property
    def grid_variable(self) -> str:
        """The name of the mass that is scanned, such as `m_a`."""
        return next(iter(self.grid))
