"""The chains of the searches, each against a closed form or a quadrature of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from modelbuilder.kinematics import _matrix_elements as me
from modelbuilder.kinematics import phase_space
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import ChainEvents, simulate_chain
from modelbuilder.kinematics.measure import truth
from modelbuilder.kinematics.observables import evaluate
from modelbuilder.spec.observables import parse_observable
from modelbuilder.spec.topology import Law, parse_chain

SYMMETRIC = Beams(electron_energy=5.29, positron_energy=5.29)
BELLE2 = Beams(electron_energy=7.004, positron_energy=4.002, crossing_angle=0.083)
S = SYMMETRIC.s
TAU, MUON, PION = 1.77693, 0.1056583755, 0.13957039
METRIC = np.array([1.0, -1.0, -1.0, -1.0])


def simulate(
    text: str,
    laws: Mapping[str, Law] | None = None,
    *,
    beams: Beams = SYMMETRIC,
    n_events: int = 100_000,
    ctaus: Mapping[str, float] | None = None,
    **masses: float,
) -> ChainEvents:
    topology = parse_chain(text, masses=masses, laws=laws, ctaus=ctaus)
    return simulate_chain(topology, beams, isr=False, n_events=n_events, seed=3, stream="searches")


def mass2(p: np.ndarray) -> np.ndarray:
    squares: np.ndarray = p**2 @ METRIC
    return squares


def in_rest_frame(p: np.ndarray, frame: np.ndarray) -> np.ndarray:
    mass = np.sqrt(mass2(frame))
    energy = (p * frame) @ METRIC / mass
    shift = (np.sum(p[:, 1:] * frame[:, 1:], axis=1) / (frame[:, 0] + mass) - p[:, 0]) / mass
    return np.column_stack([energy, p[:, 1:] + frame[:, 1:] * shift[:, None]])


def assert_mean(values: np.ndarray, weights: np.ndarray, expected: float) -> None:
    """The weighted mean, within 4.5 standard deviations, which are no more than 2 % of the spread."""
    w = weights / weights.sum()
    mean = float(np.sum(w * values))
    error = math.sqrt(float(np.sum(w**2 * (values - mean) ** 2)))
    assert error < 0.02 * np.std(values) + 1e-12
    assert abs(mean - expected) < 4.5 * error, f"{mean} and {expected}, {abs(mean - expected) / error:.1f} sigma"


# ---------------------------------------------------------------------------------------------------------------------
# Dark sectors


def test_darkonium() -> None:
    """Reference (quadrature): gamma Y_D has the angles of gamma A', Y_D -> 3 A' fills its Dalitz plot evenly, alike.

    Catches an A' that is another one than its two brothers, a photon without the peaks along the beams.
    """
    mass, dark = 6.0, 1.5
    events = simulate(
        "e+ e- -> gamma Y, Y -> Ap Ap Ap, Ap -> mu+ mu-",
        {"e+ e-": Law(name="photon-vector", max_cos=0.95)},
        n_events=200_000,
        Y=mass,
        Ap=dark,
    )
    p = events.momentum("gamma")
    cosine = p[:, 3] / p[:, 0]
    extra = 4 * S * mass**2 / (S - mass**2) ** 2

    def density(c: float) -> float:
        return (1 + c * c + extra) / (1 - c * c)

    expected = quad(lambda c: c * c * density(c), -0.95, 0.95)[0] / quad(density, -0.95, 0.95)[0]
    assert_mean(cosine**2, events.weights, expected)
    names = ("Ap", "Ap[2]", "Ap[3]")
    pairs = [events.momentum(a) + events.momentum(b) for a, b in zip(names, (*names[1:], names[0]), strict=True)]
    low, high = 2 * dark, mass - dark

    def dalitz(m: float) -> float:
        p_pair = float(phase_space.breakup_momentum(m, dark, dark))
        return p_pair * float(phase_space.breakup_momentum(mass, m, dark))

    for power in (4, 8):
        expected = quad(lambda m: m**power * dalitz(m), low, high)[0] / quad(dalitz, low, high)[0]  # noqa: B023
        for pair in pairs:
            assert_mean(mass2(pair) ** (power // 2), events.weights, expected)
    assert np.sum([node.species == "mu+" for node in events.topology.nodes]) == 3


def test_dark_higgs_to_three_pairs() -> None:
    """Reference: lam sin^2 + 8 m_A'^2/s for the first A' among three of them, and mu+ mu- pairs with the mass of A'."""
    dark, higgs = 1.0, 3.5
    events = simulate(
        "e+ e- -> Ap h, h -> Ap Ap, Ap -> mu+ mu-", {"e+ e-": Law(name="vector-scalar", vector="Ap")}, Ap=dark, h=higgs
    )
    p = events.momentum("Ap")
    cosine = p[:, 3] / np.linalg.norm(p[:, 1:], axis=1)
    y, x = dark**2 / S, higgs**2 / S
    lam = (1 - x - y) ** 2 - 4 * x * y
    # moments of lam (1 - c^2) + 8 y
    expected = (lam * (2 / 3 - 2 / 5) + 8 * y * 2 / 3) / (lam * 4 / 3 + 16 * y)
    assert_mean(cosine**2, events.weights, expected)
    for end in ("", "[2]", "[3]"):
        pair = events.momentum(f"mu+{end}") + events.momentum(f"mu-{end}")
        assert np.sqrt(mass2(pair)) == pytest.approx(dark, rel=1e-9)
        # isotropic in the rest frames of the two from h; the first is polarised by the beams
        muon = in_rest_frame(events.momentum(f"mu-{end}"), pair)
        if end:
            assert_mean((muon[:, 3] / np.linalg.norm(muon[:, 1:], axis=1)) ** 2, events.weights, 1 / 3)
    second = events.momentum("Ap[2]") + events.momentum("Ap[3]")
    assert np.sqrt(mass2(second)) == pytest.approx(higgs, rel=1e-9)


