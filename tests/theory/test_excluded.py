"""The couplings that a limit excludes, for cross sections whose roots are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from modelbuilder.theory.model import COUPLINGS, Excluded, Model


def model(rate: Callable[[float], float], power: int | None = None) -> Model:
    """A model with a cross section that depends on the coupling alone."""
    return Model(
        coupling="g", unit="", symbol="g", law="", power=power, cross_section=lambda sqrt_s, m, g, given: rate(g)
    )


def excluded(one: Model, limit: float) -> Excluded:
    return one.excluded(10.58, (1.0,), limit, {})


@pytest.mark.parametrize("power", [1, 2, 4])
def test_a_power_and_its_roots_agree(power: int) -> None:
    """Second method: the same cross section as a power and by looking for roots."""
    for limit in (1e-7, 0.3, 5.0):
        by_power, by_roots = (excluded(model(lambda g: 7 * g**power, said), limit) for said in (power, None))
        assert by_power.lower == pytest.approx((limit / 7) ** (1 / power), rel=1e-14)
        assert by_roots.lower == pytest.approx(by_power.lower, rel=1e-11)
        assert by_power.upper is by_roots.upper is None
        assert len(by_roots.intervals) == 1


def test_all_roots_are_found() -> None:
    """Closed form: 2 + sin(3 ln g) passes 2.5 where 3 ln g is pi/6 or 5 pi/6, up to full turns; none may be lost."""
    found = excluded(model(lambda g: 2 + math.sin(3 * math.log(g))), 2.5).intervals
    low, high = 3 * math.log(COUPLINGS[0]), 3 * math.log(COUPLINGS[-1])
    turns = range(math.floor(low / (2 * math.pi)) - 1, math.ceil(high / (2 * math.pi)) + 1)
    expected = [[2 * math.pi * n + angle * math.pi / 6 for angle in (1, 5)] for n in turns]
    inside = [pair for pair in expected if pair[0] > low and pair[1] < high]
    assert len(inside) > 15
    whole = [pair for pair in found if pair[0] > COUPLINGS[0] * 1.0001 and pair[1] < COUPLINGS[-1]]
    assert len(whole) == len(inside)
    for ours, theirs in zip(whole, inside, strict=True):
        assert [3 * math.log(g) for g in ours] == pytest.approx(theirs, abs=1e-9)


def test_the_lower_and_upper_edge_are_the_outermost() -> None:
    """By hand: two islands; what lies between them is not excluded, and the edges belong to them."""
    found = Excluded(intervals=((1.0, 2.0), (5.0, 7.0)))
    assert (found.lower, found.upper) == (1.0, 7.0)
    assert [found.contains(g) for g in (0.9, 1.0, 2.0, 3.0, 5.0, 7.0, 7.1)] == [0, 1, 1, 0, 1, 1, 0]
    open_end = Excluded(intervals=((1.0, 2.0), (5.0, math.inf)))
    assert open_end.upper is None
    assert open_end.contains(1e300)


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.07, 0.11])
def test_a_peak_between_the_points(shift: float) -> None:
    """Catches a peak that is seen at the points only: 1/cosh(ln g - x0) reaches 1 at x0, wherever that lies."""
    one = model(lambda g: 1 / math.cosh(math.log(g) - shift))
    found = excluded(one, 1 - 1e-6)
    half = math.acosh(1 / (1 - 1e-6))
    assert [math.log(g) for g in found.intervals[0]] == pytest.approx([shift - half, shift + half], abs=1e-8)
    assert excluded(one, 1 + 1e-6).intervals == ()


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.07, 0.11])
def test_a_dip_between_the_points(shift: float) -> None:
    """The same for a dip: couplings that become allowed again between two points."""
    found = excluded(model(lambda g: 2 - 1 / math.cosh(math.log(g) - shift)), 1 + 1e-6)
    half = math.acosh(1 / (1 - 1e-6))
    (_, before), (after, end) = found.intervals
    assert [math.log(before), math.log(after)] == pytest.approx([shift - half, shift + half], abs=1e-8)
    assert end == math.inf


@pytest.mark.parametrize("power", [2, None])
def test_no_limit_and_a_limit_of_zero(power: int | None) -> None:
    """Catches an infinite limit that excludes something, and a limit of 0 that does not exclude everything."""
    one = model(lambda g: g**2, power)
    assert excluded(one, math.inf).intervals == ()
    assert excluded(one, 0.0).intervals == ((0.0, math.inf),)
    closed = excluded(model(lambda g: 0.0, power), 1.0)
    assert (closed.lower, closed.upper) == (math.inf, None)
    assert not closed.contains(1.0)


@pytest.mark.parametrize("limit", [-1.0, math.nan])
def test_a_limit_that_is_none(limit: float) -> None:
    """Catches a coupling from a number that is no limit."""
    with pytest.raises(ValueError, match="must be at least 0"):
        excluded(model(lambda g: g**2, 2), limit)
