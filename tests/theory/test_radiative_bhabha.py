"""The spectra of e+e- -> e+ e- gamma with both electrons lost, which the single-photon searches state.

An integral of their own: the lowest order without the electron mass, which only ends the integral over the momentum
transfer. The matrix element is checked against helicity amplitudes.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from modelbuilder.spec.load import load_search
from modelbuilder.spec.search import StatedBackground
from modelbuilder.theory.constants import ALPHA, ELECTRON_MASS, HBARC_SQUARED

Floats = npt.NDArray[np.float64]
SPECS = Path(__file__).parents[2] / "specs"
METRIC = np.array([1.0, -1.0, -1.0, -1.0])
LARGEST_COS = 0.6


def dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.sum(a * b * METRIC, axis=-1), dtype=np.float64)


def squared_amplitude(
    beams: tuple[Floats, Floats], out: tuple[Floats, Floats], k: Floats, t: Floats, tp: Floats
) -> Floats:
    """Spin averaged |M|^2 of e- e+ -> e- e+ gamma in units of e^6, GeV^-2; t and t' of the electron and of the positron.

    Berends, Kleiss, de Causmaecker, Gastmans, Wu, Phys. Lett. B 103 (1981) 124 (recalled).
    """
    (p, pp), (q, qp) = beams, out
    s, sp, u, up = 2 * dot(p, pp), 2 * dot(q, qp), -2 * dot(p, qp), -2 * dot(pp, q)
    top = s * sp * (s**2 + sp**2) + t * tp * (t**2 + tp**2) + u * up * (u**2 + up**2)
    products = {(0, 1): s / 2, (2, 3): sp / 2, (0, 2): -t / 2, (1, 3): -tp / 2, (0, 3): -u / 2, (1, 2): -up / 2}
    radiators = [dot(leg, k) for leg in (p, pp, q, qp)]
    charges = (-1.0, 1.0, 1.0, -1.0)  # of J = p+/(p+.k) - p-/(p-.k) + q-/(q-.k) - q+/(q+.k)
    current = sum(2 * charges[i] * charges[j] * pij / (radiators[i] * radiators[j]) for (i, j), pij in products.items())
    return np.asarray(-current * top / (s * sp * t * tp), dtype=np.float64)


PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=complex)
GAMMA = np.zeros((4, 4, 4), dtype=complex)
GAMMA[0, :2, 2:] = GAMMA[0, 2:, :2] = np.eye(2)
GAMMA[1:, :2, 2:], GAMMA[1:, 2:, :2] = PAULI, -PAULI
LOWERED = GAMMA * METRIC[:, np.newaxis, np.newaxis]


def slash(vector: npt.NDArray[np.number]) -> npt.NDArray[np.complex128]:
    return np.asarray(np.einsum("m,mij->ij", vector * METRIC, GAMMA), dtype=np.complex128)


def spinors(momentum: Floats) -> list[npt.NDArray[np.complex128]]:
    """Two solutions of the massless equation, normalised to sum u ubar = slash(p)."""
    values, vectors = np.linalg.eigh(np.einsum("i,ijk->jk", momentum[1:] / momentum[0], PAULI))
    scale = math.sqrt(2.0 * momentum[0])
    left = np.concatenate([vectors[:, np.argmin(values)], np.zeros(2)]) * scale
    right = np.concatenate([np.zeros(2), vectors[:, np.argmax(values)]]) * scale
    return [left, right]


def amplitude_squared_by_hand(p: Floats, pp: Floats, q: Floats, qp: Floats, k: Floats) -> float:
    """All eight diagrams, all spins, in units of e^6."""
    first = np.cross(k[1:], [0.3, 0.5, -0.7])
    second = np.cross(k[1:], first)
    total = 0.0
    for direction in (first, second):
        eps = slash(np.concatenate([[0.0], direction / np.linalg.norm(direction)]))
        into = lambda leg: slash(leg - k) / (-2 * dot(leg, k))
        outof = lambda leg: slash(leg + k) / (2 * dot(leg, k))
        s, sp, t, tp = 2 * dot(p, pp), 2 * dot(q, qp), -2 * dot(p, q), -2 * dot(pp, qp)
        for um, vp, uq, vq in itertools.product(spinors(p), spinors(pp), spinors(q), spinors(qp)):
            bvp, buq = vp.conj() @ GAMMA[0], uq.conj() @ GAMMA[0]
            found = 0j
            for g, low in zip(GAMMA, LOWERED, strict=True):
                beams = bvp @ (low @ into(p) @ eps - eps @ into(pp) @ low) @ um
                pair = buq @ (eps @ outof(q) @ g - g @ outof(qp) @ eps) @ vq
                found += beams * (buq @ g @ vq) / sp + (bvp @ low @ um) * pair / s
                electron = buq @ (eps @ outof(q) @ g + g @ into(p) @ eps) @ um
                positron = bvp @ (-eps @ into(pp) @ low - low @ outof(qp) @ eps) @ vq
                found -= electron * (bvp @ low @ vq) / tp + (buq @ g @ um) * positron / t
            total += abs(found) ** 2
    return total / 4.0


def test_matrix_element() -> None:
    """Second method: the formula against helicity amplitudes; catches a wrong sign of an interference."""
    rng = np.random.default_rng(1)
    energy = 5.2
    p, pp = np.array([energy, 0, 0, energy]), np.array([energy, 0, 0, -energy])
    for _ in range(4):
        k = np.append(2.0 + rng.random(), rng.normal(size=3))
        k[1:] *= k[0] / np.linalg.norm(k[1:])
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        rest = np.array([2 * energy, 0, 0, 0]) - k
        size = dot(rest, rest) / (2 * (rest[0] - rest[1:] @ direction))
        q = np.append(size, size * direction)
        qp = rest - q
        formula = squared_amplitude((p, pp), (q, qp), k, -2 * dot(p, q), -2 * dot(pp, qp))
        assert formula == pytest.approx(amplitude_squared_by_hand(p, pp, q, qp, k), rel=1e-9)


def direction_near(rng: np.random.Generator, n: int, sign: float) -> tuple[Floats, Floats]:
    """Directions with density 1/(1 - cos) about a beam, and 1 - cos."""
    x = NEAREST * (np.exp(LOGARITHM * rng.random(n)) - 1.0)
    sine, phi = np.sqrt(x * (2.0 - x)), 2.0 * math.pi * rng.random(n)
    return np.stack([sine * np.cos(phi), sine * np.sin(phi), sign * (1.0 - x)], axis=-1), x


NEAREST = 1e-9
LOGARITHM = math.log((2.0 + NEAREST) / NEAREST)


def lost_spectrum(
    beams: tuple[float, float, float], ends: tuple[float, float], edges: Floats, n: int = 600_000
) -> tuple[Floats, Floats]:
    """dsigma/dM^2 of the recoil, fb/GeV^2, with the photon within |cos| < 0.6 in the e+e- frame, and its error.

    beams: energies, GeV, and crossing angle.    ends: of the calorimeter in the laboratory, degrees.
    """
    rng = np.random.default_rng(5)
    electron, positron, angle = beams
    half = 0.5 * angle
    momenta = np.array([[electron, electron * math.sin(half), 0, electron * math.cos(half)],
                        [positron, positron * math.sin(half), 0, -positron * math.cos(half)]])  # fmt: skip
    total = momenta.sum(axis=0)
    s = float(dot(total, total))
    root, energy = math.sqrt(s), 0.5 * math.sqrt(s)
    low, high = (s - edges[-1]) / (2 * root), (s - edges[0]) / (2 * root)
    k0, cosine = low + (high - low) * rng.random(n), LARGEST_COS * (2 * rng.random(n) - 1)
    sine, phi = np.sqrt(1 - cosine**2), 2 * math.pi * rng.random(n)
    k = k0[:, np.newaxis] * np.stack([np.ones(n), sine * np.cos(phi), sine * np.sin(phi), cosine], axis=-1)
    # one electron near its own beam, the other one follows; half of the events each way
    is_electron = rng.random(n) < 0.5
    along, x = (np.where(is_electron[:, np.newaxis] if a.ndim == 2 else is_electron, a, b)
                for a, b in zip(direction_near(rng, n, 1.0), direction_near(rng, n, -1.0), strict=True))  # fmt: skip
    rest = np.array([root, 0, 0, 0]) - k
    mass2 = dot(rest, rest)
    size = mass2 / (2 * (rest[:, 0] - np.sum(rest[:, 1:] * along, axis=1)))
    one = np.concatenate([size[:, np.newaxis], size[:, np.newaxis] * along], axis=1)
    q, qp = np.where(is_electron[:, np.newaxis], one, rest - one), np.where(is_electron[:, np.newaxis], rest - one, one)
    x_minus = np.where(is_electron, x, 1 - q[:, 3] / q[:, 0])
    x_plus = np.where(is_electron, 1 + qp[:, 3] / qp[:, 0], x)
    t, tp = -2 * energy * q[:, 0] * x_minus, -2 * energy * qp[:, 0] * x_plus
    density = sum(
        0.5 / (2 * math.pi * LOGARITHM * (y + NEAREST)) * 8 * math.pi**2 * mass2 / leg[:, 0] ** 2
        for y, leg in ((x_minus, q), (x_plus, qp))
    )
    p, pp = np.array([energy, 0, 0, energy]), np.array([energy, 0, 0, -energy])
    with np.errstate(all="ignore"):
        weights = squared_amplitude((p, pp), (q, qp), k, t, tp) / density
    weights *= (4 * math.pi * ALPHA) ** 3 * HBARC_SQUARED / (2 * s)
    weights *= k0 * (high - low) * 2 * LARGEST_COS * 2 * math.pi / (2 * (2 * math.pi) ** 3)
    possible = np.isfinite(weights)
    for transfer, leg in ((t, q), (tp, qp)):
        share = 1 - leg[:, 0] / energy
        possible &= -transfer > ELECTRON_MASS**2 * share**2 / np.maximum(1 - share, 1e-9)  # the least, with the mass
        lab = boosted(leg, momenta, total)
        theta = np.degrees(np.arctan2(np.hypot(lab[:, 1], lab[:, 2]), lab[:, 3]))
        possible &= (theta < ends[0]) | (theta > ends[1])
    weights = np.where(possible, weights, 0.0)
    where = s - 2 * root * k0
    sums, squares = (np.histogram(where, edges, weights=w)[0] for w in (weights, weights**2))
    return sums / n / np.diff(edges), np.sqrt(squares) / n / np.diff(edges)


def boosted(momenta: Floats, beams: Floats, total: Floats) -> Floats:
    """From the e+e- frame, with the electron along z, to the laboratory."""
    beta = total[1:] / total[0]
    gamma, square = 1 / math.sqrt(1 - beta @ beta), float(beta @ beta)

    def boost(vectors: Floats, sign: float) -> Floats:
        along = sign * (vectors[:, 1:] @ beta)
        rest = vectors[:, 1:] + ((gamma - 1) * along / square + gamma * vectors[:, 0])[:, np.newaxis] * sign * beta
        return np.concatenate([(gamma * (vectors[:, 0] + along))[:, np.newaxis], rest], axis=1)

    z = boost(beams[:1], -1.0)[0, 1:]
    z = z / np.linalg.norm(z)
    y = np.array([0.0, 1.0, 0.0])
    rotation = np.stack([np.cross(y, z), y, z], axis=1)
    turned = momenta.copy()
    turned[:, 1:] = momenta[:, 1:] @ rotation.T
    return boost(turned, 1.0)


@pytest.mark.parametrize(
    ("spec", "channel", "centres", "efficiencies"),
    [
        ("belle2/darkphoton_invisible.yaml", "recoil", (60.0, 66.0, 70.0), (0.85, 0.85, 0.85)),
        ("babar/darkphoton_invisible.yaml", "high_mass", (44.0, 54.0, 60.0, 68.0), None),
        ("babar/darkphoton_invisible_tight_y2s.yaml", "high_mass", (44.0, 54.0, 60.0), None),
    ],
)
def test_stated_spectra(
    spec: str, channel: str, centres: tuple[float, ...], efficiencies: tuple[float, ...] | None
) -> None:
    """Second integration: the stated events, over the efficiency of the signal, are the cross section."""
    search = load_search(SPECS / spec).spec
    beams, photons = search.experiment.beams, search.experiment.photons.acceptance
    background = search.backgrounds["radiative_bhabha"]
    assert isinstance(background, StatedBackground)
    assert background.expected[channel].luminosity == 1.0
    points, densities = background.expected[channel].density("recoil2(gamma)")
    edges = np.ravel([(centre - 1.0, centre + 1.0) for centre in centres])
    found, error = lost_spectrum(
        (beams.electron_energy, beams.positron_energy, beams.crossing_angle),
        (math.degrees(photons[0].low), math.degrees(photons[-1].high)),
        edges,
    )
    for index, centre in enumerate(centres):
        efficiency = (
            efficiencies[index] if efficiencies else search.signal.efficiency.at({"m_Ap": min(math.sqrt(centre), 8.0)})
        )
        stated = float(np.interp(centre, points, densities)) / efficiency
        # the integral over 2 GeV^2 of a steep spectrum, and its own error of some per cent
        assert stated == pytest.approx(found[2 * index], rel=0.06, abs=4.0 * error[2 * index])
