"""Measurement: response, acceptance, merging, efficiencies, displaced photons and vertices, reproducibility."""

from __future__ import annotations

import csv
import hashlib
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics import _measure
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import ChainEvents, simulate_chain
from modelbuilder.kinematics.measure import (
    Calorimeter,
    Detector,
    EfficiencyTable,
    MeasuredEvents,
    PhotonDetector,
    TrackDetector,
    TrackResponse,
    TrackVolume,
    VertexAcceptance,
    detector_of,
    measure,
    truth,
    varied_detector,
)
from modelbuilder.kinematics.resolution import central_half_width
from modelbuilder.kinematics.response import PhotonResponse
from modelbuilder.spec.load import load_experiment
from modelbuilder.spec.topology import Law, Topology, parse_chain

Table = Callable[[str], dict[str, np.ndarray]]

METRIC = np.array([1.0, -1.0, -1.0, -1.0])
BELLE2 = Beams(electron_energy=7.004, positron_energy=4.002, crossing_angle=0.083)
CALORIMETER = Calorimeter(radius=125.0, z_low=-102.0, z_high=196.0)
PHOTONS = PhotonResponse(noise=0.00066, stochastic=0.0081, constant=0.0134, angle=0.004)
TRACKS = TrackResponse(slope=0.0019, constant=0.003, angle=0.001)
# "1 mrad on both angles" of the notes is on theta and on phi: near threshold the mass of a pair tells the two apart,
# 0.90 MeV for transverse angles and 0.83 MeV for polar ones at 0.3 GeV (vector), 0.83 MeV in the notes
POLAR_TRACKS = replace(TRACKS, angles="polar")
MUON = 0.1056583755


def degrees(low: float, high: float) -> tuple[tuple[float, float], ...]:
    return ((math.radians(low), math.radians(high)),)


def tracks(low: float = 0.0, high: float = 180.0, pt: float = 0.0, **more: Any) -> Detector:
    return Detector(
        tracks=TrackDetector(response=POLAR_TRACKS, theta=degrees(low, high), min_transverse_momentum=pt, **more)
    )


FLAT = {"e+ e-": Law(name="phase-space")}


def simulated(text: str, n_events: int = 20_000, beams: Beams = BELLE2, **arguments: Any) -> ChainEvents:
    topology = parse_chain(text, **arguments)
    return simulate_chain(topology, beams, isr=False, n_events=n_events, seed=3, stream="measure")


def by_hand(topology: Topology, momenta: np.ndarray, points: np.ndarray | None = None) -> ChainEvents:
    """Events of these momenta, shape (n, n_nodes, 4)."""
    n, n_nodes, _ = momenta.shape
    return ChainEvents(
        topology=topology,
        momenta=momenta,
        points=np.zeros((n, n_nodes, 3)) if points is None else points,
        proper_lengths=np.zeros((n, n_nodes)),
        weights=np.ones(n),
        base_weights=np.ones(n),
        weight_unit="1",
        lifetimes={},
    )


def photons_by_hand(directions: list[tuple[float, float]], energies: list[float]) -> ChainEvents:
    """One event with photons at (theta, phi)."""
    topology = parse_chain("e+ e- -> " + " ".join("gamma" for _ in energies), laws=FLAT if len(energies) > 1 else None)
    momenta = np.zeros((1, len(energies) + 1, 4))
    for i, ((theta, phi), energy) in enumerate(zip(directions, energies, strict=True), start=1):
        x, y, z = math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)
        momenta[0, i] = energy * np.array([1.0, x, y, z])
    return by_hand(topology, momenta)


def mass2(p: np.ndarray) -> np.ndarray:
    squares: np.ndarray = (p**2) @ METRIC
    return squares


def seen(events: ChainEvents, detector: Detector, **more: Any) -> MeasuredEvents:
    return measure(events, detector, seed=5, stream="detector", **more)


def fraction(measured: MeasuredEvents) -> float:
    return float(measured.weights.sum() / measured.true_weights.sum())


# ---------------------------------------------------------------------------------------------------------------------
# The notes


