"""Limits at given lifetimes, and the couplings that say how far a particle flies."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.publish.lifetimes import curves_of, plane_figure
from modelbuilder.regression.diff import table_changes
from modelbuilder.scan.lifetimes import LimitOfLifetime, excluded, with_couplings
from modelbuilder.scan.table import CTAU, UPPER_EDGE, Row
from modelbuilder.spec.load import load_combination, load_search
from modelbuilder.theory.model import Excluded, Model
from modelbuilder.theory.models import MODELS

CTAUS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


def flying(rate_at_1: float, ctau_at_1: float) -> Model:
    """Rate and width proportional to the square of the coupling."""
    return Model(
        coupling="g",
        unit="",
        symbol="g",
        law=None,
        power=2,
        limits="branching fraction",
        rate=lambda sqrt_s, masses, g, parameters: rate_at_1 * g**2,
        lifetime=lambda masses, g, parameters: ctau_at_1 / g**2,
    )


def test_a_limit_that_is_a_power_of_the_lifetime_is_interpolated_exactly() -> None:
    """Closed form. Catches an interpolation in other variables than the logarithms."""
    curve = LimitOfLifetime(CTAUS, [1e-7 * ctau**0.5 for ctau in CTAUS])
    for ctau in (0.001, 0.0042, 0.5, 77.0, 100.0):
        assert curve(ctau) == pytest.approx(1e-7 * ctau**0.5, rel=1e-12)
        assert math.exp(curve.logs(np.array([ctau]))[0]) == pytest.approx(curve(ctau), rel=1e-12)


def test_nothing_is_known_beyond_the_lifetimes_or_beside_a_failure() -> None:
    """Catches extrapolation, and a line drawn through a point that failed."""
    curve = LimitOfLifetime(CTAUS, [1e-7, 1e-7, math.nan, 1e-7, 1e-7, math.inf])
    for ctau in (0.0, 9e-4, 0.02, 0.1, 0.5, 11.0, 100.0, 101.0):
        assert curve(ctau) == math.inf
    for ctau in (0.001, 0.005, 0.01, 1.0, 3.0, 10.0):
        assert curve(ctau) == pytest.approx(1e-7)
    assert [(found[0], found[-1]) for found in curve.samples()] == [(0.001, 0.01), (1.0, 10.0)]


def test_a_prompt_decay_is_joined_to_the_first_lifetime() -> None:
    """Closed form: the logarithm is linear in c tau from 0."""
    curve = LimitOfLifetime((0.0, 0.1, 1.0), (1e-7, 4e-7, 1e-6))
    assert curve(0.05) == pytest.approx(2e-7)
    assert curve(0.0) == pytest.approx(1e-7, rel=1e-12)


def test_both_edges_in_closed_form() -> None:
    """Excluded is where rate g^2 reaches 1e-7 (ctau/1 cm)^a, with ctau = c/g^2: two powers, each with one edge.

    A limit that falls as 1/ctau^2 below 0.1 cm and rises as ctau above 1 cm closes the region on both sides. Catches an
    edge on the wrong branch, or couplings taken for lifetimes.
    """
    limits = [1e-7 * (0.1 / ctau) ** 2 if ctau < 0.1 else 1e-7 * max(ctau, 1.0) for ctau in CTAUS]
    model = flying(rate_at_1=1.0, ctau_at_1=1e-7)
    found = excluded(model, 10.58, (1.0,), LimitOfLifetime(CTAUS, limits), {})
    # long lifetimes: g^2 >= 1e-7 (1e-7/g^2)/1 -> g = 1e-7^(1/2); there ctau = 1 cm, the kink
    assert found.lower == pytest.approx(math.sqrt(1e-7), rel=1e-6)
    # short ones: g^2 = 1e-7 (0.1 g^2/1e-7)^2 -> g^2 = 1e-5, where ctau = 0.01 cm
    assert found.upper == pytest.approx(math.sqrt(1e-5), rel=1e-6)
    # a weaker limit moves both edges together
    weaker = excluded(model, 10.58, (1.0,), LimitOfLifetime(CTAUS, [3.0 * limit for limit in limits]), {})
    assert weaker.upper is not None
    assert found.lower < weaker.lower < weaker.upper < found.upper


@pytest.mark.parametrize(("name", "mass"), [("alp-w", 0.3), ("dark-scalar", 0.25), ("alp-fermion", 0.4)])
@pytest.mark.parametrize("level", [1e-9, 1e-8, 1e-7, 1e-6, 1e-5])
def test_the_fast_way_agrees_with_the_search_in_the_coupling(name: str, mass: float, level: float) -> None:
    """Second method: `Model.excluded`, which knows no powers. Catches a lifetime that is no power of the coupling."""
    theory = MODELS[name]
    parameters = {
        "alp-w": {"decay": "B+ -> K+", "form_factors": "ball-zwicky"},
        "dark-scalar": {"decay": "B+ -> K+", "final": "muons", "form_factors": "ball-zwicky"},
        "alp-fermion": {"decay": "B+ -> K+", "final": "muons", "cutoff": 1000.0, "leptons_up_to": 1.0,
                        "form_factors": "ball-zwicky"},
    }[name]  # fmt: skip
    shape = [1e4, 30.0, 2.0, 1.0, 4.0, 40.0]
    curve = LimitOfLifetime(CTAUS, [level * value for value in shape])
    fast = excluded(theory, 10.58, (mass,), curve, parameters)
    slow = theory.excluded(10.58, (mass,), curve, parameters)
    assert len(fast.intervals) == len(slow.intervals)
    for one, two in zip(fast.intervals, slow.intervals, strict=True):
        assert one == pytest.approx(two, rel=1e-8)


def test_prompt_decays_are_excluded_up_to_any_coupling() -> None:
    """With a limit at c tau = 0 nothing reopens."""
    model = flying(rate_at_1=1.0, ctau_at_1=1e-7)
    found = excluded(model, 10.58, (1.0,), LimitOfLifetime((0.0, 0.1, 1.0, 10.0), (1e-7, 2e-7, 1e-5, 1e-3)), {})
    assert found.upper is None
    slow = model.excluded(10.58, (1.0,), LimitOfLifetime((0.0, 0.1, 1.0, 10.0), (1e-7, 2e-7, 1e-5, 1e-3)), {})
    assert found.lower == pytest.approx(slow.lower, rel=1e-8)


def test_a_coupling_that_only_says_how_far_it_flies() -> None:
    """A rate that does not depend on the coupling: excluded are the lifetimes at which the limit is below it, a prompt one too.

    Second method: the search in the coupling. Catches a logarithm of zero times zero.
    """
    model = MODELS["inelastic-dark-higgs"]
    parameters = {
        "epsilon": 1e-3, "alpha_d": 0.1, "m_dark_photon": 3.0, "m_chi1": 1.0, "splitting": 0.4, "final": "muons",
        "higgs_charge": "two", "chi2_lifetime": 2.9, "chi2_reach": 30.0,
    }  # fmt: skip
    rate = model.rate(10.58, (0.5,), 1e-4, parameters)
    curve = LimitOfLifetime((0.0, 0.1, 1.0, 10.0), [0.5 * rate, 0.6 * rate, 0.7 * rate, 3.0 * rate])
    fast, slow = (f(10.58, (0.5,), curve, parameters) for f in (lambda *a: excluded(model, *a), model.excluded))
    assert fast.upper is None
    assert fast.lower == pytest.approx(slow.lower, rel=1e-6)


# ------------------------------------------------------------------------------------------------- from rows to couplings

SPECS = Path(__file__).parents[2] / "specs"


def rows_at(ctaus: list[float], mass: float, **cells: object) -> list[Row]:
    """Rows of one mass, with the same limits at all lifetimes."""
    return [
        {"point": "p", "m_S_gev": mass, CTAU: ctau, "channel": "all", "method": "cls", "confidence_level": 0.95,
         "status": "ok", "data": "asimov", **cells}
        for ctau in ctaus
    ]  # fmt: skip


def test_couplings_of_a_combination_do_not_depend_on_the_order(tmp_path: Path) -> None:
    """Catches a search that is asked although its decay is closed: S -> K K at 0.25 GeV, or S -> pi pi at 2.5 GeV."""
    for part in ("belle2", "experiments"):
        shutil.copytree(SPECS / part, tmp_path / "specs" / part)
    path = tmp_path / "specs" / "belle2" / "b_to_kaon_scalar_combined.yaml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith("  kaon_ee"))
    back = path.with_name("back.yaml")
    back.write_text(
        "".join([*lines[:first], *reversed(lines[first : first + 8]), *lines[first + 8 :]]), encoding="utf-8"
    )
    one, two = load_combination(path), load_combination(back)
    ctaus = list(next(iter(one.searches.values())).spec.signal.lifetime.values)  # type: ignore[union-attr]
    for mass, taking_part in ((0.25, "kaon_ee kaon_mumu"), (2.5, "kaon_mumu kaon_ee")):
        rows = rows_at(ctaus, mass, sin_theta_observed=1e-4, sin_theta_expected=1e-4)
        ends = []
        for loaded in (one, two):
            order = [name for name in loaded.searches if name in taking_part.split()]
            *_, own = with_couplings(loaded, [{**row, "searches": " ".join(order)} for row in rows])
            ends.append((own["sin_theta_observed"], own.get("sin_theta_observed_upper_edge")))
        assert ends[0] == pytest.approx(ends[1], rel=1e-9)


def test_a_mixing_is_at_most_one() -> None:
    """Hand-made, and a scalar that only decays to electrons, which flies so far that angles of 0.1 to 60 would be excluded.

    Catches an upper edge that says that sin(theta) = 70 is allowed, and an interval beyond 1 that counts as an exclusion.
    """
    found = Excluded(intervals=((0.1, 0.5), (0.8, 2.0), (3.0, 4.0)))
    assert found.up_to(1.0).intervals == ((0.1, 0.5), (0.8, math.inf))
    assert found.up_to(math.inf) == found
    search = load_search(SPECS / "belle2" / "b_to_kaon_scalar_ee.yaml")
    lifetime = search.spec.signal.lifetime
    assert lifetime is not None
    for level, excluded_from in ((1e-3, 0.05), (1.0, None)):
        rows = rows_at(list(lifetime.values), 0.05, branching_fraction_observed=level)
        *_, own = with_couplings(search, [{**row, "channel": "kaon"} for row in rows])
        assert f"sin_theta_observed_{UPPER_EDGE}" not in own
        if excluded_from is None:
            assert own.get("sin_theta_observed") is None
            assert "no value of sin_theta is excluded: observed" in own["warnings"]
        else:
            assert excluded_from < own["sin_theta_observed"] < 1.0


def test_what_lies_between_the_edges_is_excluded() -> None:
    """The widest region where there are several. Catches edges of two regions, with allowed couplings between them."""
    search = load_search(SPECS / "belle2" / "b_to_kaon_scalar_mumu.yaml")
    ctaus = list(search.spec.signal.lifetime.values)  # type: ignore[union-attr]
    rows = rows_at(ctaus, 0.5, branching_fraction_observed=1e-9)
    rows[12] = {**rows[12], "status": "few-simulated-events", "branching_fraction_observed": None}
    *_, own = with_couplings(search, rows)
    lower, upper = (float(own[f"sin_theta_observed{end}"]) for end in ("", "_upper_edge"))  # type: ignore[arg-type]
    ends = [MODELS["dark-scalar"].lifetime((0.5,), value, {}) for value in (lower, upper)]  # type: ignore[misc]
    assert ends == pytest.approx([ctaus[11], ctaus[0]], rel=1e-6)
    assert "the widest of what is excluded" in str(own["warnings"])


def test_a_change_at_one_lifetime_is_a_change() -> None:
    """Catches rows of one mass that stand for each other."""
    before = rows_at([0.1, 1.0, 10.0], 0.5, branching_fraction_observed=1e-7)
    after = [{**row, "branching_fraction_observed": 5e-7} if row[CTAU] == 0.1 else row for row in before]
    assert len(list(table_changes(before, after))) == 1
    assert list(table_changes(before, before)) == []


def test_a_plane_of_one_mass_can_be_drawn() -> None:
    """Catches a figure that needs two masses in some stretch of the grid."""
    search = load_search(SPECS / "belle2" / "b_to_kaon_scalar_mumu.yaml")
    ctaus = list(search.spec.signal.lifetime.values)  # type: ignore[union-attr]
    rows = rows_at(ctaus, 0.5, branching_fraction_observed=1e-7, branching_fraction_expected=2e-7)
    curves = curves_of(search, rows, "branching_fraction", "cls")
    assert plane_figure(search, curves, "B", "cls").axes
