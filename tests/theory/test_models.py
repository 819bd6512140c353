"""The models that a spec can name: tables of the physics notes, sums over decays, powers, thresholds, parameters."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbuilder.theory import (
    alp_photon,
    constants,
    dark_photon,
    darkonium,
    lepton_pair,
    leptophilic_scalar,
    z_prime,
)
from modelbuilder.theory.model import COUPLINGS
from modelbuilder.theory.models import MODELS, Model, Parameters

DATA = Path(__file__).parent / "data"
SQRT_S = 10.58
NUMBERS: dict[str, float] = {
    "branching_fraction": 0.7,
    "length": 300.0,
    "max_cos": 0.6,
    "alpha_d": 0.1,
    "mass_ratio": 3.0,
    "cutoff": 1000.0,
    "leptons_up_to": 5.0,
    "epsilon": 1e-3,
    "sin_theta": 1e-4,
    "m_dark_photon": 6.0,
    "m_chi1": 2.5,
    "splitting": 0.3,
    "chi2_lifetime": 5.0,
    "chi2_reach": 100.0,
}
POWERS = [name for name in sorted(MODELS) if MODELS[name].power]


def read(name: str | Path) -> list[dict[str, str]]:
    """The rows of a table in `data`, or of one that is given by its path."""
    lines = [line for line in (DATA / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def agrees_to(found: float, printed: str, digits: int) -> bool:
    """Whether `found` would be printed so with `digits` significant digits, of which zeros at the end may be missing."""
    size = float(printed)
    if size == 0.0:
        return found == 0.0
    return abs(found - size) <= 1.02 * 0.5 * 10.0 ** (math.floor(math.log10(abs(size))) - digits + 1)


def variants(model: Model) -> Iterator[dict[str, float | str]]:
    """Every combination of choices, with one value of each number."""
    options = [parameter.choices or (NUMBERS[name],) for name, parameter in model.parameters.items()]
    for values in itertools.product(*options):
        yield dict(zip(model.parameters, values, strict=True))


def places(model: Model, mass: float) -> list[tuple[float, ...]]:
    """Points of the grid with one mass of X, and light, middle and heavy partners where there are two masses."""
    return [(mass,)] if len(model.masses) < 2 else [(mass, factor * mass) for factor in (0.4, 1.5, 2.1, 3.2)]


def found(name: str, masses: tuple[float, ...], coupling: float = 1.0, **parameters: float | str) -> float:
    """The rate of a model; the parameters are all of them."""
    assert set(parameters) == set(MODELS[name].parameters)
    return MODELS[name].rate(SQRT_S, masses, coupling, parameters)


# ---------------------------------------------------------------------------------------------------------------------
# All models


@pytest.mark.parametrize("name", POWERS)
def test_coupling_and_rate_are_inverse(name: str) -> None:
    """Invariant: a power that is not that of the rate; a closed process that gives a finite coupling."""
    model, opened = MODELS[name], 0
    for parameters, mass in itertools.product(variants(model), (0.1, 1.0, 4.0, 8.0, 10.5, 10.58, 12.0)):
        for masses, coupling in itertools.product(places(model, mass), (1e-6, 2.3e-3, 1.0)):
            there = model.rate(SQRT_S, masses, coupling, parameters)
            if there == 0.0:
                assert model.excluded(SQRT_S, masses, 1.0, parameters).intervals == ()
                continue
            opened += 1
            assert masses[0] < SQRT_S
            excluded = model.excluded(SQRT_S, masses, there, parameters)
            assert excluded.lower == pytest.approx(coupling, rel=1e-12, abs=0)
            assert excluded.upper is None
            assert excluded.contains(2.0 * excluded.lower)
            assert not excluded.contains(0.5 * excluded.lower)
    assert opened > 5


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_choice_is_a_rate(name: str) -> None:
    """Catches a choice that the language offers and the model does not know, and a negative or missing number."""
    model = MODELS[name]
    for parameters in variants(model):
        seen = []
        for mass in (0.01, 0.02, 0.1, 0.25, 0.5, 1.0, 3.0, 4.0, 5.0, 7.0, 10.0, 10.4, 11.5):
            seen += [model.rate(SQRT_S, masses, 1e-3, parameters) for masses in places(model, mass)]
        assert all(math.isfinite(value) and value >= 0.0 for value in seen)
        # a Z' to a dark sector has no other decay
        if parameters.get("invisible_only") != "yes" or parameters["decay"] == "invisible":
            assert max(seen) > 0.0, parameters


def test_names_and_units() -> None:
    """Catches a column whose name has another unit than its description, and a default that is no choice."""
    for model in MODELS.values():
        assert model.coupling.endswith("_per_gev") == (model.unit == "GeV^-1")
        for parameter in model.parameters.values():
            assert (parameter.kind == "choice") == bool(parameter.choices)
            assert parameter.default is None or not parameter.choices or parameter.default in parameter.choices


def test_the_page_names_every_model_with_its_parameters() -> None:
    """Catches a model, parameter or choice that no user can find."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    lines = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert set(lines) == set(MODELS)
    for name, model in MODELS.items():
        named = [*model.masses, *model.parameters, *(c for p in model.parameters.values() for c in p.choices)]
        assert [word for word in named if f"`{word}`" not in lines[name]] == []


