"""Limits of random models: pyhf agrees, or the limit is a named failure. Never a wrong number."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from scipy.special import log_ndtr, ndtri

from modelbuilder.errors import FitFailure
from modelbuilder.inference import CompiledLikelihood, compiled_upper_limits

LEVEL = 0.95
STRENGTHS = {"weak": 1e-4, "plain": 1.0, "strong": 50.0}


def random_workspace(seed, strength, empty):
    """Two or three channels, one to three bins, two backgrounds; every modifier with some probability.

    strength: of the signal; at 1e-4 its limit is of the order of 1e4.    empty: all channels but the first see nothing.
    """
    rng = np.random.default_rng(seed)
    channels, observations = [], []
    for number in range(int(rng.integers(2, 4))):
        n = int(rng.integers(1, 4))
        signal = rng.uniform(1.0, 6.0, n) * strength * (1.0 if number == 0 else rng.choice([0.0, 0.3]))
        samples = [
            {
                "name": "signal",
                "data": signal.tolist(),
                "modifiers": [
                    {"name": "mu", "type": "normfactor", "data": None},
                    *some(rng, 0.7, normsys("efficiency", *sides(rng))),
                    *some(rng, 0.4, histosys("scale", signal, rng)),
                ],
            }
        ]
        for name in ("one", "two"):
            yields = rng.uniform(0.5, 40.0, n) if number else rng.uniform(0.5, 15.0, n)
            modifiers = [
                *some(rng, 0.6, normsys("common", *sides(rng))),
                *some(rng, 0.6, normsys(f"rate_{name}", *sides(rng))),
                *some(rng, 0.5, histosys(f"shape_{name}", yields, rng)),
                *some(rng, 0.5, binwise("staterror", f"stat_{number}", yields * rng.uniform(0.02, 0.3))),
                *some(rng, 0.3, binwise("shapesys", f"own_{number}_{name}", yields * rng.uniform(0.05, 0.5))),
            ]
            if number and name == "one" and rng.random() < 0.4:
                modifiers.append({"name": "norm", "type": "normfactor", "data": None})
            samples.append({"name": name, "data": yields.tolist(), "modifiers": modifiers})
        total = np.sum([sample["data"] for sample in samples[1:]], axis=0)
        counts = np.zeros(n) if empty and number == 0 else rng.poisson(total + rng.choice([0.0, 1.0]) * signal)
        channels.append({"name": f"ch{number}", "samples": samples})
        observations.append({"name": f"ch{number}", "data": [float(x) for x in counts]})
    parameters = [{"name": "mu", "bounds": [[0.0, 10.0 / strength]], "inits": [1.0 / strength]}]
    return {
        "version": "1.0.0",
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": parameters}}],
    }


def some(rng, probability, modifier):
    return [modifier] if rng.random() < probability else []


def sides(rng):
    """Of a normsys: opposite, both upwards, or both downwards; at most 20 %."""
    size = rng.uniform(0.01, 0.2, 2)
    signs = [(1, -1), (-1, 1), (1, 1), (-1, -1)][rng.choice(4, p=[0.5, 0.3, 0.1, 0.1])]
    return [1.0 + sign * value for sign, value in zip(signs, size, strict=True)]


def normsys(name, hi, lo):
    return {"name": name, "type": "normsys", "data": {"hi": float(hi), "lo": float(lo)}}


def histosys(name, yields, rng):
    tilt = rng.uniform(-0.15, 0.15, (2, len(yields)))
    data = {key: (yields * (1.0 + row)).tolist() for key, row in zip(("hi_data", "lo_data"), tilt, strict=True)}
    return {"name": name, "type": "histosys", "data": data}


def binwise(kind, name, data):
    return {"name": name, "type": kind, "data": data.tolist()}


class Pyhf:
    """Minima of pyhf's own likelihood by its own minimiser, from its own starts; lowered to what ours shows it can reach."""

    def __init__(self, spec, reference):
        self.reference = reference(spec)
        self.ours = CompiledLikelihood(spec)
        self.model, self.data = self.reference.model, self.reference.data
        self.poi = self.model.config.poi_index
        self.worst = 0.0  # how far ours has been above pyhf's

    def value(self, point, data):
        return -2.0 * float(self.model.logpdf(list(point), list(data))[0])

    def minimum(self, data, poi):
        """The lowest value that is known, and where."""
        mle = self.reference.pyhf.infer.mle
        fit = self.ours.fit(data, poi_lower=0.0) if poi is None else self.ours.fit_fixed_poi(poi, data)
        best, where = self.value(fit.bestfit, data), np.array(fit.bestfit)
        # pyhf evaluates its likelihood at our point: that it can be reached is beyond doubt
        assert best == pytest.approx(fit.twice_nll, rel=1e-9, abs=1e-7)
        bounds = list(self.model.config.suggested_bounds())
        bounds[self.poi] = (0.0, 1e9)
        for start in (self.model.config.suggested_init(), list(where)):
            init = list(start)
            with self.reference.tight():
                try:
                    if poi is None:
                        found, value = mle.fit(data, self.model, init, bounds, return_fitted_val=True)
                    else:
                        init[self.poi] = poi
                        found, value = mle.fixed_poi_fit(poi, data, self.model, init, bounds, return_fitted_val=True)
                except self.reference.pyhf.exceptions.FailedMinimization:
                    continue
            if float(value) < best:
                self.worst = max(self.worst, best - float(value))
                best, where = float(value), np.asarray(found)
        return best, where


def log_level(q, qa):
    """ln CLs by arXiv:1007.1727, Eqs. (66), (67)."""
    root = math.sqrt(qa)
    deviate = math.sqrt(q) if q <= qa else 0.5 * (q + qa) / root
    return float(log_ndtr(-deviate) - log_ndtr(root - deviate))


def check(spec, reference):
    """Whether there is a limit; raises AssertionError if pyhf finds another one."""
    (limit,) = compiled_upper_limits([CompiledLikelihood(spec)], confidence_level=LEVEL)
    if isinstance(limit, FitFailure):
        assert limit.reason in {"several-minima", "not-converged", "nll-not-finite"}
        return False
    theirs = Pyhf(spec, reference)
    alpha = 1.0 - LEVEL
    data = np.array(theirs.data)
    null, at_null = theirs.minimum(data, 0.0)
    asimov = np.asarray(theirs.model.expected_data(list(at_null)))
    lowest = theirs.value(at_null, asimov)
    for n_sigma, mu in ((-2, limit.expected[0]), (0, limit.expected[2]), (2, limit.expected[4])):
        target = n_sigma - float(ndtri(alpha * math.exp(log_ndtr(n_sigma))))
        qa = theirs.minimum(asimov, mu)[0] - lowest
        assert math.sqrt(max(qa, 0.0)) == pytest.approx(target, rel=2e-4), f"expected at {n_sigma} sigma"
    free = min(theirs.minimum(data, None)[0], null)
    q = max(theirs.minimum(data, limit.observed)[0] - free, 0.0)
    qa = theirs.minimum(asimov, limit.observed)[0] - lowest
    assert log_level(q, qa) == pytest.approx(math.log(alpha), abs=1e-3), "observed"
    assert theirs.worst < 1e-5, "a lower minimum"
    return True


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32 - 1), strength=st.sampled_from(sorted(STRENGTHS)), empty=st.booleans())
def test_limits_are_those_of_pyhf_or_named_failures(reference, seed, strength, empty):
    """Reference: catches a limit that is wrong in a combination nobody thought of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyhf tries logarithms of negative yields
        event("a limit" if check(random_workspace(seed, STRENGTHS[strength], empty), reference) else "a named failure")
