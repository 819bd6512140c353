"""The searches for pairs of leptons that we ship: their grids, their computed backgrounds, and limits at a few masses."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from modelbuilder.scan.point import limit_rows
from modelbuilder.scan.points import points_of
from modelbuilder.scan.table import Row
from modelbuilder.spec.load import LoadedSearch, load_search
from modelbuilder.spec.search import StatedBackground
from modelbuilder.spec.tree import plain

SPECS = Path(__file__).parents[2] / "specs"
MUON, ELECTRON = 0.10566, 0.000511
ALPHA = 1.0 / 137.036
SQRT_S = 10.58


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


PATTERNS = ("darkphoton_ee", "darkphoton_mumu", "mumu_resonance", "muonphilic", "leptophilic")
FILES = sorted(path for path in SPECS.glob("ba*/*.yaml") if path.stem.startswith(PATTERNS))
FILES += sorted(path for path in SPECS.glob("belle*/*.yaml") if path.stem.startswith(PATTERNS))


def rows_of(name: str) -> tuple[str, np.ndarray]:
    """The head of a table in `specs`, and its numbers."""
    text = (SPECS / name).read_text(encoding="utf-8")
    head = " ".join(line[1:].strip() for line in text.splitlines() if line.startswith("#"))
    body = list(csv.reader(line for line in text.splitlines() if not line.startswith("#")))
    return head, np.array(body[1:], dtype=float)


# ---------------------------------------------------------------------------------------------------------------- grids


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_search_is_fine_and_covers_its_range(path: Path) -> None:
    """Invariant: catches a spec that no longer loads, a grid cut short, and two with one name."""
    search = load_search(path)
    masses = [point.mass for point in search.points]
    (axis,) = search.spec.grid.values()
    assert masses[0] == axis.segments[0].from_  # type: ignore[union-attr]
    last = axis.segments[-1].to  # type: ignore[union-attr]
    assert 0.99 * last < masses[-1] <= last
    for gap in axis.gaps:
        assert not any(gap.low < mass < gap.high for mass in masses)
        assert any(gap.low - 0.02 < mass < gap.low for mass in masses)
    assert search.spec.name.replace("-", "_").endswith(path.stem)
    assert search.spec.name.startswith(path.parent.name)


@pytest.mark.parametrize(
    ("name", "published", "within"),
    [
        ("babar/darkphoton_ee", 5704, 0.1),
        ("babar/darkphoton_mumu", 5370, 0.1),
        ("babar/mumu_resonance", 2219, 0.25),
    ],
)
def test_as_many_masses_as_in_the_paper(name: str, published: int, within: float) -> None:
    """Reference: recalled numbers of hypotheses, whose steps follow the resolution: a check of that, which is ours."""
    assert len(load_search(SPECS / f"{name}.yaml").points) == pytest.approx(published, rel=within)


# ----------------------------------------------------------------------------------------------- computed backgrounds


def radiated_pairs(mass: float, lepton: float, max_cos: float) -> float:
    """dsigma/dm of e+ e- -> gamma l+ l- by initial-state radiation, fb/GeV: physics notes, sections 7c and 8c."""
    x, r = (mass / SQRT_S) ** 2, (lepton / mass) ** 2
    log = math.log((1.0 + max_cos) / (1.0 - max_cos))
    unit = 2.0 * math.pi * ALPHA**2 / SQRT_S**2 * 3.893793721e11
    gamma_vector = unit * (1.0 - x) * (2.0 * (log - max_cos) + 4.0 * x / (1.0 - x) ** 2 * log)
    return gamma_vector * 2.0 * ALPHA / (3.0 * math.pi * mass) * (1.0 + 2.0 * r) * math.sqrt(1.0 - 4.0 * r)


def points_in(text: str) -> tuple[list[float], list[float]]:
    """`0.5 at 1, 0.7 at 2.5 GeV` as the points (1, 2.5) and the values (0.5, 0.7)."""
    pairs = [part.removesuffix(" GeV").split(" at ") for part in text.split(", ")]
    return [float(at.removesuffix(" GeV")) for _, at in pairs], [float(value) for value, _ in pairs]


@pytest.mark.parametrize("mass", [0.03, 0.25, 1.0, 3.0, 7.0, 9.0])
def test_radiated_pairs_are_what_their_table_says(mass: float) -> None:
    """Second method: the formula written again, times the shares in the head of the file.

    Catches a table that was edited, or made for another acceptance of the photon than the spec simulates.
    """
    head, rows = rows_of("babar/data/gamma_ee.csv")
    shares = PchipInterpolator(*points_in(head.split("that is found: ")[1].split(", monotone")[0]))
    bhabha = points_in(head.split("dominates: ")[1].split(";")[0])
    factor = PchipInterpolator(bhabha[0], np.log(bhabha[1]))
    at = rows[np.argmin(abs(rows[:, 0] - mass))]
    factor_there = math.exp(factor(max(at[0], bhabha[0][0]))) / math.hypot(1.0, 0.02 / at[0])
    expected = radiated_pairs(at[0], ELECTRON, 0.97) * shares(at[0]) * factor_there
    assert at[1] == pytest.approx(expected, rel=0.002)
    head, rows = rows_of("babar/data/gamma_mumu.csv")
    shares = PchipInterpolator(*points_in(head.split("between: ")[1].split(", which")[0]))
    at = rows[np.argmin(abs(rows[:, 0] - max(mass, 0.06)))]
    true = math.hypot(at[0], 2.0 * MUON)
    assert at[1] == pytest.approx(radiated_pairs(true, MUON, 0.97) * at[0] / true * shares(at[0]), rel=0.002)


@pytest.mark.parametrize("experiment", ["babar", "belle", "belle2"])
def test_light_pairs_of_four_muons_are_virtual_photons(experiment: str) -> None:
    """Reference: the cross section of mu mu V in the physics notes, with the coupling e and the splitting of section 8c.

    Below 0.1 GeV in the reduced mass wrong pairs are a few per cent. What is left between this and the table is twice an
    efficiency of 40 to 50 %.
    """
    sigma = PchipInterpolator([0.212, 0.25, 0.3], [3.78072e5, 3.40545e5, 3.0103e5])
    _, rows = rows_of(f"{experiment}/data/four_muons.csv")
    for reduced in (0.03, 0.06, 0.1):
        mass, r = math.hypot(reduced, 2.0 * MUON), (MUON / math.hypot(reduced, 2.0 * MUON)) ** 2
        splitting = 2.0 * ALPHA / (3.0 * math.pi * mass) * (1.0 + 2.0 * r) * math.sqrt(1.0 - 4.0 * r)
        produced = 4.0 * math.pi * ALPHA * float(sigma(mass)) * splitting * reduced / mass
        assert 0.38 < np.interp(reduced, *rows.T) / (2.0 * produced) < 0.52


# ---------------------------------------------------------------------------------------------------------------- limits


FIXED = ("statistics.methods=[cls]", "data={kind: asimov}")


def at_masses(name: str, masses: tuple[float, ...], *overrides: str) -> dict[float, tuple[LoadedSearch, Row]]:
    """The CLs row at each mass, for Asimov data."""
    listed = ", ".join(f"{mass} GeV" for mass in masses)
    variable = "m_Ap" if "darkphoton" in name else "m_Zp" if "mumu_resonance" in name else "m_S"
    segments = f"grid.{variable}.segments=[{{values: [{listed}], source: assumption}}]"
    search = load_search(SPECS / f"{name}.yaml", overrides=(segments, *FIXED, *overrides))
    maker = points_of(search)
    shared = maker.shared(list(search.points))
    found = {}
    for point in search.points:
        (row,) = limit_rows(search.spec, maker.made(point, shared))
        assert row["status"] == "ok", point
        found[point.mass] = (search, row)
    return found


def own_share(window: float, order: int) -> float:
    """Of the square of a normal peak: what is left of it beside Legendre polynomials up to an order.

    window: full width, in standard deviations.
    """
    x, weights = np.polynomial.legendre.leggauss(400)
    peak = np.exp(-0.5 * (0.5 * window * x) ** 2)
    total = float(weights @ peak**2)
    taken = sum(
        (n + 0.5) * float((weights * peak) @ np.polynomial.legendre.Legendre.basis(n)(x)) ** 2 for n in range(order + 1)
    )
    return (total - taken) / total


def by_hand(search: LoadedSearch, row: Row, mass: float) -> float:
    """The expected limit in fb of a normal peak of the stated width on the stated density.

    b is the background below as much of the axis as a fit counts of a peak, 2 sqrt(pi) sigma, over the share of the peak
    that no polynomial of this order can imitate in the window. The median limit at 90 % is where
    2 (s - b ln(1 + s/b)) is 1.645^2, for large b 1.645 sqrt(b).
    """
    spec = search.spec
    ((channel, settings),) = spec.channels.items()
    (background,) = spec.backgrounds.values()
    assert isinstance(background, StatedBackground)
    assert settings.resolution is not None
    sigma, at = settings.resolution.at({spec.grid_variable: mass}), mass
    if settings.observable.startswith("reduced_mass"):
        at = math.sqrt(mass**2 - 4.0 * MUON**2)
        sigma *= mass / at
    (stated,) = plain(search.tree)["backgrounds"].values()  # type: ignore[call-overload, index]
    spectrum = stated["expected"][channel]
    table = spectrum.get("table", spectrum)
    x, y = ([float(str(value).split()[0]) for value in table[key]] for key in ("at", "events"))
    per, unit = spectrum["per"].split()
    lumi = float(spectrum["luminosity"].split()[0])
    density = float(np.interp(at, x, y)) / (float(per) * {"GeV": 1.0, "MeV": 1e-3}[unit]) / lumi
    share = 1.0 if background.efficiency is None else background.efficiency.value
    assert settings.window is not None
    order = round(background.shape.bernstein.at({spec.grid_variable: mass}))
    b = spec.luminosity.value * share * density * 2.0 * math.sqrt(math.pi) * sigma / own_share(settings.window, order)
    s = brentq(lambda s: 2.0 * (s - b * math.log1p(s / b)) - 1.645**2, 1e-6, 1e3 + 10.0 * math.sqrt(b))
    return float(s) / (spec.luminosity.value * float(row["signal_efficiency"]))  # type: ignore[arg-type]


CouplingOf = Callable[[float], float]


def gamma_vector(branching: dict[float, float]) -> CouplingOf:
    """e+e- -> gamma A' within 0.97 for eps = 1, fb, from the formula of section 7c, times a branching fraction."""

    def cross_section(mass: float) -> float:
        r = (ELECTRON / mass) ** 2
        splitting = 2.0 * ALPHA / (3.0 * math.pi * mass) * (1.0 + 2.0 * r) * math.sqrt(1.0 - 4.0 * r)
        return radiated_pairs(mass, ELECTRON, 0.97) / splitting * branching[mass]

    return cross_section


