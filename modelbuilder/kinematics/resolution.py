"""Resolution of the observables, from simulated events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.processes import GammaAlp
from modelbuilder.kinematics.response import PhotonResponse
from modelbuilder.kinematics.selection import PhotonSelection
from modelbuilder.kinematics.simulate import simulate_events

Floats = npt.NDArray[np.float64]

CENTRAL_FRACTION = 0.683


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Half widths of the central 68.3 % of the selected events with the right pairing.

    mass: GeV.    mass2, recoil2: of the squared pair mass and of the squared recoil mass, GeV^2.
    effective_sample_size: of the events used.
    """

    mass: float
    mass2: float
    recoil2: float
    effective_sample_size: float

    @property
    def pair_mass(self) -> float:
        """Of the pair mass, GeV: mass2/(2 m)."""
        return self.mass2 / (2.0 * self.mass)

    @property
    def recoil_mass(self) -> float:
        """Of the recoil mass, GeV: recoil2/(2 m). Formal where it exceeds the mass."""
        return self.recoil2 / (2.0 * self.mass)


def resolution(
    process: GammaAlp,
    beams: Beams,
    response: PhotonResponse,
    selection: PhotonSelection,
    *,
    isr: bool,
    n_events: int,
    seed: int,
    stream: str,
    n_threads: int | None = None,
) -> Resolution:
    """Simulate n_events and measure; 208 bytes per event. The relative error is about 1/sqrt(selected events)."""
    events = simulate_events(
        process,
        beams,
        response,
        selection,
        isr=isr,
        n_events=n_events,
        seed=seed,
        stream=stream,
        n_threads=n_threads,
    )
    weights = events.weights[events.selected]
    photons = events.reconstructed[events.selected]
    if len(weights) < 2:
        msg = (
            f"resolution at m_a = {process.mass:g} GeV: {len(weights)} of {n_events} events selected; at least 2 needed"
        )
        raise KinematicsError(msg)
    pair_mass2, recoil_mass2 = pair_and_recoil(photons, beams)
    return Resolution(
        mass=process.mass,
        mass2=central_half_width(pair_mass2, weights),
        recoil2=central_half_width(recoil_mass2, weights),
        effective_sample_size=float(np.sum(weights) ** 2 / np.sum(weights**2)),
    )


def pair_and_recoil(photons: Floats, beams: Beams) -> tuple[Floats, Floats]:
    """Squared mass of photons 1 and 2, and recoil against photon 0 (nominal beams), GeV^2; photons: (n, 3, 4), GeV."""
    directions = photons[:, :, 1:] / photons[:, :, :1]
    chord2 = np.sum((directions[:, 1] - directions[:, 2]) ** 2, axis=1)
    pair = photons[:, 1, 0] * photons[:, 2, 0] * chord2
    metric = np.array([1.0, -1.0, -1.0, -1.0])
    recoil = beams.s - 2.0 * photons[:, 0] @ (metric * np.array(beams.four_momentum))
    return pair, recoil


def central_half_width(values: Floats, weights: Floats, fraction: float = CENTRAL_FRACTION) -> float:
    """Half the distance of the two weighted quantiles that leave out (1 - fraction)/2 on either side."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    middle = (cumulative - 0.5 * weights[order]) / cumulative[-1]
    low, high = np.interp([0.5 - 0.5 * fraction, 0.5 + 0.5 * fraction], middle, values[order])
    return float(0.5 * (high - low))
