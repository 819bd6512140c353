"""The searches with photons as specs: what they contain, and whether their limits are those of simple estimates."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.scan.point import limit_rows
from modelbuilder.scan.points import points_of
from modelbuilder.scan.table import Row
from modelbuilder.spec.load import LoadedSearch, load_combination, load_search
from modelbuilder.spec.search import StatedBackground
from modelbuilder.theory import dark_photon
from modelbuilder.theory.constants import ALPHA, ELECTRON_MASS

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs"
POINTS = {
    "belle2/alp_gammagamma_50fb.yaml": 652,
    "belle2/alp_gammagamma_50ab.yaml": 652,
    "belle2/alp_escaping.yaml": 60,
    "belle2/alp_invisible.yaml": 153,
    "belle2/alp_invisible_50ab.yaml": 153,
    "belle2/darkphoton_invisible.yaml": 116,
    "belle2/darkphoton_invisible_500fb.yaml": 116,
    "belle2/darkphoton_invisible_50ab.yaml": 116,
    "babar/darkphoton_invisible.yaml": 166,
    "babar/darkphoton_invisible_tight_y2s.yaml": 154,  # as far as its observable goes
    "babar/darkphoton_invisible_tight_y4s.yaml": 63,
    "babar/darkphoton_invisible_loose_y3s.yaml": 63,
    "babar/darkphoton_invisible_loose_y2s.yaml": 63,
    "babar/darkphoton_invisible_loose_y4s.yaml": 63,
}
ENERGIES = {"y2s": 10.02326, "y3s": 10.3552, "y4s": 10.5794}
ONE_SIDED = 1.645
"""Standard deviations of the median CLs limit at 90 %, and of the one-sided limit at 95 %."""


@pytest.mark.parametrize("spec", POINTS)
def test_grids(spec: str) -> None:
    """Closed form: 166 masses are those of the paper; a variant has the masses of its base."""
    assert len(load_search(SPECS / spec).points) == POINTS[spec]


def test_babar_is_complete() -> None:
    """Catches a region or data set that is left out, or twice in: 53 fb^-1, at the masses of three resonances."""
    found = load_combination(SPECS / "babar" / "darkphoton_invisible_combined.yaml")
    assert len(found.points) == 166
    for region in ("tight", "loose"):
        members = {name: one for name, one in found.spec.searches.items() if name.startswith(region)}
        assert sum(one.luminosity.value for one in members.values()) == pytest.approx(53.0)
        for name, one in members.items():
            assert one.experiment.beams.sqrt_s == pytest.approx(ENERGIES[name[-3:]], abs=2e-4)
    assert len({one.seed for one in found.spec.searches.values()}) == 6


def limits(spec: str, variable: str, masses: list[float], *overrides: str) -> tuple[LoadedSearch, list[list[Row]]]:
    listed = ", ".join(f"{mass} GeV" for mass in masses)
    search = load_search(
        SPECS / spec,
        overrides=(f"grid.{variable}.segments=[{{values: [{listed}], source: assumption}}]", *overrides),
    )
    maker = points_of(search, n_threads=2)
    shared = maker.shared(list(search.points))
    return search, [limit_rows(search.spec, maker.made(point, shared)) for point in search.points]


def expected(rows: list[Row], method: str, quantity: str = "cross_section_fb") -> float:
    (row,) = (row for row in rows if row["method"] == method)
    assert row["status"] == "ok"
    return float(row[f"{quantity}_expected"])  # type: ignore[arg-type]


def table(name: str) -> dict[str, np.ndarray]:
    path = ROOT / "tests" / "kinematics" / "data" / name
    rows = list(csv.DictReader(line for line in path.read_text(encoding="utf-8").splitlines() if line[0] != "#"))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def signal_events(density: float, sigma: float, width: float, order: int) -> float:
    """The expected limit of a normal peak on a flat background, by least squares with a polynomial beside it.

    density: events per unit.    sigma: of the peak.    width: of the window.
    """
    x = np.linspace(-1.0, 1.0, 2001)
    peak = np.exp(-0.5 * (x * 0.5 * width / sigma) ** 2)
    polynomials = np.polynomial.legendre.legvander(x, order)
    left = peak - polynomials @ np.linalg.lstsq(polynomials, peak, rcond=None)[0]
    return ONE_SIDED * math.sqrt(density * math.sqrt(4.0 * math.pi) * sigma * float(peak @ peak) / float(left @ left))


def test_projection_of_the_alp_search_by_hand() -> None:
    """Closed form from tables that were made outside of this package; catches an efficiency or a rate that is lost."""
    masses = [1.0, 5.0]
    few = ("signal.events=50000", "backgrounds.three_photon.events=4000000", "systematics.background_shape=")
    search, found = limits("belle2/alp_gammagamma_50fb.yaml", "m_a", masses, *few)
    spectrum, toy = table("threegamma_spectrum.csv"), table("toy_alp_gammagamma.csv")
    centres = 0.5 * (spectrum["m_lo_GeV"] + spectrum["m_hi_GeV"])
    photons = 0.97**3
    for mass, rows in zip(masses, found, strict=True):
        energy = "1p0" if mass <= 4.0 else "0p65"
        density = 50.0 * 0.75 * photons * np.interp(mass, centres, spectrum[f"dsigma_dm_fb_per_GeV_E{energy}"])
        sigma = 1e-3 * np.interp(mass, toy["m_GeV"], toy["sigma_Mgg_MeV"])
        accepted = photons * np.interp(mass, toy["m_GeV"], toy["acc_3gamma"])
        efficiency = accepted * search.spec.signal.efficiency.at({"m_a": mass})
        by_hand = signal_events(density, sigma, 20.0 * sigma, 6) / (50.0 * efficiency)
        assert 1.0 / 1.5 < expected(rows, "profile-likelihood") / by_hand < 1.5


@pytest.mark.parametrize(
    ("spec", "mass", "efficiency", "width", "order"),
    [
        ("belle2/darkphoton_invisible.yaml", 7.5, 0.85, 9.8, 5),
        ("babar/darkphoton_invisible.yaml", 6.5, 0.0128, 45.0, 3),
    ],
)
def test_single_photons_by_hand(spec: str, mass: float, efficiency: float, width: float, order: int) -> None:
    """Closed form, where the stated background is the largest; catches an efficiency, angle or rate that is lost.

    efficiency: as stated, of photons with |cos| < 0.6.    width: of the fit, GeV^2.    order: of the polynomial.
    """
    few = (
        "signal.events=50000",
        "backgrounds.gamma_gamma_gamma.events=1000000",
        "data={kind: asimov}",
        "systematics.shape_of_the_continuum=",
    )
    search, (rows,) = limits(spec, "m_Ap", [mass], *few[: 4 if "belle2" in spec else 3])
    background = search.spec.backgrounds["radiative_bhabha"]
    assert isinstance(background, StatedBackground)
    (point,) = search.points
    channel = search.spec.channels[point.channel]
    assert channel.resolution2 is not None
    points, densities = background.expected[point.channel].density(channel.observable)
    luminosity, sqrt_s = search.spec.luminosity.value, search.spec.experiment.beams.sqrt_s
    density = luminosity * float(np.interp(mass**2, points, densities))
    sigma = channel.resolution2.at(point.values)
    central, simulated = (dark_photon.cross_section(sqrt_s, mass, 1.0, cosine) for cosine in (0.6, 0.8))
    # of the signal so much radiates less than what moves it out of its peak: x^beta with x = 1.5 sigma/s
    radiates_little = (1.5 * sigma / sqrt_s**2) ** (
        2.0 * ALPHA / math.pi * (2.0 * math.log(sqrt_s / ELECTRON_MASS) - 1.0)
    )
    selected = luminosity * efficiency * central / simulated * radiates_little
    by_hand = signal_events(density, sigma, width, order) / selected
    assert 1.0 / 1.5 < expected(rows, "cls") / by_hand < 1.5
    epsilon = math.sqrt(expected(rows, "cls") / simulated)
    assert expected(rows, "cls", "epsilon") == pytest.approx(epsilon, rel=1e-6)
    # y = eps^2 alpha_D / 81 for masses of 3 to 1
    assert expected(rows, "cls", "y") == pytest.approx(0.1 * epsilon**2 / 81.0, rel=1e-6)
    assert expected(rows, "cls", "y_alpha_d_0p5") == pytest.approx(0.5 * epsilon**2 / 81.0, rel=1e-6)


def test_projections_lie_between_statistics_and_systematics() -> None:
    """Invariant: 2500 times the data improve a limit at most by 50; at zero mass, where systematics are all, by far less."""
    few = ("signal.events=50000", "backgrounds.gamma_gamma_gamma.events=1000000")
    masses = [0.1, 7.5]
    _, small = limits("belle2/darkphoton_invisible.yaml", "m_Ap", masses, *few)
    _, large = limits("belle2/darkphoton_invisible_50ab.yaml", "m_Ap", masses, *few)
    light, heavy = (expected(a, "cls") / expected(b, "cls") for a, b in zip(small, large, strict=True))
    assert 1.0 < light < 25.0
    assert 1.0 < heavy < 52.0