def test_inelastic_dark_matter() -> None:
    """Reference (quadrature of |M|^2 on the Dalitz plot): mean squared mass of e+e- in A' -> chi1 chi2, chi2 -> chi1 ee."""
    masses = {"Ap": 6.0, "chi1": 1.0, "chi2": 1.6}
    laws = {
        "e+ e-": Law(name="photon-vector", max_cos=0.9),
        "chi2": Law(name="dark-current", parameter=6.0),
    }
    events = simulate("e+ e- -> gamma Ap, Ap -> chi1 chi2, chi2 -> chi1 e- e+", laws, n_events=200_000, **masses)
    pair = mass2(events.momentum("e-") + events.momentum("e+"))
    electron = 0.51099895e-3

    def square(momenta: np.ndarray) -> np.ndarray:
        return np.array(
            [me.heavy_to_light_pair(*(tuple(map(float, p)) for p in event), electron, 36.0) for event in momenta]
        )

    def with_pair(momenta: np.ndarray) -> np.ndarray:
        return square(momenta) * mass2(momenta[:, 2] + momenta[:, 3])

    products = [masses["chi1"], electron, electron]
    expected = phase_space.mean_square(1.6, products, with_pair) / phase_space.mean_square(1.6, products, square)
    assert_mean(pair, events.weights, expected)


# ---------------------------------------------------------------------------------------------------------------------
# tau


def test_lepton_and_alpha() -> None:
    """Reference: x = 2 E/m = 1 + (m_l^2 - m_a^2)/m^2 in the true frame of each tau, isotropic (parity not violated)."""
    events = simulate("e+ e- -> tau+ tau-, tau- -> e- a, tau+ -> pi+ pi+ pi- nu", beams=BELLE2, a=0.7)
    electron = in_rest_frame(events.momentum("e-"), events.momentum("tau-"))
    assert 2 * electron[:, 0] / TAU == pytest.approx(1 + (0.51099895e-3**2 - 0.49) / TAU**2, rel=1e-5)
    assert_mean((electron[:, 3] / np.linalg.norm(electron[:, 1:], axis=1)) ** 2, events.weights, 1 / 3)


