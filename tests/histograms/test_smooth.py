"""Smooth spectra in place of simulated ones."""

from __future__ import annotations

import numpy as np
import pytest

from modelbuilder.histograms import bernstein
from modelbuilder.histograms.smooth import smoothed
from modelbuilder.histograms.templates import SampleTemplates, Template

BINS = np.arange(240)
TRUTH = 4e3 * np.exp(-BINS / 40.0) + 60.0 * np.exp(-0.5 * ((BINS - 150) / 30.0) ** 2) + 0.01
WEIGHT = 0.3
PEAK = np.exp(-0.5 * ((np.arange(40) - 19.5) / 2.0) ** 2)
EDGES = np.linspace(0.0, 1.0, 41)
WINDOW = slice(120, 160)


def simulated(seed: int, truth: np.ndarray = TRUTH) -> Template:
    values = WEIGHT * np.random.default_rng(seed).poisson(truth / WEIGHT)
    return Template(values, WEIGHT * values)


def test_errors_of_a_smooth_spectrum() -> None:
    """Reference: the spread over simulations, for single bins and for a spurious signal, which only knows the covariance."""
    found = [smoothed(simulated(seed), 20) for seed in range(300)]
    inside = slice(5, 200)
    values = np.array([one.nominal.values for one in found])[:, inside]
    errors = np.sqrt(np.mean([one.nominal.variances for one in found], axis=0))[inside]
    assert np.mean(np.std(values, axis=0) / errors) == pytest.approx(1.0, abs=0.05)
    bias = (np.mean(values, axis=0) - TRUTH[inside]) / errors
    assert np.sqrt(np.mean(bias**2)) < 0.3  # of one simulation's error; 300 of them know it to 0.06
    signals = np.array([bernstein.spurious_signal(one.sliced(WINDOW), PEAK, EDGES, 4) for one in found])
    assert np.std(signals[:, 0]) == pytest.approx(np.mean(signals[:, 1]), rel=0.2)
    rough = bernstein.spurious_signal(SampleTemplates(simulated(0)).sliced(WINDOW), PEAK, EDGES, 4)[1]
    assert np.mean(signals[:, 1]) < 0.25 * rough


def test_p_value_of_what_is_smooth_and_what_is_not() -> None:
    """Invariant: p-values are uniform where the truth is smooth; a step is not."""
    p_values = [smoothed(simulated(seed), 20).smoothing.p_value for seed in range(200)]  # type: ignore[union-attr]
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.08)
    assert np.mean(np.array(p_values) < 0.1) == pytest.approx(0.1, abs=0.08)
    step = simulated(1, TRUTH + 200.0 * (BINS > 100))
    assert smoothed(step, 20).smoothing.p_value < 1e-6  # type: ignore[union-attr]


def test_a_smooth_spectrum_is_not_negative_and_keeps_its_sum() -> None:
    """Invariant, also where most bins are empty; catches splines that swing below zero beside a steep edge."""
    steep = simulated(2, np.where(BINS < 60, 0.0, 1e3 * np.exp(-(BINS - 60.0) / 6.0)))
    for template in (simulated(0), steep):
        found = smoothed(template, 8).nominal
        assert np.all(found.values >= 0.0)
        assert found.total == pytest.approx(template.total, rel=0.02)
    empty = Template(np.zeros(50), np.zeros(50))
    assert smoothed(empty, 8).nominal.total == 0.0
