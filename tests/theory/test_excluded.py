"""The couplings that a limit excludes, for rates whose roots are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest

from modelbuilder.theory.model import COUPLINGS, Excluded, Limit, Model


def model(
    rate: Callable[[float], float], power: int | None = None, lifetime: Callable[[float], float] | None = None
) -> Model:
    """A model with a rate and a lifetime that depend on the coupling alone."""
    return Model(
        coupling="g",
        unit="",
        symbol="g",
        law=None,
        power=power,
        rate=lambda sqrt_s, m, g, given: rate(g),
        lifetime=None if lifetime is None else lambda m, g, given: lifetime(g),
    )


def excluded(one: Model, limit: Limit) -> Excluded:
    return one.excluded(10.58, (1.0,), limit, {})


@pytest.mark.parametrize("power", [1, 2, 4])
def test_a_power_and_its_roots_agree(power: int) -> None:
    """Second method: the same rate as a power and by looking for roots."""
    for limit in (1e-7, 0.3, 5.0):
        by_power, by_roots = (excluded(model(lambda g: 7 * g**power, said), limit) for said in (power, None))
        assert by_power.lower == pytest.approx((limit / 7) ** (1 / power), rel=1e-14, abs=0)
        assert by_roots.lower == pytest.approx(by_power.lower, rel=1e-11, abs=0)
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


def test_a_coupling_that_only_says_how_far_it_flies() -> None:
    """By hand: at one lifetime all couplings or none; with a limit for each, those whose lifetime is in the window."""
    one = model(lambda g: 2.0, 0, lambda g: 1e-8 / g**2)
    assert excluded(one, 2.0).intervals == ((0.0, math.inf),)
    assert excluded(one, 2.1).intervals == ()
    (edges,) = lifetimes(excluded(one, lambda t: 1.0 if 0.01 <= t <= 5 else 3.0))
    assert edges == pytest.approx((5, 0.01), rel=1e-11, abs=0)
    assert lifetimes(excluded(one, lambda t: 2.0 if 0.01 <= t <= 5 else math.inf)) == [
        pytest.approx((5, 0.01), rel=1e-11)
    ]


@pytest.mark.parametrize("limit", [-1.0, math.nan])
def test_a_limit_that_is_none(limit: float) -> None:
    """Catches a coupling from a number that is no limit."""
    with pytest.raises(ValueError, match="must be at least 0"):
        excluded(model(lambda g: g**2, 2), limit)


# ---------------------------------------------------------------------------------------------------------------------
# Limits that depend on the lifetime. The rate is 2 g^2, c tau is 1e-8/g^2 cm: with t = c tau, the rate is 2e-8/t.


def flying() -> Model:
    return model(lambda g: 2 * g**2, 2, lambda g: 1e-8 / g**2)


def lifetimes(found: Excluded) -> list[tuple[float, float]]:
    """The intervals in c tau, rising in the coupling."""
    return [(1e-8 / low**2, 1e-8 / high**2) for low, high in found.intervals]


def test_a_constant_limit_is_that_of_a_power() -> None:
    """Second method: a function of the lifetime that never changes; without an upper edge."""
    for limit in (1e-9, 1e-4, 3.0):
        by_search, by_power = (excluded(flying(), one) for one in (lambda t, limit=limit: limit, limit))
        assert by_search.lower == pytest.approx(by_power.lower, rel=1e-12, abs=0)
        assert by_search.upper is by_power.upper is None
        assert len(by_search.intervals) == 1


def test_a_window_of_lifetimes() -> None:
    """By hand: a limit of 1e-6 for 0.001 < c tau < 400 cm. Edges: rate 1e-6 at 0.02 cm, and the end of the window."""
    (edges,) = lifetimes(excluded(flying(), lambda t: 1e-6 if 1e-3 <= t <= 400 else math.inf))
    assert edges == pytest.approx((0.02, 1e-3), rel=1e-11, abs=0)
    (edges,) = lifetimes(excluded(flying(), lambda t: 1e-12 if 1e-3 <= t <= 400 else math.inf))
    assert edges == pytest.approx((400, 1e-3), rel=1e-11, abs=0)
    assert lifetimes(excluded(flying(), lambda t: 3e-5 if 1e-3 <= t <= 400 else math.inf)) == []


@pytest.mark.parametrize("where", [0.0013, 0.37, 11.0, 200.0])
@pytest.mark.parametrize("width", [0.02, 0.2])
def test_a_narrow_island(where: float, width: float) -> None:
    """Closed form: limit (2e-8/t) f with f = 1 + (ln(t/t0))^2 - w^2 is passed where |ln(t/t0)| < w, however narrow."""
    found = excluded(flying(), lambda t: 2e-8 / t * (1 + math.log(t / where) ** 2 - width**2))
    (edges,) = lifetimes(found)
    assert edges == pytest.approx((where * math.exp(width), where * math.exp(-width)), rel=1e-9, abs=0)


def test_a_narrow_valley_between_islands() -> None:
    """Closed form: the reverse, couplings that stay allowed between; and an end at the last point of the window."""
    found = excluded(
        flying(), lambda t: 2e-8 / t * max(0.0, 1 + 1e-4 - math.log(t / 0.37) ** 2) if 0.01 <= t <= 2 else math.inf
    )
    first, second = lifetimes(found)
    assert first == pytest.approx((2, 0.37 * math.exp(0.01)), rel=1e-9, abs=0)
    assert second == pytest.approx((0.37 * math.exp(-0.01), 0.01), rel=1e-9, abs=0)


def test_islands_at_the_ends_of_a_window() -> None:
    """By hand: a limit with a kink that only the edges of its range reach; catches peaks beside a jump that are lost."""
    # above 2e-8/t but within 0.1 % of the ends of the range; these lie between the points of the search
    inner = (math.log(0.0123 * 1.001), math.log(5.0 / 1.001))
    found = excluded(
        flying(),
        lambda t: (
            2e-8 / t * (1 + 0.1 * min(math.log(t) - inner[0], inner[1] - math.log(t))) if 0.0123 <= t <= 5 else math.inf
        ),
    )
    first, second = lifetimes(found)
    assert first == pytest.approx((5.0, 5.0 / 1.001), rel=1e-9, abs=0)
    assert second == pytest.approx((0.0123 * 1.001, 0.0123), rel=1e-9, abs=0)


def test_a_kinked_limit() -> None:
    """By hand: linear in the logarithms between points of a table, as an interpolation of fits would be."""
    table = [(1e-3, 1e-4), (1e-2, 1e-7), (1.0, 1e-8), (400.0, 1e-5)]

    def limit(t: float) -> float:
        for (t0, y0), (t1, y1) in itertools.pairwise(table):
            if t0 <= t <= t1:
                return y0 * (y1 / y0) ** (math.log(t / t0) / math.log(t1 / t0))
        return math.inf

    (edges,) = lifetimes(excluded(flying(), limit))
    # t0 (2e-8/(t0 y0))^(1/(1 + slope)) within the last and the first line
    upper = 2 ** (1 / (1 + math.log(1e3) / math.log(400)))
    lower = 0.001 * (2e-8 / (0.001 * 1e-4)) ** (1 / (1 - 3))
    assert edges == pytest.approx((upper, lower), rel=1e-10, abs=0)


def test_limits_of_lifetimes_that_are_none() -> None:
    """Catches a number that is no limit where it is used, and a lifetime that nobody knows."""
    with pytest.raises(ValueError, match="must be at least 0"):
        excluded(flying(), lambda t: -1.0)
    with pytest.raises(ValueError, match="for a model that has none"):
        excluded(model(lambda g: g**2, 2), lambda t: 1.0)
    assert excluded(flying(), lambda t: math.inf).intervals == ()
    assert excluded(flying(), lambda t: 0.0).intervals == ((pytest.approx(1e-16, rel=1e-12), math.inf),)
    assert excluded(flying(), 2e-4).intervals == ((pytest.approx(0.01, rel=1e-14), math.inf),)