def table(values: dict[float, float]) -> CouplingOf:
    """Cross sections for a coupling of 1 times branching fractions, fb, from the tables of the physics notes."""
    return values.__getitem__


Z_PRIME = table({0.3: 3.0103e5 * 0.46975, 1.0: 9.95634e4 * 0.49981, 5.0: 2025.24 * 0.34709})
PHI_MU = table({0.3: 3.40019 * 0.999935, 1.0: 1.38352 * 0.999975, 2.5: 0.375666 * 0.999976})
PHI_E = table({0.05: 7.30829, 0.1: 5.71541, 0.2: 4.21476})
LIMITS: dict[str, tuple[str, CouplingOf, tuple[float, ...]]] = {
    "babar/darkphoton_ee": ("epsilon", gamma_vector({0.1: 1.0, 1.2: 0.32974, 3.0: 0.23923}), (0.1, 1.2, 3.0)),
    "babar/darkphoton_mumu": ("epsilon", gamma_vector({0.3: 0.46554, 1.2: 0.32962, 3.0: 0.23923}), (0.3, 1.2, 3.0)),
    "babar/mumu_resonance": ("gprime", Z_PRIME, (0.3, 1.0, 5.0)),
    "belle/mumu_resonance": ("gprime", Z_PRIME, (0.3, 1.0, 5.0)),
    "belle2/mumu_resonance_2021": ("gprime", Z_PRIME, (0.3, 1.0, 5.0)),
    "belle2/muonphilic_scalar_2021": ("g_s", table({0.3: 26193.6, 1.0: 13427.6, 5.0: 705.263}), (0.3, 1.0, 5.0)),
    "babar/leptophilic_scalar_ee_displaced": ("xi", PHI_E, (0.05, 0.1, 0.2)),
    "babar/leptophilic_scalar_mumu": ("xi", PHI_MU, (0.3, 1.0, 2.5)),
    "belle/leptophilic_scalar_ee_displaced": ("xi", PHI_E, (0.05, 0.1, 0.2)),
    "belle/leptophilic_scalar_mumu": ("xi", PHI_MU, (0.3, 1.0, 2.5)),
}


