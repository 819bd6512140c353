"""e+e- -> gamma gamma gamma: cross sections and spectrum, normalisation, generator cuts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.processes import ThreePhotons
from modelbuilder.kinematics.response import PERFECT, PhotonResponse
from modelbuilder.kinematics.selection import PhotonSelection
from modelbuilder.kinematics.simulate import SimulatedHistograms, simulate_events, simulate_histograms

Barrel = Callable[..., PhotonSelection]
Table = Callable[[str], dict[str, np.ndarray]]
Compatible = Callable[[np.ndarray, np.ndarray], None]


@pytest.mark.parametrize(("min_energy", "total", "column"), [(1.0, 10.49, "E1p0"), (0.65, 14.22, "E0p65")])
def test_cross_section_and_spectrum_of_the_notes(
    min_energy: float, total: float, column: str, beams: Beams, barrel: Barrel, table: Table, compatible: Compatible
) -> None:
    """Reference (direct_bkg_threegamma_computed.csv): totals to 1 %, diphoton mass spectrum within statistics.

    The notes give 0.15 % for the statistical error of the total, so their bins have about 3/0.0015^2 entries shared
    as the spectrum is.
    """
    notes = table("threegamma_spectrum.csv")
    edges = np.append(notes["m_lo_GeV"], notes["m_hi_GeV"][-1]) ** 2
    result = simulate_histograms(
        ThreePhotons(),
        beams,
        PERFECT,
        barrel(min_energy),
        axes={"mass2": edges},
        isr=False,
        n_events=3_000_000,
        seed=1,
        stream="t",
    )
    assert result.weight_unit == "fb"
    assert result.selected_per_event_stdev / result.selected_per_event < 1.5e-3
    assert result.selected_per_event == pytest.approx(1e3 * total, rel=0.01)
    ours = result.histograms["mass2"]
    expected = notes[f"dsigma_dm_fb_per_GeV_{column}"] * (notes["m_hi_GeV"] - notes["m_lo_GeV"])
    used = expected > 0.0
    assert np.sum(ours.values[~used]) == 0.0
    their_variance = expected * np.sum(expected) / (3.0 / 0.0015**2)
    our_shape, their_shape = ours.values / np.sum(ours.values), expected / np.sum(expected)
    variance = ours.variances / np.sum(ours.values) ** 2 + their_variance / np.sum(expected) ** 2
    compatible((our_shape - their_shape)[used], variance[used])


def test_cross_section_against_flat_phase_space(barrel: Barrel) -> None:
    """Reference: normalisation, from flat phase space in numpy with |M|^2 of the notes, symmetric head-on beams."""
    energy, min_energy, max_cos = 5.29, 1.0, 0.7
    beams = Beams(electron_energy=energy, positron_energy=energy)
    selection = PhotonSelection(theta=((math.acos(max_cos), math.pi - math.acos(max_cos)),), min_energy=min_energy)
    result = simulate_histograms(
        ThreePhotons(),
        beams,
        PERFECT,
        selection,
        axes={"mass2": [0.0, 1.0]},
        isr=False,
        n_events=1_000_000,
        seed=9,
        stream="t",
    )
    rng = np.random.default_rng(10)
    n = 1_000_000
    one, two = rng.random((2, n))
    fold = one + two < 1.0
    one, two = np.where(fold, 1.0 - one, one), np.where(fold, 1.0 - two, two)  # flat in x1 + x2 > 1
    x = np.stack([one, two, 2.0 - one - two])
    cos12 = np.clip(1.0 - 2.0 * (1.0 - x[2]) / (x[0] * x[1]), -1.0, 1.0)
    # z components of the three directions: the plane of the event is isotropic, with axes u and v
    zu = rng.uniform(-1.0, 1.0, n)
    zv = np.sqrt(1.0 - zu**2) * np.cos(rng.uniform(0.0, 2.0 * math.pi, n))
    z = np.stack([zu, cos12 * zu + np.sqrt(1.0 - cos12**2) * zv, np.zeros(n)])
    z[2] = -(x[0] * z[0] + x[1] * z[1]) / x[2]
    k, k_prime = energy**2 * x * (1.0 - z), energy**2 * x * (1.0 + z)
    s = 4.0 * energy**2
    e2 = 4.0 * math.pi / 137.035999
    squared = e2**3 * s * np.sum(k * k_prime * (k**2 + k_prime**2), axis=0) / np.prod(k * k_prime, axis=0)
    phase_space = s / (256.0 * math.pi**3)
    inside = np.all((x * energy > min_energy) & (np.abs(z) < max_cos), axis=0)
    weights = np.where(inside, squared, 0.0) * 3.893793721e11 * phase_space / (2.0 * s) / 6.0
    difference = result.selected_per_event - np.mean(weights)
    assert abs(difference) < 4.0 * math.hypot(result.selected_per_event_stdev, np.std(weights) / math.sqrt(n))
    assert result.selected_per_event_stdev < 0.003 * result.selected_per_event
    assert np.std(weights) / math.sqrt(n) < 0.003 * np.mean(weights)


def test_momentum_is_conserved(beams: Beams) -> None:
    """Invariant: the frame algebra; photon 0 softest in the e+e- frame."""
    selection = PhotonSelection(theta=((0.7, 2.1),), min_energy=1.0)
    events = simulate_events(ThreePhotons(), beams, PERFECT, selection, isr=False, n_events=50_000, seed=1, stream="t")
    total = np.array(beams.four_momentum)
    assert np.max(np.abs(events.true.sum(axis=1) - total)) < 1e-12 * total[0]
    squares = np.sum(np.array([1.0, -1.0, -1.0, -1.0]) * events.true**2, axis=2)
    assert np.max(np.abs(squares)) < 1e-12 * beams.s
    in_frame = events.true @ (np.array([1.0, -1.0, -1.0, -1.0]) * total) / beams.sqrt_s
    assert np.all(in_frame[:, 0] <= np.min(in_frame[:, 1:], axis=1) + 1e-9)
    live = events.weights > 0.0
    assert np.min(in_frame[live]) >= 0.3
    assert np.all(np.isfinite(events.weights))
    assert 0.2 < np.mean(live) < 1.0


@pytest.mark.parametrize("isr", [False, True])
def test_looser_generator_cuts_change_nothing(
    isr: bool, real_beams: Beams, response: PhotonResponse, barrel: Barrel, compatible: Compatible
) -> None:
    """Invariant: accepted totals and shapes do not depend on generator cuts; margins too thin, or a least energy that
    forgets the boost of the radiating beams, would show here."""

    def run(process: ThreePhotons, seed: int) -> SimulatedHistograms:
        return simulate_histograms(
            process,
            real_beams,
            response,
            barrel(0.65),
            axes={"mass2": np.linspace(0.0, 90.0, 31)},
            isr=isr,
            n_events=1_500_000,
            seed=seed,
            stream="t",
        )

    tight = run(ThreePhotons.covering(real_beams, response, [barrel(0.65)], extra=0.0), 1)
    loose = run(ThreePhotons(min_energy=0.15, max_cos=0.97), 2)
    stdev = math.hypot(tight.selected_per_event_stdev, loose.selected_per_event_stdev)
    assert stdev < 0.003 * tight.selected_per_event
    assert abs(tight.selected_per_event - loose.selected_per_event) < 4.0 * stdev
    one, two = tight.histograms["mass2"], loose.histograms["mass2"]
    used = one.values > 0.0
    compatible((one.values - two.values)[used], (one.variances + two.variances)[used])
    # the selected events have bounded weights: a generator that chased a singularity would not be this efficient
    assert tight.effective_sample_size > 0.15 * tight.n_events
