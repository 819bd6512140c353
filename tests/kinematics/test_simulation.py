"""What holds for every process: reproducibility, radiation, variations, pseudo-data, cut flow and filling."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numba
import numpy as np
import pytest

from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.processes import GammaAlp, Process, ThreePhotons
from modelbuilder.kinematics.response import PERFECT, PhotonResponse
from modelbuilder.kinematics.selection import PhotonSelection
from modelbuilder.kinematics.simulate import PseudoData, SimulatedHistograms, simulate_events, simulate_histograms

Barrel = Callable[..., PhotonSelection]
Compatible = Callable[[np.ndarray, np.ndarray], None]

AXES = {"mass2": np.linspace(0.0, 90.0, 91), "recoil2": np.linspace(-10.0, 100.0, 111)}


def digest(result: SimulatedHistograms) -> str:
    """Of every bit of the numbers."""
    state = hashlib.sha256()
    for name in sorted(result.histograms):
        histogram = result.histograms[name]
        state.update(histogram.values.tobytes() + histogram.variances.tobytes())
        state.update(np.array([histogram.underflow, histogram.overflow]).tobytes())
    state.update(np.array(result.cut_flow.sum_weights + result.cut_flow.sum_squared_weights).tobytes())
    return state.hexdigest()


SEVEN_THREADS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import test_simulation as t
import numba
print(json.dumps([numba.config.NUMBA_NUM_THREADS, [t.reference_digest(n) for n in (1, 2, 7)]]))
"""


def reference_digest(n_threads: int | None) -> str:
    """With everything switched on; 100 003 events are no multiple of anything."""
    beams = Beams(
        electron_energy=7.004,
        positron_energy=4.002,
        crossing_angle=0.083,
        electron_energy_spread=5.13e-3,
        positron_energy_spread=2.375e-3,
    )
    response = PhotonResponse(noise=0.00066, stochastic=0.0081, constant=0.0134, angle=0.004)
    selection = PhotonSelection(theta=((0.651, 2.159),), min_energy=0.65, mass_window=(0.88, 1.03))
    digests = [
        digest(
            simulate_histograms(
                process,
                beams,
                response,
                selection,
                axes=AXES,
                isr=True,
                n_events=100_003,
                seed=20,
                stream="t",
                n_threads=n_threads,
            )
        )
        for process in (GammaAlp(mass=4.5), ThreePhotons())
    ]
    return " ".join(digests)


def test_the_result_is_the_same_bit_for_bit_with_any_threads_and_in_another_process() -> None:
    """Invariant: a sum whose order depends on threads, or a random number that depends on the process."""
    before = numba.get_num_threads()
    here = [reference_digest(n) for n in (1, 2, None)]
    assert numba.get_num_threads() == before
    environment = {**os.environ, "NUMBA_NUM_THREADS": "7"}
    command = [sys.executable, "-c", SEVEN_THREADS, os.path.dirname(__file__)]  # noqa: PTH120
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    threads, there = json.loads(done.stdout)
    assert threads == 7
    assert set(here) == set(there)
    assert len(set(here)) == 1


def test_seed_and_stream_matter_and_are_compatible(
    beams: Beams, response: PhotonResponse, barrel: Barrel, compatible: Compatible
) -> None:
    """Every argument must matter; and runs with other seeds are independent samples of one distribution."""

    def run(seed: int, stream: str) -> SimulatedHistograms:
        return simulate_histograms(
            GammaAlp(mass=5.0),
            beams,
            response,
            barrel(0.65),
            axes=AXES,
            isr=False,
            n_events=200_000,
            seed=seed,
            stream=stream,
        )

    results = [run(1, "a"), run(2, "a"), run(1, "b")]
    assert digest(run(1, "a")) == digest(results[0])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        for name in AXES:
            one, two = results[i].histograms[name], results[j].histograms[name]
            used = one.values + two.values > 40.0
            compatible((one.values - two.values)[used], (one.variances + two.variances)[used])


def test_an_event_does_not_depend_on_how_many_there_are(beams: Beams, response: PhotonResponse) -> None:
    """Invariant: numbers are keyed by the event, so that a longer run extends a shorter one."""

    def run(n: int) -> np.ndarray:
        return simulate_events(
            GammaAlp(mass=5.0), beams, response, PhotonSelection(), isr=True, n_events=n, seed=1, stream="t"
        ).reconstructed

    assert np.array_equal(run(1000), run(30_011)[:1000])


