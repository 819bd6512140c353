"""Beams, response, selection and processes: numbers, and refusals that say what is wrong."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.errors import KinematicsError
from modelbuilder.histograms.simulate import beams_of
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import simulate_chain
from modelbuilder.kinematics.processes import GammaAlp, Process, ThreePhotons
from modelbuilder.kinematics.response import PERFECT, PhotonResponse
from modelbuilder.kinematics.selection import PhotonSelection
from modelbuilder.kinematics.simulate import PseudoData, simulate_histograms
from modelbuilder.spec.load import load_experiment
from modelbuilder.spec.topology import parse_chain

EXPERIMENTS = Path(__file__).parents[2] / "specs" / "experiments"
Barrel = Callable[..., PhotonSelection]


def test_belle2_beams(beams: Beams) -> None:
    """Reference (physics notes, section 0.1): sign of the crossing angle, direction of the boost."""
    assert beams.sqrt_s == pytest.approx(10.5796, abs=5e-5)
    assert beams.four_momentum == pytest.approx((11.006, 0.4566, 0.0, 2.9994), abs=5e-5)
    boost = np.array(beams.boost)
    assert math.sqrt(boost @ boost) == pytest.approx(0.2757, abs=5e-5)
    assert math.degrees(math.atan2(boost[0], boost[2])) == pytest.approx(8.66, abs=5e-3)
    energy, *momentum = beams.four_momentum
    assert energy**2 - sum(p * p for p in momentum) == pytest.approx(beams.s, rel=1e-14)


def test_babar_boost() -> None:
    """Reference (physics notes): head-on beams."""
    assert Beams(electron_energy=9.0, positron_energy=3.1).boost[2] == pytest.approx(0.488, abs=5e-4)


@pytest.mark.parametrize("name", ["belle2", "belle", "babar"])
def test_the_experiments_run_on_the_resonance(name: str) -> None:
    """Reference (PDG): mass of the Y(4S), 10.5794 GeV, and of B0; catches beams that miss it, with slow or no B mesons.

    Two-body momentum at the nominal mass: 0.329 GeV. The spread of the beams widens it, and hardly an event has none.
    """
    beams = beams_of(load_experiment(EXPERIMENTS / f"{name}.yaml"))
    assert beams.sqrt_s == pytest.approx(10.579, abs=0.002)
    chain = parse_chain("e+ e- -> Y(4S), Y(4S) -> B0 anti-B0")
    events = simulate_chain(chain, beams, isr=False, n_events=20_000, seed=1, stream="Y")
    good = events.weights > 0.0
    assert np.mean(good) > 0.999
    b, all_of = events.momentum("B0")[good], np.array(beams.four_momentum)
    energy = (b @ (all_of * np.array([1.0, -1.0, -1.0, -1.0]))) / beams.sqrt_s
    momentum = np.sqrt(np.maximum(energy**2 - 5.2797**2, 0.0))
    assert float(np.average(momentum, weights=events.weights[good])) == pytest.approx(0.329, abs=0.025)


def test_response_width(response: PhotonResponse) -> None:
    """Reference: the quadratic sum of the three terms and the resolution scale."""
    expected = 2.0 * math.sqrt((0.00066 / 2.0) ** 2 + (0.0081 / 2.0**0.25) ** 2 + 0.0134**2)
    assert response.energy_resolution(2.0) == pytest.approx(expected, rel=1e-12)
    assert replace(response, resolution_scale=1.1).energy_resolution(2.0) == pytest.approx(1.1 * expected, rel=1e-12)
    assert response.angular_resolution(4.0) == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Beams(electron_energy=-1.0, positron_energy=4.0), "electron_energy is -1 GeV"),
        (lambda: Beams(electron_energy=7.0, positron_energy=math.inf), "positron_energy"),
        (lambda: Beams(electron_energy=7.0, positron_energy=4.0, crossing_angle=2.0), "crossing_angle"),
        (lambda: Beams(electron_energy=7.0, positron_energy=4.0, positron_energy_spread=1.0), "positron_energy_spread"),
        (lambda: replace(PERFECT, noise=-0.1), "noise is -0.1"),
        (lambda: replace(PERFECT, energy_floor=0.0), "energy_floor is 0"),
        (lambda: replace(PERFECT, energy_scale=math.nan), "energy_scale"),
        (lambda: PhotonSelection(theta=()), "no polar-angle interval"),
        (lambda: PhotonSelection(theta=((1.0, 2.0), (1.5, 3.0))), "disjoint"),
        (lambda: PhotonSelection(theta=((0.0, 180.0),)), "within 0 to 180 deg"),
        (lambda: PhotonSelection(min_energy=-1.0), "min_energy"),
        (lambda: PhotonSelection(mass_window=(1.0, 0.9)), "mass window"),
        (lambda: PhotonSelection(min_opening_angle=2.5), "min_opening_angle"),
    ],
)
def test_impossible_values_are_refused(make: Callable[[], object], message: str) -> None:
    """Invariant: a nonsense number is refused by name where it is given, not found later as NaN."""
    with pytest.raises(KinematicsError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("process", "min_energy", "message"),
    [
        (GammaAlp(mass=11.0), 1.0, "m_a is 11 GeV, but sqrt(s) is 10.58 GeV"),
        (GammaAlp(mass=0.0), 1.0, "must be positive"),
        (GammaAlp(mass=math.nan), 1.0, "must be positive"),
        (ThreePhotons(), 0.1, "min_energy = 0.3 GeV could lose events"),
        (ThreePhotons(), 0.0, "must be at most 0 GeV"),
        (ThreePhotons(max_cos=0.7), 1.0, "max_cos = 0.7 could lose events"),
        (ThreePhotons(min_energy=4.0), 1.0, "must be within 0 to sqrt(s)/3"),
    ],
)
def test_impossible_processes_are_refused(
    process: Process, min_energy: float, message: str, beams: Beams, response: PhotonResponse, barrel: Barrel
) -> None:
    """Invariant: a mass out of reach, or generator cuts inside the selection, stop before any event is made."""
    with pytest.raises(KinematicsError, match=re.escape(message)):
        process.parameters(beams, response, barrel(min_energy))


def test_generator_cuts_that_cover_several_selections(beams: Beams, response: PhotonResponse, barrel: Barrel) -> None:
    """Invariant: `covering` gives cuts that every selection accepts, with room for variations; else it refuses."""
    selections = [barrel(1.0), barrel(0.65), PhotonSelection(theta=((0.3, 2.0),), min_energy=0.5)]
    process = ThreePhotons.covering(beams, response, selections)
    for selection in selections:
        process.parameters(beams, replace(response, energy_scale=1.02, resolution_scale=1.2), selection)
    with pytest.raises(KinematicsError, match="infinite"):
        ThreePhotons.covering(beams, response, [PhotonSelection(min_energy=1.0)])
    with pytest.raises(KinematicsError, match="infinite"):
        ThreePhotons.covering(beams, response, [barrel(0.0)])


GOOD = {"axes": {"mass2": [0.0, 1.0]}, "isr": False, "n_events": 10, "seed": 1, "stream": "x"}


@pytest.mark.parametrize(
    ("process", "change", "message"),
    [
        (GammaAlp(mass=1.0), {"axes": {"mass": [0.0, 1.0]}}, "unknown observable 'mass'; known: mass2, recoil2"),
        (GammaAlp(mass=1.0), {"axes": {}}, "no observable"),
        (GammaAlp(mass=1.0), {"axes": {"mass2": [0.0]}}, "edges of mass2"),
        (GammaAlp(mass=1.0), {"axes": {"mass2": [0.0, 0.0]}}, "edges of mass2"),
        (GammaAlp(mass=1.0), {"axes": {"mass2": [0.0, math.inf]}}, "edges of mass2"),
        (GammaAlp(mass=1.0), {"n_events": 0}, "n_events is 0"),
        (GammaAlp(mass=1.0), {"n_threads": 0}, "n_threads is 0"),
        (GammaAlp(mass=1.0), {"pairing": "wrong"}, "pairing"),
        (ThreePhotons(), {"pairing": "true"}, "ThreePhotons has no decay to two photons"),
        (GammaAlp(mass=1.0), {"pseudo": PseudoData(luminosity=1.0, seed=1)}, "give cross_section"),
        (ThreePhotons(), {"pseudo": PseudoData(luminosity=1.0, seed=1, cross_section=1.0)}, "must be None"),
        (ThreePhotons(), {"pseudo": PseudoData(luminosity=-1.0, seed=1)}, "luminosity is -1"),
    ],
)
def test_impossible_simulations_are_refused(
    process: Process,
    change: dict[str, object],
    message: str,
    beams: Beams,
    response: PhotonResponse,
    barrel: Barrel,
) -> None:
    """Invariant: every argument is checked and named."""
    with pytest.raises(KinematicsError, match=re.escape(message)):
        simulate_histograms(process, beams, response, barrel(1.0), **{**GOOD, **change})  # type: ignore[arg-type]


def test_no_module_but_the_kernels_imports_numba() -> None:
    """Invariant: start-up stays fast; `modelbuilder --help` must not pay for numba."""
    modules = "beams, processes, resolution, response, selection, simulate"
    code = f"import sys\nfrom modelbuilder.kinematics import {modules}\nassert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
