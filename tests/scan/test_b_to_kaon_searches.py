"""The searches for B -> K(*) a, a -> gamma gamma, that we ship: grids, yields, late decays, and limits at a few masses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from modelbuilder.histograms.look import Looker
from modelbuilder.scan.lifetimes import with_couplings
from modelbuilder.scan.point import limit_rows
from modelbuilder.scan.points import points_of
from modelbuilder.scan.table import Row
from modelbuilder.spec.load import LoadedSearch, load_combination, load_search

SPECS = Path(__file__).parents[2] / "specs"
BABAR = "babar/b_to_kaon_alp"
MODES = {
    "belle/b_to_kplus_alp": (0.16, 4.5),
    "belle/b_to_kshort_alp": (0.16, 4.5),
    "belle/b_to_kstar0_alp": (0.16, 4.2),
    "belle/b_to_kstarplus_alp": (0.16, 4.2),
}
RANGES = {BABAR: (0.175, 4.78), **MODES}
COMBINED = SPECS / "belle" / "b_to_kaon_alp_combined.yaml"
FEW = ("signal.events=5000", "backgrounds.eta_c.events=20000", "data={kind: asimov}")


def at_masses(name: str, masses: tuple[float, ...], *overrides: str) -> LoadedSearch:
    """A search with these masses, for Asimov data."""
    listed = ", ".join(f"{mass} GeV" for mass in masses)
    segments = f"grid.m_a={{segments: [{{values: [{listed}], source: assumption}}]}}"
    return load_search(SPECS / f"{name}.yaml", overrides=(segments, *FEW, *overrides))


def prompt(*more: str) -> tuple[str, ...]:
    return ("signal.lifetime.values=[0 cm]", *more)


def rows_of(search: LoadedSearch) -> list[Row]:
    maker = points_of(search)
    shared = maker.shared(list(search.points))
    rows = [row for point in search.points for row in limit_rows(search.spec, maker.made(point, shared))]
    assert [row["status"] for row in rows] == ["ok"] * len(rows)
    return with_couplings(search, rows)


def number(row: Row, column: str) -> float:
    return float(row[column])  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------- grids


@pytest.mark.parametrize("name", RANGES)
def test_every_search_covers_its_range_but_for_its_gaps(name: str) -> None:
    """Invariant: catches a grid cut short, a gap that fills when steps change, and a combination that crosses one."""
    search = load_search(SPECS / f"{name}.yaml")
    masses = [point.mass for point in search.points]
    low, high = RANGES[name]
    assert masses[0] == low
    assert 0.995 * high < masses[-1] <= high
    for least, most in ((0.45, 0.63), (0.91, 1.01)):
        assert not any(least < mass < most for mass in masses)
        assert any(least - 0.02 < mass <= least for mass in masses)
        assert any(most <= mass < most + 0.02 for mass in masses)


def test_vetoed_masses_are_gaps_of_the_combination_too() -> None:
    """Invariant: no point lies in a gap, each gap is known as one, and K* modes end where their grids do."""
    combination = load_combination(COMBINED)
    assert not any(0.45 < point.mass < 0.63 or 0.91 < point.mass < 1.01 for point in combination.points)
    spans = combination.grid.gaps
    for middle in (0.54, 0.96):
        assert any(low < middle < high for low, high in spans)
    for point in combination.points:
        modes = set(combination.searches_at(point))
        assert modes >= {"kplus", "kshort"}
        assert ("kstar0" in modes) == ("kstarplus" in modes)
        assert ("kstar0" in modes) == (point.mass < 4.199)


def test_as_many_masses_as_in_the_paper() -> None:
    """Reference: 461 are recalled, whose steps follow the resolution: a check of that, which is simulated."""
    masses = {point.mass for point in load_search(SPECS / f"{BABAR}.yaml").points}
    assert len(masses) == pytest.approx(461, rel=0.1)


# ------------------------------------------------------------------------------------------------- rates and couplings


BR_AND_CTAU = {
    # GeV: BR/g^2 in GeV^2 of K+, K0, K*0 and K*+, and c tau in cm at 1e-5 GeV^-1; physics notes, section 8.2
    0.3: (1.97e3, 1.83e3, 2.21e3, 2.38e3, 29.6),
    1.0: (2.00e3, 1.86e3, 2.21e3, 2.38e3, 0.799),
    3.0: (2.27e3, 2.10e3, 2.02e3, 2.19e3, 0.0296),
    4.0: (2.38e3, 2.20e3, 1.00e3, 1.10e3, 0.0125),
}


@pytest.mark.parametrize("mass", BR_AND_CTAU)
def test_couplings_are_those_of_the_notes(mass: float) -> None:
    """Reference: the table of the physics notes, within 1 %; catches a search with the model of another mode."""
    *fractions, ctau = BR_AND_CTAU[mass]
    for name, expected in zip(MODES, fractions, strict=True):
        spec = load_search(SPECS / f"{name}.yaml").spec
        model = spec.interpretations["g_aw_per_gev"]
        rate = model.theory.rate(spec.experiment.beams.sqrt_s, (mass,), 1e-5, model.parameters)
        assert rate / 1e-10 == pytest.approx(expected, rel=0.01), name
        assert model.theory.lifetime is not None
        assert model.theory.lifetime((mass,), 1e-5, model.parameters) == pytest.approx(ctau, rel=0.01)


PRODUCED = {
    # particles and antiparticles; the part of the kaon that is looked for, on which there is no limit
    BABAR: (2 * 471e6 * 0.92 * 0.51, 1.0),
    "belle/b_to_kplus_alp": (2 * 772e6 * 0.51, 1.0),
    "belle/b_to_kshort_alp": (2 * 772e6 * 0.49, 0.5 * 0.692),
    "belle/b_to_kstar0_alp": (2 * 772e6 * 0.49, 2 / 3),
    "belle/b_to_kstarplus_alp": (2 * 772e6 * 0.51, 2 / 3 * 0.5 * 0.692),
}
# events per GeV below the peak, resolution in GeV; from the numbers in the specs
BELOW_THE_PEAK = {
    BABAR: (100 / 0.05, 0.015),
    "belle/b_to_kplus_alp": (180 / 0.05, 0.0118),
    "belle/b_to_kshort_alp": (36 / 0.05, 0.0118),
    "belle/b_to_kstar0_alp": (180 / 0.05, 0.0100),
    "belle/b_to_kstarplus_alp": (36 / 0.05, 0.0100),
}


@pytest.mark.parametrize("name", RANGES)
def test_expected_limits_are_those_of_signal_over_root_of_background(name: str) -> None:
    """Second method: 1.645 sqrt(b) events at 90 %, b the background below 2 sqrt(pi) resolutions, within 25 %.

    That is for tails of the peak, and for what the polynomial takes of it, 10 %. Catches particles that are counted
    without their antiparticles, a branching fraction of the kaon that is taken twice or not at all, a background in
    wrong units, and a prompt coupling that is not the root of the limit over the rate.
    """
    ((row, _),) = (rows_of(at_masses(name, (2.0,), *prompt())),)
    density, resolution = BELOW_THE_PEAK[name]
    events = 1.645 * math.sqrt(density * 2.0 * math.sqrt(math.pi) * resolution)
    search = at_masses(name, (2.0,), *prompt())
    seen = Looker(search, masses=(2.0,), n_events=5000).look().flow[-1].efficiency
    found = number(row, "branching_fraction_expected")
    produced, fraction = PRODUCED[name]
    efficiency = seen * search.spec.signal.efficiency.at({"m_a": 2.0}) * fraction
    assert found * efficiency * produced == pytest.approx(events, rel=0.25)
    # the efficiency of the tables holds the known fractions
    assert number(row, "signal_efficiency") == pytest.approx(efficiency, rel=0.05)
    expected = {"kplus": 2.11e3, "kshort": 1.95e3, "kstar0": 2.18e3, "kstarplus": 2.36e3}
    rate = expected.get(name.split("_")[2], 2.11e3)
    assert number(row, "g_aw_per_gev_expected") == pytest.approx(math.sqrt(found / rate), rel=0.01)


def test_four_modes_together_are_better_than_the_best() -> None:
    """Closed form: of prompt decays rates over errors add in squares, so the fourth powers of 1/g do, within 5 %.

    Catches a mode that is lost, or that has the coupling of another. What all modes share makes it less, by the square of
    a few per cent.
    """
    single = []
    for name in MODES:
        ((row, _),) = (rows_of(at_masses(name, (1.5,), *prompt())),)
        single.append(number(row, "g_aw_per_gev_expected"))
    overrides = [
        f"searches.{mode}.{change}"
        for mode in ("kplus", "kshort", "kstar0", "kstarplus")
        for change in (
            *FEW[:2],
            *prompt("grid.m_a={segments: [{values: [1 GeV, 1.5 GeV, 2 GeV], source: assumption}]}"),
        )
    ]
    combination = load_combination(
        COMBINED,
        overrides=[*overrides, FEW[2], "grid.m_a.segments=[{values: [1.5 GeV], source: assumption}]"],
    )
    maker = points_of(combination)
    (point,) = combination.points
    (row,) = limit_rows(combination.spec, maker.made(point, maker.shared([point])))
    together = number(row, "g_aw_per_gev_expected")
    assert together < 0.95 * min(single)
    assert together == pytest.approx(sum(g**-4 for g in single) ** -0.25, rel=0.05)


# ---------------------------------------------------------------------------------------------------------- late decays

TWICE = ("experiment.photons.surface.radius=184 cm", "experiment.photons.surface.z_low=-226 cm",
         "experiment.photons.surface.z_high=360 cm")  # fmt: skip


def test_late_photons_shift_and_widen_the_peak() -> None:
    """Closed form: seen from the collision the angle of two photons shrinks as 1 - L/R of the flight over the way.

    So the peak moves by less than that of all decays, and half as much where the calorimeter is twice as far. Catches
    photons that are measured from where they begin, or from a plane.
    """
    mass, fits = 1.0, {}
    for ctau, *far in ((0.0,), (0.2,), (0.2, *TWICE), (1.0,)):
        values = f"signal.lifetime.values=[{ctau} cm]"
        search = load_search(SPECS / f"{BABAR}.yaml", overrides=(values, *far))
        fit = Looker(search, masses=(mass,), n_events=40_000).look().fit
        assert fit is not None
        fits[ctau, bool(far)] = fit
    prompt_fit, late, farther = fits[0.0, False], fits[0.2, False], fits[0.2, True]
    mean_flight = 2.52 * 1.2 * 0.2  # beta gamma c tau, with the boost of the beams
    shift = prompt_fit.location - late.location
    assert 10.0 * late.location_stdev < shift < mass * mean_flight / 92.0
    assert prompt_fit.location - farther.location == pytest.approx(0.5 * shift, rel=0.1)
    assert fits[1.0, False].half_width > 1.3 * prompt_fit.half_width


def test_the_edge_of_the_coupling_follows_the_detector() -> None:
    """Physics: at 0.3 GeV a flies for metres at the prompt limit, so the edge lies above that, and falls in a larger detector.

    Catches couplings at a fixed lifetime. Upwards nothing reopens, since larger couplings decay at once.
    """
    values = "signal.lifetime.values=[0 cm, 1 mm, 1 cm, 10 cm, 1 m]"
    edges, prompts = [], []
    for far in ((), TWICE):
        *rows, last = rows_of(at_masses(BABAR, (0.3,), values, *far))
        prompts.append(number(rows[0], "g_aw_per_gev_expected"))
        edges.append(number(last, "g_aw_per_gev_expected"))
        assert last.get("g_aw_per_gev_expected_upper_edge") is None
        by_lifetime = [number(row, "branching_fraction_expected") for row in rows]
        assert by_lifetime == sorted(by_lifetime)
    assert prompts[1] == pytest.approx(prompts[0], rel=0.02)
    assert edges[0] > 1.5 * prompts[0]
    assert edges[1] < 0.9 * edges[0]


def test_eta_c_is_in_the_background() -> None:
    """Closed form: 4.42e8 B times 1.1e-3 times 1.7e-4, times the efficiency of the signal at this mass, all in one window."""
    search = at_masses(BABAR, (2.9839,), *prompt())
    maker = points_of(search)
    made = maker.made(search.points[0], maker.shared(list(search.points)))
    events = float(made.templates["eta_c"].sum().value)
    ((row, _),) = (rows_of(search),)
    expected = 4.42e8 * 1.1e-3 * 1.7e-4 * number(row, "signal_efficiency")
    assert events == pytest.approx(expected, rel=0.05)
