"""Windows in the plane against closed forms and brute force, and the core of a peak with tails."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modelbuilder.histograms.ellipses import Ellipses, PlaneEvents, measure_core, sums_in_ellipses

N = 400_000


def normal_events(rho: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Bivariate normal numbers: means 5 and 2, standard deviations 0.1 and 3."""
    one, two = np.random.default_rng(seed).standard_normal((2, N))
    return 5.0 + 0.1 * one, 2.0 + 3.0 * (rho * one + math.sqrt(1.0 - rho**2) * two)


def ellipse(rho: float, size: float) -> Ellipses:
    return Ellipses(
        centres=np.array([[5.0, 2.0]]), stdevs=np.array([[0.1, 3.0]]), correlations=np.array([rho]), size=size
    )


@pytest.mark.parametrize("rho", [-0.93, 0.0, 0.5])
@pytest.mark.parametrize("size", [1.0, 2.0, 3.0])
def test_the_part_inside_is_that_of_a_normal_distribution(rho: float, size: float) -> None:
    """Closed form, 1 - exp(-k^2/2) for any correlation: catches a wrong sign or form of the correlation."""
    x, y = normal_events(rho)
    inside = ellipse(rho, size).contain(0, x, y).mean()
    expected = -math.expm1(-0.5 * size**2)
    assert inside == pytest.approx(expected, abs=5.0 * math.sqrt(expected * (1.0 - expected) / N))


def test_the_correlation_has_a_sign() -> None:
    """Catches an ellipse that leans the other way, of which the test above alone would not know for zero."""
    x, y = normal_events(0.9)
    assert ellipse(-0.9, 2.0).contain(0, x, y).mean() < 0.5 * ellipse(0.9, 2.0).contain(0, x, y).mean()


def test_areas() -> None:
    """Against the share of uniform numbers in a box: catches a factor that the correlation changes."""
    found = ellipse(-0.7, 1.5)
    x, y = np.random.default_rng(3).uniform([[4.8], [-3.0]], [[5.2], [7.0]], (2, N))
    share = found.contain(0, x, y).mean()
    assert found.areas[0] == pytest.approx(share * 0.4 * 10.0, rel=0.01)


def some_windows(n: int) -> Ellipses:
    rng = np.random.default_rng(5)
    return Ellipses(
        centres=rng.uniform(0.0, 10.0, (n, 2)),
        stdevs=rng.uniform(0.05, 0.6, (n, 2)),
        correlations=rng.uniform(-0.95, 0.95, n),
        size=2.0,
    )


def some_events(n: int = 20_000) -> PlaneEvents:
    rng = np.random.default_rng(6)
    x, y = rng.uniform(-1.0, 11.0, (2, n))
    return PlaneEvents.of(x, y, rng.uniform(0.0, 2.0, n), rng.poisson(0.3, n).astype(float))


@pytest.mark.parametrize("threads", [1, 3])
def test_sums_against_brute_force(threads: int) -> None:
    """Every event against every window, with the quadratic form written out from the inverse of the covariance.

    Catches an event that is lost at the edge of a strip, seen by one window only, or counted by another order of axes.
    """
    windows, events = some_windows(300), some_events()
    found = sums_in_ellipses(events, windows, n_threads=threads)
    for index in range(len(windows)):
        (sx, sy), rho = windows.stdevs[index], windows.correlations[index]
        inverse = np.linalg.inv([[sx**2, rho * sx * sy], [rho * sx * sy, sy**2]])
        d = np.stack([events.x, events.y], axis=1) - windows.centres[index]
        inside = np.einsum("ni,ij,nj->n", d, inverse, d) <= windows.size**2
        expected = [events.weights[inside].sum(), (events.weights[inside] ** 2).sum(), events.counts[inside].sum()]
        assert found[index] == pytest.approx(expected, rel=1e-12)


def test_threads_change_no_bit() -> None:
    windows, events = some_windows(1000), some_events()
    one, many = (sums_in_ellipses(events, windows, n_threads=n) for n in (1, 4))
    assert (one == many).all()


def test_events_without_weight_are_dropped() -> None:
    """Catches data that are lost with the weight, and an observable that is no number."""
    x = np.array([3.0, 1.0, 2.0, np.nan, 0.0])
    events = PlaneEvents.of(x, x, np.array([1.0, 0.0, 0.0, 1.0, 0.5]), np.array([0.0, 1.0, 0.0, 1.0, 0.0]))
    assert events.x.tolist() == [0.0, 1.0, 3.0]
    assert events.counts.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("rho", [-0.93, 0.0, 0.6])
@pytest.mark.parametrize("tail", [0.0, 0.4])
def test_the_core_of_a_peak(rho: float, tail: float) -> None:
    """A normal peak, and one of which 40 % have radiated: catches a width or correlation that a tail moves."""
    x, y = normal_events(rho)
    rng = np.random.default_rng(9)
    y = np.where(rng.random(N) < tail, y + rng.exponential(60.0, N), y)
    found = measure_core(x, y, rng.uniform(0.5, 1.5, N))
    assert found.means == pytest.approx((5.0, 2.0), abs=0.2 if tail else 0.03)
    assert found.stdevs[0] == pytest.approx(0.1, rel=0.02)
    assert found.stdevs[1] == pytest.approx(3.0, rel=0.06 if tail else 0.01)
    assert found.correlation == pytest.approx(rho, abs=0.03 if tail else 0.005)


def test_a_peak_without_width() -> None:
    with pytest.raises(ValueError, match="the events have no width"):
        measure_core(np.ones(1000), np.arange(1000.0), np.ones(1000))