def kuehn_santamaria(q: np.ndarray) -> np.ndarray:
    """dGamma/dQ of tau -> nu 3 pi through a_1, written from the formulas of Z. Phys. C 48 (1990) 445."""
    s, x = q**2, q**2 / TAU**2

    def g(s: np.ndarray) -> np.ndarray:
        free = s - 9 * PION**2
        near = 4.1 * free**3 * (1 - 3.3 * free + 5.8 * free**2)
        return np.where(s > (0.773 + PION) ** 2, s * (1.623 / s * s + 10.38 / s - 9.32 / s**2 + 0.65 / s**3), near)

    propagator = 1.251**2 / (1.251**2 - s - 1j * 1.251 * 0.599 * g(s) / g(np.array(1.251**2)))
    return 2 * q * (1 - x) ** 2 * (1 + 2 * x) * np.abs(propagator) ** 2 * g(s) / s


def test_three_pions() -> None:
    """Reference (quadrature): m(3 pi) of tau -> 3 pi nu flat, and through an a_1 by V - A with its running width.

    Catches a Breit-Wigner of constant width, or phase space alone, under the name of the a_1. They are not alike: say a_1
    in the chain where the tag matters.
    """
    flat = simulate("e+ e- -> tau+ tau-, tau+ -> pi+ pi+ pi- nu, tau- -> mu- a", a=0.5)
    resonant = simulate(
        "e+ e- -> tau+ tau-, tau+ -> a_1+ nu, a_1+ -> pi+ pi+ pi-, tau- -> mu- a", n_events=200_000, a=0.5
    )
    means = []
    for events in (flat, resonant):
        hadrons = np.sqrt(mass2(sum(events.momentum(name) for name in ("pi+", "pi+[2]", "pi-"))))
        grid = np.linspace(3 * PION, TAU, 4001)[1:-1]
        if events is flat:
            density = grid * (TAU**2 - grid**2) * phase_space.volume(grid, [PION] * 3)
        else:
            density = kuehn_santamaria(grid)
        for power in (1, 2, 4):
            expected = float(np.sum(density * grid**power) / np.sum(density))
            assert_mean(hadrons**power, events.weights, expected)
        means.append(float(np.sum(density * grid) / np.sum(density)))
    assert abs(means[1] - means[0]) > 0.1
    n = len(resonant.weights)
    assert resonant.weights.mean() == pytest.approx(1.0, abs=4.5 * np.std(resonant.weights) / math.sqrt(n))
    assert resonant.effective_sample_size > 0.5 * n


@pytest.mark.parametrize(
    ("text", "name", "products"),
    [("tau- -> rho- nu_tau, rho- -> pi- pi0", "rho-", ("pi-", "pi0")),
     ("tau- -> nu_tau K*-, K*- -> K- pi0", "K*-", ("K-", "pi0"))],
)  # fmt: skip
def test_vector_mesons_from_a_tau(text: str, name: str, products: tuple[str, str]) -> None:
    """Reference (quadrature): V - A and a P wave in the mass; catches the constant width, or a mean weight that is not 1."""
    events = simulate(f"e+ e- -> tau+ tau-, {text}, tau+ -> mu+ a", n_events=200_000, a=0.5)
    nodes = {node.name: node for node in events.topology.nodes}
    mass, width = nodes[name].mass, nodes[name].width
    low, high = events.topology.mass_range(events.topology.place(name))
    q = np.linspace(low, min(high, TAU), 20_001)[1:-1]
    charged = PION if products[0] == "pi-" else 0.493677
    g = phase_space.breakup_momentum(q, charged, PION) ** 3 / q
    pole = float(phase_space.breakup_momentum(mass, charged, PION) ** 3 / mass)
    x = q**2 / TAU**2
    density = (1 - x) ** 2 * (1 + 2 * x) * g / q / ((mass**2 - q**2) ** 2 + (mass * width * g / pole) ** 2)
    found = np.sqrt(mass2(events.momentum(name)))
    for power in (1, 2):
        assert_mean(found**power, events.weights, float(np.sum(density * q**power) / np.sum(density)))
    n = len(found)
    assert events.weights.mean() == pytest.approx(1.0, abs=4.5 * np.std(events.weights) / math.sqrt(n) + 1e-4)


