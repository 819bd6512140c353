"""Models of B and tau decays: rates and lifetimes that the tables of the notes have, and couplings from published forms."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.theory import (
    alp_fermion,
    alp_w,
    b_to_kaon,
    constants,
    dark_scalar,
    heavy_neutral_lepton,
    tau_alp,
)
from modelbuilder.theory.models import MODELS, Parameters

DATA = Path(__file__).parent / "data"
MUON = constants.MUON_MASS
ALL: Parameters = {"decay": "B+ -> K+", "final": "all", "form_factors": "ball-zwicky"}


def read(name: str) -> list[dict[str, str]]:
    lines = [line for line in (DATA / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def rate(name: str, mass: float, coupling: float, **parameters: float | str) -> float:
    assert set(parameters) == set(MODELS[name].parameters)
    return MODELS[name].rate(10.58, (mass,), coupling, parameters)


def flight(name: str, mass: float, coupling: float, **parameters: float | str) -> float:
    lifetime = MODELS[name].lifetime
    assert lifetime is not None
    return lifetime((mass,), coupling, parameters)


def agrees(found: float, printed: str) -> bool:
    """Whether `found` is within one of the last printed digit: constants of the notes differ from ours in the fourth."""
    digits = printed.lower().split("e")[0].replace("-", "").replace(".", "").lstrip("0")
    size = float(printed)
    return abs(found - size) <= 1.02 * 10.0 ** (math.floor(math.log10(size)) - len(digits) + 1)


def test_what_is_limited() -> None:
    """Catches a branching fraction that is compared with a limit in fb, and a lifetime that is missing."""
    flying = {"alp-w", "alp-fermion", "dark-scalar", "heavy-neutral-lepton"}
    flying |= {"inelastic-dark-higgs", "inelastic-dark-higgs-epsilon"}
    assert {name for name, model in MODELS.items() if model.lifetime is not None} == flying
    fractions = {"alp-w", "alp-fermion", "dark-scalar", "heavy-neutral-lepton", "tau-alp"}
    assert {name for name, model in MODELS.items() if model.limits == "branching fraction"} == fractions
    assert {name for name, model in MODELS.items() if model.limits == "ratio"} == {"tau-alp-ratio"}
    for model in MODELS.values():
        assert (model.law is None) == (model.limits != "cross section")


def test_alp_w_table() -> None:
    """Reference (notes, section 8.2): three digits at g = 1e-5, for four decays and c tau; 0 where a decay is closed."""
    for row in read("alp_w_branching_fractions.csv"):
        mass = float(row["m_GeV"])
        for decay in b_to_kaon.TRANSITIONS:
            found = rate("alp-w", mass, 1e-5, decay=decay, form_factors="ball-zwicky")
            assert agrees(found / 1e-10, row[decay]) if row[decay] else found == 0.0
        assert agrees(flight("alp-w", mass, 1e-5), row["ctau_cm"])
        assert flight("alp-w", mass, 2e-5) == pytest.approx(flight("alp-w", mass, 1e-5) / 4, rel=1e-12)


@pytest.mark.parametrize("name", ["alp-w", "dark-scalar", "alp-fermion"])
def test_a_limit_that_has_the_decay_of_the_kaon(name: str) -> None:
    """Catches 2/3 that is lost or applied twice; other form factors change the rate, but no more than they may."""
    others: dict[str, float | str] = {"form_factors": "ball-zwicky"}
    if name != "alp-w":
        others["final"] = "electrons"
    if name == "alp-fermion":
        others |= {"cutoff": 1000.0, "leptons_up_to": 1.0}
    whole = rate(name, 0.1, 1e-4, decay="B0 -> K*0", **others)
    assert rate(name, 0.1, 1e-4, decay="B0 -> K*0(-> K+ pi-)", **others) == pytest.approx(2 / 3 * whole, rel=1e-12)
    lattice = rate(name, 0.1, 1e-4, decay="B0 -> K*0", **{**others, "form_factors": "lattice"})
    assert 0.001 < abs(lattice / whole - 1) < 0.3


def test_final_states_of_the_dark_scalar() -> None:
    """Invariant: fractions of S add up to all of it; charged pions and kaons are 2/3 and 1/2; closed below threshold."""
    for mass in (0.05, 0.25, 0.5, 1.0, 1.7, 1.99):
        parts = {
            final: rate("dark-scalar", mass, 1e-3, **{**ALL, "final": final}) for final in dark_scalar.FINAL_STATES
        }
        total = parts["electrons"] + parts["muons"] + 1.5 * parts["pions"] + 2 * parts["kaons"]
        rest = dark_scalar.widths(mass, 1.0).other / dark_scalar.widths(mass, 1.0).total
        assert total == pytest.approx(parts["all"] * (1 - rest), rel=1e-12)
        assert parts["all"] == pytest.approx(dark_scalar.branching_fraction("B+ -> K+", mass, 1e-3), rel=1e-12)
    for final, threshold in (
        ("muons", 2 * MUON),
        ("pions", 2 * 0.13957039),
        ("kaons", 2 * 0.493677),
        ("taus", 3.55386),
    ):
        assert rate("dark-scalar", threshold, 1e-3, **{**ALL, "final": final}) == 0.0
        assert rate("dark-scalar", 1.001 * threshold, 1e-3, **{**ALL, "final": final}) > 0.0
    assert rate("dark-scalar", 2.01, 1e-3, **{**ALL, "final": "pions"}) == 0.0
    assert rate("dark-scalar", 4.79, 1e-3, **ALL) == 0.0
    assert rate("dark-scalar", 9.0, 1e-3, **ALL) == 0.0


def test_a_dark_scalar_has_an_excluded_island() -> None:
    """By hand: at 0.25 GeV c tau is 7.06e-5 cm/sin^2, BR(B+ -> K+ S) is 0.469 sin^2: a limit of 1e-8 for c tau from 0.1 to 400 cm
    excludes from BR = limit, sin^2 = 2.13e-8, to c tau = 0.1 cm, sin^2 = 7.06e-4."""
    parameters = {**ALL, "final": "muons"}
    found = MODELS["dark-scalar"].excluded(10.58, (0.25,), lambda t: 1e-8 if 0.1 <= t <= 400 else math.inf, parameters)
    ((low, high),) = found.intervals
    # 400 cm is sin^2 = 1.77e-7, above 2.13e-8
    assert (low**2, high**2) == (pytest.approx(1.77e-7, rel=5e-3), pytest.approx(7.06e-4, rel=5e-3))
    found = MODELS["dark-scalar"].excluded(10.58, (0.25,), lambda t: 1e-6 if 0.1 <= t <= 400 else math.inf, parameters)
    assert found.lower**2 == pytest.approx(1e-6 / 0.469, rel=5e-3)
    weak = MODELS["dark-scalar"].excluded(10.58, (0.25,), lambda t: 1e-3 if 0.1 <= t <= 400 else math.inf, parameters)
    assert weak.intervals == ()


def test_alp_with_fermion_couplings() -> None:
    """Reference: ln(Lambda^2/m_t^2) in place of the 3 of a scalar of sin(theta) = g_Y; widths without the velocity squared."""
    given: dict[str, float | str] = {
        "decay": "B+ -> K+",
        "final": "muons",
        "cutoff": 1000.0,
        "leptons_up_to": 1.0,
        "form_factors": "ball-zwicky",
    }
    logarithm = math.log(1000.0**2 / 172.6**2)
    for mass in (0.25, 0.9):
        produced = dark_scalar.branching_fraction("B+ -> K+", mass, 1e-3) * (logarithm / 3) ** 2
        assert alp_fermion.branching_fraction("B+ -> K+", mass, 1e-3, 1000.0) == pytest.approx(produced, rel=1e-12)
        speed2 = 1 - (2 * MUON / mass) ** 2
        muons = alp_fermion.widths(mass, 1e-3).muons
        assert muons == pytest.approx(dark_scalar.lepton_width(mass, MUON, 1e-3) / speed2, rel=1e-12)
        electrons = alp_fermion.widths(mass, 1e-3).electrons
        assert rate("alp-fermion", mass, 1e-3, **given) == pytest.approx(
            produced * muons / (muons + electrons), rel=1e-12
        )
        assert flight("alp-fermion", mass, 1e-3) == pytest.approx(constants.HBARC / (muons + electrons), rel=1e-12)
    assert rate("alp-fermion", 1.01, 1e-3, **given) == 0.0
    assert rate("alp-fermion", 1.01, 1e-3, **{**given, "leptons_up_to": 2.0}) > 0.0
    assert rate("alp-fermion", 0.21, 1e-3, **given) == 0.0
    assert rate("alp-fermion", 0.25, 1e-3, **{**given, "cutoff": 150.0}) == 0.0
    assert flight("alp-fermion", 1e-3, 1.0) == math.inf


def test_flavour_coupling_with_a_yukawa_that_runs() -> None:
    """Reference (recalled, arXiv:2012.12272): k = 0.019 V_ts* V_tb c_tt at Lambda = 4 pi TeV, with L = (d_mu a/f) k sbar gamma^mu P_L b
    and (d_mu a/2f) c_tt. It is the integral of y_t^2/(16 pi^2) over ln mu at one loop; ours keeps the pole mass, which is more."""
    points = np.linspace(0.0, math.log(4e3 * math.pi / 163.0), 2001)
    step, yukawa = points[1], 0.937
    total = 0.0
    for x in points[:-1]:
        total += step * yukawa**2 / (16 * math.pi**2)
        strong = 0.1085 / (1 + 0.1085 * 7 / (2 * math.pi) * x)
        gauge = 8 * 4 * math.pi * strong + 2.25 * 0.648**2 + 17 / 12 * 0.358**2
        yukawa += step * yukawa / (16 * math.pi**2) * (4.5 * yukawa**2 - gauge)
    assert total == pytest.approx(0.019, rel=0.1)
    ours = alp_fermion.flavour_coupling(constants.HIGGS_VACUUM_VALUE, 4e3 * math.pi) / b_to_kaon.V_TS_V_TB
    assert 1.2 < ours / total < 1.4


@pytest.mark.parametrize("lepton", ["electron", "muon"])
def test_tau_to_an_alp(lepton: str) -> None:
    """Closed form for a light lepton: m_tau^3 (c_V^2 + c_A^2)(1 - m^2/m_tau^2)^2/(64 pi f^2); the ratio to l nu nubar; threshold."""
    tau, fraction = constants.TAU_MASS, {"electron": 0.1782, "muon": 0.1739}[lepton]
    for mass in (0.0, 0.5, 1.2):
        unit = tau**3 * (1 - (mass / tau) ** 2) ** 2 / (64 * math.pi) * 290.3e-15 / 6.582119569e-25 * 1e-14
        for chirality, squares in (("vector", 1), ("axial", 1), ("left", 2), ("right", 2)):
            found = rate("tau-alp", mass, 1e-7, lepton=lepton, chirality=chirality)
            # a muon changes it by its mass over that of tau, with opposite signs for vector and axial
            assert found == pytest.approx(squares * unit, rel=1e-5 if lepton == "electron" and squares == 2 else 0.25)
            ratio = rate("tau-alp-ratio", mass, 1e-7, lepton=lepton, chirality=chirality)
            assert ratio == pytest.approx(found / fraction, rel=1e-12)
        vector, axial, left = (
            rate("tau-alp", mass, 1e-7, lepton=lepton, chirality=c) for c in ("vector", "axial", "left")
        )
        assert vector + axial == pytest.approx(left, rel=1e-12)
        assert vector > axial if mass > 0.0 else vector == pytest.approx(axial, rel=1e-12)
    assert rate("tau-alp", 1.7770, 1.0, lepton=lepton, chirality="left") == 0.0


def test_leptonic_decays_of_tau() -> None:
    """Second method: branching fractions of tau -> l nu nubar from G_F, m_tau and the lifetime, 1 % apart."""
    for lepton, (mass, printed) in tau_alp.LEPTONS.items():
        x = (mass / constants.TAU_MASS) ** 2
        phase_space = 1 - 8 * x + 8 * x**3 - x**4 - 12 * x**2 * math.log(x)
        width = constants.FERMI**2 * constants.TAU_MASS**5 / (192 * math.pi**3) * phase_space
        assert width * constants.TAU_LIFETIME / constants.HBAR == pytest.approx(printed, rel=0.01), lepton


def test_heavy_neutral_lepton_as_a_model() -> None:
    """Reference (notes, section 7): production times muons, and c tau; half of it for Majorana, with the same rate."""
    for row in read("heavy_neutral_lepton.csv"):
        mass = float(row["m_GeV"])
        product = float(row["BR_tau_pi_N"]) * float(row["BR_mumunu"])
        # as far as the two printed roundings allow
        slack = 0.5e-4 * (float(row["BR_tau_pi_N"]) + float(row["BR_mumunu"])) + 5e-9
        found = rate("heavy-neutral-lepton", mass, 1e-3, nature="dirac")
        assert found / 1e-3 == pytest.approx(product, rel=0.01, abs=slack), row
        assert rate("heavy-neutral-lepton", mass, 1e-3, nature="majorana") == found
        metres = flight("heavy-neutral-lepton", mass, 1e-3, nature="dirac") / 100 * 1e-3
        assert metres == pytest.approx(float(row["ctau_m"]), rel=6e-3), row
        half = flight("heavy-neutral-lepton", mass, 1e-3, nature="majorana") / 100 * 1e-3
        assert half == pytest.approx(metres / 2, rel=1e-12)
    assert rate("heavy-neutral-lepton", 2 * MUON, 1.0, nature="dirac") == 0.0
    assert rate("heavy-neutral-lepton", 1.64, 1.0, nature="dirac") == 0.0
    assert heavy_neutral_lepton.production(0.5, 0.0) == 0.0


def test_a_heavy_neutral_lepton_is_excluded_between_two_edges() -> None:
    """Closed form: yield |U|^2 P(t) with P = exp(-a/t) (1 - exp(-b/t)) as a limit in c tau t; edges by another search in |U|^2."""
    given = {"nature": "dirac"}
    model, mass = MODELS["heavy-neutral-lepton"], 0.8
    length = flight("heavy-neutral-lepton", mass, 1.0, **given)

    def seen(t: float) -> float:
        return math.exp(-30.0 / t) * -math.expm1(-100.0 / t)

    found = model.excluded(10.58, (mass,), lambda t: 3e-8 / p if (p := seen(t)) > 0 else math.inf, given)
    ((low, high),) = found.intervals
    mixing = np.logspace(-8, 0, 200001)
    unit = rate("heavy-neutral-lepton", mass, 1.0, **given)
    t = length / mixing
    above = mixing[unit * mixing * np.exp(-30 / t) * -np.expm1(-100 / t) >= 3e-8]
    assert (low, high) == (pytest.approx(above[0], rel=1e-4), pytest.approx(above[-1], rel=1e-4))
    assert high < 1.0


def test_alp_w_reopens_as_the_search_loses_photons() -> None:
    """Invariant: a limit that grows with c tau gives an open interval above a larger edge than a prompt limit does."""
    given: Parameters = {"decay": "B+ -> K+", "form_factors": "ball-zwicky"}
    prompt = MODELS["alp-w"].excluded(10.58, (0.2,), 1e-7, given)
    flying = MODELS["alp-w"].excluded(10.58, (0.2,), lambda t: 1e-7 * (1 + t), given)
    assert prompt.upper is flying.upper is None
    g = flying.lower
    assert g > prompt.lower
    expected = 1e-7 * (1 + alp_w.decay_length(0.2, g))
    assert alp_w.branching_fraction("B+ -> K+", 0.2, g) == pytest.approx(expected, rel=1e-9)
