"""From a limit on the signal strength to the cells of a row."""

from __future__ import annotations

import math

import pytest

from modelbuilder.scan.limited import Limited, cells_of, proportional
from modelbuilder.scan.table import MU, Quantity, columns, quantity_of, tail_of_search
from modelbuilder.spec.rates import RATES
from modelbuilder.theory.model import Model

BAND = (1.0, 2.0, 3.0, 4.0, 5.0)
G = Quantity("g", "", "a coupling", reopens=True)


def limited(model: Model) -> Limited:
    """A coupling where a signal strength of 1 is a cross section of 1 fb."""
    return Limited(quantity=G, excluded=lambda mu: model.excluded(10.0, (1.0,), mu, {}))


FLYING = Model(
    coupling="g",
    unit="",
    symbol="g",
    law="",
    power=None,
    rate=lambda sqrt_s, masses, coupling, parameters: 20.0 * coupling**2 * math.exp(-(coupling**2)),
)
"""At most 20/e = 7.36 fb, at g = 1: smaller couplings make too few, larger ones are seen no more."""


def test_what_is_proportional() -> None:
    """By hand: catches a factor that is lost, and bands in another order."""
    cells, warnings = cells_of(
        [proportional(MU, 1.0), proportional(quantity_of(RATES["cross section"]), 0.5)], 2.5, BAND
    )
    assert warnings == []
    assert cells == {
        "mu_observed": 2.5,
        **dict(zip(("mu_expected_m2", "mu_expected_m1", "mu_expected", "mu_expected_p1", "mu_expected_p2"), BAND, strict=True)),
        "cross_section_fb_observed": 1.25,
        "cross_section_fb_expected_m2": 0.5,
        "cross_section_fb_expected_m1": 1.0,
        "cross_section_fb_expected": 1.5,
        "cross_section_fb_expected_p1": 2.0,
        "cross_section_fb_expected_p2": 2.5,
    }  # fmt: skip
    assert cells_of([proportional(MU, 1.0)], 2.5, ()) == ({"mu_observed": 2.5}, [])


def test_a_closed_interval_has_both_edges() -> None:
    """By hand: catches edges that are swapped or belong to another band: both are roots of 20 x exp(-x) = limit, x = g^2."""
    cells, warnings = cells_of([limited(FLYING)], 2.5, BAND)
    assert warnings == []
    for name, limit in (("observed", 2.5), ("expected", 3.0)):
        low, high = cells[f"g_{name}"], cells[f"g_{name}_upper_edge"]
        assert isinstance(low, float)
        assert isinstance(high, float)
        assert low < 1.0 < high
        for edge in (low, high):
            assert 20.0 * edge**2 * math.exp(-(edge**2)) == pytest.approx(limit, rel=1e-9)
    assert set(cells) <= {column["name"] for column in columns("m_a", [G], tail_of_search(RATES["cross section"]))}
    assert [name for name in cells if name.endswith("upper_edge")] == ["g_observed_upper_edge", "g_expected_upper_edge"]


def test_where_nothing_is_excluded_the_cell_is_empty() -> None:
    """Catches an infinite number in a table, and a cell that is empty without a word."""
    cells, warnings = cells_of([limited(FLYING)], 8.0, (3.0, 4.0, 5.0, 9.0, 10.0))
    assert set(cells) == {"g_expected_m2", "g_expected_m1", "g_expected", "g_expected_upper_edge"}
    assert warnings == ["no value of g is excluded: observed, expected_p1, expected_p2"]
    closed = Model(coupling="g", unit="", symbol="g", law="", power=2, rate=lambda *_: 0.0)
    cells, warnings = cells_of([proportional(MU, 1.0), limited(closed)], 1.0, ())
    assert cells == {"mu_observed": 1.0}
    assert warnings == ["no value of g is excluded: observed"]


def test_a_limit_of_zero_excludes_everything() -> None:
    """Catches a division by zero, or an empty cell, where the data fluctuate down so far that the limit is 0."""
    cells, warnings = cells_of([proportional(MU, 1.0), limited(FLYING)], 0.0, BAND)
    assert (cells["mu_observed"], cells["g_observed"], warnings) == (0.0, 0.0, [])
    assert "g_observed_upper_edge" not in cells
