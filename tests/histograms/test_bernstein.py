"""Bernstein polynomials on a binning."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import lsq_linear

from modelbuilder.histograms import bernstein
from modelbuilder.histograms.templates import SampleTemplates, Template

EDGES = np.array([2.0, 2.1, 2.5, 3.1, 3.2, 4.0, 4.4, 5.0])
FINE = np.linspace(1.0, 3.0, 41)


def polynomial(x: float, k: int, order: int) -> float:
    return math.comb(order, k) * x**k * (1.0 - x) ** (order - k)


@pytest.mark.parametrize("order", [0, 1, 2, 4, 7])
def test_basis_is_the_integral_of_the_polynomials(order: int) -> None:
    """Reference: catches a wrong argument of the incomplete beta function, by integrating with scipy."""
    found = bernstein.basis(EDGES, order)
    x = (EDGES - 2.0) / 3.0
    for k in range(order + 1):
        total, _ = quad(polynomial, 0.0, 1.0, args=(k, order))
        for index, (low, high) in enumerate(itertools.pairwise(x.tolist())):
            part, _ = quad(polynomial, low, high, args=(k, order))
            assert found[k, index] == pytest.approx(part / total, rel=1e-9)


@pytest.mark.parametrize("order", [0, 3, 5])
def test_basis_is_a_partition(order: int) -> None:
    """Invariant: rows add up to 1, columns to the width of the bin: equal coefficients make a flat spectrum."""
    found = bernstein.basis(EDGES, order)
    assert found.shape == (order + 1, 7)
    assert np.all(found > 0.0)
    assert found.sum(axis=1) == pytest.approx(np.ones(order + 1), rel=1e-12)
    assert found.sum(axis=0) / (order + 1) == pytest.approx(np.diff(EDGES) / 3.0, rel=1e-12)


def test_fit_recovers_a_polynomial_in_the_span() -> None:
    """Reference: catches a fit that is biased where an exact answer exists, on any binning."""
    rng = np.random.default_rng(1)
    for order in (0, 2, 4, 5):
        truth = rng.uniform(5.0, 500.0, order + 1)
        for edges in (FINE, FINE**2):
            expected = truth @ bernstein.basis(edges, order)
            assert bernstein.fit(expected, edges, order) == pytest.approx(truth, rel=1e-7)


def test_fit_does_not_depend_on_the_unit_of_the_axis() -> None:
    """Invariant: catches numbers of the axis that enter anywhere but through x in [0, 1]."""
    expected = 20.0 + 3.0 * np.sin(np.arange(40.0))
    first, second = (bernstein.fit(expected, edges, 4) for edges in (FINE, 1e6 * FINE))
    assert first == pytest.approx(second, rel=1e-9)


def test_fit_is_never_negative() -> None:
    """Invariant: catches a coefficient below zero, with which the workspace would expect negative events."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        expected = np.maximum(rng.normal(1.0, 3.0, 40), 0.0) * rng.integers(0, 2, 40)
        for order in (2, 4, 5):
            found = bernstein.fit(expected, FINE, order)
            assert np.all(found >= 0.0)
            assert np.all(np.isfinite(found))


def test_fit_maximises_the_likelihood() -> None:
    """Invariant: catches least squares with the wrong weights; no small step lowers -ln L, and the sum is kept."""
    expected = 30.0 + 10.0 * np.cos(np.linspace(0.0, 5.0, 40)) + np.linspace(0.0, 40.0, 40)
    basis = bernstein.basis(FINE, 3)
    best = bernstein.fit(expected, FINE, 3)

    def nll(coefficients: np.ndarray) -> float:
        yields = coefficients @ basis
        return float(np.sum(yields - expected * np.log(yields)))

    assert np.all(best > 0.0)
    assert best.sum() == pytest.approx(expected.sum(), rel=1e-8)
    for k in range(4):
        for step in (-0.01, 0.01):
            assert nll(best + step * np.eye(4)[k]) > nll(best)


def test_fit_of_an_empty_spectrum_is_zero() -> None:
    """Catches a division by zero where a window has no simulated events."""
    assert bernstein.fit(np.zeros(40), FINE, 4).tolist() == [0.0] * 5


CENTRES = 0.5 * (FINE[1:] + FINE[:-1])
PEAK = np.exp(-0.5 * ((CENTRES - 2.0) / 0.1) ** 2)


def spurious(values: np.ndarray, order: int, variances: np.ndarray | None = None) -> tuple[float, float]:
    template = Template(values, np.zeros_like(values) if variances is None else variances)
    return bernstein.spurious_signal(SampleTemplates(template), PEAK, FINE, order)


def test_spurious_signal() -> None:
    """Reference: 0 for a spectrum in the span, and the signal itself for one with a signal added, of either sign."""
    spectrum = np.array([40.0, 90.0, 30.0, 60.0, 80.0]) @ bernstein.basis(FINE, 4)
    assert spurious(spectrum, 4) == pytest.approx((0.0, 0.0), abs=1e-9)
    for size in (2.5, 0.1, -1.5):
        assert spurious(spectrum + size * PEAK, 4) == pytest.approx((size, 0.0), rel=1e-8, abs=1e-9)


def test_error_of_the_spurious_signal() -> None:
    """Reference: the spread over simulations that differ by noise of the given variance; catches a lost root or weight."""
    rng = np.random.default_rng(3)
    spectrum = np.array([400.0, 900.0, 300.0, 600.0, 800.0]) @ bernstein.basis(FINE, 4)
    variances = spectrum / 50.0  # a simulation with fifty times the data
    _, error = spurious(spectrum, 4, variances)
    found = [spurious(spectrum + rng.normal(0.0, np.sqrt(variances)), 4)[0] for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.0, abs=4.0 * error / math.sqrt(2000))
    assert np.std(found) == pytest.approx(error, rel=0.08)  # 2000 trials know it to 1.6 %; the weights move a little


def test_spurious_signal_of_coefficients_that_are_not_negative() -> None:
    """Second method: bounded least squares, on a spectrum that a parabola follows, but only with a negative coefficient.

    Catches a spurious signal of a freer polynomial than that of the fit, which would be 0 here.
    """
    values = 50.0 * (1.0 - 0.9 * (CENTRES - 1.0)) ** 2 + 1.0
    weight = 1.0 / np.sqrt(np.maximum(values, 0.01 * values.mean()))
    columns = np.vstack([PEAK, bernstein.basis(FINE, 2)]) * weight
    bounds = ([-np.inf, 0.0, 0.0, 0.0], np.inf)
    expected = lsq_linear(columns.T, values * weight, bounds=bounds, tol=1e-12).x[0]
    assert abs(expected) > 0.01
    assert spurious(values, 2)[0] == pytest.approx(expected, rel=1e-5)


def test_spurious_signal_of_too_low_an_order() -> None:
    """Catches an order that does not matter: a bump in the truth is signal to a straight line, and less so to a cubic."""
    truth = 50.0 + 30.0 * np.exp(-0.5 * ((CENTRES - 2.0) / 0.4) ** 2)
    found = [abs(spurious(truth, order)[0]) for order in (1, 4, 8)]
    assert found[0] > 2.0 * found[1] > 4.0 * found[2] > 0.0
