"""What the kinematics tests share: the Belle II beams and response of the physics notes, and small helpers."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.response import PhotonResponse
from modelbuilder.kinematics.selection import PhotonSelection


@pytest.fixture(scope="session")
def beams() -> Beams:
    """Belle II without energy spread."""
    return Beams(electron_energy=7.004, positron_energy=4.002, crossing_angle=0.083)


@pytest.fixture(scope="session")
def real_beams() -> Beams:
    """Belle II with energy spread."""
    return Beams(
        electron_energy=7.004,
        positron_energy=4.002,
        crossing_angle=0.083,
        electron_energy_spread=5.13e-3,
        positron_energy_spread=2.375e-3,
    )


@pytest.fixture(scope="session")
def response() -> PhotonResponse:
    """The calorimeter of the physics notes."""
    return PhotonResponse(noise=0.00066, stochastic=0.0081, constant=0.0134, angle=0.004)


@pytest.fixture(scope="session")
def barrel() -> Callable[..., PhotonSelection]:
    """All photons in 37.3 to 123.7 deg above an energy."""

    def make(min_energy: float, **cuts: object) -> PhotonSelection:
        theta = ((math.radians(37.3), math.radians(123.7)),)
        return PhotonSelection(theta=theta, min_energy=min_energy, **cuts)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def table() -> Callable[[str], dict[str, np.ndarray]]:
    """Columns of a file in `data`."""

    def read(name: str) -> dict[str, np.ndarray]:
        lines = (Path(__file__).parent / "data" / name).read_text(encoding="utf-8").splitlines()
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}

    return read


@pytest.fixture(scope="session")
def compatible() -> Callable[[np.ndarray, np.ndarray], None]:
    """Assert that differences are normal with these variances, by chi-square within five standard deviations."""

    def check(difference: np.ndarray, variance: np.ndarray) -> None:
        assert np.all(variance > 0.0)
        n = len(difference)
        chi_square = float(np.sum(difference**2 / variance))
        # Wilson and Hilferty: the cube root of chi2/n is normal
        z = ((chi_square / n) ** (1 / 3) - (1 - 2 / (9 * n))) / math.sqrt(2 / (9 * n))
        assert -5.0 < z < 5.0, f"chi2 = {chi_square:.1f} for {n} bins, {z:.1f} sigma"

    return check