@pytest.mark.parametrize("process", [GammaAlp(mass=4.5), ThreePhotons()], ids=["gamma a", "3 gamma"])
def test_histograms_and_cut_flow_are_those_of_the_events(
    process: Process, real_beams: Beams, response: PhotonResponse
) -> None:
    """Reference: filling, cuts, gaps and the nominal beams of the recoil, again from the stored events with numpy."""
    gaps = tuple((math.radians(a), math.radians(b)) for a, b in ((35.0, 60.0), (61.5, 90.0), (95.0, 125.0)))
    cut = PhotonSelection(theta=gaps, min_energy=0.7, mass_window=(0.93, 1.02), min_opening_angle=math.radians(25.0))
    rng = np.random.default_rng(1)
    axes = {
        "mass2": np.concatenate([[1.0], np.sort(rng.uniform(1.0, 70.0, 40)), [70.0, 70.001]]),
        "recoil2": np.array([5.0, 5.0001, 30.0, 31.0, 95.0]),
    }
    n, seed = 120_000, 3
    run = {"isr": True, "n_events": n, "seed": seed, "stream": "t"}
    events = simulate_events(process, real_beams, response, cut, **run)  # type: ignore[arg-type]
    result = simulate_histograms(process, real_beams, response, cut, axes=axes, **run)  # type: ignore[arg-type]

    photons = events.reconstructed
    total = np.array(real_beams.four_momentum)
    metric = np.array([1.0, -1.0, -1.0, -1.0])
    directions = photons[:, :, 1:] / photons[:, :, :1]
    theta = np.arccos(directions[:, :, 2])
    angle_ok = np.all(np.any([(theta >= low) & (theta <= high) for low, high in gaps], axis=0), axis=1)
    energy_ok = np.all(photons[:, :, 0] > 0.7, axis=1)
    mass = np.sqrt(np.sum(metric * photons.sum(axis=1) ** 2, axis=1)) / real_beams.sqrt_s
    mass_ok = (mass >= 0.93) & (mass <= 1.02)
    opening = [np.arccos(np.sum(directions[:, i] * directions[:, (i + 1) % 3], axis=1)) for i in range(3)]
    opening_ok = np.min(opening, axis=0) >= math.radians(25.0)
    passed = np.ones(n, dtype=bool)
    for step, ok in enumerate([passed, angle_ok, energy_ok, mass_ok, opening_ok]):
        passed = passed & ok
        assert result.cut_flow.sum_weights[step] == pytest.approx(np.sum(events.weights[passed]), rel=1e-12)
        assert result.cut_flow.sum_squared_weights[step] == pytest.approx(
            np.sum(events.weights[passed] ** 2), rel=1e-12
        )
        if step:  # each cut acts
            assert result.cut_flow.sum_weights[step] < result.cut_flow.sum_weights[step - 1]
    assert np.array_equal(events.selected, passed & (events.weights > 0.0))
    weights, kept = events.weights[passed], photons[passed]
    pairs = [kept[:, (i + 1) % 3] + kept[:, (i + 2) % 3] for i in range(3)]
    entries = {
        "mass2": np.stack([np.sum(metric * pair**2, axis=1) for pair in pairs], axis=1),
        "recoil2": np.stack([np.sum(metric * (total - kept[:, i]) ** 2, axis=1) for i in range(3)], axis=1),
    }
    for name, edges in axes.items():
        histogram = result.histograms[name]
        place = np.digitize(entries[name], edges)
        counts = np.stack([np.sum(place == b, axis=1) for b in range(len(edges) + 1)])
        values, variances = counts @ weights, counts**2 @ weights**2
        assert histogram.values == pytest.approx(values[1:-1], rel=1e-10, abs=1e-12)
        assert histogram.variances == pytest.approx(variances[1:-1], rel=1e-10, abs=1e-12)
        assert (histogram.underflow, histogram.overflow) == pytest.approx((values[0], values[-1]), rel=1e-10)
        assert histogram.underflow > 0.0


