"""Smooth spectra in place of simulated ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.errors import SpecError
from modelbuilder.histograms import bernstein
from modelbuilder.histograms.simulate import Simulation
from modelbuilder.histograms.smooth import smoothed
from modelbuilder.histograms.templates import SampleTemplates, Smoothing, Template
from modelbuilder.spec.load import load_search
from modelbuilder.workspace.build import build_workspace

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
    """Invariant: small p-values are as rare as they say where the truth is smooth; a step has one."""
    p_values = [smoothed(simulated(seed), 20).smoothing.p_value for seed in range(200)]  # type: ignore[union-attr]
    # not uniform: what data could not see, a hundredth of their variance, is forgiven
    assert 0.4 < np.mean(p_values) < 0.7
    assert 0.0 < np.mean(np.array(p_values) < 0.1) < 0.17
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


SPEC = Path(__file__).parents[2] / "specs" / "belle2" / "alp_gammagamma_2018.yaml"
FEW = (
    "signal.events=5000",
    "backgrounds.three_photon.events=200000",
    "data={kind: asimov}",
    "grid.m_a.segments=[{values: [1 GeV, 3 GeV], source: assumption}]",
)


def test_a_search_may_smooth() -> None:
    """Catches a key that changes nothing, data that keep the fluctuations, and a bad spline that nobody hears of."""
    rough, smooth = (Simulation(load_search(SPEC, overrides=(*FEW, *more)))
                     for more in ((), ("backgrounds.three_photon.smooth=10",)))  # fmt: skip
    point = smooth.search.points[0]
    region = smooth.region_of(point)
    before, after = (one.background(region) for one in (rough, smooth))
    values, kept = (one.backgrounds["three_photon"].nominal for one in (before, after))
    assert kept.total == pytest.approx(values.total, rel=0.02)
    assert np.std(np.diff(kept.values, 2)) < 0.2 * np.std(np.diff(values.values, 2))
    assert np.array_equal(after.observation, sum(sample.nominal.values for sample in after.backgrounds.values()))
    signal = smooth.signal(region, point)
    for p_value, warned in ((0.5, False), (1e-4, True)):
        found = after.backgrounds["three_photon"]
        told = SampleTemplates(found.nominal, smoothing=Smoothing(p_value, found.covariance))
        templates = replace(after, backgrounds={**after.backgrounds, "three_photon": told}).at(point, *signal)
        rules = [message.rule for message in build_workspace(smooth.search, point, templates).lint]
        assert ("not-smooth" in rules) is warned


def test_only_what_has_a_free_shape_is_smoothed() -> None:
    """Catches errors of the simulation that would be hidden from the likelihood."""
    with pytest.raises(SpecError, match=r"backgrounds.pi0.smooth: .*whose errors a spline would hide"):
        load_search(SPEC, overrides=("backgrounds.pi0.smooth=10",))