@pytest.mark.parametrize("name", LIMITS)
def test_expected_limits_are_those_of_signal_over_root_of_background(name: str) -> None:
    """Second method: arithmetic on the inputs, within 25 %, which is for systematics and for few events.

    Catches a background in wrong units or without its efficiency, a window beside the peak, and wrong pairs that count
    as signal. Of displaced pairs the slow ones are found, whose peak is narrower than stated. Couplings: reference, within 3 %, the tables and formulas of the physics notes.
    """
    coupling, cross_section, masses = LIMITS[name]
    for mass, (search, row) in at_masses(name, masses).items():
        limit = float(row["cross_section_fb_expected"])  # type: ignore[arg-type]
        least = 0.65 if "displaced" in name else 0.8
        assert least < limit / by_hand(search, row, mass) < 1.25, f"{mass} GeV"
        found = float(row[f"{coupling}_expected"])  # type: ignore[arg-type]
        assert found**2 * cross_section(mass) == pytest.approx(limit, rel=0.03), f"{mass} GeV"


@pytest.mark.parametrize("name", ["belle2/darkphoton_mumu", "belle2/darkphoton_ee"])
def test_projections_scale_as_they_should(name: str) -> None:
    """Closed form: limits on a cross section go with 1/sqrt(luminosity efficiency / resolution) on much background.

    Against BaBar: half the resolution, and 1.1 or 2 times the efficiency. 50 ab^-1 have a polynomial of fourth order, not
    third, which takes more of the peak. Catches a projection in which the background
    does not follow the efficiency or the luminosity, or the simulated peak not the resolution.
    """
    better = {"belle2/darkphoton_mumu": 1.1, "belle2/darkphoton_ee": 2.0}[name]
    off = ("systematics.efficiency_corrections=null", "systematics.mass_resolution=null")
    limits = []
    for one in (name.replace("belle2", "babar"), f"{name}_500fb", f"{name}_50ab"):
        ((_, row),) = at_masses(one, (2.0,), *off).values()
        limits.append(float(row["cross_section_fb_expected"]))  # type: ignore[arg-type]
    assert limits[0] / limits[1] == pytest.approx(math.sqrt(500.0 / 514.0 * better * 2.0), rel=0.05)
    more_order = math.sqrt(own_share(20.0, 4) / own_share(20.0, 3))
    assert limits[1] / limits[2] == pytest.approx(10.0 * more_order, rel=0.05)


@pytest.mark.parametrize("experiment", ["babar", "belle"])
def test_a_displaced_scalar_lives_as_long_as_the_coupling_says(experiment: str) -> None:
    """Closed form: c tau = 8 pi v^2 hbar c/(xi^2 m_e^2 m), at the xi that comes out, within 20 % of xi.

    Catches limits on a coupling whose scalar would be found elsewhere, after a change of background or efficiency.
    """
    name = f"{experiment}/leptophilic_scalar_ee_displaced"
    for mass, (search, row) in at_masses(name, (0.05, 0.1, 0.2)).items():
        lifetime = search.spec.signal.lifetimes["S"].at({"m_S": mass})
        xi = math.sqrt(8.0 * math.pi * 246.22**2 * 1.97327e-14 / (lifetime * ELECTRON**2 * mass))
        assert row["xi_expected"] == pytest.approx(xi, rel=0.2)