SUMS: list[tuple[str, str, tuple[str, ...], Parameters]] = [
    ("l-mu-l-tau", "decay", ("invisible", "muons", "taus"), {"invisible_only": "no"}),
    ("leptophilic-scalar", "decay", ("electrons", "muons", "taus"), {"radiated_by": "taus"}),
    ("dark-photon-visible", "decay", ("electrons", "muons", "taus", "hadrons"), {"max_cos": 0.6}),
]


@pytest.mark.parametrize("mass", [0.05, 0.3, 1.0, 5.0])
@pytest.mark.parametrize(("name", "choice", "choices", "others"), SUMS)
def test_decays_add_up_to_what_is_produced(
    name: str, choice: str, choices: tuple[str, ...], others: Parameters, mass: float
) -> None:
    """Invariant: catches a branching fraction of another model, or one that is counted twice."""
    total = sum(found(name, (mass,), **{**others, choice: decay}) for decay in choices)
    produced = {
        "l-mu-l-tau": z_prime.cross_section(SQRT_S, mass, 1.0),
        "leptophilic-scalar": leptophilic_scalar.cross_section(SQRT_S, mass, 1.0),
        "dark-photon-visible": dark_photon.cross_section(SQRT_S, mass, 1.0, 0.6),
    }
    assert total == pytest.approx(produced[name], rel=1e-12, abs=0)


# ---------------------------------------------------------------------------------------------------------------------
# One by one


def test_alp_that_decays_to_a_dark_sector() -> None:
    """Reference (notes, section 1): 118 fb at g = 1e-3 for a light ALP, times the branching fraction."""
    assert found("alp-photon", (0.2,), 1e-3) == pytest.approx(118.0, rel=5e-3, abs=0)
    assert found("alp-photon-invisible", (0.2,), 1e-3, branching_fraction=0.25) == pytest.approx(29.6, rel=5e-3, abs=0)


def test_dark_photon_table() -> None:
    """Reference (notes, computed): photons within |cos| < 0.6, all angles above them; five printed digits."""
    for row in read("gamma_vector_cross_section.csv"):
        mass = float(row["m_GeV"])
        within = found("dark-photon-invisible", (mass,), 1.0, max_cos=0.6)
        assert agrees_to(within, row["sigma_gammaAprime_fb_per_eps2_c06"], 5), row
        assert found("dark-photon-invisible", (mass,), 1.0, max_cos=1.0) > within


def test_dark_photon_near_the_beams() -> None:
    """Invariant: catches the logarithm of massless electrons, which has no bound, where the photon is along a beam."""
    total = dark_photon.total_cross_section(SQRT_S, 1.0, 1.0)
    rising = [dark_photon.cross_section(SQRT_S, 1.0, 1.0, c) for c in (0.9, 0.999, 1 - 1e-6, 1 - 1e-12, 1.0)]
    assert rising == sorted(rising)
    assert rising[-1] == rising[-2] == total
    assert rising[2] < 0.8 * total