def rows(name: str) -> list[dict[str, str]]:
    lines = (Path(__file__).parent / "data" / name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


DIMUONS = [
    row
    for row in rows("toy_mumu_x.csv")
    if row["m_X_GeV"] in ("0.1", "0.22", "0.3", "1", "2", "3", "4", "5", "6", "7", "8")
]


@pytest.mark.parametrize("row", DIMUONS, ids=lambda row: f"{row['model']}-{row['m_X_GeV']}")
def test_dimuon_recoil_of_the_notes(row: dict[str, str]) -> None:
    """Reference (direct_toy_mumuX.csv, another program): acceptances to 0.01, sigma(M_rec^2) to 5 %.

    Catches a wrong form of the momentum resolution: angles not in quadrature, 1/beta lost, pt in place of p.
    """
    mass = float(row["m_X_GeV"])
    laws = {"e+ e-": Law(name=f"leptons-{row['model']}")}
    events = simulated("e+ e- -> mu- mu+ X", 200_000, masses={"X": mass}, laws=laws)
    assert fraction(seen(events, tracks(17.0, 150.0, 0.15))) == pytest.approx(float(row["acc_CDC"]), abs=0.01)
    barrel = seen(events, tracks(32.2, 128.7, 0.4))
    assert fraction(barrel) == pytest.approx(float(row["acc_barrel"]), abs=0.01)
    good = barrel.weights > 0.0
    recoil = mass2(np.array(BELLE2.four_momentum) - barrel.momenta[good].sum(axis=1))
    width = central_half_width(recoil, barrel.weights[good])
    assert width == pytest.approx(float(row["sigma_M2rec_GeV2"]), rel=0.05)


@pytest.mark.parametrize(
    "row",
    [row for row in DIMUONS if row["acc_4mu"] and row["m_X_GeV"] in ("0.22", "0.3", "1", "3", "5", "8")],
    ids=lambda row: f"{row['model']}-{row['m_X_GeV']}",
)
def test_four_muons_of_the_notes(row: dict[str, str]) -> None:
    """Reference (direct_toy_mumuX.csv, X isotropic): acceptance of four muons to 0.01, sigma(M) of the pair to 5 %."""
    laws = {"e+ e-": Law(name=f"leptons-{row['model']}"), "X": Law(name="phase-space")}
    text, mass = "e+ e- -> mu- mu+ X, X -> mu- mu+", float(row["m_X_GeV"])
    events = simulated(text, 200_000, masses={"X": mass}, laws=laws)
    measured = seen(events, tracks(17.0, 150.0, 0.15))
    assert fraction(measured) == pytest.approx(float(row["acc_4mu"]), abs=0.01)
    good = measured.weights > 0.0
    pair = mass2(measured.momenta[good][:, 2:].sum(axis=1))
    assert measured.names[2:] == ("mu-[2]", "mu+[2]")
    width = 1e3 * central_half_width(np.sqrt(pair), measured.weights[good])
    assert width == pytest.approx(float(row["sigma_Mmumu_MeV"]), rel=0.05)


@pytest.mark.parametrize("row", rows("toy_alp_gammagamma.csv")[::3], ids=lambda row: str(row["m_GeV"]))
def test_three_photons_of_the_notes(row: dict[str, str]) -> None:
    """Reference (direct_toy_alp_gammagamma.csv): acceptances to 0.01, both resolutions to 5 %."""
    mass = float(row["m_GeV"])
    laws = {"e+ e-": Law(name="photon-pseudoscalar")}
    events = simulated("e+ e- -> gamma a, a -> gamma gamma", 200_000, masses={"a": mass}, laws=laws)
    barrel = Detector(photons=PhotonDetector(theta=degrees(32.2, 128.7)))
    one = seen(events, barrel, required=["gamma"])
    assert fraction(one) == pytest.approx(float(row["acc_recoil_barrel"]), abs=0.01)
    energy = 1.0 if mass <= 4.0 else 0.65
    inner = PhotonDetector(response=PHOTONS, theta=degrees(37.3, 123.7), min_energy=energy)
    measured = seen(events, Detector(photons=inner))
    assert fraction(measured) == pytest.approx(float(row["acc_3gamma"]), abs=0.01)
    good = measured.weights > 0.0
    p, w = measured.momenta[good], measured.weights[good]
    pair = central_half_width(mass2(p[:, 1] + p[:, 2]), w)
    assert pair == pytest.approx(float(row["sigma_M2gg_GeV2"]), rel=0.05)
    recoil = central_half_width(mass2(np.array(BELLE2.four_momentum) - p[:, 0]), w)
    assert recoil == pytest.approx(float(row["sigma_M2rec_GeV2"]), rel=0.05)


ACCEPTANCES = [
    # m_S, ctau, 0.05<r<1.4, 1.4<r<14, 14<r<60, r>0.05, r>0.2 of the notes, section 8.5
    (0.5, 0.01, 0.284, 0.000, 0.000, 0.284, 0.011),
    (0.5, 1.0, 0.254, 0.619, 0.039, 0.912, 0.879),
    (0.5, 10.0, 0.030, 0.233, 0.430, 0.693, 0.690),
    (0.5, 100.0, 0.003, 0.028, 0.094, 0.125, 0.125),
    (1.0, 0.1, 0.718, 0.002, 0.000, 0.720, 0.347),
    (1.0, 10.0, 0.061, 0.399, 0.405, 0.866, 0.859),
    (2.0, 1.0, 0.673, 0.202, 0.000, 0.875, 0.739),
    (2.0, 100.0, 0.014, 0.121, 0.314, 0.450, 0.449),
    (3.0, 0.1, 0.319, 0.000, 0.000, 0.319, 0.017),
    (3.0, 10.0, 0.236, 0.628, 0.054, 0.918, 0.888),
    (4.0, 1.0, 0.695, 0.002, 0.000, 0.697, 0.345),
    (4.0, 100.0, 0.061, 0.381, 0.396, 0.838, 0.831),
    (4.5, 10.0, 0.479, 0.193, 0.000, 0.672, 0.583),
    (4.5, 100.0, 0.085, 0.424, 0.190, 0.699, 0.689),
]


@pytest.mark.parametrize("row", ACCEPTANCES, ids=lambda row: f"{row[0]}-{row[1]}")
def test_geometric_acceptance_of_the_notes(row: tuple[float, ...]) -> None:
    """Reference (b_decay_searches.md 8.5): vertex acceptances of B -> K S, to 0.01.

    Catches a vertex taken from the wrong node, a flight without the boost, or rho taken for the distance.
    """
    mass, ctau, *expected = row
    # beta gamma = 0.284 along the axis, as there
    beams = Beams(electron_energy=7.0, positron_energy=4.0)
    events = simulated("B+ -> K+ S, S -> mu+ mu-", 60_000, beams, masses={"S": mass}, ctaus={"S": ctau})
    p = events.momentum("S")
    cosine = p[:, 3] / np.sqrt(np.sum(p[:, 1:] ** 2, axis=1))
    forward = (cosine < math.cos(math.radians(17.0))) & (cosine > math.cos(math.radians(150.0)))
    ranges = [(0.05, 1.4), (1.4, 14.0), (14.0, 60.0), (0.05, 60.0), (0.2, 60.0)]
    for rho, value in zip(ranges, expected, strict=True):
        vertex = VertexAcceptance(rho=rho, z=(-77.0, 160.0))
        measured = seen(events, Detector(), vertices={"S": vertex})
        assert measured.weights[forward].sum() / len(forward) == pytest.approx(value, abs=0.01)


# ---------------------------------------------------------------------------------------------------------------------
# Response


def standardised(events: ChainEvents, response: PhotonResponse | TrackResponse) -> list[np.ndarray]:
    """What has to be standard normal: energy or pt, and both angles; from the measured momenta of node 1."""
    p = events.momentum(events.names[1])
    size = np.sqrt(np.sum(p[:, 1:] ** 2, axis=1))
    direction = p[:, 1:] / size[:, None]
    across = np.cross([0.0, 0.0, 1.0], direction)
    across /= np.sqrt(np.sum(across**2, axis=1))[:, None]
    along = np.cross(across, direction)
    if isinstance(response, PhotonResponse):
        measured = seen(events, Detector(photons=PhotonDetector(response=response)))
        q = measured.momenta[:, 0]
        sigma = [response.energy_resolution(energy) for energy in p[:, 0]]
        scale = (q[:, 0] - p[:, 0]) / np.array(sigma)
        angle = response.angle / np.sqrt(p[:, 0])
    else:
        measured = seen(events, Detector(tracks=TrackDetector(response=response)))
        q = measured.momenta[:, 0]
        pt, beta = np.hypot(p[:, 1], p[:, 2]), size / p[:, 0]
        scale = (np.hypot(q[:, 1], q[:, 2]) / pt - 1.0) / np.hypot(response.slope * pt, response.constant / beta)
        angle = np.full(len(p), response.angle)
        across = across / (direction[:, :2] ** 2).sum(axis=1)[:, None] ** 0.5 if response.angles == "polar" else across
    unit = q[:, 1:] / np.sqrt(np.sum(q[:, 1:] ** 2, axis=1))[:, None]
    tangent = unit / np.sum(unit * direction, axis=1)[:, None]
    return [scale, np.sum(tangent * across, axis=1) / angle, np.sum(tangent * along, axis=1) / angle]


@pytest.mark.parametrize(
    ("text", "response"),
    [
        ("e+ e- -> gamma gamma gamma gamma", PHOTONS),
        ("e+ e- -> K- K+ K- K+ gamma", TRACKS),
        ("e+ e- -> K- K+ K- K+ gamma", POLAR_TRACKS),
        ("e+ e- -> p p~ pi+ pi-", TrackResponse(slope=0.01, constant=0.02, angle=0.003)),
    ],
)
def test_smearing_is_normal(text: str, response: PhotonResponse | TrackResponse) -> None:
    """Reference: the formulas in numpy; mean, variance and correlation of the three normal numbers to 5 sigma.

    Catches one number used twice, a direction smeared on one side only, beta of the wrong mass.
    """
    n = 50_000
    numbers = np.array(standardised(simulated(text, n, laws=FLAT), response))
    assert np.all(np.abs(numbers.mean(axis=1)) < 5.0 / math.sqrt(n))
    covariance = np.cov(numbers)
    assert np.all(np.abs(covariance - np.eye(3)) < 5.0 * math.sqrt(2.0 / n))


def test_a_perfect_detector_changes_nothing() -> None:
    """Invariant: catches digits lost on the way, and energies of the wrong mass."""
    events = simulated("e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ S, S -> pi+ pi-, B- -> gamma K-", masses={"S": 1.0})
    measured, exact = seen(events, Detector()), truth(events)
    assert measured.names == exact.names == ("K+", "pi+", "pi-", "gamma", "K-")
    assert np.max(np.abs(measured.momenta - exact.momenta)) < 1e-12
    assert measured.masses == exact.masses
    assert np.all(measured.found)
    assert np.array_equal(measured.weights, events.weights)


@settings(max_examples=30, deadline=None)
@given(low=st.floats(0.0, 80.0), gap=st.floats(1.0, 40.0), width=st.floats(1.0, 40.0), energy=st.floats(0.0, 4.0))
def test_acceptance_is_that_of_the_measured_momenta(low: float, gap: float, width: float, energy: float) -> None:
    """Reference: angles and thresholds in numpy, with a gap; catches an interval taken in the cosine the wrong way."""
    bounds = [low, low + width, low + width + gap, low + width + gap + 10.0]
    theta = (degrees(bounds[0], bounds[1])[0], degrees(bounds[2], bounds[3])[0])
    detector = Detector(
        photons=PhotonDetector(response=PHOTONS, theta=theta, min_energy=energy),
        tracks=TrackDetector(
            response=TRACKS, theta=theta, min_transverse_momentum=0.5 * energy, min_momentum=0.7 * energy
        ),
    )
    measured = seen(SMALL, detector)
    p = measured.momenta
    angle = np.degrees(np.arctan2(np.hypot(p[..., 1], p[..., 2]), p[..., 3]))
    inside = ((angle > bounds[0]) & (angle < bounds[1])) | ((angle > bounds[2]) & (angle < bounds[3]))
    hard = p[..., 0] > energy
    size = np.sqrt(np.sum(p[..., 1:] ** 2, axis=2))
    hard[:, 1:] = ((np.hypot(p[..., 1], p[..., 2]) > 0.5 * energy) & (size > 0.7 * energy))[:, 1:]
    assert measured.names == ("gamma", "mu-", "mu+")
    assert np.array_equal((measured.flags & _measure.OUTSIDE) == 0, inside)
    assert np.array_equal((measured.flags & _measure.SOFT) == 0, hard)
    assert np.array_equal(measured.weights > 0.0, np.all(inside & hard, axis=1))


SMALL = simulated("e+ e- -> gamma A, A -> mu- mu+", 2_000, masses={"A": 5.0}, laws=FLAT)


# ---------------------------------------------------------------------------------------------------------------------
# Reproducibility and variations


REAL = Detector(
    photons=PhotonDetector(response=PHOTONS, theta=degrees(12.4, 155.1), min_energy=0.05, calorimeter=CALORIMETER),
    tracks=TrackDetector(response=TRACKS, theta=degrees(17.0, 150.0), min_transverse_momentum=0.1),
)


def test_threads_and_pieces_give_the_same_bits() -> None:
    """Invariant: catches random numbers that depend on a block, a piece of the sample, or a thread."""
    text = "e+ e- -> gamma A, A -> a gamma, a -> gamma gamma"
    events = simulated(text, 30_001, masses={"A": 5.0, "a": 0.5}, ctaus={"a": 10.0}, laws=FLAT)
    detector = replace(REAL, photons=replace(REAL.photons, min_opening_angle=0.06))
    vertex = {"a": VertexAcceptance(resolution=0.3, rho=(1.0, 50.0))}
    whole = seen(events, detector, n_threads=1, vertices=vertex)
    assert np.any(whole.flags & _measure.MERGED)
    threads = seen(events, detector, n_threads=2, vertices=vertex)
    for cut in (1, 256, 10_000, 20_003):
        parts = []
        for part, first in ((slice(0, cut), 0), (slice(cut, None), cut)):
            piece = replace(
                events, momenta=events.momenta[part], points=events.points[part], weights=events.weights[part]
            )
            parts.append(seen(piece, detector, first_event=first, vertices=vertex))
        for name in ("momenta", "points", "flags", "weights"):
            assert np.array_equal(getattr(whole, name), getattr(threads, name))
            joined = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(getattr(whole, name), joined), (name, cut)


def test_another_process_gives_the_same_bits() -> None:
    """Invariant: catches what depends on the order of compilation, or on the hash seed of Python."""
    code = (
        "import hashlib, importlib.util as u\n"
        f"spec = u.spec_from_file_location('tests_measure', {str(Path(__file__))!r})\n"
        "module = u.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print(hashlib.sha256(module.seen(module.SMALL, module.REAL).momenta.tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(seen(SMALL, REAL).momenta.tobytes()).hexdigest()


def test_events_without_energy_are_harmless() -> None:
    """Catches a warning or a weight from events whose momenta mean nothing: radiation below threshold."""
    topology = parse_chain("e+ e- -> gamma A, A -> mu- mu+", masses={"A": 10.0}, laws=FLAT)
    events = simulate_chain(topology, BELLE2, isr=True, n_events=5_000, seed=3, stream="measure")
    assert np.any(events.weights == 0.0)
    momenta = events.momenta.copy()
    momenta[events.weights == 0.0] = 0.0
    for sample in (events, replace(events, momenta=momenta)):
        photons = PhotonDetector(response=PHOTONS, efficiency=TABLE, calorimeter=CALORIMETER, min_opening_angle=0.1)
        measured = seen(sample, Detector(photons=photons, tracks=TrackDetector(response=TRACKS, efficiency=TABLE)))
        assert np.all(np.isfinite(measured.weights))
        assert np.all(measured.weights[events.weights == 0.0] == 0.0)


def test_seed_and_stream_matter() -> None:
    """Catches an argument without effect."""
    one = measure(SMALL, REAL, seed=1, stream="a").momenta
    assert np.array_equal(one, measure(SMALL, REAL, seed=1, stream="a").momenta)
    for seed, stream in ((2, "a"), (1, "b")):
        assert not np.any(one[..., 0] == measure(SMALL, REAL, seed=seed, stream=stream).momenta[..., 0])


def test_a_particle_does_not_depend_on_the_others() -> None:
    """Invariant: catches numbers that are dealt out in the order of the visible particles: a hidden one moves them."""
    seen_a = seen(SMALL, REAL)
    nodes = list(SMALL.topology.nodes)
    nodes[1] = replace(nodes[1], kind="invisible")
    seen_b = seen(replace(SMALL, topology=replace(SMALL.topology, nodes=tuple(nodes))), REAL)
    assert seen_b.names == ("mu-", "mu+")
    assert np.array_equal(seen_a.momenta[:, 1:], seen_b.momenta)


def test_variations_are_smooth() -> None:
    """Invariant: the numbers are the same in a variation: it is linear in each event, to rounding."""
    base = seen(SMALL, REAL).momenta
    exact = truth(SMALL).momenta
    for step in (0.01, 0.3):
        photons = replace(PHOTONS, resolution_scale=1.0 + step)
        momenta = replace(TRACKS, resolution_scale=1.0 + step)
        detector = Detector(
            photons=replace(REAL.photons, response=photons), tracks=replace(REAL.tracks, response=momenta)
        )
        varied = seen(SMALL, detector).momenta
        energy = base[:, 0, 0] + step * (base[:, 0, 0] - exact[:, 0, 0])
        assert varied[:, 0, 0] == pytest.approx(energy, rel=1e-12)
        pt, before = (np.hypot(p[:, 1:, 1], p[:, 1:, 2]) for p in (varied, base))
        true_pt = np.hypot(exact[:, 1:, 1], exact[:, 1:, 2])
        # pt over the sine of the measured angle: the angle does not move
        cot, cot_before = varied[:, 1:, 3] / pt, base[:, 1:, 3] / before
        assert cot == pytest.approx(cot_before, rel=1e-9)
        assert np.max(np.abs(pt - before - step * (before - true_pt))) < 1e-9
    scaled = replace(REAL, photons=replace(REAL.photons, response=replace(PHOTONS, energy_scale=1.01)))
    assert seen(SMALL, scaled).momenta[:, 0] == pytest.approx(1.01 * base[:, 0], rel=1e-12)
    scaled = replace(REAL, tracks=replace(REAL.tracks, response=replace(TRACKS, momentum_scale=0.99)))
    assert seen(SMALL, scaled).momenta[:, 1:, 1:] == pytest.approx(0.99 * base[:, 1:, 1:], rel=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Merging


def test_close_photons_are_one_cluster() -> None:
    """Reference: by hand; catches a merged photon that is lost with its energy, or an angle taken twice too large."""
    event = photons_by_hand([(1.0, 0.0), (1.05, 0.0), (2.0, 1.0)], [1.0, 3.0, 2.0])
    apart = seen(event, Detector(photons=PhotonDetector(min_opening_angle=0.049)))
    assert list(apart.flags[0]) == [0, 0, 0]
    detector = Detector(photons=PhotonDetector(min_opening_angle=0.051))
    merged = seen(event, detector)
    assert list(merged.flags[0]) == [_measure.ABSORBED, _measure.MERGED, 0]
    assert list(merged.found[0]) == [False, True, True]
    assert merged.weights[0] == 0.0
    cluster = merged.momenta[0, 1]
    assert cluster[0] == pytest.approx(4.0)
    assert mass2(cluster[None])[0] == pytest.approx(0.0, abs=1e-12)
    total = event.momenta[0, 1:3, 1:].sum(axis=0)
    assert cluster[1:] == pytest.approx(total * 4.0 / np.linalg.norm(total))
    # the event is there for those who ask for the cluster and the third photon only
    assert seen(event, detector, required=["gamma[2]", "gamma[3]"]).weights[0] == 1.0
    assert seen(event, detector, vetoed=["gamma"]).weights[0] == 1.0


def test_three_close_photons_are_one_cluster() -> None:
    """Catches a photon that is absorbed twice, and energy that appears or vanishes."""
    event = photons_by_hand([(1.0, 0.0), (1.02, 0.0), (1.01, 0.01)], [1.0, 3.0, 2.0])
    merged = seen(event, Detector(photons=PhotonDetector(min_opening_angle=0.1)))
    assert list(merged.found[0]) == [False, True, False]
    assert merged.momenta[0, 1, 0] == pytest.approx(6.0)


def test_a_photon_that_is_not_found_absorbs_nothing() -> None:
    """Catches a photon in a gap that takes a good one along."""
    event = photons_by_hand([(0.99, 0.0), (1.01, 0.0)], [3.0, 1.0])
    detector = Detector(photons=PhotonDetector(theta=((1.0, 2.0),), min_opening_angle=0.1))
    measured = seen(event, detector, required=["gamma[2]"])
    assert list(measured.flags[0]) == [_measure.OUTSIDE, 0]
    assert measured.weights[0] == 1.0


# ---------------------------------------------------------------------------------------------------------------------
# Efficiencies


TABLE = EfficiencyTable(
    first_edges=(0.0, 1.0, 2.0, 3.5),
    second_edges=(0.3, 0.9, 1.5, 2.5),
    values=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (0.7, 0.8, 0.9)),
    uncertainties=((0.2, 0.01, 0.01), (0.01, 0.01, 0.01), (0.01, 0.01, 0.3)),
)


def looked_up(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    i = np.clip(np.digitize(first, TABLE.first_edges) - 1, 0, 2)
    j = np.clip(np.digitize(second, TABLE.second_edges) - 1, 0, 2)
    return np.array(TABLE.values)[i, j]


@pytest.mark.parametrize("first", ["momentum", "transverse momentum"])
@pytest.mark.parametrize("second", ["theta", "cos theta"])
def test_efficiency_tables(first: Any, second: Any) -> None:
    """Reference: numpy's digitize; catches rows for columns, an angle table read backwards, edges outside."""
    edges, values = TABLE.second_edges, np.array(TABLE.values)
    if second == "cos theta":
        edges, values = tuple(float(x) for x in np.cos(edges)[::-1]), values[:, ::-1]
    table = EfficiencyTable(
        variables=(first, second),
        first_edges=TABLE.first_edges,
        second_edges=edges,
        values=tuple(tuple(float(x) for x in row) for row in values),
    )
    detector = Detector(photons=PhotonDetector(efficiency=table), tracks=TrackDetector(efficiency=0.5))
    measured = seen(SMALL, detector)
    p = SMALL.momentum("gamma")
    size, pt = np.sqrt(np.sum(p[:, 1:] ** 2, axis=1)), np.hypot(p[:, 1], p[:, 2])
    expected = looked_up(size if first == "momentum" else pt, np.arctan2(pt, p[:, 3]))
    assert len(set(expected)) >= 3
    assert np.array_equal(measured.efficiencies[:, 0], expected)
    assert np.array_equal(measured.efficiencies[:, 1:], np.full((len(p), 2), 0.5))
    assert measured.weights == pytest.approx(0.25 * expected * SMALL.weights, rel=1e-14)


def test_lost_particles_have_the_complement() -> None:
    """Reference: by hand; catches a veto of what was never inside, and one that forgets the inefficiency."""
    detector = Detector(photons=PhotonDetector(theta=degrees(30.0, 120.0), efficiency=0.9))
    lost = seen(SMALL, detector, vetoed=["gamma"])
    found = seen(SMALL, detector)
    free = seen(SMALL, detector, required=["mu-", "mu+"])
    inside = found.found[:, 0]
    assert 0.2 < np.mean(inside) < 0.9
    assert lost.weights == pytest.approx(np.where(inside, 0.1, 1.0))
    assert lost.weights + found.weights == pytest.approx(free.weights, rel=1e-14)


def test_shifted_tables() -> None:
    """Reference: by hand; catches a shift in the wrong direction or beyond 1."""
    up, down = TABLE.shifted(1.0).values, TABLE.shifted(-1.0).values
    assert up[0][0] == pytest.approx(0.3)
    assert down[0][0] == 0.0
    assert up[2][2] == 1.0
    assert down[1][1] == pytest.approx(0.49)


def test_tables_are_varied_within_their_uncertainties() -> None:
    """By hand: each bin by its own error, times the size, and only of what is named; what has no error stays."""
    tracks = TrackDetector(
        efficiency=TABLE,
        identification=(("muon", "muon", TABLE), ("pion", "muon", TABLE), ("pion", "pion", 0.9)),
    )
    detector = Detector(tracks=tracks)
    half = varied_detector(detector, "tracks.identification_table", 0.5).tracks
    assert half.identification == (("muon", "muon", TABLE.shifted(0.5)), *tracks.identification[1:])
    assert half.efficiency == TABLE
    down = varied_detector(detector, "tracks.misidentification_table", -1.0).tracks
    assert down.identification[1] == ("pion", "muon", TABLE.shifted(-1.0))
    assert down.identification[0] == tracks.identification[0]
    assert varied_detector(detector, "tracks.efficiency_table", 1.0).tracks.efficiency == TABLE.shifted(1.0)
    assert varied_detector(detector, "photons.efficiency_table", 1.0) == detector


def test_misidentification() -> None:
    """Reference: probability and mass by hand; catches the true mass in the energy, or the wrong row of the table."""
    identification = (("muon", "pion", 0.03), ("muon", "muon", 0.9))
    detector = Detector(tracks=TrackDetector(identification=identification))  # type: ignore[arg-type]
    measured = seen(SMALL, detector, seen_as={"mu+": "pion"})
    assert measured.weights == pytest.approx(np.full(2_000, 0.9 * 0.03))
    masses2 = mass2(measured.momenta)
    assert masses2[:, 1] == pytest.approx(MUON**2, rel=1e-6)
    assert masses2[:, 2] == pytest.approx(0.13957039**2, rel=1e-6)
    assert measured.momenta[..., 1:] == pytest.approx(truth(SMALL).momenta[..., 1:], abs=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Displaced decays


def test_a_displaced_photon_points_where_it_hits() -> None:
    """Reference: hand geometry at barrel, both ends and off axis; catches an exit taken for the entry."""
    topology = parse_chain("e+ e- -> gamma gamma", laws=FLAT)
    cases = [
        # start, direction, where it hits
        ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (125.0, 0.0, 0.0)),
        ((0.0, 0.0, 50.0), (0.0, 1.0, 0.0), (0.0, 125.0, 50.0)),
        ((100.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (-125.0, 0.0, 0.0)),
        ((75.0, 0.0, 0.0), (0.0, 1.0, 0.0), (75.0, 100.0, 0.0)),
        ((0.0, 30.0, 96.0), (0.0, 0.0, 1.0), (0.0, 30.0, 196.0)),
        ((30.0, 0.0, -2.0), (0.0, 0.0, -1.0), (30.0, 0.0, -102.0)),
        ((0.0, 0.0, 0.0), (0.6, 0.0, 0.8), (125.0, 0.0, 500.0 / 3.0)),
        ((5.0, 0.0, 0.0), (0.6, 0.0, 0.8), (125.0, 0.0, 160.0)),
        ((0.0, 0.0, 100.0), (0.6, 0.0, 0.8), (72.0, 0.0, 196.0)),
    ]
    momenta, points = np.zeros((len(cases), 3, 4)), np.zeros((len(cases), 3, 3))
    for i, (start, direction, _) in enumerate(cases):
        momenta[i, 1:] = 2.0 * np.array([1.0, *direction])
        points[i, 1] = start
    measured = seen(by_hand(topology, momenta, points), Detector(photons=PhotonDetector(calorimeter=CALORIMETER)))
    for i, (_, _, hit) in enumerate(cases):
        expected = 2.0 * np.array(hit) / np.linalg.norm(hit)
        assert measured.momenta[i, 0] == pytest.approx(np.array([2.0, *expected]), abs=1e-12), i
        # one from the origin is not moved
        assert measured.momenta[i, 1] == pytest.approx(momenta[i, 2], abs=1e-12)
    assert np.all(measured.found)


@pytest.mark.parametrize("start", [(130.0, 0.0, 0.0), (0.0, 0.0, 200.0), (10.0, 0.0, -103.0)])
def test_photons_from_outside_are_lost(start: tuple[float, float, float]) -> None:
    """Catches a photon that flies back into the calorimeter."""
    momenta, points = np.zeros((1, 3, 4)), np.zeros((1, 3, 3))
    momenta[0, 1:] = [1.0, -0.6, 0.0, 0.8]
    points[0, 1] = start
    event = by_hand(parse_chain("e+ e- -> gamma gamma", laws=FLAT), momenta, points)
    measured = seen(event, Detector(photons=PhotonDetector(calorimeter=CALORIMETER)))
    assert list(measured.flags[0]) == [_measure.MISSED, 0]
    assert measured.weights[0] == 0.0


def test_mass_from_the_wrong_vertex() -> None:
    """Reference: symmetric decay at a distance d along x by geometry: tan = R'/.. seen from the origin; mass is low.

    A pair at +-alpha to the x axis from (d, 0, 0) in the transverse plane hits the cylinder at an angle psi from the
    origin with sin(alpha - psi) = d sin(alpha)/R, so M = 2 E sin(psi) for the true 2 E sin(alpha).
    """
    topology = parse_chain("e+ e- -> gamma gamma", laws=FLAT)
    alpha, distances = 0.3, np.linspace(0.0, 100.0, 11)
    momenta, points = np.zeros((11, 3, 4)), np.zeros((11, 3, 3))
    for node, sign in ((1, 1.0), (2, -1.0)):
        momenta[:, node] = 2.0 * np.array([1.0, math.cos(alpha), sign * math.sin(alpha), 0.0])
        points[:, node, 0] = distances
    measured = seen(by_hand(topology, momenta, points), Detector(photons=PhotonDetector(calorimeter=CALORIMETER)))
    mass = np.sqrt(mass2(measured.momenta.sum(axis=1)))
    psi = alpha - np.arcsin(distances * math.sin(alpha) / 125.0)
    assert mass == pytest.approx(4.0 * np.sin(psi), rel=1e-9)
    # about (1 - d/R) of the true mass
    assert mass[-1] / mass[0] == pytest.approx(1.0 - 100.0 / 125.0, abs=0.02)


def test_displaced_pairs_are_low_and_broad() -> None:
    """Catches a shift without the broadening, or one that does not grow with the lifetime."""
    widths, medians = [], []
    for ctau in (0.01, 3.0, 10.0):
        events = simulated("B+ -> K+ a, a -> gamma gamma", 30_000, masses={"a": 1.0}, ctaus={"a": ctau})
        detector = Detector(photons=replace(REAL.photons, min_energy=0.1))
        measured = seen(events, detector)
        good = measured.weights > 0.0
        mass = np.sqrt(mass2(measured.momenta[good][:, 1:].sum(axis=1)))
        medians.append(float(np.median(mass)))
        widths.append(central_half_width(mass, measured.weights[good]))
    assert medians[0] == pytest.approx(1.0, abs=0.005)
    assert medians[0] > medians[1] + 0.02 > medians[2] + 0.04
    assert widths[2] > 1.5 * widths[1] > 2.0 * widths[0]


@pytest.mark.parametrize("ctau", [0.1, 10.0, 100.0, 1000.0])
def test_tracks_from_far_away_are_not_found(ctau: float) -> None:
    """Closed form: a particle decays before the end of its way to the cylinder with 1 - exp(-way/(beta gamma ctau)).

    Catches tracks that are found wherever they begin, another cylinder, and one that acts on prompt tracks.
    """
    volume = TrackVolume(rho=60.0, z_low=-31.0, z_high=100.0)
    events = simulated("e+ e- -> gamma S, S -> mu+ mu-", 40_000, masses={"S": 2.0}, ctaus={"S": ctau}, laws=FLAT)
    measured = measure(events, tracks(volume=volume), seed=1, stream="x")
    _, px, py, pz = events.momentum("S").T
    direction = np.array([px, py, pz]) / np.sqrt(px**2 + py**2 + pz**2)
    to_side = 60.0 / np.hypot(direction[0], direction[1])
    to_end = np.where(direction[2] > 0.0, 100.0, -31.0) / direction[2]
    way = np.minimum(to_side, to_end)
    expected = 1.0 - np.exp(-way * 2.0 / (np.sqrt(px**2 + py**2 + pz**2) * ctau))
    found = measured.weights > 0.0
    assert float(np.mean(found)) == pytest.approx(float(np.mean(expected)), abs=4.0 * 0.5 / math.sqrt(40_000))
    # muons alone are lost, and both together
    gamma, plus, minus = measured.found.T
    assert np.all(gamma)
    assert np.array_equal(plus, minus)
    everywhere = measure(events, tracks(), seed=1, stream="x")
    assert np.all(everywhere.found)
    assert np.array_equal(everywhere.momenta, measured.momenta)


def test_prompt_tracks_need_no_volume() -> None:
    """Catches a volume that is asked of tracks whose begin was set by hand, or of sisters of what flies."""
    volume = TrackVolume(rho=1.0, z_low=-1.0, z_high=1.0)
    events = simulated("B+ -> K+ S, S -> mu+ mu-", 2_000, masses={"S": 1.0}, ctaus={"S": 1000.0, "B+": 0.0})
    found = measure(events, tracks(volume=volume), seed=1, stream="x").found
    assert np.all(found[:, 0])
    assert float(np.mean(found[:, 1])) < 0.01


def test_vertex_efficiency() -> None:
    """Reference: numpy's interp, the model of the notes (falling from 14 to 60 cm), and digitize for the table."""
    events = simulated("B+ -> K+ S, S -> pi+ pi-", 5_000, masses={"S": 1.0}, ctaus={"S": 10.0})
    x, y, z = events.points[:, events.topology.place("S")].T
    rho = np.hypot(x, y)
    line = ((0.0, 0.8), (14.0, 0.8), (60.0, 0.16))
    measured = seen(events, Detector(), vertices={"S": VertexAcceptance(efficiency=line)})
    expected = np.interp(rho, [14.0, 60.0], [0.8, 0.16])
    assert measured.weights == pytest.approx(expected, rel=1e-13)
    table = EfficiencyTable(
        variables=("rho", "z"),
        first_edges=(0.0, 5.0, 20.0),
        second_edges=(-10.0, 0.0, 30.0),
        values=((0.1, 0.2), (0.3, 0.4)),
    )
    vertex = VertexAcceptance(efficiency=line, table=table, rho=(0.05, 60.0), z=(-20.0, 40.0))
    measured = seen(events, Detector(), vertices={"S": vertex})
    i, j = np.digitize(rho, [5.0]), np.digitize(z, [0.0])
    inside = (rho >= 0.05) & (rho <= 60.0) & (z >= -20.0) & (z <= 40.0)
    assert measured.weights == pytest.approx(expected * np.array(table.values)[i, j] * inside, rel=1e-13)


def test_vertex_resolution() -> None:
    """Reference: width of the displacement; catches a range on the true point, or one number for all axes."""
    events = simulated("B+ -> K+ S, S -> pi+ pi-", 40_000, masses={"S": 1.0}, ctaus={"S": 1.0})
    place = events.topology.place("S")
    measured = seen(events, Detector(), vertices={"S": VertexAcceptance(resolution=0.02, rho=(0.5, 2.0))})
    moved = (measured.points[:, place] - events.points[:, place]) / 0.02
    assert np.all(np.abs(np.cov(moved.T) - np.eye(3)) < 5.0 * math.sqrt(2.0 / 40_000))
    rho = np.hypot(measured.points[:, place, 0], measured.points[:, place, 1])
    assert np.array_equal(measured.weights > 0.0, (rho >= 0.5) & (rho <= 2.0))
    others = [i for i in range(len(events.names)) if i != place]
    assert np.array_equal(measured.points[:, others], events.points[:, others])


# ---------------------------------------------------------------------------------------------------------------------
# Files and refusals


@pytest.mark.parametrize("name", ["belle2", "belle", "babar"])
def test_detector_of_an_experiment_file(name: str) -> None:
    """Catches a number of the file that has no effect, or lands in the wrong place."""
    path = Path(__file__).resolve().parents[2] / "specs" / "experiments" / f"{name}.yaml"
    experiment = load_experiment(path)
    detector = detector_of(experiment)
    assert len(detector.photons.theta) == len(experiment.photons.acceptance)
    assert detector.photons.theta[0][0] == pytest.approx(math.radians(15.8 if name == "babar" else 12.4))
    assert detector.photons.response.constant == pytest.approx(0.0185 if name == "babar" else 0.0134)
    assert detector.photons.response.angle == pytest.approx(0.00416 if name == "babar" else 0.004)
    assert detector.photons.min_opening_angle == pytest.approx(math.radians(4.4 if name == "babar" else 3.4))
    assert detector.photons.min_energy == pytest.approx(0.03 if name == "babar" else 0.05)
    assert detector.photons.efficiency == 0.97
    volume = {
        "belle2": TrackVolume(rho=60.0, z_low=-31.0, z_high=100.0),
        "belle": TrackVolume(rho=50.0, z_low=-31.0, z_high=100.0),
        "babar": TrackVolume(rho=50.0, z_low=-50.0, z_high=110.0),
    }
    assert detector.tracks.volume == volume[name]
    surface = Calorimeter(radius=92.0, z_low=-113.0, z_high=180.0) if name == "babar" else CALORIMETER
    assert detector.photons.calorimeter == surface
    assert detector.tracks.efficiency == 0.98
    assert detector.tracks.identification_of("pion", "muon") == 0.03
    assert detector.tracks.min_transverse_momentum == pytest.approx(0.1)
    assert detector.tracks.response.slope == pytest.approx(0.0013 if name == "babar" else 0.0019)
    assert detector.tracks.response.constant == pytest.approx(0.0045 if name == "babar" else 0.003)
    assert detector.tracks.response.angle == pytest.approx(0.001)


TEXT = "e+ e- -> gamma A, A -> mu- mu+"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"required": ["mu"]}, f"{TEXT}: there is no mu; did you mean mu-?"),
        ({"required": ["S"]}, f"{TEXT}: there is no S; there are gamma, A, mu-, mu+"),
        ({"vetoed": ["A"]}, f"{TEXT}: A decays; visible are gamma, mu-, mu+"),
        ({"required": ["mu+"], "vetoed": ["mu+"]}, f"{TEXT}: mu+ is required and vetoed"),
        ({"vertices": {"mu+": VertexAcceptance()}}, f"{TEXT}: mu+ does not decay, so it has no vertex"),
        ({"seen_as": {"mu+": "pion"}}, "tracks: no probability to take a muon for a pion; known: none"),
        (
            {"seen_as": {"gamma": "muon"}},
            f"{TEXT}: gamma, a photon, cannot be taken for a muon; tracks are: electron, muon, pion, kaon, proton",
        ),
        ({"first_event": -1}, "measurement: first_event is -1; it must not be negative"),
        ({"n_threads": 0}, "measurement: n_threads is 0; it must be at least 1"),
    ],
)
def test_refused_measurements(arguments: dict[str, Any], reason: str) -> None:
    """Catches a request that is silently ignored; the message says what there is."""
    with pytest.raises(KinematicsError) as raised:
        seen(SMALL, Detector(), **arguments)
    assert str(raised.value) == reason


