"""Grids of two masses: points by hand, conditions between variables, tables of two masses, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from modelbuilder.errors import SpecError
from modelbuilder.spec.conditions import Condition
from modelbuilder.spec.functions import PositiveEnergyOfMass
from modelbuilder.spec.grid import GridError, expand_grid, spread
from modelbuilder.spec.load import load_search
from modelbuilder.spec.plane import PlaneChannel
from modelbuilder.spec.search import GridAxis
from modelbuilder.spec.triangles import Triangles

SPEC = Path(__file__).parents[2] / "specs" / "belle2" / "dark_higgsstrahlung_2019.yaml"
STATED = SPEC.parents[1] / "belle" / "dark_higgsstrahlung.yaml"


def axis(*segments: dict[str, Any], gaps: tuple[tuple[str, str], ...] = ()) -> GridAxis:
    sourced = [{**segment, "source": "assumption"} for segment in segments]
    vetoed = [{"low": low, "high": high, "source": "assumption"} for low, high in gaps]
    return TypeAdapter(GridAxis).validate_python({"segments": sourced, "gaps": vetoed})


def channel(**changes: Any) -> PlaneChannel:
    form = {
        "plane": {"m_Ap": "mass(mu+ mu-)", "m_hp": "recoil(mu+ mu-)"},
        "resolution": {"m_Ap": "100 MeV", "m_hp": {"polynomial": [100, 100], "of": "m_Ap", "unit": "MeV",
                                                   "source": "assumption"}},
        "window": {"ellipse": "2 resolution"},
        "source": "assumption",
        **changes,
    }  # fmt: skip
    return PlaneChannel.model_validate(form)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("m_hp < m_Ap", [(2.0, 1.0)], [(1.0, 1.0), (1.0, 2.0)]),
        ("m_Ap + m_hp < 10.5 GeV", [(5.0, 5.0)], [(5.0, 5.5), (9.0, 2.0)]),
        ("2 m_Ap < m_hp", [(1.0, 2.5)], [(1.0, 2.0), (2.0, 1.0)]),
        ("m_Ap + 500 MeV <= m_hp + 1e-1 GeV", [(1.0, 1.5)], [(1.0, 1.3)]),
        ("m_hp < m_Ap and m_Ap + m_hp < 10 GeV", [(6.0, 3.0)], [(3.0, 6.0), (6.0, 5.0)]),
        ("1 GeV < m_hp < 0.5 m_Ap", [(4.0, 1.5)], [(4.0, 2.5), (4.0, 0.5)]),
    ],
)
def test_conditions_between_masses(
    text: str, inside: list[tuple[float, float]], outside: list[tuple[float, float]]
) -> None:
    """By hand: catches a sum that loses a term, a factor, or the side it stands on."""
    condition = Condition.parse(text)
    assert condition.variables == {"m_Ap", "m_hp"}
    found = [condition.holds({"m_Ap": one, "m_hp": two}) for one, two in inside + outside]
    assert found == [True] * len(inside) + [False] * len(outside)


def test_points_of_a_plane() -> None:
    """By hand: the order, the names, steps in energy, a gap, and the part that is kept."""
    grid = {
        "m_Ap": axis({"values": ["1 GeV", "2 GeV", "4 GeV"]}),
        "m_hp": axis({"from": "0.5 GeV", "to": "9 GeV", "step": "1 GeV"}, gaps=(("1 GeV", "2 GeV"),)),
    }
    points = expand_grid(grid, {"plane": channel()}, Condition.parse("m_hp < m_Ap and m_Ap + m_hp < 7 GeV"))
    assert [point.masses for point in points] == [(1.0, 0.5), (2.0, 0.5), (4.0, 0.5), (4.0, 2.5)]
    assert [point.index for point in points] == [0, 1, 2, 3]
    assert points[3].name == "m_Ap_4p0000_m_hp_2p5000"
    assert points[3].values == {"m_Ap": 4.0, "m_hp": 2.5}
    with pytest.raises(ValueError, match="too many values"):
        _ = points[0].mass  # a grid of two masses has no one mass


def test_steps_follow_the_resolution_of_both_masses() -> None:
    """By hand: the resolution of the second mass is 100 MeV (1 + m_Ap), that of the first 100 MeV."""
    steps = {"from": "1 GeV", "to": "2 GeV", "step": "5 resolution"}
    points = expand_grid({"m_Ap": axis(steps), "m_hp": axis(steps)}, {"plane": channel()})
    assert [point.masses for point in points] == [(1.0, 1.0), (1.0, 2.0), (1.5, 1.0), (2.0, 1.0)]


def test_a_condition_stops_the_steps() -> None:
    """Catches a resolution that is asked for beyond the part of the plane that is wanted."""
    table = {"table": {"m_Ap": ["1 GeV", "2 GeV"], "value": ["100 MeV", "100 MeV"]}, "source": "assumption"}
    short = {"table": {"m_hp": ["0.1 GeV", "3 GeV"], "value": ["100 MeV", "100 MeV"]}, "source": "assumption"}
    grid = {
        "m_Ap": axis({"values": ["1 GeV", "2 GeV"]}),
        "m_hp": axis({"from": "0.5 GeV", "to": "9 GeV", "step": "10 resolution"}),
    }
    one = {"plane": channel(resolution={"m_Ap": table, "m_hp": short})}
    points = expand_grid(grid, one, Condition.parse("m_hp < m_Ap"))
    assert [point.masses for point in points] == [(1.0, 0.5), (2.0, 0.5), (2.0, 1.5)]
    with pytest.raises(GridError, match=r"m_hp = 3\.5 GeV lies outside of the table"):
        expand_grid(grid, one)
    with pytest.raises(GridError, match="leaves no grid points"):
        expand_grid(grid, {"plane": channel()}, Condition.parse("m_hp < 0.4 GeV"))


def test_some_points_spread_over_the_plane() -> None:
    """Catches points that all lie in one row or corner: each half along each axis has its share."""
    steps = {"from": "1 GeV", "to": "3 GeV", "step": "0.1 GeV"}
    points = expand_grid({"m_Ap": axis(steps), "m_hp": axis(steps)}, {"plane": channel()})
    some = spread(points, 40)
    assert len(some) == len({point.name for point in some}) == 40
    assert [point.index for point in some] == sorted(point.index for point in some)
    masses = np.array([point.masses for point in some])
    for half in ((masses < 2.0).mean(axis=0), (masses > 2.0).mean(axis=0)):
        assert (np.abs(half - 0.45) < 0.12).all()
    corners = {(1.0, 1.0), (1.0, 3.0), (3.0, 1.0), (3.0, 3.0)}
    assert corners <= {point.masses for point in some}
    assert spread(points, None) == points


def test_triangles_are_linear() -> None:
    """Invariant: a plane is interpolated exactly, and beyond the edge the value is that of its closest point."""
    rng = np.random.default_rng(1)
    points = np.concatenate([[[0.0, 0.0], [4.0, 0.0], [0.0, 8.0], [4.0, 8.0]], rng.uniform([0, 0], [4, 8], (50, 2))])
    values = 3.0 + 2.0 * points[:, 0] - points[:, 1]
    where = rng.uniform([0, 0], [4, 8], (200, 2))
    found = Triangles(points).at(where)
    assert found.of(values) == pytest.approx(3.0 + 2.0 * where[:, 0] - where[:, 1], abs=1e-12)
    assert (found.outside == 0.0).all()
    beyond = Triangles(points).at(np.array([[5.0, 2.0], [-1.0, 9.0]]))
    assert beyond.of(values) == pytest.approx([3.0 + 8.0 - 2.0, 3.0 - 8.0])
    assert beyond.outside == pytest.approx([0.25, math.hypot(0.25, 0.125)])
    with pytest.raises(ValueError, match="on one line"):
        Triangles(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))


def table(**changes: Any) -> Any:
    form = {
        "table": {
            "m_Ap": ["1 GeV", "3 GeV", "1 GeV", "3 GeV"],
            "m_hp": ["0 GeV", "0 GeV", "2 GeV", "2 GeV"],
            "value": ["10 MeV", "30 MeV", "20 MeV", "40 MeV"],
        },
        **changes,
    }
    return TypeAdapter(PositiveEnergyOfMass).validate_python(form)


def test_tables_of_two_masses() -> None:
    """By hand: linear in both masses; in the logarithm if asked for; refused or the nearest value outside."""
    assert table().at({"m_Ap": 2.0, "m_hp": 1.0}) == pytest.approx(0.025)
    assert table(interpolation="logarithmic").at({"m_Ap": 1.0, "m_hp": 1.0}) == pytest.approx(math.sqrt(2e-4))
    with pytest.raises(ValueError, match="m_Ap = 4 GeV, m_hp = 1 GeV lies outside of the table; add points"):
        table().at({"m_Ap": 4.0, "m_hp": 1.0})
    assert table(outside="nearest").at({"m_Ap": 4.0, "m_hp": 1.0}) == pytest.approx(0.035)
    assert table().variables == {"m_Ap", "m_hp"}
    with pytest.raises(ValidationError, match="found step; between pairs of masses it is linear or logarithmic"):
        table(interpolation="step")
    twice = {"m_Ap": ["1 GeV", "1 GeV", "2 GeV"], "m_hp": ["1 GeV", "1 GeV", "2 GeV"], "value": ["1 MeV"] * 3}
    with pytest.raises(ValidationError, match="found 1 GeV and 1 GeV twice"):
        table(table=twice)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plane": {"m_Ap": "mass(mu+ mu-)", "m_hp": "theta(mu+)"}}, "a plane is made of masses: mass, mass2, recoil"),
        ({"plane": {"m_Ap": "mass(mu+ mu-)"}}, "at least 2"),
        ({"resolution": {"m_x": "1 MeV"}}, "found 'm_x'; the plane has m_Ap and m_hp"),
        ({"window": "2 resolution"}, "EllipseWindow"),
    ],
)
def test_channels_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        channel(**changes)


@pytest.mark.parametrize(
    ("spec", "override", "message"),
    [
        (SPEC, "signal.nodes=null", "signal: missing: nodes; say at which pairs of masses the signal is simulated"),
        (SPEC, "signal.events=null", "signal.nodes: .*|signal.events: missing; say how many events"),
        (SPEC, "channels.plane.correlation=0.5", "the signal is simulated, so the correlation is measured; remove the key"),
        (SPEC, "signal.nodes.where=m_hp < 4 GeV and m_Ap + m_hp <= 10.5 GeV", "grid points lie outside of the nodes"),
        (SPEC, "grid_where=m_hp < m_X", "grid_where: found the variable 'm_X'"),
        (SPEC, "backgrounds.tau_tau.rate=free", "found free, but one number cannot tell a background from a signal"),
        (SPEC, "statistics.band_toys=1000", "acts on nothing: expected limits of counts are exact, without toys"),
        (
            SPEC,
            "channels.plane.plane={m_hp: recoil2(mu+ mu-), m_Ap: mass(mu+ mu-)}",
            "found m_hp and m_Ap; the grid has m_Ap and m_hp, in this order",
        ),
        (
            SPEC,
            "channels.plane={observable: mass(mu+ mu-), range: [1 GeV, 9 GeV], bins: 10, source: assumption}",
            "found one observable, but the grid has two masses; write `plane: {m_Ap: ..., m_hp: ...}`",
        ),
        (SPEC, "systematics.x={kind: shape, vary: tracks.efficiency, size: 1 %, on: [signal], source: assumption}",
         "found shape; a window in a plane is one number"),
        (SPEC, "selection[0].where=m_Ap < 4 GeV", "a cut in a plane holds at all masses"),
        (STATED, "channels.pairs.correlation=null", "missing: correlation; no signal is simulated"),
        (STATED, "channels.pairs.resolution.m_hp=null", "missing: m_hp; "),
        (STATED, "backgrounds.combinatorial.expected.pairs={events: [0.1], per: 10 MeV, luminosity: 977 fb^-1, source: assumption}", "in a plane write `per: window`"),
        (STATED, "grid.m_hp.segments[0].to=11 GeV", "10.4|collision energy|sum"),
    ],
)  # fmt: skip
def test_searches_that_are_refused(spec: Path, override: str, message: str) -> None:
    """Catches what would be ignored, or found out only after the simulation."""
    changes = [override]
    if "m_hp.segments" in override:
        changes.append("grid_where=2 m_Ap < m_hp")
    with pytest.raises(SpecError, match=message):
        load_search(spec, overrides=changes)


@pytest.mark.parametrize("spec", [SPEC, STATED, STATED.parents[1] / "babar" / "darkonium.yaml"])
def test_our_searches_have_two_masses(spec: Path) -> None:
    """Every point lies in the kept part, has a name of its own, and the digest knows the condition."""
    search = load_search(spec)
    where = search.spec.grid_where
    assert where is not None
    assert all(where.holds(point.values) for point in search.points)
    assert len({point.name for point in search.points}) == len(search.points)
