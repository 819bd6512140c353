"""How the detector measures photons."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from modelbuilder.errors import KinematicsError


@dataclass(frozen=True, kw_only=True)
class PhotonResponse:
    """Gaussian smearing of photon energy and direction.

    sigma(E)/E = noise/E (+) stochastic/E^(1/4) (+) constant, added in quadrature, E in GeV.
    noise: GeV.    stochastic: GeV^(1/4).    constant: dimensionless.
    angle: the direction is smeared by angle/sqrt(E) in each of two transverse directions, rad GeV^(1/2).
    energy_scale: measured over true energy.
    resolution_scale: multiplies sigma(E); does not act on the direction.
    energy_floor: least measured energy, GeV.

    Two responses that differ only here see the same events and the same normal numbers, if the seed and the stream
    are the same: a variation is smooth.
    """

    noise: float
    stochastic: float
    constant: float
    angle: float
    energy_scale: float = 1.0
    resolution_scale: float = 1.0
    energy_floor: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("noise", "stochastic", "constant", "angle", "resolution_scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                msg = f"photon response: {name} is {value:g}; it must not be negative"
                raise KinematicsError(msg)
        for name in ("energy_scale", "energy_floor"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                msg = f"photon response: {name} is {value:g}; it must be positive"
                raise KinematicsError(msg)

    def energy_resolution(self, energy: float) -> float:
        """sigma(E) in GeV for a photon of true energy `energy` in GeV, times resolution_scale."""
        square = self.noise**2 + self.stochastic**2 * energy**1.5 + self.constant**2 * energy**2
        return self.resolution_scale * math.sqrt(square)

    def angular_resolution(self, energy: float) -> float:
        """Standard deviation of the direction in each of two transverse directions, rad; `energy` in GeV."""
        return self.angle / math.sqrt(energy)

    def varied(self, what: str, factor: float) -> PhotonResponse:
        """With energy_scale, energy_resolution, angle_resolution or resolution (both) multiplied by a factor."""
        changes = {
            "energy_scale": {"energy_scale": self.energy_scale * factor},
            "energy_resolution": {"resolution_scale": self.resolution_scale * factor},
            "angle_resolution": {"angle": self.angle * factor},
            "resolution": {"resolution_scale": self.resolution_scale * factor, "angle": self.angle * factor},
        }
        return replace(self, **changes[what])


PERFECT = PhotonResponse(noise=0.0, stochastic=0.0, constant=0.0, angle=0.0)
