"""Which events are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelbuilder.errors import KinematicsError

STEPS = ("generated", "polar angle", "energy", "mass window", "opening angle")


@dataclass(frozen=True, kw_only=True)
class PhotonSelection:
    """Cuts on the reconstructed photons of an event; every photon has to pass.

    theta: accepted intervals of the laboratory polar angle, rad, ascending and disjoint; a gap between two is dead.
    min_energy: the laboratory energy must be above this, GeV.
    mass_window: accepted range of M(all photons)/sqrt(s), or None.
    min_opening_angle: least laboratory angle between any two photons, rad; below it clusters merge. 0 is off.
    """

    theta: tuple[tuple[float, float], ...] = ((0.0, math.pi),)
    min_energy: float = 0.0
    mass_window: tuple[float, float] | None = None
    min_opening_angle: float = 0.0

    def __post_init__(self) -> None:
        previous = -math.inf
        for low, high in self.theta:
            if not (0.0 <= low < high <= math.pi and low > previous):
                msg = (
                    f"photon selection: polar-angle interval {math.degrees(low):g} to {math.degrees(high):g} deg;"
                    " intervals must be within 0 to 180 deg, ascending and disjoint"
                )
                raise KinematicsError(msg)
            previous = high
        if not self.theta:
            msg = "photon selection: no polar-angle interval; use 0 to 180 deg for no cut"
            raise KinematicsError(msg)
        if not (math.isfinite(self.min_energy) and self.min_energy >= 0.0):
            msg = f"photon selection: min_energy is {self.min_energy:g} GeV; it must not be negative"
            raise KinematicsError(msg)
        if self.mass_window is not None:
            lower, upper = self.mass_window
            if not 0.0 <= lower < upper:
                msg = f"photon selection: mass window {lower:g} to {upper:g}; it must be ascending and not negative"
                raise KinematicsError(msg)
        if not 0.0 <= self.min_opening_angle < 2.0 / 3.0 * math.pi:
            msg = (
                f"photon selection: min_opening_angle is {math.degrees(self.min_opening_angle):g} deg; three photons"
                " cannot all be 120 deg or more apart"
            )
            raise KinematicsError(msg)