def test_heavy_neutral_lepton() -> None:
    """Reference: E of pi in tau -> pi N, and the mean mass of mu mu in N -> mu mu nu by quadrature of |M|^2; flight."""
    mass, ctau = 1.2, 30.0
    events = simulate(
        "e+ e- -> tau- tau+, tau- -> pi- N, N -> nu mu- mu+, tau+ -> nubar e+ nu",
        {"N": Law(name="neutral-lepton"), "tau+": Law(name="leptonic")},
        n_events=200_000,
        beams=BELLE2,
        ctaus={"N": ctau},
        N=mass,
    )
    pion = in_rest_frame(events.momentum("pi-"), events.momentum("tau-"))
    assert pion[:, 0] == pytest.approx((TAU**2 + PION**2 - mass**2) / (2 * TAU), rel=1e-4)
    pair = mass2(events.momentum("mu-") + events.momentum("mu+"))

    def square(momenta: np.ndarray) -> np.ndarray:
        left, right = -0.5 + 0.23129, 0.23129
        return np.array(
            [me.neutral_lepton_decay(*(tuple(map(float, p)) for p in event), MUON, left, right) for event in momenta]
        )

    def with_pair(momenta: np.ndarray) -> np.ndarray:
        return square(momenta) * mass2(momenta[:, 2] + momenta[:, 3])

    products = [0.0, MUON, MUON]
    expected = phase_space.mean_square(mass, products, with_pair) / phase_space.mean_square(mass, products, square)
    assert_mean(pair, events.weights, expected)
    length = events.proper_lengths[:, events.topology.place("N")]
    assert stats.kstest(length / ctau, "expon").pvalue > 1e-4


def test_michel_spectrum_in_the_frame_of_the_tag() -> None:
    """Reference: 2 x^2 (3 - 2x) in the true frame of the tau; in that of the tag its boosted image.

    A frame whose axis is off by delta sees the true one with gamma_r = gamma^2 (1 - beta^2 cos delta). The decay is
    isotropic, so the mean of x grows by gamma_r, <x^2> by gamma_r^2 + (gamma_r^2 - 1)/3, and the end of the spectrum
    from 1 to gamma_r (1 + beta_r), event by event. Catches a frame that is the true one, or with another energy.
    """
    events = simulate(
        "e+ e- -> tau+ tau-, tau- -> nu_tau e- nubar_e, tau+ -> pi+ pi+ pi- nu",
        {"tau-": Law(name="leptonic")},
        n_events=400_000,
        beams=BELLE2,
    )
    tau = events.momentum("tau-")
    true = 2 * in_rest_frame(events.momentum("e-"), tau)[:, 0] / TAU
    for power, expected in ((1, 0.7), (2, 8 / 15), (3, 3 / 7)):
        assert_mean(true**power, events.weights, expected)
    seen = truth(events)
    pseudo = evaluate(parse_observable("tau_x(e-, pi+ pi+ pi-)", events.topology), seen, BELLE2)[:, 0]
    tag = sum(events.momentum(name) for name in ("pi+", "pi+[2]", "pi-"))
    total = np.broadcast_to(np.array(BELLE2.four_momentum), tag.shape)
    axis, direction = (in_rest_frame(p, total)[:, 1:] for p in (tag, tau))
    cosine = -np.sum(axis * direction, axis=1)
    cosine /= np.linalg.norm(axis, axis=1) * np.linalg.norm(direction, axis=1)
    gamma2 = BELLE2.s / (4 * TAU**2)
    relative = gamma2 * (1 - (1 - 1 / gamma2) * cosine)
    w = events.weights / events.weights.sum()
    assert_mean(pseudo - 0.7 * relative, events.weights, 0.0)
    assert_mean(pseudo**2 - 8 / 15 * (relative**2 + (relative**2 - 1) / 3), events.weights, 0.0)
    end = relative + np.sqrt(relative**2 - 1)
    assert np.all(pseudo <= end * (1 + 1e-6))
    assert np.max(pseudo / end) > 0.98
    # a hump of tens of per cent: a visible part of the spectrum is beyond the true end
    assert 0.02 < np.sum(w * (pseudo > 1.0)) < 0.3
    assert np.sum(w * (true > 1.0 + 1e-6)) == 0.0


