"""The experiment file: beams, acceptance and response of a detector, shared by its searches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from modelbuilder.spec.base import Name, Source, SpecModel, refusal
from modelbuilder.spec.functions import RawValue, parsed
from modelbuilder.spec.quantities import (
    ANGLE,
    ENERGY,
    LENGTH,
    NUMBER_OF,
    Angle,
    Energy,
    Fraction,
    Number,
    Position,
    PositiveEnergy,
    Quantity,
)

ParticleKind = Literal["electron", "muon", "pion", "kaon", "proton"]
PolarAngle = Annotated[float, Quantity(ANGLE, low=0.0, high=math.pi)]
PositiveLength = Annotated[float, Quantity(LENGTH, low=0.0, exclusive=True)]


class Beams(SpecModel):
    """Energies of the two beams and the angle between them."""

    electron_energy: PositiveEnergy = Field(description="energy of the electron beam, laboratory")
    positron_energy: PositiveEnergy = Field(description="energy of the positron beam, laboratory")
    crossing_angle: Angle = Field(description="full angle between the beams; each is half of it from the detector axis")
    electron_energy_spread: Energy = Field(description="standard deviation of the electron energy")
    positron_energy_spread: Energy = Field(description="standard deviation of the positron energy")
    source: Source

    @property
    def sqrt_s(self) -> float:
        """The collision energy, GeV, with the electron mass neglected."""
        return 2.0 * math.sqrt(self.electron_energy * self.positron_energy) * math.cos(0.5 * self.crossing_angle)


class PolarRange(SpecModel):
    """A range of polar angle, in the laboratory, from the detector axis (the electron direction)."""

    low: PolarAngle
    high: PolarAngle
    source: Source

    @model_validator(mode="after")
    def _ordered(self) -> PolarRange:
        if self.low >= self.high:
            reason = "found `low` at or above `high`; write the smaller angle as `low`"
            raise refusal(reason)
        return self


class PhotonEnergyResolution(SpecModel):
    """sigma_E / E = noise / E (+) stochastic / E^(1/4) (+) constant, with E in GeV, added in quadrature."""

    noise: Fraction
    stochastic: Fraction
    constant: Fraction
    source: Source


class PhotonAngleResolution(SpecModel):
    """Standard deviation of the direction in each transverse direction: at_1_gev / sqrt(E), with E in GeV."""

    at_1_gev: Angle
    source: Source


class ConstantEfficiency(SpecModel):
    """A constant efficiency."""

    value: Fraction
    source: Source


_MOMENTA = ("momentum", "transverse_momentum")
_ANGLES = ("theta", "cos_theta")


class TableEfficiency(SpecModel):
    """Efficiency in bins of momentum and polar angle of the true particle; beyond the table, that of the nearest bin."""

    table: dict[str, list[RawValue]] = Field(
        description=(
            "one list per column, one entry per bin: momentum_low and momentum_high (or transverse_momentum_...), "
            "theta_low and theta_high (or cos_theta_...), value, and uncertainty if there is one"
        )
    )
    source: Source

    @model_validator(mode="after")
    def _tiles(self) -> TableEfficiency:
        self.binned()
        return self

    @property
    def variables(self) -> tuple[str, str]:
        """The names of the two variables, as the columns have them."""
        momentum = next((name for name in _MOMENTA if f"{name}_low" in self.table), _MOMENTA[0])
        return momentum, next((name for name in _ANGLES if f"{name}_low" in self.table), _ANGLES[0])

    def binned(self) -> BinnedEfficiency:
        """Edges (GeV, rad or cosine) and values of the bins."""
        first, second = self.variables
        angle = Quantity(ANGLE, low=0.0, high=math.pi) if second == "theta" else Quantity(NUMBER_OF, low=-1.0, high=1.0)
        return bins_of(self.table, (first, second), (Quantity(ENERGY, low=0.0), angle))


@dataclass(frozen=True, kw_only=True)
class BinnedEfficiency:
    """A table in two variables: edges (GeV, rad or cosine), and values of shape (n_first, n_second)."""

    variables: tuple[str, str]
    first_edges: tuple[float, ...]
    second_edges: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    uncertainties: tuple[tuple[float, ...], ...]


def bins_of(
    table: dict[str, list[RawValue]], variables: tuple[str, str], quantities: tuple[Quantity, Quantity]
) -> BinnedEfficiency:
    """The bins of a table in two variables, one row per bin in any order; refused with the reason if they are no grid."""
    first, second = variables
    limits = [f"{first}_low", f"{first}_high", f"{second}_low", f"{second}_high"]
    wanted, allowed = {*limits, "value"}, {*limits, "value", "uncertainty"}
    if not wanted <= set(table) <= allowed:
        reason = f"found the columns {', '.join(table) or 'none'}; expected {', '.join((*limits, 'value'))}"
        raise refusal(reason, ("table",))

    def column(name: str, quantity: Quantity) -> list[float]:
        return [parsed(quantity, value, ("table", name, index)) for index, value in enumerate(table[name])]

    dimensions = [quantities[0]] * 2 + [quantities[1]] * 2
    columns = [column(name, quantity) for name, quantity in zip(limits, dimensions, strict=True)]
    fraction = Quantity(NUMBER_OF, low=0.0, high=1.0)
    values = column("value", fraction)
    errors = column("uncertainty", fraction) if "uncertainty" in table else []
    if len({len(one) for one in (*columns, values, errors or values)}) != 1:
        reason = "found lists of different lengths; each bin needs one entry in every column"
        raise refusal(reason, ("table",))
    axes = []
    for low, high, name in ((columns[0], columns[1], first), (columns[2], columns[3], second)):
        edges = sorted({*low, *high})
        if any(two <= one or edges.index(two) != edges.index(one) + 1 for one, two in zip(low, high, strict=True)):
            reason = f"found bins in {name} that overlap or are empty; every bin goes from one edge to the next"
            raise refusal(reason, ("table",))
        axes.append(edges)
    rows = {
        (axes[0].index(one), axes[1].index(two)): number
        for number, (one, two) in enumerate(zip(columns[0], columns[2], strict=True))
    }
    shape = len(axes[0]) - 1, len(axes[1]) - 1
    if len(rows) != len(values) or len(values) != shape[0] * shape[1]:
        reason = f"found {len(values)} bins, {len(rows)} of them different; the edges make {shape[0]} x {shape[1]}"
        raise refusal(reason, ("table",))

    def laid_out(numbers: list[float]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(numbers[rows[i, j]] for j in range(shape[1])) for i in range(shape[0]))

    return BinnedEfficiency(
        variables=(first, second),
        first_edges=tuple(axes[0]),
        second_edges=tuple(axes[1]),
        values=laid_out(values),
        uncertainties=laid_out(errors) if errors else (),
    )


def _kind_of_efficiency(value: object) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return "bins" if "table" in keys or "csv" in keys else "one number"


EfficiencyOfParticle = Annotated[
    Annotated[ConstantEfficiency, Tag("one number")] | Annotated[TableEfficiency, Tag("bins")],
    Discriminator(_kind_of_efficiency),
]


class Surface(SpecModel):
    """The inner surface of the calorimeter, where the direction of a photon is measured: a cylinder with two ends."""

    radius: PositiveLength
    z_low: Position
    z_high: Position
    source: Source

    @model_validator(mode="after")
    def _around_the_origin(self) -> Surface:
        if not self.z_low < 0.0 < self.z_high:
            reason = f"found ends at {self.z_low:g} and {self.z_high:g} cm; the collision lies between them, at 0"
            raise refusal(reason)
        return self


class Photons(SpecModel):
    """Acceptance and response for photons."""

    acceptance: list[PolarRange] = Field(min_length=1, description="polar ranges of the calorimeter; gaps between them")
    minimum_energy: Energy = Field(description="below this laboratory energy a photon is not found")
    minimum_opening_angle: Angle = Field(description="photons closer than this merge into one")
    energy_resolution: PhotonEnergyResolution
    angle_resolution: PhotonAngleResolution
    efficiency: EfficiencyOfParticle = Field(description="to find a photon within the acceptance")
    surface: Surface | None = Field(
        None, description="of the calorimeter: photons from displaced decays seem to come from the collision point"
    )
    source: Source = Field(description="of the minimum energy and the minimum opening angle")


class TrackMomentumResolution(SpecModel):
    """sigma_pt / pt = slope * pt (+) constant / beta, with pt in GeV."""

    slope: Number
    constant: Fraction
    source: Source


class Identification(SpecModel):
    """The probability that a charged particle is taken for what it is, or for another."""

    particle: ParticleKind = Field(description="what it is")
    taken_for: ParticleKind = Field(description="what it is taken for")
    efficiency: EfficiencyOfParticle


class TrackingVolume(SpecModel):
    """Where a charged particle may begin to be found: in a cylinder about the detector axis, in the laboratory."""

    rho: PositiveLength = Field(description="largest distance from the detector axis")
    z: tuple[Position, Position] = Field(description="range along the detector axis")
    source: Source

    @model_validator(mode="after")
    def _around_the_origin(self) -> TrackingVolume:
        if not self.z[0] < 0.0 < self.z[1]:
            reason = f"found {self.z[0]:g} to {self.z[1]:g} cm; the collision lies between the ends, at 0"
            raise refusal(reason, ("z",))
        return self


class Tracks(SpecModel):
    """Acceptance and response for charged particles."""

    acceptance: list[PolarRange] = Field(min_length=1, description="polar ranges of the tracker; gaps between them")
    minimum_transverse_momentum: Energy
    momentum_resolution: TrackMomentumResolution
    angle_resolution: Angle = Field(description="standard deviation of the direction in each transverse direction")
    volume: TrackingVolume = Field(
        description="where a charged particle must begin to be found; those of decays further out are lost"
    )
    efficiency: EfficiencyOfParticle
    identification: list[Identification] = Field(
        default_factory=list, description="without an entry a particle is taken for what it is, and for nothing else"
    )
    source: Source = Field(description="of the minimum transverse momentum and the angle resolution")

    @model_validator(mode="after")
    def _once(self) -> Tracks:
        known = [(entry.particle, entry.taken_for) for entry in self.identification]
        for index, pair in enumerate(known):
            if pair in known[:index]:
                reason = f"found {pair[0]} taken for {pair[1]} a second time; give one probability"
                raise refusal(reason, ("identification", index))
        return self


class Experiment(SpecModel):
    """An experiment at an e+e- collider."""

    schema_: Literal["experiment/1"] = Field(alias="schema", description="the version of this format: experiment/1")
    name: Name = Field(description="short name; luminosities of searches with the same name are one parameter")
    title: str = Field(description="the name for figures, such as Belle II")
    beams: Beams
    photons: Photons
    tracks: Tracks
