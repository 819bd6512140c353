"""The processes that can be simulated: each has a generator kernel in `_three_photons.py`, found by its code."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.response import PhotonResponse
from modelbuilder.kinematics.selection import PhotonSelection

# A photon is taken to be measured within this many standard deviations when generator cuts are checked.
MARGIN_SIGMAS = 6.0


class Process(Protocol):
    """What a simulation asks of a process."""

    @property
    def code(self) -> int:
        """The generator kernel, as in `_three_photons._generate`."""

    @property
    def weight_unit(self) -> str:
        """Of the mean event weight: "1", relative to the nominal cross section, or "fb"."""

    @property
    def has_true_pairing(self) -> bool:
        """Whether photons 1 and 2 come from one particle and photon 0 does not."""

    def parameters(
        self, beams: Beams, response: PhotonResponse, selection: PhotonSelection
    ) -> tuple[float, float, float, float, float, float]:
        """The six numbers of the kernel; KinematicsError if the process is not possible here."""


@dataclass(frozen=True, kw_only=True)
class GammaAlp:
    """e+e- -> gamma a, a -> gamma gamma. Photon 0 recoils against a.

    mass: of a, GeV. No width: a is taken to be narrow and to decay promptly.

    dsigma/dcos(theta*) = alpha g^2/64 (1 + cos^2 theta*) (1 - m^2/s)^3: arXiv:1709.00009. The weight of an event is
    sigma(s')/sigma(s): 1 without radiation and beam-energy spread.
    """

    mass: float

    code = 0
    weight_unit = "1"
    has_true_pairing = True

    def parameters(
        self, beams: Beams, response: PhotonResponse, selection: PhotonSelection
    ) -> tuple[float, float, float, float, float, float]:
        """The mass in GeV and five unused numbers."""
        if not (math.isfinite(self.mass) and self.mass > 0.0):
            msg = f"e+ e- -> gamma a: m_a is {self.mass:g} GeV; it must be positive"
            raise KinematicsError(msg)
        if self.mass >= beams.sqrt_s:
            msg = (
                f"e+ e- -> gamma a: m_a is {self.mass:g} GeV, but sqrt(s) is {beams.sqrt_s:.5g} GeV;"
                " a heavier particle than sqrt(s) cannot be produced"
            )
            raise KinematicsError(msg)
        return (self.mass, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class ThreePhotons:
    """e+e- -> gamma gamma gamma at lowest order. Photon 0 is the softest in the e+e- rest frame. Weights in fb.

    The cross section without cuts is infinite, so the generator has its own, on the true photons in the rest frame of
    the nominal beams:
    min_energy: least energy of every photon, GeV.    max_cos: largest |cos| to the beam axis of every photon.

    They must be so loose that no event from outside them could pass the selection: a simulation refuses a selection
    that is not inside them by `MARGIN_SIGMAS` standard deviations of the response. Within that the result does not
    depend on them, except that other cuts are other random events: to have the *same* events for two selections (for
    pseudo-data, or for a variation), use one object for both, for instance that of `covering`.
    """

    min_energy: float = 0.3
    max_cos: float = 0.9

    code = 1
    weight_unit = "fb"
    has_true_pairing = False

    @classmethod
    def covering(
        cls, beams: Beams, response: PhotonResponse, selections: Iterable[PhotonSelection], *, extra: float = 0.1
    ) -> ThreePhotons:
        """The tightest generator cuts that are good for all these selections, and looser again by `extra`.

        extra: relative, of the energy and of the distance of the cosine from 1. It leaves room for variations of the
            response.
        """
        needs = [_needed_cuts(beams, response, selection) for selection in selections]
        min_energy = min(need[0] for need in needs) * (1.0 - extra)
        max_cos = 1.0 - (1.0 - max(need[1] for need in needs)) * (1.0 - extra)
        if not (min_energy > 0.0 and max_cos < 1.0):
            msg = (
                "e+ e- -> gamma gamma gamma: no generator cuts cover a selection without an energy threshold, or that"
                " reaches the beam line; the cross section is infinite there"
            )
            raise KinematicsError(msg)
        return cls(min_energy=min_energy, max_cos=max_cos)

    def parameters(
        self, beams: Beams, response: PhotonResponse, selection: PhotonSelection
    ) -> tuple[float, float, float, float, float, float]:
        """The generator cuts and four unused numbers; KinematicsError if they do not cover the selection."""
        name = "e+ e- -> gamma gamma gamma"
        if not (0.0 < self.min_energy < beams.sqrt_s / 3.0 and 0.0 < self.max_cos < 1.0):
            msg = (
                f"{name}: generator cuts min_energy = {self.min_energy:g} GeV and max_cos = {self.max_cos:g};"
                f" must be within 0 to sqrt(s)/3 = {beams.sqrt_s / 3.0:.4g} GeV and within 0 to 1"
            )
            raise KinematicsError(msg)
        needed_energy, needed_cos = _needed_cuts(beams, response, selection)
        if self.min_energy > needed_energy:
            msg = (
                f"{name}: the generator cut min_energy = {self.min_energy:g} GeV could lose events of the selection"
                f" (photons above {selection.min_energy:g} GeV in the laboratory); it must be at most"
                f" {max(needed_energy, 0.0):.4g} GeV"
            )
            raise KinematicsError(msg)
        if self.max_cos < needed_cos:
            msg = (
                f"{name}: the generator cut max_cos = {self.max_cos:g} could lose events of the polar angles of the"
                f" selection; it must be at least {needed_cos:.5g}"
            )
            raise KinematicsError(msg)
        return (self.min_energy, self.max_cos, 0.0, 0.0, 0.0, 0.0)


def _needed_cuts(beams: Beams, response: PhotonResponse, selection: PhotonSelection) -> tuple[float, float]:
    """Least energy (GeV) and largest |cos| in the nominal e+e- frame of a true photon that could be selected.

    Could be: measured `MARGIN_SIGMAS` standard deviations off. An energy of 0 or a cosine of 1 means no bound.
    """
    # the least true energy: its fluctuation just reaches the threshold
    energy = selection.min_energy / response.energy_scale
    for _ in range(50):
        resolution = response.energy_resolution(energy) if energy > 0.0 else 0.0
        energy = max(0.0, selection.min_energy / response.energy_scale - MARGIN_SIGMAS * resolution)
    if energy <= 0.0:
        return 0.0, 1.0
    margin = MARGIN_SIGMAS * response.angular_resolution(energy)
    low = max(0.0, min(interval[0] for interval in selection.theta) - margin)
    high = min(math.pi, max(interval[1] for interval in selection.theta) + margin)

    half = 0.5 * beams.crossing_angle
    if low <= half or high >= math.pi - half:
        return 0.0, 1.0  # a beam line, or its whole side, is within reach
    theta, phi = np.meshgrid(np.linspace(low, high, 721), np.linspace(0.0, math.pi, 181), indexing="ij")
    x, z = np.sin(theta) * np.cos(phi), np.cos(theta)
    k_minus = beams.electron_energy * (1.0 - x * math.sin(half) - z * math.cos(half))
    k_plus = beams.positron_energy * (1.0 - x * math.sin(half) + z * math.cos(half))
    least_energy = energy * float(np.min(k_minus + k_plus)) / beams.sqrt_s
    largest_cos = float(np.max(np.abs(k_plus - k_minus) / (k_plus + k_minus)))
    return least_energy, largest_cos
