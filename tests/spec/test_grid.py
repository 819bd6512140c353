"""Grid points against points by hand, their names, and what no grid may do."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from modelbuilder.spec.grid import DECIMALS, GridError, GridPoint, channel_of, expand_grid, point_name, spread
from modelbuilder.spec.load import LoadedSearch, load_search
from modelbuilder.spec.search import Channel, GridAxis

PYHF_NAME = re.compile(r"^[a-zA-Z0-9_]+$")  # of pyhf's schema of patchsets


def channel(resolution: object = "100 MeV", where: str | None = None) -> Channel:
    form = {"observable": "recoil2(gamma)", "resolution": resolution, "window": "20 resolution",
            "bin_width": "0.5 resolution", "source": "assumption", **({"where": where} if where else {})}  # fmt: skip
    return Channel.model_validate(form)


def axis(*segments: Mapping[str, Any], gaps: tuple[tuple[str, str], ...] = ()) -> GridAxis:
    sourced = [{**segment, "source": "assumption"} for segment in segments]
    vetoed = [{"low": low, "high": high, "source": "assumption"} for low, high in gaps]
    return TypeAdapter(GridAxis).validate_python({"segments": sourced, "gaps": vetoed})


def masses(grid: GridAxis, **channels: Channel) -> list[float]:
    return [point.mass for point in expand_grid({"m_a": grid}, channels or {"all": channel()})]


def steps(first: str, last: str, step: str) -> dict[str, str]:
    return {"from": first, "to": last, "step": step}


def test_steps_in_energy() -> None:
    """Reference (by hand): catches a grid that drops its end, steps over it, or adds up rounding errors."""
    assert masses(axis(steps("0.2 GeV", "1 GeV", "200 MeV"))) == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert masses(axis(steps("0.2 GeV", "0.99 GeV", "200 MeV"))) == [0.2, 0.4, 0.6, 0.8]
    assert len(masses(axis(steps("0.1 GeV", "10 GeV", "0.1 MeV")))) == 99_001


def test_logarithmic_steps() -> None:
    """Reference (by hand): catches ratios that are not equal, and an end that is missing."""
    segment = {"from": "0.1 GeV", "to": "10 GeV", "points": 5}
    assert masses(axis(segment)) == [0.1, 0.3162, 1.0, 3.1623, 10.0]


def test_listed_points() -> None:
    """Catches points that are not sorted, and a single one that is called empty."""
    assert masses(axis({"values": ["3 GeV", "500 MeV", "1.23456 GeV"]})) == [0.5, 1.2346, 3.0]
    assert masses(axis({"values": ["3 GeV"]})) == [3.0]


def test_steps_in_resolutions_follow_the_resolution() -> None:
    """Reference (by hand, sigma = 0.1 m): catches a step that is evaluated at the wrong mass."""
    growing = channel({"polynomial": [0, 0.1], "of": "m_a", "unit": "GeV"})
    expected = [1.05**k for k in range(15)]  # m + 0.5 * 0.1 m
    assert masses(axis(steps("1 GeV", "2 GeV", "0.5 resolution")), all=growing) == [round(m, 4) for m in expected]


def test_steps_in_resolutions_across_the_channel_switch() -> None:
    """Reference (by hand): catches the resolution of the wrong channel at the switch."""
    narrow, wide = channel("100 MeV", "m_a < 2 GeV"), channel("400 MeV", "m_a >= 2 GeV")
    found = masses(axis(steps("1.8 GeV", "2.7 GeV", "0.5 resolution")), narrow=narrow, wide=wide)
    assert found == [1.8, 1.85, 1.9, 1.95, 2.0, 2.2, 2.4, 2.6]


@pytest.fixture(scope="module")
def search() -> LoadedSearch:
    from pathlib import Path

    return load_search(Path(__file__).parents[2] / "specs/belle2/alp_gammagamma_2018.yaml")


def test_grid_of_our_search(search: LoadedSearch) -> None:
    """Invariant: catches a step of the published grid that is not half a resolution, at the switch above all."""
    channels, points = search.spec.channels, search.points
    assert points[0].mass == 0.2
    assert 9.65 < points[-1].mass <= 9.7
    for here, following in itertools.pairwise(points):
        step = 0.5 * channels[here.channel].resolution.at(here.values)
        assert following.mass - here.mass == pytest.approx(step, abs=1.1e-4)  # both ends are rounded
    switch = [point.mass for point in points if point.channel == "recoil"]
    assert min(switch) >= 6.85 > max(point.mass for point in points if point.channel == "diphoton")


def test_names_are_those_of_pyhf(search: LoadedSearch) -> None:
    """Catches names that pyhf refuses in a patchset, and two points of one name."""
    names = [point.name for point in search.points]
    assert all(PYHF_NAME.match(name) for name in names)
    assert len(set(names)) == len(names)
    assert names[0] == point_name({"m_a": 0.2}) == "m_a_0p2000"
    assert [point.index for point in search.points] == list(range(len(names)))


def test_gaps_stay_gaps() -> None:
    """Catches a point within a vetoed range, and one that is lost at its edge."""
    found = masses(axis(steps("1 GeV", "2 GeV", "0.1 GeV"), gaps=(("1.2 GeV", "1.5 GeV"), ("1.75 GeV", "1.76 GeV"))))
    assert found == [1.0, 1.1, 1.2, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0]


def test_segments_may_touch() -> None:
    """Catches a shared end that appears twice."""
    grid = axis(steps("1 GeV", "2 GeV", "0.5 GeV"), steps("2 GeV", "3 GeV", "1 GeV"))
    assert masses(grid) == [1.0, 1.5, 2.0, 3.0]


SEGMENT = ("grid", "m_a", "segments", 0)


@pytest.mark.parametrize(
    ("grid", "at", "reason"),
    [
        (axis(steps("2 GeV", "1 GeV", "0.1 GeV")), SEGMENT, "which is empty"),
        (axis(steps("1 GeV", "1 GeV", "0.1 GeV")), SEGMENT, "which is empty"),
        (axis(steps("1 GeV", "9 GeV", "1e-320 GeV")), SEGMENT, "more than 100000 points"),
        (axis(steps("1 GeV", "9 GeV", "1e-9 resolution")), SEGMENT, "more than 100000 points"),
        (axis(steps("1 GeV", "1.1 GeV", "0.02 MeV")), SEGMENT, "masses are rounded to 0.1 MeV, and must differ"),
        (axis({"values": ["1 eV"]}), SEGMENT, "below 0.1 MeV"),
        (axis({"values": ["1 GeV"]}, {"values": ["0.5 GeV"]}), ("grid", "m_a", "segments", 1), "must not overlap"),
        (axis({"values": ["1 GeV"]}, gaps=(("0 GeV", "2 GeV"),)), ("grid", "m_a", "gaps"), "leave no grid points"),
        (axis({"values": ["1 GeV"]}, gaps=(("2 GeV", "2 GeV"),)), ("grid", "m_a", "gaps", 0), "must be above `low`"),
    ],
)
def test_impossible_grids(grid: GridAxis, at: tuple[str | int, ...], reason: str) -> None:
    """Catches a grid without points, with too many, or with two that are the same once rounded."""
    with pytest.raises(GridError, match=re.escape(reason)) as caught:
        masses(grid)
    assert caught.value.at == at


def test_every_point_has_one_channel() -> None:
    """Catches a point that two channels claim, or none, and the blame on the wrong part of the spec."""
    low, high = channel(where="m_a < 2 GeV"), channel(where="m_a > 2 GeV")
    assert channel_of({"low": low, "high": high}, {"m_a": 3.0}) == "high"
    with pytest.raises(GridError, match=r"^found no channel at m_a = 2 GeV") as caught:
        channel_of({"low": low, "high": high}, {"m_a": 2.0})
    assert caught.value.at == ("channels",)
    with pytest.raises(GridError, match=r"^found the channels low and all at m_a = 1 GeV") as caught:
        channel_of({"low": low, "all": channel()}, {"m_a": 1.0})
    assert caught.value.at == ("channels", "all", "where")


def test_resolution_that_ends_before_the_grid_does() -> None:
    """Catches a table of the resolution that is too short being blamed on the grid."""
    short = channel({"table": {"m_a": ["1 GeV", "2 GeV"], "value": ["0.1 GeV", "0.1 GeV"]}})
    with pytest.raises(GridError, match=r"lies outside of the table") as caught:
        masses(axis(steps("1 GeV", "3 GeV", "1 resolution")), short=short)
    assert caught.value.at == ("channels", "short", "resolution")


NUMBERS = st.integers(1, 90_000).map(lambda n: n / 10_000)


@given(first=NUMBERS, width=NUMBERS, step=st.floats(0.01, 2.0), unit=st.sampled_from(["GeV", "resolution"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_grid_rises_within_its_ends(first: float, width: float, step: float, unit: str) -> None:
    """Invariant: catches a point outside of its segment, a repeated name, and a point that is not rounded."""
    last = round(first + width, DECIMALS)
    points = expand_grid({"m_a": axis(steps(f"{first} GeV", f"{last} GeV", f"{step!r} {unit}"))}, {"all": channel()})
    found = [point.mass for point in points]
    assert found[0] == first
    assert found[-1] <= last
    assert last - found[-1] < step + 2e-4
    assert found == sorted(set(found))
    assert all(mass == round(mass, DECIMALS) for mass in found)
    assert len({point.name for point in points}) == len(points)


@given(total=st.integers(1, 500), number=st.integers(2, 600))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_spread_keeps_both_ends(total: int, number: int) -> None:
    """Invariant: catches a short run that loses an end of the grid, a point twice, or has another number of points."""
    points = tuple(GridPoint(i, point_name({"m_a": i + 1.0}), (("m_a", i + 1.0),), "all") for i in range(total))
    kept = spread(points, number)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert len(kept) == min(number, total)
    gaps = [b.index - a.index for a, b in itertools.pairwise(kept)]
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert gaps == [] or max(gaps) <= math.ceil((total - 1) / (len(kept) - 1))


def test_spread_of_all(search: LoadedSearch) -> None:
    """Catches a full run that leaves something out."""
    assert spread(search.points, None) == search.points
    assert spread(search.points, 1) == search.points[:1]


def test_steps_in_resolutions_of_the_square() -> None:
    """By hand: d(m^2) = 2 m dm far from zero; at zero, where that has no end, the root of the resolution."""
    form = {"observable": "recoil2(gamma)", "resolution2": "1 GeV^2", "window": "20 resolution",
            "bin_width": "0.5 resolution", "source": "assumption"}  # fmt: skip
    squares = Channel.model_validate(form)
    assert masses(axis(steps("5 GeV", "5.35 GeV", "1 resolution")), all=squares) == [5.0, 5.1, 5.198, 5.2942]
    assert masses(axis(steps("0.1 GeV", "1.5 GeV", "1 resolution")), all=squares) == [0.1, 1.1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": "0.1 GeV"}, "found both resolution and resolution2; give one of them"),
        ({"observable": "recoil(gamma)"}, "'recoil\\(gamma\\)' is no squared mass; give `resolution`"),
        ({"resolution2": "1 GeV"}, "'GeV' is not the unit of a squared energy; expected for example '0.2 GeV\\^2'"),
    ],
)
def test_a_resolution_of_the_wrong_kind(changes: dict[str, str], message: str) -> None:
    """Catches a resolution that would be read as that of another quantity."""
    form = {"observable": "recoil2(gamma)", "resolution2": "1 GeV^2", "window": "20 resolution",
            "bin_width": "0.5 resolution", "source": "assumption", **changes}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Channel.model_validate(form)
