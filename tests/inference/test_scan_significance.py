"""Global significances: upcrossings against brute-force toys, and both against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from modelbuilder.errors import FitFailure
from modelbuilder.inference import CompiledLikelihood, discovery
from modelbuilder.inference.scan_significance import (
    count_upcrossings,
    global_significance_from_toys,
    global_significance_from_upcrossings,
    q0_of_p_values,
    toy_scans,
)

N_BINS = 40


def scan(models, *, excess=0.0):
    """A peak at 33 masses on a flat background of 100 events per bin."""
    edges = np.arange(N_BINS + 1.0)
    counts = np.full(N_BINS, 100.0)

    def peak(centre):
        return 50.0 * np.diff(stats.norm.cdf(edges, centre, 1.5))

    counts = np.round(counts + excess * peak(20.0))
    background = [models.normsys("rate", 1.02, 0.98)]
    return [
        CompiledLikelihood(
            models.counting(
                peak(centre), np.full(N_BINS, 100.0), counts, background_modifiers=background, poi_bounds=(-10.0, 10.0)
            )
        )
        for centre in np.linspace(4.0, 36.0, 65)
    ]


def test_both_ways_agree_in_a_small_scan(models):
    """Reference: catches upcrossings counted down, or a level that is not in units of q0; two-sided p-values as well."""
    points = scan(models, excess=1.4)
    observed = [discovery(point).q0 for point in points]
    toys = toy_scans(points, scan(models)[0], seed=3, n_toys=800)
    brute = global_significance_from_toys(observed, toys)
    few = global_significance_from_upcrossings(observed, toys[:200])
    assert brute.point == few.point == 32
    assert 1.0 < brute.global_significance.value < brute.local_significance - 0.5
    spread = math.hypot(
        few.global_p_value.upper - few.global_p_value.value, brute.global_p_value.upper - brute.global_p_value.value
    )
    # an upper bound on p, close to it
    assert few.global_p_value.value == pytest.approx(
        brute.global_p_value.value, abs=3.0 * spread + 0.15 * brute.global_p_value.value
    )
    alone = global_significance_from_upcrossings(observed)
    assert alone.n_scans == 1
    assert alone.global_p_value.lower < few.global_p_value.value < 2.0 * alone.global_p_value.upper


def test_toy_scans_are_fits_of_shared_data(models):
    """Reference: catches points that are given different toys, or data in another order."""
    points = scan(models)[::16]
    toys = toy_scans(points, points[0], seed=3, n_toys=5)
    assert np.array_equal(toys, toy_scans(points, points[0], seed=3, n_toys=5, n_threads=3))
    assert np.array_equal(toys[2:], toy_scans(points, points[0], seed=3, n_toys=3, first=2))
    from modelbuilder.inference.toys import toy_data

    truth = points[0].fit_fixed_poi(0.0).bestfit
    data = toy_data(points[0], truth, seed=3, hypothesis="background", n_toys=5)
    expected = [[discovery(point, one).q0 for point in points] for one in data]
    assert toys == pytest.approx(np.array(expected), abs=1e-6)


def test_windows_take_their_part_of_the_data(models):
    """Catches a window that is given another window's bins."""
    counts = [7.0, 12.0, 9.0]
    common = CompiledLikelihood(models.counting([0.0, 1.0, 0.0], [9.0, 9.0, 9.0], counts))
    windows = [CompiledLikelihood(models.counting([2.0], [9.0], [n])) for n in counts]
    toys = toy_scans(windows, common, seed=1, n_toys=50, selections=[[0], [1], [2]])
    again = toy_scans(windows[1:], common, seed=1, n_toys=50, selections=[[1], [2]])
    assert np.array_equal(toys[:, 1:], again)
    assert abs(np.corrcoef(toys.T)[0, 1]) < 0.5
    with pytest.raises(ValueError, match="selections"):
        toy_scans(windows, common, seed=1, n_toys=5, selections=[[0]])
    with pytest.raises(ValueError, match="selections"):
        toy_scans(windows, common, seed=1, n_toys=5)


def test_upcrossings_are_counted_up():
    """Catches a count of downcrossings, or of points above."""
    assert count_upcrossings([0.0, 2.0, 3.0, 0.0, 0.0, 2.0], 1.0) == 2
    assert count_upcrossings([5.0, 0.0], 1.0) == 0
    assert count_upcrossings([[0.0, 2.0], [2.0, 0.0]], 1.0) == 1


def test_the_bound_is_the_formula_of_gross_and_vitells():
    """Reference: the formula, written out: 3 upcrossings of 0.5 in 2 scans, a maximum of 16."""
    scans = [[0.0, 1.0, 0.0, 1.0], [0.0, 0.2, 0.1, 0.9]]
    found = global_significance_from_upcrossings([0.0, 16.0, 0.0, 0.0], scans)
    assert found.global_p_value.value == pytest.approx(stats.norm.sf(4.0) + 1.5 * math.exp(-7.75), rel=1e-12)
    low, high = stats.chi2.ppf(stats.norm.cdf(-1.0), 6) / 2.0, stats.chi2.ppf(stats.norm.cdf(1.0), 8) / 2.0
    assert found.global_p_value.lower == pytest.approx(stats.norm.sf(4.0) + low / 2.0 * math.exp(-7.75), rel=1e-9)
    assert found.global_p_value.upper == pytest.approx(stats.norm.sf(4.0) + high / 2.0 * math.exp(-7.75), rel=1e-9)


def test_failed_toys_count_against_the_significance():
    """Catches scans with a failed point that are dropped."""
    toys = np.zeros((100, 2))
    toys[:3, 0] = math.nan
    toys[0, 1] = 9.0
    found = global_significance_from_toys([0.0, 4.0], toys)
    assert (found.n_counted, found.n_failed, found.global_p_value.value) == (1, 2, 0.03)
    toys[:20, 0] = math.nan
    with pytest.raises(FitFailure, match="toys-failed"):
        global_significance_from_toys([0.0, 4.0], toys)
    with pytest.raises(FitFailure, match="toys-failed"):
        global_significance_from_upcrossings([0.0, 4.0], toys)


def test_q0_of_p_values():
    """Reference: catches a two-sided p-value, and a deficit that counts as an excess."""
    assert q0_of_p_values([stats.norm.sf(3.0), 0.5, 0.9]) == pytest.approx([9.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="p_values"):
        q0_of_p_values([0.0])
