"""How often limits contain the true signal strength, by experiments thrown with numpy.

Tolerances were stated before the first run: three standard deviations of the binomial distribution, and beyond them 1 % for
the asymptotic profile likelihood of many events. With few events asymptotic limits are allowed to cover 90 % for 95 %: a
count is a whole number. CLs and a flat prior never cover less than they say, but for those tolerances.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from modelbuilder.inference import CompiledLikelihood, compiled_upper_limits
from modelbuilder.inference.bayesian import bayesian_upper_limits

LEVEL = 0.95


def thrown(likelihood, poi, n, seed):
    """Counts and auxiliary measurements of n experiments; all nuisance parameters at their initial values."""
    rng = np.random.default_rng(seed)
    point = np.array([parameter.init for parameter in likelihood.parameters])
    point[likelihood.poi_index] = poi
    yields = likelihood.expected_yields(point.tolist())
    constraints = likelihood.flat.constraints
    assert not len(constraints.poisson_data)
    data = np.empty((n, len(likelihood.observed_data)))
    data[:, : len(yields)] = rng.poisson(yields, (n, len(yields)))
    data[:, len(yields) + constraints.normal_data] = rng.normal(
        point[constraints.normal_parameter], constraints.normal_width, (n, len(constraints.normal_data))
    )
    return data


def coverage(limits, poi):
    """Share of limits at or above the truth, and its standard deviation where the coverage is LEVEL."""
    found = np.array([limit.observed for limit in limits])  # a failure has no such attribute
    return float(np.mean(found >= poi)), math.sqrt(LEVEL * (1.0 - LEVEL) / len(found))


def test_shape_model(models):
    """Catches an asymptotic formula whose sigma, or whose treatment of mu >= 0, is off."""
    likelihood = CompiledLikelihood(models.bump(n_bins=30, signal_events=40.0))
    data = thrown(likelihood, 1.0, 1500, 1)
    for method, most in (("profile-likelihood", LEVEL + 0.01), ("cls", 1.0)):
        limits = compiled_upper_limits([likelihood] * len(data), data, method=method, confidence_level=LEVEL)
        share, sigma = coverage(limits, 1.0)
        assert LEVEL - 0.01 - 3.0 * sigma < share < most + 3.0 * sigma


@pytest.mark.parametrize("background", [0.5, 3.0, 10.0])
def test_counting_with_nuisance_parameters(models, background):
    """Catches a limit that is too strong where events are few, or a nuisance parameter that is not integrated."""
    spec = models.counting(
        [1.0],
        [background],
        [round(background)],
        signal_modifiers=[models.normsys("efficiency", 1.1, 1.0 / 1.1)],
        background_modifiers=[models.normsys("rate", 1.2, 1.0 / 1.2)],
        poi_bounds=(0.0, 50.0),
    )
    likelihood = CompiledLikelihood(spec)
    for truth in (3.0, 7.0):
        data = thrown(likelihood, truth, 600, 2)
        many = [likelihood] * len(data)
        for limits, least in (
            (compiled_upper_limits(many, data, confidence_level=LEVEL), 0.90),
            (bayesian_upper_limits(many, data, confidence_level=LEVEL), LEVEL),
        ):
            share, sigma = coverage(limits, truth)
            assert share > least - 3.0 * sigma
