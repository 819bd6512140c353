"""Workspaces to test with, and pyhf, solved tightly, to compare with."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest


def normfactor(name):
    return {"name": name, "type": "normfactor", "data": None}


def normsys(name, hi, lo):
    return {"name": name, "type": "normsys", "data": {"hi": hi, "lo": lo}}


def histosys(name, hi, lo):
    return {"name": name, "type": "histosys", "data": {"hi_data": floats(hi), "lo_data": floats(lo)}}


def floats(values):
    return [float(value) for value in values]


def workspace(samples, counts, *, poi_bounds=(0.0, 10.0), parameters=(), poi="mu"):
    """One channel `SR`; samples is a dict of name -> (yields, modifiers)."""
    return {
        "version": "1.0.0",
        "channels": [
            {
                "name": "SR",
                "samples": [
                    {"name": name, "data": floats(data), "modifiers": list(modifiers)}
                    for name, (data, modifiers) in samples.items()
                ],
            }
        ],
        "observations": [{"name": "SR", "data": floats(counts)}],
        "measurements": [
            {
                "name": "test",
                "config": {
                    "poi": poi,
                    "parameters": [{"name": "mu", "bounds": [list(poi_bounds)], "inits": [1.0]}, *parameters],
                },
            }
        ],
    }


def counting(signal, background, counts, *, signal_modifiers=(), background_modifiers=(), poi_bounds=(0.0, 10.0)):
    return workspace(
        {
            "signal": (signal, [normfactor("mu"), *signal_modifiers]),
            "background": (background, background_modifiers),
        },
        counts,
        poi_bounds=poi_bounds,
    )


def bump(*, n_bins=40, mass=0.5, seed=3, signal_events=30.0):
    """A peak with rate, shape and luminosity systematics on a Bernstein polynomial of order 4; 11 parameters."""
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    x = 0.5 * (edges[1:] + edges[:-1])

    def peak(centre, width):
        return signal_events * np.diff([0.5 * (1.0 + math.erf((e - centre) / width / math.sqrt(2.0))) for e in edges])

    basis = [math.comb(4, k) * x**k * (1.0 - x) ** (4 - k) * w for k, w in enumerate((60.0, 30.0, 20.0, 12.0, 8.0))]
    counts = np.random.default_rng(seed).poisson(sum(basis))
    modifiers = [
        normfactor("mu"),
        {"name": "lumi", "type": "lumi", "data": None},
        normsys("efficiency", 1.06, 0.95),
        normsys("trigger", 1.02, 0.98),
        histosys("scale", peak(mass + 0.006, 0.04), peak(mass - 0.006, 0.04)),
        histosys("width", peak(mass, 0.044), peak(mass, 0.036)),
    ]
    samples = {"signal": (peak(mass, 0.04), modifiers)}
    samples |= {f"bernstein{k}": (basis[k], [normfactor(f"c{k}")]) for k in range(5)}
    parameters = [
        {"name": "lumi", "auxdata": [1.0], "bounds": [[0.5, 1.5]], "inits": [1.0], "sigmas": [0.01]},
        *({"name": f"c{k}", "bounds": [[0.0, 50.0]], "inits": [1.0]} for k in range(5)),
    ]
    return workspace(samples, counts, parameters=parameters)


def binwise(modifier_type):
    """Three bins with a per-bin uncertainty on one of two backgrounds, or (staterror) on both."""
    modifier = {"name": "mc", "type": modifier_type, "data": [1.5, 1.0, 0.8]}
    other = [{**modifier, "data": [0.5, 0.4, 0.3]}] if modifier_type == "staterror" else []
    return workspace(
        {
            "signal": ([2.0, 5.0, 3.0], [normfactor("mu"), normsys("efficiency", 1.1, 0.9)]),
            "qcd": ([12.0, 9.0, 6.0], [modifier, normsys("rate", 1.2, 0.85)]),
            "top": ([3.0, 2.0, 1.0], other),
        },
        [14.0, 13.0, 8.0],
    )


class Reference:
    """pyhf itself, with a tolerance that makes its numbers good to about 1e-8."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import pyhf

        self.pyhf = pyhf
        config = spec["measurements"][0]["config"]
        # not Workspace.model, which goes through jsonschema's deprecated RefResolver
        self.model = pyhf.Model(
            {"channels": spec["channels"], "parameters": config["parameters"]}, poi_name=config["poi"], validate=False
        )
        counts = {observation["name"]: observation["data"] for observation in spec["observations"]}
        self.data = [n for channel in self.model.config.channels for n in counts[channel]] + self.model.config.auxdata
        self.bounds = self.model.config.suggested_bounds()

    @contextmanager
    def tight(self):
        backend, optimiser = self.pyhf.get_backend()
        self.pyhf.set_backend("numpy", self.pyhf.optimize.scipy_optimizer(tolerance=1e-12, maxiter=100_000))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # SLSQP says so when it clips a step to the bounds
                yield
        finally:
            self.pyhf.set_backend(backend, optimiser)

    def minimum(self, poi=None):
        from pyhf.infer import mle

        with self.tight():
            if poi is None:
                return float(mle.fit(self.data, self.model, return_fitted_val=True)[1])
            return float(mle.fixed_poi_fit(poi, self.data, self.model, return_fitted_val=True)[1])

    def hypotest(self, poi):
        """CLs, [CLsb, CLb], and the five expected CLs."""
        with self.tight():
            cls, tails, band = self.pyhf.infer.hypotest(
                poi, self.data, self.model, par_bounds=self.bounds, return_tail_probs=True, return_expected_set=True
            )
        return float(cls), [float(tail) for tail in tails], [float(value) for value in band]

    def discovery_p_value(self):
        with self.tight():
            return float(self.pyhf.infer.hypotest(0.0, self.data, self.model, test_stat="q0"))

    def limits(self, low, high, cls_level):
        from pyhf.infer.intervals.upper_limits import toms748_scan

        with self.tight():
            observed, expected = toms748_scan(self.data, self.model, low, high, level=cls_level, rtol=1e-10)
        return float(observed), [float(value) for value in expected]


@pytest.fixture(scope="session")
def models():
    """The workspaces by name: functions, so that a test gets its own copy."""

    class Models:
        pass

    found = Models()
    found.workspace, found.counting, found.bump, found.binwise = workspace, counting, bump, binwise
    found.normfactor, found.normsys, found.histosys = normfactor, normsys, histosys
    return found


@pytest.fixture(scope="session")
def reference():
    return Reference
