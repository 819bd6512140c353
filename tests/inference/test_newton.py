"""The minimiser by itself, on functions whose minimum is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from modelbuilder.inference._newton import Expansion, box_quadratic_step, minimise


@pytest.mark.parametrize("seed", range(20))
def test_box_step_is_the_constrained_minimum(seed):
    """Reference: scipy's bounded least squares. Catches an active set that lets go of, or keeps, the wrong bound."""
    rng = np.random.default_rng(seed)
    n = 8
    root = rng.normal(size=(n + 3, n))
    hessian = root.T @ root
    scale = 1.0 / np.sqrt(np.diag(hessian))
    hessian = hessian * np.outer(scale, scale)
    gradient = rng.normal(size=n)
    lower, upper = -rng.uniform(0.0, 1.0, n), rng.uniform(0.0, 1.0, n)
    lower[0] = upper[1] = 0.0
    step = box_quadratic_step(gradient, hessian, lower, upper)
    factor = np.linalg.cholesky(hessian).T
    exact = lsq_linear(
        factor, -np.linalg.solve(factor.T, gradient), (lower, upper + 1e-300), tol=1e-14, method="bvls"
    ).x
    assert step == pytest.approx(exact, abs=1e-7)


def test_indefinite_hessian_is_refused():
    assert box_quadratic_step(np.ones(2), np.array([[1.0, 2.0], [2.0, 1.0]]), np.full(2, -1.0), np.full(2, 1.0)) is None


def rosenbrock(x):
    """With its Gauss-Newton part as the safe Hessian; forbidden beyond x0 = 1.5."""
    a, b = float(x[0]), float(x[1])
    if a > 1.5:
        return Expansion(value=np.inf, gradient=np.zeros(2), hessian=np.zeros((2, 2)), safe_hessian=np.zeros((2, 2)))
    jacobian = np.array([[-1.0, 0.0], [-20.0 * a, 10.0]])
    residual = np.array([1.0 - a, 10.0 * (b - a**2)])
    safe = 2.0 * jacobian.T @ jacobian
    hessian = safe + np.array([[-40.0 * residual[1], 0.0], [0.0, 0.0]])
    return Expansion(
        value=float(residual @ residual), gradient=2.0 * jacobian.T @ residual, hessian=hessian, safe_hessian=safe
    )


@pytest.mark.parametrize(
    ("start", "upper", "expected"),
    [
        ((-1.2, 1.0), (2.0, 2.0), (1.0, 1.0)),
        ((0.0, 0.0), (0.5, 2.0), (0.5, 0.25)),
        ((0.3, 1.9), (2.0, 0.0), (0.0, 0.0)),
    ],
)
def test_minimise_finds_the_constrained_minimum(start, upper, expected):
    """Curved valley, a wall of infinity, negative curvature on the way, and bounds."""
    found = minimise(
        rosenbrock,
        lambda x: rosenbrock(x).value,
        np.array(start),
        np.array([-2.0, -2.0]),
        np.array(upper),
        tolerance=1e-14,
        loose_tolerance=1e-10,
    )
    assert found.converged
    if expected == (0.0, 0.0):
        assert found.x[1] == pytest.approx(0.0, abs=1e-6)
        assert found.expansion.gradient[0] == pytest.approx(0.0, abs=1e-4)
    else:
        assert found.x == pytest.approx(expected, abs=1e-6)


def test_infinite_start_is_not_a_minimum():
    found = minimise(
        rosenbrock,
        lambda x: rosenbrock(x).value,
        np.array([1.8, 0.0]),
        np.full(2, 1.6),
        np.full(2, 2.0),
        tolerance=1e-14,
        loose_tolerance=1e-10,
    )
    assert not found.converged
    assert found.iterations == 0