@pytest.mark.parametrize(("dark_alpha", "ratio"), [(0.1, 3.0), (0.5, 3.0), (0.1, 2.5)])
def test_y_of_dark_matter(dark_alpha: float, ratio: float) -> None:
    """Reference (notes, section 7c): eps = sqrt(81 y/alpha_D) for m_A' = 3 m_chi; a power of the ratio otherwise."""
    y = 3e-9
    epsilon = math.sqrt(ratio**4 * y / dark_alpha)
    expected = found("dark-photon-invisible", (2.0,), epsilon, max_cos=0.6)
    ours = found("dark-photon-dark-matter", (2.0,), y, alpha_d=dark_alpha, mass_ratio=ratio, max_cos=0.6)
    assert ours == pytest.approx(expected, rel=1e-12, abs=0)


def test_dark_matter_too_heavy_for_the_decay() -> None:
    """Catches a limit on y from invisible decays that do not exist."""
    assert found("dark-photon-dark-matter", (2.0,), 1.0, alpha_d=0.5, mass_ratio=2.0, max_cos=0.6) == 0.0


def test_dark_photon_to_leptons() -> None:
    """Reference (Darkcast, by way of the notes): the printed branching fractions, at points of the table."""
    rows = read(Path(dark_photon.__file__).parent / "data" / dark_photon.TABLE)
    for row in rows[::3]:
        mass = float(row["m_GeV"])
        produced = dark_photon.cross_section(SQRT_S, mass, 1.0, 0.8)
        for decay, column in (("electrons", "BR_ee"), ("muons", "BR_mumu"), ("hadrons", "BR_hadronic_total")):
            fraction = found("dark-photon-visible", (mass,), 1.0, decay=decay, max_cos=0.8) / produced
            assert fraction == pytest.approx(float(row[column]), abs=3e-4), row


@pytest.mark.parametrize(("mass", "fraction"), [(0.1, 1.0), (0.3, 0.53), (1.0, 0.5), (8.0, 0.34)])
def test_only_neutrinos_are_invisible(mass: float, fraction: float) -> None:
    """Reference: below 2 m_mu all decays, near 1/2 between the thresholds, near 1/3 above that of the tau."""
    some, all_of_it = (found("l-mu-l-tau", (mass,), decay="invisible", invisible_only=only) for only in ("no", "yes"))
    assert some / all_of_it == pytest.approx(fraction, abs=0.03)
    assert found("l-mu-l-tau", (mass,), decay="muons", invisible_only="yes") == 0.0


def test_z_prime_tables() -> None:
    """Reference (notes, computed): cross section to 0.5 % and branching fractions to five digits, at the same masses."""
    produced = {row["m_X_GeV"]: row["sigma_mumuV_fb_per_g2"] for row in read("lepton_pair_cross_section.csv")}
    compared = 0
    for row in read("z_prime_branching_fractions.csv"):
        mass = row["m_Zp_GeV"]
        if mass not in produced:
            continue
        compared += 1
        for decay, column in (("invisible", "BR_invisible"), ("muons", "BR_mumu"), ("taus", "BR_tautau")):
            expected = float(produced[mass]) * float(row[column])
            ours = found("l-mu-l-tau", (float(mass),), decay=decay, invisible_only="no")
            assert ours == pytest.approx(expected, rel=5e-3, abs=6e-6 * float(produced[mass])), (mass, decay)
    assert compared >= 10


def test_tables_of_scalars() -> None:
    """Reference (notes, computed): six digits of the columns per xi^2 and g_S^2; pseudoscalars with y = m_l C/Lambda."""
    for row in read("lepton_pair_cross_section.csv"):
        mass = float(row["m_X_GeV"])
        for pair, column in (("taus", "sigma_tautauphiL_fb_per_xi2"), ("muons", "sigma_mumuS_fb_per_xi2")):
            ours = sum(
                found("leptophilic-scalar", (mass,), radiated_by=pair, decay=decay)
                for decay in ("electrons", "muons", "taus")
            )
            # below 2 m_e there is no decay
            assert agrees_to(ours, row[column] if mass > 2 * constants.ELECTRON_MASS else "0", 6), row
        assert agrees_to(found("muonphilic-scalar", (mass,), decay="invisible"), row["sigma_mumuS_fb_per_y2"], 6), row
        if mass > 2 * constants.MUON_MASS:
            assert agrees_to(found("muonphilic-scalar", (mass,), decay="muons"), row["sigma_mumuS_fb_per_y2"], 6), row
        if mass > 2 * constants.TAU_MASS:
            taus = found("alp-leptons", (mass,), radiated_by="muons", decay="taus")
            widths = [
                leptophilic_scalar.pseudoscalar_width(mass, m, m)
                for m in (constants.ELECTRON_MASS, constants.MUON_MASS, constants.TAU_MASS)
            ]
            expected = float(row["sigma_mumuP_fb_per_y2"]) * constants.MUON_MASS**2 * widths[2] / sum(widths)
            assert taus == pytest.approx(expected, rel=1e-4, abs=0), row


