"""The experiment file: beams, acceptance and response of a detector, shared by its searches."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from modelbuilder.spec.base import Name, Source, SpecModel, refusal
from modelbuilder.spec.quantities import ANGLE, Angle, Energy, Fraction, Number, PositiveEnergy, Quantity

PolarAngle = Annotated[float, Quantity(ANGLE, low=0.0, high=math.pi)]


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


class Photons(SpecModel):
    """Acceptance and response for photons."""

    acceptance: list[PolarRange] = Field(min_length=1, description="polar ranges of the calorimeter; gaps between them")
    minimum_energy: Energy = Field(description="below this laboratory energy a photon is not found")
    minimum_opening_angle: Angle = Field(description="photons closer than this merge into one")
    energy_resolution: PhotonEnergyResolution
    angle_resolution: PhotonAngleResolution
    efficiency: ConstantEfficiency = Field(description="to find a photon within the acceptance")
    source: Source = Field(description="of the minimum energy and the minimum opening angle")


class TrackMomentumResolution(SpecModel):
    """sigma_pt / pt = slope * pt (+) constant / beta, with pt in GeV."""

    slope: Number
    constant: Fraction
    source: Source


class Tracks(SpecModel):
    """Acceptance and response for charged particles."""

    acceptance: list[PolarRange] = Field(min_length=1)
    minimum_transverse_momentum: Energy
    momentum_resolution: TrackMomentumResolution
    angle_resolution: Angle = Field(description="standard deviation of the direction in each transverse direction")
    efficiency: ConstantEfficiency
    source: Source = Field(description="of the minimum transverse momentum and the angle resolution")


class Experiment(SpecModel):
    """An experiment at an e+e- collider."""

    schema_: Literal["experiment/1"] = Field(alias="schema", description="the version of this format: experiment/1")
    name: Name
    title: str = Field(description="the name for figures, such as Belle II")
    beams: Beams
    photons: Photons
    tracks: Tracks
