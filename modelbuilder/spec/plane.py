"""Channels in the plane of two observables, one for each mass of the grid, with elliptical windows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from modelbuilder.errors import KinematicsError
from modelbuilder.spec.base import Name, Source, SpecModel, refusal, shown
from modelbuilder.spec.conditions import Condition
from modelbuilder.spec.functions import CorrelationOfMass, CountOfMass, PositiveEnergyOfMass, RawValue, parsed
from modelbuilder.spec.observables import arguments_of, unit_of
from modelbuilder.spec.quantities import (
    ENERGY,
    ENERGY_SQUARED,
    Luminosity,
    PositiveEnergy,
    PositiveResolutions,
    Quantity,
)

IN_THE_PLANE = ("mass", "mass2", "recoil", "recoil2")
PlaneObservable = Annotated[str, Field(json_schema_extra={"pattern": rf"^\s*({'|'.join(IN_THE_PLANE)})\b.*$"})]


class EllipseWindow(SpecModel):
    """All events within an ellipse around the masses, shaped as the two resolutions and their correlation."""

    ellipse: PositiveResolutions = Field(description="semi-axes, in standard deviations", examples=["2 resolution"])


class PlaneChannel(SpecModel):
    """A count of events in an ellipse in the plane of two observables, around the two masses of a grid point."""

    plane: dict[Name, PlaneObservable] = Field(
        min_length=2,
        max_length=2,
        description="the observable of each mass, in the order of the grid",
        examples=[{"m_Ap": "mass(mu+ mu-)", "m_hp": "recoil(mu+ mu-)"}],
    )
    where: Condition | None = Field(None, description="the grid points of this channel; all, if absent")
    resolution: dict[Name, PositiveEnergyOfMass] = Field(
        default_factory=dict,
        description="standard deviation of each mass: for the steps of the grid, and for windows where no signal is simulated",
    )
    correlation: CorrelationOfMass | None = Field(
        None, description="between the two observables, where no signal is simulated; otherwise it is measured"
    )
    window: EllipseWindow
    source: Source = Field(description="of the window")

    @model_validator(mode="after")
    def _complete(self) -> PlaneChannel:
        for name, text in self.plane.items():
            try:
                function = arguments_of(text)[0]
            except KinematicsError as error:
                raise refusal(str(error), ("plane", name)) from None
            if function not in IN_THE_PLANE or " / " in text:
                reason = f"found {shown(text)}; a plane is made of masses: {', '.join(IN_THE_PLANE)}"
                raise refusal(reason, ("plane", name))
        for name in self.resolution:
            if name not in self.plane:
                reason = f"found {name!r}; the plane has {' and '.join(self.plane)}"
                raise refusal(reason, ("resolution", name))
        return self

    @property
    def observables(self) -> tuple[str, str]:
        """In the order of the grid."""
        first, second = self.plane.values()
        return first, second


class Nodes(SpecModel):
    """The pairs of masses that a signal is simulated at; what is measured there is interpolated to all grid points."""

    masses: dict[Name, list[PositiveEnergy]] = Field(
        min_length=2,
        max_length=2,
        description="of each grid variable; all pairs are taken",
        examples=[{"m_Ap": ["2 GeV", "6 GeV", "10 GeV"], "m_hp": ["0.1 GeV", "4 GeV"]}],
    )
    where: Condition | None = Field(None, description="the pairs that are taken, where not all; they surround the grid")
    source: Source

    @model_validator(mode="after")
    def _rise(self) -> Nodes:
        for name, masses in self.masses.items():
            if len(masses) < 2 or sorted(set(masses)) != masses:
                reason = "found masses that do not rise; write two at least, in rising order"
                raise refusal(reason, ("masses", name))
        return self

    @property
    def pairs(self) -> tuple[dict[str, float], ...]:
        """GeV, by grid variable."""
        (first, ones), (second, others) = self.masses.items()
        every = ({first: one, second: other} for one in ones for other in others)
        return tuple(pair for pair in every if self.where is None or self.where.holds(pair))


class EventsInPlane(SpecModel):
    """Background events that are expected in the plane: in the window of a grid point, or per area."""

    events: CountOfMass = Field(description="after all cuts, as a number or a function of the masses")
    per: Literal["window"] | tuple[RawValue, RawValue] = Field(
        description="window, or an interval of each observable, such as [10 MeV, 0.1 GeV^2]"
    )
    luminosity: Luminosity = Field(description="that the events are for; they are scaled to that of the search")
    source: Source

    def area(self, observables: tuple[str, str]) -> float | None:
        """Of the two intervals, in the units of the observables; None for a window."""
        if self.per == "window":
            return None
        area = 1.0
        for index, (text, interval) in enumerate(zip(observables, self.per, strict=True)):
            dimension = ENERGY if unit_of(text) == "GeV" else ENERGY_SQUARED
            area *= parsed(Quantity(dimension, low=0.0, exclusive=True), interval, ("per", index))
        return area


def kind_of_channel(value: object) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return "a plane" if "plane" in keys else "a line"


def kind_of_expectation(value: object) -> str:
    per = value.get("per") if isinstance(value, dict) else getattr(value, "per", None)
    return "a plane" if per == "window" or isinstance(per, list | tuple) else "a spectrum"