def test_leptophilic_branching_fractions() -> None:
    """Reference (notes, computed): the printed table times the production."""
    for row in read("leptophilic_scalar_branching_fractions.csv"):
        mass = float(row["m_GeV"])
        produced = leptophilic_scalar.cross_section(SQRT_S, mass, 1.0)
        for decay, column in (("electrons", "BR_ee"), ("muons", "BR_mumu"), ("taus", "BR_tautau")):
            ours = found("leptophilic-scalar", (mass,), radiated_by="taus", decay=decay)
            if produced > 0.0:
                assert ours / produced == pytest.approx(float(row[column]), abs=1e-6), row


def test_scalars_have_no_decay_below_its_threshold() -> None:
    """Catches a limit from muons that the scalar cannot decay to."""
    assert found("muonphilic-scalar", (0.2,), decay="muons") == 0.0
    assert found("alp-leptons", (3.5,), radiated_by="muons", decay="taus") == 0.0


def test_dark_higgsstrahlung_table() -> None:
    """Reference (notes, computed): five digits where h' goes to A' A'; times one or three decays of A' to muons."""
    regions = {"invisible": 0, "between": 0, "pairs": 0}
    for row in read("dark_higgsstrahlung_cross_section.csv"):
        mass, higgs = float(row["m_Aprime_GeV"]), float(row["m_hprime_GeV"])
        sigma = {
            decay: found("dark-higgsstrahlung", (mass, higgs), decay=decay)
            for decay in ("muons+invisible", "three-pairs", "six-muons")
        }
        muons = dark_photon.branching_fraction(mass, "muons")
        if higgs < mass:
            regions["invisible"] += 1
            assert agrees_to(sigma["muons+invisible"] / muons, row["sigma_fb_per_eps2_alphaD"], 5), row
            assert sigma["three-pairs"] == sigma["six-muons"] == 0.0
        elif higgs > 2 * mass:
            regions["pairs"] += 1
            electrons = found("dark-higgsstrahlung", (mass, higgs), decay="six-electrons")
            fraction = dark_photon.branching_fraction(mass, "electrons")
            produced = electrons / fraction**3
            assert agrees_to(produced, row["sigma_fb_per_eps2_alphaD"], 5), row
            assert sigma["six-muons"] == pytest.approx(produced * muons**3, rel=1e-12, abs=0)
            hadrons = dark_photon.branching_fraction(mass, "hadrons") if mass < 0.95 else 0.0
            pairs = fraction + muons + hadrons
            assert sigma["three-pairs"] == pytest.approx(produced * pairs**3, rel=1e-12, abs=0)
            assert sigma["muons+invisible"] == 0.0
        else:
            regions["between"] += 1
            assert set(sigma.values()) == {0.0}
    assert min(regions.values()) > 5


def test_darkonium_needs_room_for_three() -> None:
    """Catches a rate where Y_D is lighter than the three A' it is searched in, and a lost power of alpha_D."""
    assert found("darkonium", (1.0, 2.9), alpha_d=0.5, max_cos=0.9) == 0.0
    strong, weak = (found("darkonium", (0.3, 4.0), alpha_d=alpha, max_cos=0.9) for alpha in (0.5, 0.25))
    assert strong == pytest.approx(16 * weak, rel=1e-12, abs=0)