# ---------------------------------------------------------------------------------------------------------------------
# B mesons


def test_lambda_and_a_dark_baryon() -> None:
    """Reference: momentum of two bodies in the frame of B, flight of Lambda with beta gamma of the laboratory."""
    mass = 2.5
    text = "e+ e- -> Y(4S), Y(4S) -> B0 B~0, B0 -> Lambda psi, Lambda -> p pi-"
    events = simulate(text, beams=BELLE2, psi=mass)
    nodes = {node.name: node for node in events.topology.nodes}
    lam = in_rest_frame(events.momentum("Lambda"), events.momentum("B0"))
    b, own = nodes["B0"].mass, nodes["Lambda"].mass
    expected = math.sqrt((b**2 - (own + mass) ** 2) * (b**2 - (own - mass) ** 2)) / (2 * b)
    assert np.linalg.norm(lam[:, 1:], axis=1) == pytest.approx(expected, rel=1e-9)
    start, end = (events.points[:, events.topology.place(name)] for name in ("B0", "Lambda"))
    distance = np.linalg.norm(end - start, axis=1)
    beta_gamma = np.linalg.norm(events.momentum("Lambda")[:, 1:], axis=1) / own
    assert nodes["Lambda"].ctau == pytest.approx(7.9, rel=0.02)
    assert stats.kstest(distance / (beta_gamma * nodes["Lambda"].ctau), "expon").pvalue > 1e-4
    missing = events.momentum("B0") - events.momentum("p") - events.momentum("pi-")
    assert np.sqrt(mass2(missing)) == pytest.approx(mass, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "kaon"),
    [
        ("e+ e- -> Y(4S), Y(4S) -> B0 B~0, B0 -> K*0 X, K*0 -> K+ pi-, X -> mu+ mu-", "K+"),
        ("e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K*+ X, K*+ -> K(S)0 pi+", "K(S)0"),
    ],
)
def test_the_kaon_of_an_excited_kaon_is_longitudinal(text: str, kaon: str) -> None:
    """Reference: 3/2 cos^2 of the kaon to the flight of K* in the frame of B, as a spinless X wants: the whole shape."""
    star = "K*0" if "K*0" in text else "K*+"
    events = simulate(text, {star: Law(name="cosine-squared")}, beams=BELLE2, n_events=40_000, X=1.0)
    parent = "B0" if star == "K*0" else "B+"
    frame = events.momentum(star)
    child, back = (in_rest_frame(events.momentum(name), frame)[:, 1:] for name in (kaon, parent))
    cosine = -np.sum(child * back, axis=1) / np.linalg.norm(child, axis=1) / np.linalg.norm(back, axis=1)
    order = np.argsort(cosine)
    found = np.cumsum(events.weights[order]) / events.weights.sum()
    distance = np.max(np.abs(found - 0.5 * (1 + cosine[order] ** 3)))
    assert stats.kstwobign.sf(distance * math.sqrt(events.effective_sample_size)) > 1e-4
