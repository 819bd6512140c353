"""e+e- -> gamma a, a -> gamma gamma: kinematics, the toy table of the physics notes, and an independent numpy version."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.processes import GammaAlp
from modelbuilder.kinematics.resolution import central_half_width, resolution
from modelbuilder.kinematics.response import PERFECT, PhotonResponse
from modelbuilder.kinematics.selection import PhotonSelection
from modelbuilder.kinematics.simulate import simulate_events, simulate_histograms

Barrel = Callable[..., PhotonSelection]
Table = Callable[[str], dict[str, np.ndarray]]
Compatible = Callable[[np.ndarray, np.ndarray], None]

METRIC = np.array([1.0, -1.0, -1.0, -1.0])


def boost_to_rest(total: np.ndarray) -> np.ndarray:
    """The 4 x 4 matrix of the boost into the rest frame of `total`."""
    mass = math.sqrt(np.sum(METRIC * total**2))
    beta = total[1:] / total[0]
    gamma = total[0] / mass
    matrix = np.eye(4)
    matrix[0, 0] = gamma
    matrix[0, 1:] = matrix[1:, 0] = -gamma * beta
    matrix[1:, 1:] += np.outer(beta, beta) * (gamma**2 / (gamma + 1.0))
    return matrix


def beam_momenta(beams: Beams) -> tuple[np.ndarray, np.ndarray]:
    half = 0.5 * beams.crossing_angle
    sine, cosine = math.sin(half), math.cos(half)
    return (
        beams.electron_energy * np.array([1.0, sine, 0.0, cosine]),
        beams.positron_energy * np.array([1.0, sine, 0.0, -cosine]),
    )


@pytest.mark.parametrize("mass", [0.1, 3.0, 9.7])
def test_momentum_is_conserved_and_masses_are_right(mass: float, beams: Beams) -> None:
    """Invariant: the frame algebra. Photons massless, a on its mass shell, total = beams, recoil = a."""
    events = simulate_events(
        GammaAlp(mass=mass), beams, PERFECT, PhotonSelection(), isr=False, n_events=20_000, seed=1, stream="t"
    )
    total = np.array(beams.four_momentum)
    assert np.max(np.abs(events.true.sum(axis=1) - total)) < 1e-12 * total[0]
    squares = np.sum(METRIC * events.true**2, axis=2)
    assert np.max(np.abs(squares)) < 1e-12 * beams.s
    pair = events.true[:, 1] + events.true[:, 2]
    assert np.max(np.abs(np.sum(METRIC * pair**2, axis=1) - mass**2)) < 1e-12 * beams.s
    assert np.all(events.weights == 1.0)
    assert np.all(events.selected)


def test_a_perfect_response_changes_nothing(beams: Beams) -> None:
    """Invariant: with zero widths the reconstructed photons are the true ones."""
    events = simulate_events(
        GammaAlp(mass=2.0), beams, PERFECT, PhotonSelection(), isr=False, n_events=5_000, seed=1, stream="t"
    )
    assert np.max(np.abs(events.reconstructed - events.true)) < 1e-13 * beams.sqrt_s


def test_angular_laws(beams: Beams, compatible: Compatible) -> None:
    """Reference: 1 + cos^2 to the electron in the e+e- frame (not to the z axis) and an isotropic decay, both azimuths."""
    n = 400_000
    events = simulate_events(
        GammaAlp(mass=3.0), beams, PERFECT, PhotonSelection(), isr=False, n_events=n, seed=5, stream="t"
    )
    matrix = boost_to_rest(np.array(beams.four_momentum))
    electron = (matrix @ beam_momenta(beams)[0])[1:]
    axis = electron / np.linalg.norm(electron)
    second = np.array([0.0, 1.0, 0.0])
    first = np.cross(second, axis)
    photon = (events.true[:, 0] @ matrix.T)[:, 1:]
    photon /= np.linalg.norm(photon, axis=1)[:, None]
    cosine = photon @ axis
    edges = np.linspace(-1.0, 1.0, 41)
    expected = n * np.diff((edges**3 + 3 * edges) / 8)
    compatible(np.histogram(cosine, edges)[0] - expected, expected)
    azimuth = np.arctan2(photon @ second, photon @ first)
    counts = np.histogram(azimuth, 40, (-math.pi, math.pi))[0]
    compatible(counts - n / 40, np.full(40, n / 40))

    # decay angle from the energies in the e+e- frame: E = (E_a + p_a cos)/2
    energies = (events.true @ matrix.T)[:, :, 0]
    decay = (energies[:, 1] - energies[:, 2]) / energies[:, 0]
    counts = np.histogram(decay, 40, (-1.0, 1.0))[0]
    compatible(counts - n / 40, np.full(40, n / 40))
    # decay azimuth about the direction of a, from the plane of a and the beam
    one = (events.true[:, 1] @ matrix.T)[:, 1:]
    in_plane = axis - cosine[:, None] * photon
    out_of_plane = np.cross(photon, in_plane)
    azimuth = np.arctan2(np.sum(one * out_of_plane, axis=1), np.sum(one * in_plane, axis=1))
    counts = np.histogram(azimuth, 40, (-math.pi, math.pi))[0]
    compatible(counts - n / 40, np.full(40, n / 40))


def numpy_photons(mass: float, beams: Beams, response: PhotonResponse, n: int, seed: int) -> np.ndarray:
    """The simulation again, straightforwardly: rejection, 4 x 4 boosts, spherical angles; (n, 3, 4) reconstructed."""
    rng = np.random.default_rng(seed)
    root = beams.sqrt_s
    cosine = rng.uniform(-1.0, 1.0, 4 * n)
    cosine = cosine[rng.uniform(0.0, 2.0, 4 * n) < 1.0 + cosine**2][:n]
    assert len(cosine) == n

    def direction(c: np.ndarray) -> np.ndarray:
        phi = rng.uniform(-math.pi, math.pi, len(c))
        s = np.sqrt(1.0 - c**2)
        return np.stack([s * np.cos(phi), s * np.sin(phi), c], axis=1)

    along = direction(cosine)
    energy = (beams.s - mass**2) / (2.0 * root)
    recoil = np.concatenate([np.full((n, 1), energy), energy * along], axis=1)
    decay = direction(rng.uniform(-1.0, 1.0, n))
    # boost of the decay with velocity -energy/E_a along `along`
    energy_a = root - energy
    beta, gamma = -energy / energy_a, energy_a / mass
    parallel = np.sum(decay * along, axis=1)[:, None]
    daughters = []
    for sign in (1.0, -1.0):
        e = gamma * mass / 2 * (1.0 + beta * sign * parallel)
        p = sign * mass / 2 * (decay - parallel * along) + gamma * mass / 2 * (sign * parallel + beta) * along
        daughters.append(np.concatenate([e, p], axis=1))
    in_rest = np.stack([recoil, *daughters], axis=1)
    # from axes (first, second, electron) to the rest frame, then to the laboratory
    to_rest = boost_to_rest(np.array(beams.four_momentum))
    electron = (to_rest @ beam_momenta(beams)[0])[1:]
    axes = np.stack([np.zeros(3), np.array([0.0, 1.0, 0.0]), electron / np.linalg.norm(electron)])
    axes[0] = np.cross(axes[1], axes[2])
    in_rest[:, :, 1:] = in_rest[:, :, 1:] @ axes
    true = in_rest @ np.linalg.inv(to_rest).T

    e = true[:, :, 0]
    sigma = e * np.sqrt((response.noise / e) ** 2 + (response.stochastic / e**0.25) ** 2 + response.constant**2)
    measured = e + sigma * rng.standard_normal(e.shape)
    n_true = true[:, :, 1:] / e[:, :, None]
    theta, phi = np.arccos(n_true[:, :, 2]), np.arctan2(n_true[:, :, 1], n_true[:, :, 0])
    d_theta = response.angle / np.sqrt(e) * rng.standard_normal(e.shape)
    d_phi = response.angle / np.sqrt(e) * rng.standard_normal(e.shape)
    theta_unit = np.stack([np.cos(theta) * np.cos(phi), np.cos(theta) * np.sin(phi), -np.sin(theta)], axis=2)
    phi_unit = np.stack([-np.sin(phi), np.cos(phi), np.zeros_like(phi)], axis=2)
    moved = n_true + d_theta[:, :, None] * theta_unit + d_phi[:, :, None] * phi_unit
    moved /= np.linalg.norm(moved, axis=2)[:, :, None]
    return np.concatenate([measured[:, :, None], measured[:, :, None] * moved], axis=2)


def entries(photons: np.ndarray, beams: Beams) -> dict[str, np.ndarray]:
    """mass2 and recoil2 of reconstructed photons from their four-momenta, shape (n, 3)."""
    total = np.array(beams.four_momentum)
    pairs = [photons[:, (i + 1) % 3] + photons[:, (i + 2) % 3] for i in range(3)]
    return {
        "mass2": np.stack([np.sum(METRIC * pair**2, axis=1) for pair in pairs], axis=1),
        "recoil2": np.stack([np.sum(METRIC * (total - photons[:, i]) ** 2, axis=1) for i in range(3)], axis=1),
    }


@pytest.mark.parametrize(("mass", "min_energy"), [(0.5, 1.0), (5.0, 0.65)])
def test_histograms_agree_with_a_numpy_simulation(
    mass: float, min_energy: float, beams: Beams, response: PhotonResponse, barrel: Barrel, compatible: Compatible
) -> None:
    """Reference: the whole chain (decay, frames, smearing, cuts, observables, fill) against other code."""
    n = 300_000
    axes = {"mass2": np.linspace(0.0, 90.0, 61), "recoil2": np.linspace(-10.0, 100.0, 61)}
    ours = simulate_histograms(
        GammaAlp(mass=mass),
        beams,
        response,
        barrel(min_energy),
        axes=axes,
        isr=False,
        n_events=n,
        seed=7,
        stream="t",
    )
    photons = numpy_photons(mass, beams, response, n, 8)
    theta = np.arccos(photons[:, :, 3] / photons[:, :, 0])
    low, high = math.radians(37.3), math.radians(123.7)
    keep = np.all((theta > low) & (theta < high) & (photons[:, :, 0] > min_energy), axis=1)
    for name, values in entries(photons[keep], beams).items():
        histogram = ours.histograms[name]
        other = np.histogram(values, axes[name])[0].astype(float)
        # of one event, several entries can be in one bin: count them for the variance
        place = np.digitize(values, axes[name])
        multiplicity = 1 + sum((place == np.roll(place, shift, axis=1)).astype(int) for shift in (1, 2))
        variance = np.histogram(values, axes[name], weights=multiplicity.astype(float))[0] + histogram.variances
        used = variance > 40.0
        assert np.count_nonzero(used) > 20
        compatible(histogram.values[used] - other[used], variance[used])
    assert ours.selected_per_event == pytest.approx(np.mean(keep), abs=5 * math.sqrt(2 * 0.25 / n))


def test_acceptances_of_the_toy_table(beams: Beams, response: PhotonResponse, barrel: Barrel, table: Table) -> None:
    """Reference (direct_toy_alp_gammagamma.csv): three photons in the barrel above the threshold; 0.01 absolute."""
    toy = table("toy_alp_gammagamma.csv")
    for mass, expected in zip(toy["m_GeV"], toy["acc_3gamma"], strict=True):
        result = simulate_histograms(
            GammaAlp(mass=mass),
            beams,
            response,
            barrel(1.0 if mass <= 4.0 else 0.65),
            axes={"mass2": [0.0, 1.0]},
            isr=False,
            n_events=100_000,
            seed=2,
            stream="t",
        )
        assert result.selected_per_event == pytest.approx(expected, abs=0.01), mass


def test_recoil_acceptances_of_the_toy_table(beams: Beams, response: PhotonResponse, table: Table) -> None:
    """Reference (same table): recoil photon in 32.2 to 128.7 deg; would catch a wrong photon 0."""
    toy = table("toy_alp_gammagamma.csv")
    for mass, expected in list(zip(toy["m_GeV"], toy["acc_recoil_barrel"], strict=True))[::4]:
        events = simulate_events(
            GammaAlp(mass=mass), beams, response, PhotonSelection(), isr=False, n_events=60_000, seed=2, stream="t"
        )
        cosine = events.reconstructed[:, 0, 3] / events.reconstructed[:, 0, 0]
        inside = (cosine < math.cos(math.radians(32.2))) & (cosine > math.cos(math.radians(128.7)))
        assert np.mean(inside) == pytest.approx(expected, abs=0.01), mass


def test_resolutions_of_the_toy_table(beams: Beams, response: PhotonResponse, barrel: Barrel, table: Table) -> None:
    """Reference (same table): both resolutions at every mass within 5 %."""
    toy = table("toy_alp_gammagamma.csv")
    for i, mass in enumerate(toy["m_GeV"]):
        found = resolution(
            GammaAlp(mass=mass),
            beams,
            response,
            barrel(1.0 if mass <= 4.0 else 0.65),
            isr=False,
            n_events=80_000,
            seed=3,
            stream="t",
        )
        assert found.mass2 == pytest.approx(toy["sigma_M2gg_GeV2"][i], rel=0.05), mass
        assert found.recoil2 == pytest.approx(toy["sigma_M2rec_GeV2"][i], rel=0.05), mass
        assert 1e3 * found.pair_mass == pytest.approx(toy["sigma_Mgg_MeV"][i], rel=0.05), mass
        assert 1e3 * found.recoil_mass == pytest.approx(toy["sigma_Mrec_MeV"][i], rel=0.05), mass


def test_resolutions_cross_at_the_published_switching_mass(
    beams: Beams, response: PhotonResponse, barrel: Barrel
) -> None:
    """Reference (arXiv:2007.13071): the observable is changed at 6.85 GeV."""
    masses = np.linspace(6.4, 7.4, 6)
    ratio = []
    for mass in masses:
        found = resolution(
            GammaAlp(mass=mass), beams, response, barrel(0.65), isr=False, n_events=150_000, seed=4, stream="t"
        )
        ratio.append(found.recoil2 / found.mass2)
    assert np.all(np.diff(ratio) < 0.0)
    assert np.interp(-1.0, -np.array(ratio), masses) == pytest.approx(6.85, abs=0.15)


def test_central_half_width_of_a_normal_distribution() -> None:
    """Reference: 68.3 % of a normal is one standard deviation; weights count like repeated entries."""
    values = np.random.default_rng(6).standard_normal(200_000)
    assert central_half_width(values, np.ones_like(values)) == pytest.approx(1.0, rel=0.01)
    shifted = np.concatenate([values, values[:100_000] + 100.0])
    weights = np.concatenate([np.ones_like(values), np.zeros(100_000)])
    assert central_half_width(shifted, weights) == pytest.approx(
        central_half_width(values, np.ones_like(values)), rel=1e-3
    )