def test_darkonium_is_found_in_pairs_of_tracks() -> None:
    """Catches a dark photon of 1.5 GeV whose hadrons count as pairs: only its leptons do there, to the third power."""
    leptons = sum(dark_photon.branching_fraction(1.5, decay) for decay in ("electrons", "muons"))
    assert 0.4 < leptons < 0.7
    produced = darkonium.cross_section(SQRT_S, 6.0, 1.5, 1.0, 0.5, 0.9)
    assert found("darkonium", (1.5, 6.0), alpha_d=0.5, max_cos=0.9) == pytest.approx(produced * leptons**3, rel=1e-12)
    below = darkonium.cross_section(SQRT_S, 6.0, 0.1, 1.0, 0.5, 0.9)
    assert found("darkonium", (0.1, 6.0), alpha_d=0.5, max_cos=0.9) == pytest.approx(below, rel=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# The ALP that escapes


def test_escaping_is_the_rest_of_an_exponential() -> None:
    """Reference: exp(-L m Gamma/p), from the momentum of the photon and the width in GeV; tends to all of it."""
    mass, coupling, length = 0.1, 3e-5, 250.0
    momentum = (SQRT_S**2 - mass**2) / (2 * SQRT_S)
    gamma = coupling**2 * mass**3 / (64 * math.pi)
    survival = math.exp(-length / 1.973269804e-14 * gamma * mass / momentum)
    produced = alp_photon.cross_section(SQRT_S, mass, coupling)
    assert found("alp-photon-escaping", (mass,), coupling, length=length) == pytest.approx(
        survival * produced, rel=1e-9, abs=0
    )
    assert 0.01 < survival < 0.99
    assert found("alp-photon-escaping", (1e-3,), coupling, length=length) == pytest.approx(
        alp_photon.cross_section(SQRT_S, 1e-3, coupling), rel=1e-6, abs=0
    )
    assert found("alp-photon-escaping", (0.0,), coupling, length=length) == alp_photon.cross_section(
        SQRT_S, 0, coupling
    )
    assert found("alp-photon-escaping", (0.1,), 0.0, length=length) == 0.0


@pytest.mark.parametrize("length", [10.0, 300.0])
@pytest.mark.parametrize("mass", [1e-3, 0.03, 0.1, 0.5, 3.0])
def test_escaping_reopens_where_lambert_says(mass: float, length: float) -> None:
    """Closed form: A g^2 exp(-B g^2) = limit has the roots g^2 = -W(-B limit/A)/B on both branches of Lambert's W."""
    from scipy.special import lambertw

    parameters = {"length": length}
    a = alp_photon.cross_section(SQRT_S, mass, 1.0)
    b = length / alp_photon.decay_length(SQRT_S, mass, 1.0)
    peak = a / (b * math.e)
    for fraction in (1e-9, 1e-3, 0.3, 0.99, 1 - 1e-7):
        excluded = MODELS["alp-photon-escaping"].excluded(SQRT_S, (mass,), fraction * peak, parameters)
        expected = [math.sqrt(-lambertw(-fraction / math.e, branch).real / b) for branch in (0, -1)]
        assert len(excluded.intervals) == 1
        # as far as it is looked
        assert excluded.lower == pytest.approx(max(expected[0], COUPLINGS[0]), rel=1e-7, abs=0)
        if expected[1] < 1e4:
            assert excluded.upper == pytest.approx(expected[1], rel=1e-7, abs=0)
            assert excluded.contains(excluded.upper)
            assert not excluded.contains(1.001 * expected[1])
    over = MODELS["alp-photon-escaping"].excluded(SQRT_S, (mass,), peak * (1 + 1e-7), parameters)
    assert (over.lower, over.upper, over.intervals) == (math.inf, None, ())


def test_escaping_and_prompt_agree_where_nothing_decays() -> None:
    """Second method: at the lower edge a light ALP with a strong limit lives long, so both give the same coupling."""
    for limit in (1e-3, 1e-6):
        lower = MODELS["alp-photon-escaping"].excluded(SQRT_S, (1e-3,), limit, {"length": 100.0}).lower
        assert lower == pytest.approx(MODELS["alp-photon"].excluded(SQRT_S, (1e-3,), limit, {}).lower, rel=1e-4, abs=0)


def test_light_particles_of_a_pair_are_refused() -> None:
    """Catches a division by zero in place of a message where soft radiation has no end."""
    with pytest.raises(ValueError, match="finite for positive masses only"):
        lepton_pair.cross_section(SQRT_S, constants.MUON_MASS, 0.0, "vector")