def test_true_pairing_is_one_of_the_three(beams: Beams, response: PhotonResponse, barrel: Barrel) -> None:
    """Invariant: "true" keeps one entry per event, in the peak at the mass, in both observables."""
    peak = {"mass2": np.linspace(16.0, 34.0, 2), "recoil2": np.linspace(15.0, 35.0, 2)}
    run = {"axes": peak, "isr": False, "n_events": 50_000, "seed": 1, "stream": "t"}
    process = GammaAlp(mass=5.0)
    right = simulate_histograms(process, beams, response, barrel(0.65), pairing="true", **run)  # type: ignore[arg-type]
    three = simulate_histograms(process, beams, response, barrel(0.65), **run)  # type: ignore[arg-type]
    assert right.cut_flow == three.cut_flow
    for name in peak:
        one, all_ = right.histograms[name], three.histograms[name]
        selected = right.cut_flow.sum_weights[-1]
        assert one.values[0] + one.underflow + one.overflow == selected
        assert one.values[0] > 0.999 * selected
        assert all_.values[0] + all_.underflow + all_.overflow == 3 * selected


def test_radiator_is_normalised_and_has_the_right_tail(beams: Beams, compatible: Compatible) -> None:
    """Reference: the energy fraction lost by each beam against the integral of D(x) in closed form, from soft to hard.

    A light a makes sigma(s')/sigma(s) = 1 to 1e-5, except where s' is 1e-5 s.
    """
    n = 1_000_000
    events = simulate_events(
        GammaAlp(mass=0.01), beams, PERFECT, PhotonSelection(), isr=True, n_events=n, seed=11, stream="t"
    )
    stdev = float(np.std(events.weights)) / math.sqrt(n)
    assert stdev < 1e-3
    assert np.mean(events.weights) == pytest.approx(1.0, abs=4 * stdev + 1e-5)

    b = beams.isr_beta
    assert b == pytest.approx(2 / (math.pi * 137.036) * (math.log(beams.s / 0.000511**2) - 1), rel=1e-5)
    t = np.concatenate([10.0 ** np.linspace(-10.0, -1.0, 19), np.linspace(0.2, 1.0, 9)])
    integral = (1 + 0.375 * b) * t ** (b / 2) - 0.25 * b * (2 * t - t**2 / 2)
    assert integral[-1] == pytest.approx(1.0, abs=1e-14)
    # the density itself, by quadrature over the hard part, where it is smooth
    x = np.linspace(0.2, 1.0, 20_001)
    density = b / 2 * x ** (b / 2 - 1) * (1 + 3 * b / 8) - b / 4 * (2 - x)
    assert np.trapezoid(density, x) == pytest.approx(integral[-1] - integral[19], rel=1e-6)

    total = events.true.sum(axis=1) * np.array([1.0, -1.0, -1.0, -1.0])
    half = 0.5 * beams.crossing_angle
    for sign, energy in ((1.0, beams.electron_energy), (-1.0, beams.positron_energy)):
        opposite = np.array([1.0, math.sin(half), 0.0, -sign * math.cos(half)])
        whole = opposite @ (
            np.array([1.0, -1.0, -1.0, -1.0]) * np.array([1.0, math.sin(half), 0.0, sign * math.cos(half)])
        )
        lost = 1.0 - total @ opposite / (energy * whole)
        used = t > 1e-9
        counts, variances = (np.histogram(lost, t[used], weights=events.weights**power)[0] for power in (1, 2))
        compatible(counts - n * np.diff(integral[used]), variances)


def test_radiation_and_spread_act_on_the_recoil(
    beams: Beams, real_beams: Beams, response: PhotonResponse, barrel: Barrel
) -> None:
    """Every argument must matter: radiation makes a tail to high recoil mass, spread a little more width."""
    process = GammaAlp(mass=9.5)

    def recoil(used: Beams, isr: bool) -> tuple[np.ndarray, np.ndarray]:
        events = simulate_events(
            process, used, PERFECT, PhotonSelection(), isr=isr, n_events=100_000, seed=1, stream="t"
        )
        total = np.array(used.four_momentum)
        missing = total - events.reconstructed[:, 0]
        return np.sum(np.array([1.0, -1.0, -1.0, -1.0]) * missing**2, axis=1), events.weights

    sharp, _ = recoil(beams, False)
    assert np.max(np.abs(sharp - 9.5**2)) < 1e-10
    spread, weights = recoil(real_beams, False)
    # dM_rec^2 = d(s') (1 - ...): first order, sigma(sqrt(s)) = 5.0 MeV (physics notes) moves the photon energy
    sigma_root = 0.5 * beams.sqrt_s * math.hypot(5.13e-3 / 7.004, 2.375e-3 / 4.002)
    assert 1e3 * sigma_root == pytest.approx(5.0, abs=0.05)
    assert np.std(spread) > 0.5 * sigma_root * 2 * 9.5
    assert np.mean(weights) == pytest.approx(1.0, abs=0.01)
    radiated, weights = recoil(beams, True)
    assert 0.5 < np.mean(weights) < 0.95
    assert np.sum(weights[radiated > 9.7**2]) > 0.01 * np.sum(weights)


