"""Weighted events of l l X and l l gamma: kinematics, cross sections, distributions, quality of the sampling."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import quad

from modelbuilder.kinematics import _matrix_elements as me
from modelbuilder.kinematics import _three_body as tb
from modelbuilder.kinematics.beams import Beams
from modelbuilder.theory import constants, dark_photon, lepton_pair

Compatible = Callable[[np.ndarray, np.ndarray], None]
Table = Callable[[str], dict[str, np.ndarray]]

SQRT_S = 10.58
S = SQRT_S**2
MUON, TAU = constants.MUON_MASS, constants.TAU_MASS
KINDS: dict[int, lepton_pair.Kind] = {tb.VECTOR: "vector", tb.SCALAR: "scalar", tb.PSEUDOSCALAR: "pseudoscalar"}
METRIC = np.array([1.0, -1.0, -1.0, -1.0])
KEYS = (np.uint64(0x1234567), np.uint64(0x89ABCDE))


def events(kind: int, parameters: tuple[float, ...], n: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    momenta, weights = np.zeros((n, 3, 4)), np.zeros(n)
    tb.fill_events(momenta, weights, first, *KEYS, kind, parameters)
    return momenta, weights


def llx(mass: float, x_mass: float, s: float = S) -> tuple[float, ...]:
    return (s, mass, x_mass, 0.0, 0.0)


def ll_gamma(mass: float, min_energy: float, share: float = tb.SHARE) -> tuple[float, ...]:
    return (S, mass, constants.ELECTRON_MASS, min_energy, share)


CASES = [
    *((kind, llx(mass, x)) for kind in KINDS for mass, x in ((MUON, 0.001), (MUON, 9.9), (TAU, 0.3), (TAU, 7.0))),
    *((tb.GAMMA, ll_gamma(mass, energy)) for mass, energy in ((MUON, 0.02), (TAU, 2.0))),
    *((tb.GAMMA_INITIAL, ll_gamma(mass, 0.1, 1.0)) for mass in (constants.ELECTRON_MASS, MUON)),
]


@pytest.mark.parametrize(("kind", "parameters"), CASES)
def test_momentum_and_masses(kind: int, parameters: tuple[float, ...]) -> None:
    """Invariant: the frame algebra at light and heavy X and at the ends of every map; weights finite and positive."""
    _, mass, third, min_energy, _ = parameters
    momenta, weights = events(kind, parameters, 20_000)
    total = momenta.sum(axis=1) - np.array([SQRT_S, 0.0, 0.0, 0.0])
    assert np.max(np.abs(total)) < 1e-12 * SQRT_S
    masses = [mass, mass, third if kind in KINDS else 0.0]
    squares = np.sum(METRIC * momenta**2, axis=2)
    assert np.max(np.abs(squares - np.square(masses))) < 1e-10 * S
    assert np.all(np.isfinite(weights))
    assert np.all(weights >= 0.0)
    if kind not in KINDS:
        assert np.min(momenta[:, 2, 0]) >= min_energy * (1 - 1e-12)


@pytest.mark.parametrize(("kind", "parameters"), CASES)
def test_weights_are_matrix_element_over_density(kind: int, parameters: tuple[float, ...]) -> None:
    """Reference: |M|^2 again from the momenta of the event, so the invariants of the sampling are those of the event.

    It divides out of the weight and leaves the density, which is smooth: no more than its known spread is left.
    """
    s, mass, third, _, _ = parameters
    momenta, weights = events(kind, parameters, 2_000)
    functions = {
        tb.VECTOR: me.ll_vector,
        tb.SCALAR: me.ll_scalar,
        tb.PSEUDOSCALAR: me.ll_pseudoscalar,
        tb.GAMMA: me.ll_gamma,
        tb.GAMMA_INITIAL: me.ll_gamma_initial,
    }
    function = functions[kind]
    squares = np.array([function(s, *(tuple(float(x) for x in p) for p in event), mass, third) for event in momenta])
    assert np.all((squares > 0.0) | (weights == 0.0))
    # phase space itself, for the volume: mean of w/|M|^2 is the flux and couplings times the volume
    volume = np.mean(weights / squares)
    error = np.std(weights / squares) / math.sqrt(len(weights)) / volume
    high = (math.sqrt(s) - third) ** 2 if kind in KINDS else s - 2 * math.sqrt(s) * parameters[3]
    x2 = third**2 if kind in KINDS else 0.0

    def density(s12: float) -> float:
        kallen = max((s - s12 - x2) ** 2 - 4 * s12 * x2, 0.0)
        return math.sqrt(kallen) * math.sqrt(1 - 4 * mass**2 / s12) / (128 * math.pi**3 * s)

    expected = quad(density, 4 * mass**2, high, limit=200)[0] * constants.HBARC_SQUARED / (2 * s)
    expected *= tb.E2 ** (2 if kind in KINDS else 3)
    if error < 0.05:
        assert volume == pytest.approx(expected, rel=5 * error)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    ("mass", "x_mass"), [(MUON, 0.001), (MUON, 0.2), (MUON, 3.0), (MUON, 10.2), (TAU, 0.01), (TAU, 2.0), (TAU, 7.0)]
)
def test_cross_section_agrees_with_quadrature(kind: int, mass: float, x_mass: float) -> None:
    """Reference: the analytic angular integral in `theory`, from another form of the trace; to 5 standard deviations.

    Catches a wrong Jacobian or density, which moves the total by more than the 0.05 % of the statistics.
    """
    blocks = 20_000
    n = blocks * tb.BLOCK
    total, squares, _ = tb.add_weights(blocks, 0, *KEYS, kind, llx(mass, x_mass))
    error = math.sqrt(squares / total**2 - 1 / n)
    assert error < 1e-3
    expected = lepton_pair.cross_section(SQRT_S, mass, x_mass, KINDS[kind])
    assert total / n == pytest.approx(expected, rel=5 * error)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(("mass", "x_mass"), [(MUON, 0.3), (MUON, 7.0), (TAU, 1.0)])
def test_spectrum_agrees_with_quadrature(kind: int, mass: float, x_mass: float, compatible: Compatible) -> None:
    """Reference: dsigma/dM^2(ll) bin by bin; catches weights that are right on average only."""
    momenta, weights = events(kind, llx(mass, x_mass), 400_000)
    pair = momenta[:, 0] + momenta[:, 1]
    s12 = np.sum(METRIC * pair**2, axis=1)
    edges = np.linspace(4 * mass**2, (SQRT_S - x_mass) ** 2, 31)
    found, _ = np.histogram(s12, edges, weights=weights)
    squares, _ = np.histogram(s12, edges, weights=weights**2)
    n = len(weights)
    nodes, gauss = np.polynomial.legendre.leggauss(200)
    centres, halves = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
    points = centres[:, None] + halves[:, None] * np.sin(0.5 * np.pi * nodes)
    jacobian = 0.5 * np.pi * np.cos(0.5 * np.pi * nodes) * gauss
    density = lepton_pair.spectrum(SQRT_S, mass, x_mass, points, KINDS[kind])
    expected = halves * (density @ jacobian)
    compatible(found / n - expected, squares / n**2 - found**2 / n**3)


@pytest.mark.parametrize("name", ["vector", "scalar"])
def test_acceptance_of_the_notes(name: str, table: Table, beams: Beams) -> None:
    """Reference (direct_toy_mumuX.csv, another program): angles of both muons and of X in the laboratory, to 0.01.

    The notes round to three digits and do not say how many events they had; a virtual photon without its polarisation
    would be off by 0.02 to 0.05.
    """
    path = table_rows("toy_mumu_x.csv")
    _, px, _, pz = beams.four_momentum
    root = math.sqrt(beams.s)
    half = 0.5 * beams.crossing_angle
    for row in path:
        if row["model"] != name or float(row["m_X_GeV"]) not in (0.1, 1.0, 3.0, 6.0, 8.0):
            continue
        kind = tb.VECTOR if name == "vector" else tb.SCALAR
        momenta, weights = events(kind, llx(MUON, float(row["m_X_GeV"]), beams.s), 100_000)
        # light-cone decomposition on the beams, as in `_frames`
        forward = (momenta[..., 0] + momenta[..., 3]) * beams.electron_energy / root
        backward = (momenta[..., 0] - momenta[..., 3]) * beams.positron_energy / root
        x = (forward + backward) * math.sin(half) + momenta[..., 1] / math.cos(half)
        y = momenta[..., 2]
        z = (forward - backward) * math.cos(half)
        assert np.sum(z, axis=1) == pytest.approx(pz, rel=1e-9)
        assert np.sum(x, axis=1) == pytest.approx(px, rel=1e-9)
        transverse = np.hypot(x, y)
        theta = np.degrees(np.arctan2(transverse, z))

        def inside(low: float, high: float, pt: float) -> np.ndarray:
            muons = (theta[:, :2] > low) & (theta[:, :2] < high) & (transverse[:, :2] > pt)  # noqa: B023
            return np.all(muons, axis=1)

        cdc = inside(17.0, 150.0, 0.15)
        barrel = inside(32.2, 128.7, 0.4)
        turn = x[:, 0] * x[:, 1] + y[:, 0] * y[:, 1] < 0.0
        recoil = (theta[:, 2] > 32.2) & (theta[:, 2] < 128.7)
        for passed, column in (
            (cdc, "acc_CDC"),
            (barrel, "acc_barrel"),
            (barrel & turn, "acc_back"),
            (barrel & turn & recoil, "acc_rec"),
        ):
            fraction = np.sum(weights[passed]) / np.sum(weights)
            assert fraction == pytest.approx(float(row[column]), abs=0.01), (row, column)


def table_rows(name: str) -> list[dict[str, str]]:
    import csv
    from pathlib import Path

    lines = (Path(__file__).parent / "data" / name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


@pytest.mark.parametrize("mass", [constants.ELECTRON_MASS, MUON, TAU])
@pytest.mark.parametrize("min_energy", [0.02, 1.0])
def test_radiation_of_the_beams_agrees_with_virtual_dark_photons(mass: float, min_energy: float) -> None:
    """Reference: sigma(gamma A') over all angles times the splitting A'* -> l l, integrated; see arXiv:0906.0580.

    Its electron mass is exact in the other program's closed form to O(m_e^2/s), so this tests the collinear peaks.
    """
    blocks = 4_000
    n = blocks * tb.BLOCK
    total, squares, _ = tb.add_weights(blocks, 0, *KEYS, tb.GAMMA_INITIAL, ll_gamma(mass, min_energy, 1.0))
    error = math.sqrt(squares / total**2 - 1 / n)
    assert error < 1e-3

    def integrand(t: float) -> float:
        pair_mass = math.exp(t)
        ratio = (mass / pair_mass) ** 2
        splitting = 2 * constants.ALPHA / (3 * math.pi) * (1 + 2 * ratio) * math.sqrt(max(1 - 4 * ratio, 0.0))
        return dark_photon.total_cross_section(SQRT_S, pair_mass, 1.0) * splitting

    top = 0.5 * math.log(S - 2 * SQRT_S * min_energy)
    expected = quad(integrand, math.log(2 * mass), top, epsrel=1e-9, limit=200)[0]
    assert total / n == pytest.approx(expected, rel=5 * error)


def test_ll_gamma_within_cuts_against_flat_phase_space() -> None:
    """Reference: massless |M|^2 of the notes on flat phase space in numpy, with fast muons and nothing collinear.

    Final radiation and interference count here; each channel of the sampling must give the same.
    """
    rng = np.random.default_rng(21)
    n = 1_000_000
    x1, x2 = rng.random((2, n))
    fold = x1 + x2 < 1.0
    x1, x2 = np.where(fold, 1 - x1, x1), np.where(fold, 1 - x2, x2)
    x3 = 2.0 - x1 - x2
    cosine = np.clip(1 - 2 * (1 - x3) / (x1 * x2), -1, 1)
    axes = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]  # orthonormal columns; random up to signs, which are symmetric
    signs = rng.choice([-1.0, 1.0], size=(n, 1, 3))
    axes = axes * signs
    u, v = axes[:, :, 0], axes[:, :, 1]
    one = 0.5 * SQRT_S * x1[:, None] * u
    two = 0.5 * SQRT_S * x2[:, None] * (cosine[:, None] * u + np.sqrt(1 - cosine**2)[:, None] * v)
    flat = np.stack([one, two, -one - two], axis=1)
    flat = np.concatenate([np.linalg.norm(flat, axis=2, keepdims=True), flat], axis=2)

    def passes(p: np.ndarray) -> np.ndarray:
        direction = p[..., 1:] / np.linalg.norm(p[..., 1:], axis=2, keepdims=True)
        chords = [np.sum((direction[:, i] - direction[:, 2]) ** 2, axis=1) for i in (0, 1)]
        return (p[:, 2, 0] > 1.0) & np.all(np.abs(direction[..., 2]) < 0.9, axis=1) & (np.minimum(*chords) > 0.05)

    kept = flat[passes(flat)]
    beams = 0.5 * SQRT_S * np.array([[1, 0, 0, 1], [1, 0, 0, -1]])
    dots = np.einsum("bi,nki,i->nbk", beams, kept, METRIC)  # n, beam, particle
    q1k, q2k = (np.sum(METRIC * kept[:, i] * kept[:, 2], axis=1) for i in (0, 1))
    pair = S - 2 * SQRT_S * kept[:, 2, 0]
    minus, plus = dots[:, 0], dots[:, 1]
    # -J.J of J = p+/(p+.k) - p-/(p-.k) + q1/(q1.k) - q2/(q2.k), all massless
    eikonal = (
        S / (minus[:, 2] * plus[:, 2])
        + pair / (q1k * q2k)
        + 2 * minus[:, 0] / (minus[:, 2] * q1k)
        + 2 * plus[:, 1] / (plus[:, 2] * q2k)
        - 2 * minus[:, 1] / (minus[:, 2] * q2k)
        - 2 * plus[:, 0] / (plus[:, 2] * q1k)
    )
    square = 4 * np.sum(dots[:, :, :2] ** 2, axis=(1, 2)) / (S * pair) * eikonal
    factor = constants.HBARC_SQUARED * tb.E2**3 / (2 * S) * S / (256 * math.pi**3)
    values = np.concatenate([factor * square, np.zeros(n - len(square))])
    expected, expected_error = np.mean(values), np.std(values) / math.sqrt(n)
    for share in (0.0, 0.5, 1.0):
        momenta, weights = events(tb.GAMMA, ll_gamma(MUON, 1.0, share), 1_000_000)
        weights = weights * passes(momenta)
        found, error = np.mean(weights), np.std(weights) / math.sqrt(len(weights))
        # (m_mu/E)^2 over the smallest angle squared leaves 0.1 %
        assert found == pytest.approx(expected, abs=5 * math.hypot(error, expected_error) + 2e-3 * expected), share
        assert error < 1e-2 * found


def test_charge_asymmetry_comes_from_the_interference() -> None:
    """Invariant: mu- goes with e- or against it as photons of beams and muons interfere; not with beams alone."""
    for kind, share, interferes in ((tb.GAMMA, tb.SHARE, True), (tb.GAMMA_INITIAL, 1.0, False)):
        momenta, weights = events(kind, ll_gamma(MUON, 1.0, share), 400_000)
        central = np.abs(momenta[:, 2, 3]) < 0.8 * momenta[:, 2, 0]
        side = np.where(momenta[:, 0, 3] - momenta[:, 1, 3] > 0, 1.0, -1.0) * weights * central
        mean, error = np.mean(side), np.std(side) / math.sqrt(len(side))
        assert (abs(mean) > 8 * error) == interferes


@pytest.mark.parametrize(
    ("kind", "parameters", "least"),
    [
        (tb.VECTOR, llx(MUON, 0.001), 0.75),
        (tb.VECTOR, llx(MUON, 5.0), 0.85),
        (tb.VECTOR, llx(TAU, 0.1), 0.75),
        (tb.SCALAR, llx(MUON, 0.001), 0.5),
        (tb.SCALAR, llx(MUON, 5.0), 0.6),
        (tb.SCALAR, llx(TAU, 0.05), 0.7),
        (tb.PSEUDOSCALAR, llx(MUON, 5.0), 0.6),
        (tb.PSEUDOSCALAR, llx(TAU, 1.0), 0.75),
        (tb.GAMMA, ll_gamma(MUON, 0.05), 0.65),
        (tb.GAMMA, ll_gamma(TAU, 0.5), 0.65),
        (tb.GAMMA_INITIAL, ll_gamma(constants.ELECTRON_MASS, 1.8, 1.0), 0.8),
    ],
)
def test_effective_sample_size(kind: int, parameters: tuple[float, ...], least: float) -> None:
    """Golden, with room: (sum w)^2/(n sum w^2); a map that no longer follows its peak gives a small fraction of it."""
    blocks = 2_000
    total, squares, _ = tb.add_weights(blocks, 0, *KEYS, kind, parameters)
    assert total**2 / squares / (blocks * tb.BLOCK) > least


def test_events_do_not_depend_on_where_one_starts() -> None:
    """Invariant: event 1000 is the same whether it comes first or later, in a full block or not; sums agree."""
    parameters = llx(MUON, 1.0)
    momenta, weights = events(tb.VECTOR, parameters, 1500)
    later, later_weights = events(tb.VECTOR, parameters, 500, first=1000)
    assert np.array_equal(momenta[1000:], later)
    assert np.array_equal(weights[1000:], later_weights)
    total, squares, largest = tb.add_weights(1, 0, *KEYS, tb.VECTOR, parameters)
    first = weights[: tb.BLOCK]
    assert (total, squares) == pytest.approx((np.sum(first), np.sum(first**2)), rel=1e-12)
    assert largest == np.max(first)


def test_nothing_below_threshold() -> None:
    """Catches NaN or a cross section where the process is closed, as radiation of the beams can make it."""
    for kind in KINDS:
        _, weights = events(kind, llx(TAU, 7.1), 1000)
        assert np.all(weights == 0.0)
        _, weights = events(kind, llx(TAU, 1e-3, s=(2 * TAU + 1.0001e-3) ** 2), 1000)
        assert np.all(np.isfinite(weights))
    _, weights = events(tb.GAMMA, ll_gamma(TAU, 5.0), 1000)
    assert np.all(weights == 0.0)


@pytest.mark.parametrize("u", [2.0**-53, 0.5, 1.0 - 2.0**-53])
def test_the_ends_of_the_maps(u: float) -> None:
    """Invariant: the first and last uniform there is; also shows the generators to the coverage, interpreted."""
    for kind in KINDS:
        event = tb.generate_llx.py_func(u, u, u, u, u, 0.3, S, MUON, 1e-3, kind)
        assert math.isfinite(event[0])
        assert event[0] >= 0.0
    for way in (0.1, 0.9):
        numbers = (S, MUON, constants.ELECTRON_MASS, 0.01, -1.0, 1.0, 0.5)
        event = tb.generate_ll_gamma.py_func(u, u, u, u, u, way, *numbers, tb.GAMMA)
        assert math.isfinite(event[0])
        assert event[0] >= 0.0