def test_an_invisible_particle_is_not_required() -> None:
    """Catches a required particle that no detector sees."""
    events = simulated("e+ e- -> mu- mu+ X", 10, masses={"X": 1.0}, laws=FLAT)
    with pytest.raises(KinematicsError) as raised:
        seen(events, Detector(), required=["X"])
    assert str(raised.value) == "e+ e- -> mu- mu+ X: X is not seen by the detector; visible are mu-, mu+"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: replace(TRACKS, slope=-1.0), "track response: slope is -1; it must not be negative"),
        (
            lambda: replace(TRACKS, angles="both"),  # type: ignore[arg-type]
            "track response: angles is 'both'; known: transverse, polar",
        ),
        (lambda: replace(TRACKS, pt_floor=0.0), "track response: pt_floor is 0; it must be positive"),
        (
            lambda: TrackDetector(theta=()),
            "tracks: no polar-angle interval; use 0 to 180 deg for no cut",
        ),
        (
            lambda: PhotonDetector(theta=(*degrees(20.0, 60.0), *degrees(50.0, 90.0))),
            (
                "photons: polar-angle interval 50 to 90 deg; intervals must be within 0 to 180 deg, ascending and"
                " disjoint"
            ),
        ),
        (lambda: PhotonDetector(min_energy=math.nan), "photons: min_energy is nan; it must not be negative"),
        (lambda: PhotonDetector(efficiency=1.1), "photons: the efficiency is 1.1; it must be from 0 to 1"),
        (
            lambda: TrackDetector(identification=(("photon", "muon", 0.1),)),
            "tracks: identification of a photon; there are electron, muon, pion, kaon, proton",
        ),
        (
            lambda: Calorimeter(radius=0.0, z_low=-1.0, z_high=1.0),
            "calorimeter: radius 0 cm, ends at -1 and 1 cm; the radius must be positive and the origin between the ends",
        ),
        (
            lambda: VertexAcceptance(rho=(2.0, 1.0)),
            "vertex acceptance: rho from 2 to 1 cm; it must be ascending",
        ),
        (lambda: VertexAcceptance(table=TABLE), "vertex acceptance: the table must be in rho and z"),
        (
            lambda: VertexAcceptance(efficiency=((0.0, 0.5),)),
            "vertex acceptance: rho of the efficiency must be at least two finite ascending numbers",
        ),
        (
            lambda: VertexAcceptance(efficiency=((0.0, 0.5), (1.0, 1.5))),
            "vertex acceptance: every efficiency must be from 0 to 1",
        ),
        (
            lambda: PhotonDetector(
                efficiency=EfficiencyTable(
                    variables=("rho", "z"), first_edges=(0.0, 1.0), second_edges=(0.0, 1.0), values=((0.5,),)
                )
            ),
            "photons: an efficiency of particles cannot be in rho and z",
        ),
        (
            lambda: replace(TABLE, variables=("theta", "momentum")),
            (
                "efficiency table: variables 'theta' and 'momentum'; there are momentum or transverse momentum with"
                " theta or cos theta, and rho with z"
            ),
        ),
        (
            lambda: replace(TABLE, first_edges=(0.0, 2.0, 1.0, 3.0)),
            "efficiency table: edges of momentum must be at least two finite ascending numbers",
        ),
        (
            lambda: replace(TABLE, values=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))),
            "efficiency table: 3 x 3 bins need as many values",
        ),
        (
            lambda: replace(TABLE, values=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (0.7, 0.8, 1.9))),
            "efficiency table: every value must be from 0 to 1",
        ),
        (
            lambda: replace(TABLE, uncertainties=()).shifted(1.0),
            "efficiency table: it has no uncertainties, so it cannot be shifted",
        ),
    ],
)
def test_refused_detectors(make: Callable[[], object], reason: str) -> None:
    """Catches a detector that cannot be, before anything runs."""
    with pytest.raises(KinematicsError) as raised:
        make()
    assert str(raised.value) == reason