@pytest.mark.parametrize("process", [GammaAlp(mass=5.0), ThreePhotons()], ids=["gamma a", "3 gamma"])
@pytest.mark.parametrize("change", [{"energy_scale": 1.001}, {"resolution_scale": 1.02}], ids=["scale", "resolution"])
def test_a_variation_is_smooth(
    process: Process, change: dict[str, float], beams: Beams, response: PhotonResponse, barrel: Barrel
) -> None:
    """Invariant: a varied template sees the same events, so that it differs by far less than independent ones would."""
    run = {"axes": {"mass2": np.linspace(0.0, 90.0, 46)}, "isr": True, "n_events": 200_000, "seed": 1, "stream": "t"}
    nominal = simulate_histograms(process, beams, response, barrel(0.65), **run)  # type: ignore[arg-type]
    varied = simulate_histograms(process, beams, replace(response, **change), barrel(0.65), **run)  # type: ignore[arg-type]
    one, two = nominal.histograms["mass2"], varied.histograms["mass2"]
    assert not np.array_equal(one.values, two.values)
    assert nominal.cut_flow.sum_weights[0] == varied.cut_flow.sum_weights[0]
    used = one.variances > 0.0
    pull = (two.values - one.values)[used] / np.sqrt(2.0 * one.variances[used])
    assert np.median(np.abs(pull)) < 0.25  # 0.67 for independent samples


def test_an_energy_scale_moves_energies_and_nothing_else(beams: Beams, response: PhotonResponse) -> None:
    """Invariant: event by event, E is multiplied and the direction is the same; a resolution scale stretches E - E_true."""
    run = {"isr": False, "n_events": 5_000, "seed": 1, "stream": "t"}
    process, everything = GammaAlp(mass=5.0), PhotonSelection()
    nominal = simulate_events(process, beams, response, everything, **run)  # type: ignore[arg-type]
    scaled = simulate_events(process, beams, replace(response, energy_scale=1.01), everything, **run)  # type: ignore[arg-type]
    assert scaled.reconstructed == pytest.approx(1.01 * nominal.reconstructed, rel=1e-12, abs=1e-14)
    wide = simulate_events(process, beams, replace(response, resolution_scale=1.5), everything, **run)  # type: ignore[arg-type]
    shift = nominal.reconstructed[:, :, 0] - nominal.true[:, :, 0]
    assert wide.reconstructed[:, :, 0] - wide.true[:, :, 0] == pytest.approx(1.5 * shift, rel=1e-9, abs=1e-12)
    pull = shift / np.sqrt(
        0.00066**2 + 0.0081**2 * nominal.true[:, :, 0] ** 1.5 + 0.0134**2 * nominal.true[:, :, 0] ** 2
    )
    assert np.std(pull) == pytest.approx(1.0, abs=5 / math.sqrt(2 * pull.size))
    assert np.mean(pull) == pytest.approx(0.0, abs=5 / math.sqrt(pull.size))


def test_the_direction_is_smeared_by_the_angular_resolution(beams: Beams, response: PhotonResponse) -> None:
    """Reference: the squared angle has mean 2 (angle^2/E); both transverse directions alike, any direction."""
    events = simulate_events(
        GammaAlp(mass=5.0), beams, response, PhotonSelection(), isr=False, n_events=50_000, seed=1, stream="t"
    )
    n_true = events.true[:, :, 1:] / events.true[:, :, :1]
    n_reco = events.reconstructed[:, :, 1:] / events.reconstructed[:, :, :1]
    scale = np.sqrt(events.true[:, :, 0]) / response.angle
    phi = np.arctan2(n_true[:, :, 1], n_true[:, :, 0])
    e_phi = np.stack([-np.sin(phi), np.cos(phi), np.zeros_like(phi)], axis=2)
    e_theta = np.cross(e_phi, n_true)
    for axis in (e_phi, e_theta):
        pull = np.sum((n_reco - n_true) * axis, axis=2) * scale
        assert np.std(pull) == pytest.approx(1.0, abs=5 / math.sqrt(2 * pull.size))
        assert np.mean(pull) == pytest.approx(0.0, abs=5 / math.sqrt(pull.size))


