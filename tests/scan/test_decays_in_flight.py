"""Branching fractions of B that are made in known number, and lifetimes from the spec to both edges of a coupling."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from modelbuilder.scan.lifetimes import with_couplings
from modelbuilder.scan.point import limit_rows
from modelbuilder.scan.points import columns_of, points_of
from modelbuilder.scan.table import CTAU, Row
from modelbuilder.spec.load import LoadedSearch, load_search

SPEC = Path(__file__).parents[2] / "specs" / "belle2" / "b_to_kaon_scalar_mumu.yaml"
FAST = ("signal.events=20000", "grid.m_S.segments.0.from='0.5 GeV'", "grid.m_S.segments.0.to='0.6 GeV'")


def search(*changes: str) -> LoadedSearch:
    return load_search(SPEC, overrides=(*FAST, *changes))


def rows_of(loaded: LoadedSearch, *, own: bool = False) -> list[Row]:
    """The rows of the first mass. own: with a fit at each lifetime."""
    points = points_of(loaded)
    chosen = [point for point in loaded.points if point.mass == loaded.points[0].mass]
    assert len(chosen) == (len(loaded.spec.signal.lifetime.values) if own else 1)  # type: ignore[union-attr]
    shared = points.shared(chosen)
    return with_couplings(
        loaded, [row for point in chosen for row in limit_rows(loaded.spec, points.made(point, shared))]
    )


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return rows_of(search())


def at(rows: list[Row], ctau: float | None) -> Row:
    (found,) = (row for row in rows if row.get(CTAU) == ctau)
    return found


def number(row: Row, name: str) -> float:
    return float(row[name])  # type: ignore[arg-type]


def test_a_branching_fraction_is_events_over_produced_and_found(rows: list[Row]) -> None:
    """By hand: B = N / (2.02e8 efficiency). Catches a luminosity in place of the number of B, or a factor 2 for charges."""
    for row in rows:
        if row["status"] == "ok" and row.get(CTAU) is not None:
            events = number(row, "yield_events_observed")
            expected = events / (2.02e8 * number(row, "signal_efficiency"))
            assert number(row, "branching_fraction_observed") == pytest.approx(expected, rel=1e-9)
            reference = number(row, "reference_branching_fraction") * number(row, "mu_observed")
            assert number(row, "branching_fraction_observed") == pytest.approx(reference, rel=1e-12)
    assert "cross_section_fb_observed" not in [column["name"] for column in columns_of(search())]


def test_the_number_of_b_is_uncertain_and_the_luminosity_does_not_matter() -> None:
    """The workspace: 1.5 % on the signal, and no parameter of the luminosity. Catches one in place of the other."""
    loaded = search("systematics.lumi={kind: luminosity}", "signal.events=2000")
    points = points_of(loaded)
    made = points.made(loaded.points[0], points.shared([loaded.points[0]]))
    (signal,) = (s for s in made.workspace["channels"][0]["samples"] if s["name"] == "signal")
    found = {modifier["name"]: modifier for modifier in signal["modifiers"]}
    assert found["n_bb"]["data"]["hi"] == pytest.approx(1.015)
    assert "lumi" not in found


def test_known_branching_fractions_are_part_of_what_is_found() -> None:
    """By hand. Catches a fraction that is applied twice, or to the limit with the wrong sign of the power."""
    known = "signal.branching_fractions={'S -> mu+ mu-': {value: 25 %, source: assumption}}"
    one, two = (rows_of(search(*changes, "signal.events=2000")) for changes in ((), (known,)))
    for a, b in zip(one, two, strict=True):
        if a["status"] == "ok" and a.get(CTAU) is not None:
            assert number(b, "signal_efficiency") == pytest.approx(0.25 * number(a, "signal_efficiency"))
            assert number(b, "branching_fraction_observed") == pytest.approx(
                4.0 * number(a, "branching_fraction_observed"), rel=1e-4
            )


def test_one_sample_by_weights_is_a_sample_at_each_lifetime(rows: list[Row]) -> None:
    """Second method: simulate and fit each lifetime by itself. Catches weights of the wrong particle or in wrong units.

    Three standard deviations of both simulations; and limits in the same ratio, since the shape is the same.
    """
    values = "['0.05 cm', '1 cm', '25 cm']"
    alone = search(f"signal.lifetime.values={values}", "signal.lifetime.shape_at=null")
    for row in rows_of(alone, own=True):
        if row.get(CTAU) is None:
            continue
        shared = at(rows, number(row, CTAU))
        one, two = (number(r, "signal_efficiency") / 0.7 for r in (row, shared))  # of the simulation alone
        error = math.sqrt(one * (1.0 - one) / 20000 + (number(shared, "signal_efficiency_stdev") / 0.7) ** 2)
        assert abs(one - two) < 3.0 * error + 0.01 * one
        product = [number(r, "branching_fraction_expected") * number(r, "signal_efficiency") for r in (row, shared)]
        assert product[0] == pytest.approx(product[1], rel=0.03)


def test_limits_are_best_where_the_particle_decays_in_the_tracker(rows: list[Row]) -> None:
    """At 0.5 GeV beta gamma is 5: 1 mm to 1 cm is best; shorter ones fail the displacement, longer ones leave."""
    limits = {number(row, CTAU): number(row, "branching_fraction_expected") for row in rows
              if row["status"] == "ok" and row.get(CTAU) is not None}  # fmt: skip
    best = min(limits, key=lambda ctau: limits[ctau])
    assert 0.05 <= best <= 2.5
    long = [limits[ctau] for ctau in (5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 400.0)]
    assert long == sorted(long)
    # far beyond the detector half of the decays are lost for twice the lifetime
    assert limits[400.0] / limits[200.0] == pytest.approx(2.0, rel=0.1)


def test_edges_move_with_the_detector() -> None:
    """A smaller detector needs a larger coupling; a larger least displacement ends the exclusion at a smaller one.

    Catches a volume that does not reach the coupling, and an edge that is taken from the wrong branch. Few B, so that the
    edges lie where enough of the simulation is left.
    """
    few = "signal.produced.number=6e+7"
    own = at(rows_of(search(few)), None)
    lower, upper = number(own, "sin_theta_expected"), number(own, "sin_theta_expected_upper_edge")
    assert lower < upper
    small = at(rows_of(search(few, "final_state.vertices.S.rho=['0.05 cm', '0.7 cm']")), None)
    assert number(small, "sin_theta_expected") > 1.1 * lower
    assert number(small, "sin_theta_expected_upper_edge") == pytest.approx(upper, rel=0.05)
    far = at(rows_of(search(few, "final_state.vertices.S.rho=['0.2 cm', '60 cm']")), None)
    assert lower < number(far, "sin_theta_expected_upper_edge") < 0.8 * upper


def test_displacement_and_lifetime_scale_together(rows: list[Row]) -> None:
    """Invariant: decays beyond r at c tau are those beyond 4 r at 4 c tau, while none leave the detector.

    Catches a displacement in other units, or measured along another direction. The vertex is known to 0.01 cm, which makes
    a few per cent of difference.
    """
    far = rows_of(search("final_state.vertices.S.rho=['0.2 cm', '60 cm']"))
    for short, long in ((0.025, 0.1), (0.25, 1.0)):
        one, two = number(at(rows, short), "signal_efficiency"), number(at(far, long), "signal_efficiency")
        assert one == pytest.approx(two, rel=0.05)


def test_columns_of_lifetimes(rows: list[Row]) -> None:
    """Every cell has a column, with the lifetime among those of the grid; couplings have an upper edge."""
    names = [column["name"] for column in columns_of(search())]
    assert {key for row in rows for key in row} <= set(names)
    assert names.index(CTAU) == names.index("m_S_gev") + 1
    assert "sin_theta_expected_upper_edge" in names
