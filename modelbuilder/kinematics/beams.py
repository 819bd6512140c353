"""The colliding beams."""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics._constants import ALPHA, ELECTRON_MASS


@dataclass(frozen=True, kw_only=True)
class Beams:
    """An electron and a positron beam in the laboratory, whose z axis is that of the detector.

    electron_energy, positron_energy: GeV.
    crossing_angle: full angle between the beam lines, rad. Each beam makes half of it with the z axis, in the x-z
        plane, both with positive px: the electron goes to +z, the positron to -z.
    electron_energy_spread, positron_energy_spread: standard deviation of the beam energy, GeV.

    The electron mass is neglected (1e-8 of s).
    """

    electron_energy: float
    positron_energy: float
    crossing_angle: float = 0.0
    electron_energy_spread: float = 0.0
    positron_energy_spread: float = 0.0

    def __post_init__(self) -> None:
        for name in ("electron_energy", "positron_energy"):
            energy = getattr(self, name)
            if not (math.isfinite(energy) and energy > 0.0):
                msg = f"beams: {name} is {energy:g} GeV; it must be positive"
                raise KinematicsError(msg)
        if not 0.0 <= self.crossing_angle < 0.5 * math.pi:
            msg = f"beams: crossing_angle is {self.crossing_angle:g} rad; it must be at least 0 and below pi/2"
            raise KinematicsError(msg)
        for name, energy in (("electron", self.electron_energy), ("positron", self.positron_energy)):
            spread = getattr(self, f"{name}_energy_spread")
            if not 0.0 <= spread <= 0.05 * energy:
                msg = f"beams: {name}_energy_spread is {spread:g} GeV; it must be from 0 to 5 % of the {name} energy"
                raise KinematicsError(msg)

    @property
    def four_momentum(self) -> tuple[float, float, float, float]:
        """E, px, py, pz of the initial state in the laboratory, GeV."""
        half = 0.5 * self.crossing_angle
        total = self.electron_energy + self.positron_energy
        difference = self.electron_energy - self.positron_energy
        return (total, total * math.sin(half), 0.0, difference * math.cos(half))

    @property
    def s(self) -> float:
        """Squared centre-of-mass energy, GeV^2."""
        return 4.0 * self.electron_energy * self.positron_energy * math.cos(0.5 * self.crossing_angle) ** 2

    @property
    def sqrt_s(self) -> float:
        """Centre-of-mass energy, GeV."""
        return math.sqrt(self.s)

    @property
    def boost(self) -> tuple[float, float, float]:
        """Velocity of the centre of mass in the laboratory in units of c: x, y, z."""
        energy, px, py, pz = self.four_momentum
        return (px / energy, py / energy, pz / energy)

    @property
    def isr_beta(self) -> float:
        """2 alpha/pi (ln(s/m_e^2) - 1): strength of the collinear radiation of both beams together, dimensionless."""
        return 2.0 * ALPHA / math.pi * (math.log(self.s / ELECTRON_MASS**2) - 1.0)
