"""Feldman-Cousins intervals against the tables of the paper, a plain Neyman belt, and themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from modelbuilder.inference import CompiledLikelihood
from modelbuilder.inference.feldman_cousins import feldman_cousins, feldman_cousins_counting

SEED = 5

# Phys. Rev. D 57 (1998) 3873, table IV, 90%: by background and count. Written from memory, not copied from the paper;
# that the belt below gives the same numbers is the check.
TABLE = {
    (0.0, 0): (0.00, 2.44),
    (0.0, 1): (0.11, 4.36),
    (0.0, 2): (0.53, 5.91),
    (0.0, 3): (1.10, 7.42),
    (0.0, 4): (1.47, 8.60),
    (0.0, 5): (1.84, 9.99),
    (0.0, 6): (2.21, 11.47),
    (0.0, 7): (3.56, 12.53),
    (0.0, 8): (3.96, 13.99),
    (0.0, 9): (4.36, 15.30),
    (0.0, 10): (5.50, 16.50),
    (3.0, 1): (0.00, 1.88),
    (3.0, 2): (0.00, 3.04),
    (3.0, 3): (0.00, 4.42),
    (3.0, 4): (0.00, 5.60),
    (3.0, 5): (0.00, 6.99),
    (3.0, 6): (0.15, 8.47),
    (3.0, 7): (0.89, 9.53),
    (3.0, 8): (1.51, 10.99),
    (3.0, 9): (1.88, 12.30),
    (3.0, 10): (2.63, 13.50),
}


@pytest.mark.parametrize(("background", "count"), TABLE)
def test_table_of_the_paper(background, count):
    """Reference: catches another ordering, or another boundary."""
    found = feldman_cousins_counting(count, background, confidence_level=0.9)
    assert (found.lower, found.upper) == pytest.approx(TABLE[background, count], abs=0.00501)


def test_adjustment_of_the_paper():
    """Reference: no events, a background of 3: 0.95 by the construction, 1.08 in the table, which never rises with b."""
    plain = feldman_cousins_counting(0, 3.0)
    adjusted = feldman_cousins_counting(0, 3.0, monotone=True)
    assert plain.upper < adjusted.upper
    assert adjusted.upper == pytest.approx(1.08, abs=0.00501)


def belt_accepts(count, background, mu, level):
    """Neyman's construction as the paper describes it: counts taken in, the likeliest by their ratio first."""
    n = np.arange(120)
    ratio = stats.poisson.logpmf(n, mu + background) - stats.poisson.logpmf(n, np.maximum(n, background))
    likelier = ratio > ratio[count] + 1e-12
    return stats.poisson.pmf(n, mu + background)[likelier].sum() < level


@pytest.mark.parametrize("level", [0.683, 0.9, 0.95])
@pytest.mark.parametrize(
    ("count", "background"), [(0, 0.5), (0, 8.0), (1, 4.2), (5, 0.0), (7, 2.7), (12, 12.0), (30, 9.0)]
)
def test_edges_are_those_of_a_plain_belt(count, background, level):
    """Reference: catches a piece of the belt that is left out, and an edge on the wrong side of a jump."""
    found = feldman_cousins_counting(count, background, confidence_level=level)
    grid = np.arange(0.0, count + 25.0, 0.01)
    accepted = [mu for mu in grid if belt_accepts(count, background, mu, level)]
    assert found.lower == pytest.approx(accepted[0], abs=0.0101)
    assert found.upper == pytest.approx(accepted[-1], abs=0.0101)
    assert belt_accepts(count, background, found.upper - 1e-9, level)
    assert not belt_accepts(count, background, found.upper + 1e-9, level)


@pytest.mark.parametrize("background", [0.0, 3.0])
def test_counting_intervals_cover(background):
    """Reference: catches intervals that are too short anywhere, by the exact sum over counts."""
    intervals = [feldman_cousins_counting(n, background) for n in range(45)]
    for mu in np.arange(0.05, 12.0, 0.37):
        inside = [interval.lower <= mu <= interval.upper for interval in intervals]
        assert stats.poisson.pmf(np.arange(45), mu + background)[inside].sum() >= 0.9


@pytest.mark.parametrize("count", [1.0, 7.0])
def test_toys_give_the_exact_interval(models, count):
    """Reference: catches a wrong statistic, a wrong side, and an edge at a jump that is not found."""
    likelihood = CompiledLikelihood(models.counting([2.0], [3.0], [count]))
    found = feldman_cousins(likelihood, seed=SEED, n_toys=4000)
    exact = feldman_cousins_counting(int(count), 3.0)
    for edge, expected in ((found.lower, exact.lower / 2.0), (found.upper, exact.upper / 2.0)):
        spread = max(edge.upper - edge.value, edge.value - edge.lower)
        assert edge.value == pytest.approx(expected, abs=4.0 * spread)
        assert spread <= 0.06 * max(expected, 0.3)


def test_large_counts_are_asymptotic(models):
    """Reference: catches nuisance parameters that are not profiled: best fit -+ z sigma where sigma is known."""
    likelihood = CompiledLikelihood(
        models.counting(
            [100.0], [2000.0], [2300.0], background_modifiers=[{"name": "s", "type": "staterror", "data": [40.0]}]
        )
    )
    found = feldman_cousins(likelihood, seed=SEED, n_toys=2000, confidence_level=0.683)
    sigma = np.hypot(np.sqrt(2300.0), 40.0) / 100.0
    assert found.poi_hat == pytest.approx(3.0, rel=1e-6)
    assert found.upper.value - 3.0 == pytest.approx(sigma, rel=0.08)
    assert 3.0 - found.lower.value == pytest.approx(sigma, rel=0.08)


def test_the_confidence_level_is_used():
    """Invariant: catches a level that is ignored."""
    uppers = [feldman_cousins_counting(4, 1.5, confidence_level=level).upper for level in (0.5, 0.683, 0.9, 0.95, 0.99)]
    assert (np.diff(uppers) > 0.0).all()


@pytest.mark.parametrize(
    "arguments", [(-1, 1.0, 0.9), (2.5, 1.0, 0.9), (1, -1.0, 0.9), (1, float("nan"), 0.9), (1, 1.0, 1.0)]
)
def test_wrong_questions_are_refused(arguments):
    """Catches an argument that is not looked at."""
    count, background, level = arguments
    with pytest.raises(ValueError, match="found"):
        feldman_cousins_counting(count, background, confidence_level=level)