def test_energies_stay_above_the_floor(beams: Beams) -> None:
    """Invariant: a coarse calorimeter gives no negative energy."""
    coarse = PhotonResponse(noise=1.0, stochastic=0.0, constant=0.5, angle=0.01, energy_floor=0.02)
    events = simulate_events(
        GammaAlp(mass=9.0), beams, coarse, PhotonSelection(), isr=False, n_events=5_000, seed=1, stream="t"
    )
    assert np.min(events.reconstructed[:, :, 0]) == 0.02


def test_pseudo_data_have_poisson_totals_with_the_simulated_mean(
    beams: Beams, response: PhotonResponse, barrel: Barrel
) -> None:
    """Reference: mean and variance over many seeds, in a total and in every bin; weights are integers."""
    axes = {"mass2": np.linspace(0.0, 90.0, 5)}
    run = {"axes": axes, "isr": False, "n_events": 20_000, "seed": 1, "stream": "t", "n_threads": 1}
    weighted = simulate_histograms(ThreePhotons(), beams, response, barrel(1.0), **run)  # type: ignore[arg-type]
    luminosity, efficiency = 0.01, 0.5
    expected = weighted.selected_per_event * luminosity * efficiency
    totals, bins = [], []
    for seed in range(400):
        pseudo = PseudoData(luminosity=luminosity, efficiency=efficiency, seed=seed)
        result = simulate_histograms(
            ThreePhotons(),
            beams,
            response,
            barrel(1.0),
            pseudo=pseudo,
            **run,  # type: ignore[arg-type]
        )
        totals.append(result.cut_flow.sum_weights[-1])
        bins.append(result.histograms["mass2"].values)
    assert result.weight_unit == "1"
    assert np.all(np.array(bins) == np.round(bins))
    n = len(totals)
    assert np.mean(totals) == pytest.approx(expected, abs=4 * math.sqrt(expected / n))
    assert np.var(totals) == pytest.approx(expected, rel=5 * math.sqrt(2 / n))
    mean = weighted.histograms["mass2"].values * luminosity * efficiency / 20_000
    assert np.mean(bins, axis=0) == pytest.approx(mean, abs=5 * math.sqrt(2 * np.max(mean) / n))


def test_a_pseudo_event_is_in_every_selection_and_observable(
    beams: Beams, response: PhotonResponse, barrel: Barrel
) -> None:
    """Invariant: one pseudo-experiment, whatever is looked at; and signal yields need a cross section."""
    process = ThreePhotons()
    pseudo = PseudoData(luminosity=0.445, seed=5)
    run = {"axes": AXES, "isr": True, "n_events": 200_000, "seed": 1, "stream": "t", "pseudo": pseudo}
    loose = simulate_histograms(process, beams, response, barrel(0.65), **run)  # type: ignore[arg-type]
    tight = simulate_histograms(process, beams, response, barrel(1.0), **run)  # type: ignore[arg-type]
    for name in AXES:
        assert np.all(tight.histograms[name].values <= loose.histograms[name].values)
        histogram = loose.histograms[name]
        entries = np.sum(histogram.values) + histogram.underflow + histogram.overflow
        assert entries == 3 * loose.cut_flow.sum_weights[-1]
    assert loose.cut_flow.sum_weights[-1] > tight.cut_flow.sum_weights[-1] > 1000

    signal = simulate_histograms(
        GammaAlp(mass=1.0),
        beams,
        response,
        PhotonSelection(),
        axes=AXES,
        isr=False,
        n_events=1_000,
        seed=1,
        stream="t",
        pseudo=PseudoData(luminosity=100.0, seed=5, cross_section=500.0, efficiency=0.8),
    )
    # a mean of 40 per event: the branch that adds several Poisson numbers
    assert signal.cut_flow.sum_weights[-1] == pytest.approx(40_000, abs=5 * 200)
    variance = signal.cut_flow.sum_squared_weights[-1] / 1000 - (signal.cut_flow.sum_weights[-1] / 1000) ** 2
    assert variance == pytest.approx(40.0, rel=5 * math.sqrt(2 / 1000))
