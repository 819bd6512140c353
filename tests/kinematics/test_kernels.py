"""Random numbers, functions and matrix element against published vectors, numpy and Dirac traces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from modelbuilder.kinematics import _functions, _random, _three_photons


def tabulated(name: int, arguments: np.ndarray) -> np.ndarray:
    results = np.zeros((len(arguments), 2))
    _functions.tabulate(name, arguments, results)
    return results


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    """Reference (Random123 kat_vectors): a wrong round, constant, word order or key schedule."""
    words = np.zeros(4, dtype=np.uint64)
    _random.philox(np.array(counter, dtype=np.uint64), np.array(key, dtype=np.uint64), words)
    assert [int(word) for word in words] == expected


def test_log_exp_sincos_agree_with_numpy() -> None:
    """Reference: a wrong coefficient or range reduction in the polynomials, at the ends of the ranges above all."""
    rng = np.random.default_rng(1)
    edge = np.array([2.0**-53, 1.0 - 2.0**-53, 0.5, np.sqrt(0.5), np.nextafter(np.sqrt(0.5), 0), 1.0, 1e-300, 1e300])
    x = np.concatenate([edge, rng.random(20_000), 10.0 ** rng.uniform(-300, 300, 20_000)])
    assert np.allclose(tabulated(0, x)[:, 0], np.log(x), rtol=2e-15, atol=2e-16)

    x = np.concatenate([[-700.0, 700.0, 0.0, -1e-300], rng.uniform(-700, 700, 20_000), rng.uniform(-2, 2, 20_000)])
    relative = np.abs(tabulated(1, x)[:, 0] / np.exp(x) - 1.0)
    assert np.all(relative < 1e-15 + 3e-16 * np.abs(x))
    assert tabulated(1, np.array([-1e6]))[0, 0] == pytest.approx(np.exp(-700.0), rel=1e-12)

    eighths = np.arange(9) / 8
    u = np.concatenate([eighths, np.nextafter(eighths, 0)[1:], [2.0**-53], rng.random(50_000)])
    result = tabulated(2, u)
    assert np.allclose(result[:, 0], np.sin(2 * np.pi * u), rtol=0, atol=2e-15)
    assert np.allclose(result[:, 1], np.cos(2 * np.pi * u), rtol=0, atol=2e-15)


def test_dipole_angle_inverts_the_cumulative_distribution() -> None:
    """Invariant: F(c) = (c^3 + 3c + 4)/8 gives back u; too few Halley steps, or a bad start, would not."""
    u = np.concatenate([[2.0**-53, 0.5, 1 - 2.0**-53], np.random.default_rng(2).random(20_000)])
    c = tabulated(3, u)[:, 0]
    assert np.all(np.abs(c) <= 1.0)
    assert np.allclose((c**3 + 3 * c + 4) / 8, u, rtol=0, atol=3e-16)


def dirac_three_photons(p_minus: np.ndarray, p_plus: np.ndarray, photons: np.ndarray) -> float:
    """sum over spins and polarisations of |M|^2 / 4 for e+e- -> 3 gamma with e = 1, from gamma matrices."""
    sigma = [np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.array([[1, 0], [0, -1]])]
    zero, one = np.zeros((2, 2)), np.eye(2)
    gamma = [np.block([[one, zero], [zero, -one]]), *(np.block([[zero, m], [-m, zero]]) for m in sigma)]
    metric = np.diag([1.0, -1.0, -1.0, -1.0])

    def slash(p: np.ndarray) -> np.ndarray:
        return sum(metric[i, i] * p[i] * gamma[i] for i in range(4))

    def propagator(p: np.ndarray) -> np.ndarray:
        return slash(p) / (p @ metric @ p)

    amplitude = np.zeros((4, 4, 4, 4, 4), dtype=complex)  # mu of photon 0, 1, 2, then the spinor indices
    for a, b, c in itertools.permutations(range(3)):
        after_first = propagator(p_minus - photons[a])
        after_second = propagator(photons[c] - p_plus)
        for mu in itertools.product(range(4), repeat=3):
            chain = gamma[mu[c]] @ after_second @ gamma[mu[b]] @ after_first @ gamma[mu[a]]
            amplitude[mu] += chain
    total = 0.0
    for mu in itertools.product(range(4), repeat=3):
        sign = -np.prod([metric[i, i] for i in mu])  # three polarisation sums of -g
        bar = gamma[0] @ amplitude[mu].conj().T @ gamma[0]
        total += sign * np.trace(slash(p_plus) @ amplitude[mu] @ slash(p_minus) @ bar).real
    return float(total / 4)


def test_three_photon_matrix_element_is_the_dirac_trace() -> None:
    """Reference: the closed form (coefficient, powers, which photon goes where) against the six Feynman diagrams."""
    rng = np.random.default_rng(3)
    half = 5.0
    for _ in range(25):
        # three massless momenta that balance: a random triangle, randomly turned
        while True:
            x1, x2 = rng.random(2)
            if x1 + x2 > 1.02:
                break
        x3 = 2 - x1 - x2
        cos12 = 1 - 2 * (1 - x3) / (x1 * x2)
        plane = np.array([[x1, 0, 0], [x2 * cos12, x2 * np.sqrt(1 - cos12**2), 0], [0, 0, 0]])
        plane[2] = -plane[0] - plane[1]
        rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        momenta = half * plane @ rotation.T
        energies = np.linalg.norm(momenta, axis=1)
        photons = np.column_stack([energies, momenta])
        p_minus, p_plus = np.array([half, 0, 0, half]), np.array([half, 0, 0, -half])
        x, c = energies / half, momenta[:, 2] / energies
        shape = np.zeros(1)
        _three_photons.tabulate_three_photon_shape(np.array([[*x, *c]]), shape)
        s = 4 * half**2
        assert 32 / s * shape[0] == pytest.approx(dirac_three_photons(p_minus, p_plus, photons), rel=1e-8)
