"""Other programs that find the same limits: pyhf, NextStat, ROOT. None of them is needed; `Absent` says which is missing.

pyhf: its hypothesis tests with scipy, warm, with the numpy or the jax backend, and the search of its `toms748_scan`, done
here since that fails with current jax: roots from the best bracket among the tests done before, to 1e-4. The range ends
at four times the largest limit, closer than anyone could know.
NextStat: `upper_limit(method="root")`, on one thread.
ROOT: two ways, see `root_limits.py`.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from families import Workspace
from timing import best_time, run_process, timed

from modelbuilder.inference import CompiledLikelihood

_ROOT_ABSENT = 3  # how root_limits.py ends without ROOT
_ROOT_PATIENCE_S = 150.0


class Absent(Exception):
    """The package is not installed."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a competitor took, s, and its limits: observed, then expected at -2 ... +2 sigma. tests: how many it made."""

    name: str
    seconds: float
    limits: tuple[float, ...]
    tests: int = 0


def largest_difference(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Relative."""
    return max(abs(a / b - 1.0) for a, b in zip(theirs, ours, strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# pyhf


def pyhf_problem(spec: Workspace, backend: str) -> tuple[Any, list[float]]:
    """pyhf with this backend, its model and data."""
    import pyhf

    try:
        pyhf.set_backend(backend, pyhf.optimize.scipy_optimizer())
    except pyhf.exceptions.ImportBackendError as error:
        raise Absent from error
    config = spec["measurements"][0]["config"]
    model = pyhf.Model(
        {"channels": spec["channels"], "parameters": config["parameters"]}, poi_name=config["poi"], validate=False
    )
    counts = {observation["name"]: observation["data"] for observation in spec["observations"]}
    return model, [n for channel in model.config.channels for n in counts[channel]] + model.config.auxdata


class _Tests:
    """CLs, observed and five expected, at the values of mu that were asked for."""

    def __init__(self, model: Any, data: list[float]) -> None:
        self._model, self._data = model, data
        self.known: dict[float, list[float]] = {}

    def __call__(self, mu: float) -> list[float]:
        if mu not in self.known:
            from pyhf.infer import hypotest

            observed, expected = hypotest(mu, self._data, self._model, return_expected_set=True)
            self.known[mu] = [float(observed), *(float(value) for value in expected)]
        return self.known[mu]

    def crossing(self, which: int, cls_level: float) -> float:
        from scipy.optimize import toms748

        below = max(mu for mu, found in self.known.items() if found[which] > cls_level)
        above = min(mu for mu, found in self.known.items() if found[which] <= cls_level)
        return float(toms748(lambda mu: self(mu)[which] - cls_level, below, above, k=2, xtol=2e-12, rtol=1e-4))


def pyhf_limits(spec: Workspace, backend: str, confidence_level: float, highest: float) -> Answer:
    """A whole search. highest: of the limits, for its range."""
    model, data = pyhf_problem(spec, backend)
    if backend == "jax":
        _Tests(model, data)(1.0)  # compiles

    def search() -> tuple[list[float], int]:
        tests = _Tests(model, data)
        # from just above zero, where pyhf's CLs is 0/0
        for mu in (0.01, min(4.0 * highest, float(model.config.suggested_bounds()[model.config.poi_index][1]))):
            tests(mu)
        return [tests.crossing(which, 1.0 - confidence_level) for which in range(6)], len(tests.known)

    seconds, (limits, n_tests) = timed(search)
    return Answer(name=f"pyhf {backend}+scipy", seconds=seconds, limits=tuple(limits), tests=n_tests)


def pyhf_test(spec: Workspace, backend: str, mu: float, cls: Sequence[float]) -> tuple[float, float]:
    """Seconds of one hypothesis test, and the largest difference of its CLs from `cls`."""
    model, data = pyhf_problem(spec, backend)
    if backend == "jax":
        _Tests(model, data)(0.9 * mu)  # compiles
    seconds, found = timed(lambda: _Tests(model, data)(mu))
    return seconds, max(abs(a - b) for a, b in zip(found, cls, strict=True))


def pyhf_evaluation(spec: Workspace, likelihood: CompiledLikelihood) -> tuple[float, float]:
    """Seconds of one evaluation of pyhf's likelihood with numpy, and its relative difference in -2 ln L."""
    model, data = pyhf_problem(spec, "numpy")
    point = list(likelihood.fit_fixed_poi(0.0).bestfit)
    seconds = best_time(lambda: model.logpdf(point, data), 10)
    return seconds, abs(-2.0 * float(model.logpdf(point, data)[0]) / likelihood.twice_nll(point) - 1.0)


def pyhf_evaluations_per_test(spec: Workspace, mu: float) -> float:
    """Evaluations of the likelihood in one hypothesis test with numpy, per parameter."""
    from pyhf import Model

    model, data = pyhf_problem(spec, "numpy")
    calls = 0
    logpdf = Model.logpdf

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return logpdf(*arguments)

    Model.logpdf = counted
    try:
        _Tests(model, data)(mu)
    finally:
        Model.logpdf = logpdf
    return calls / float(model.config.npars)


def pyhf_toys(spec: Workspace, backend: str, poi: float, n_toys: int) -> tuple[float, list[float]]:
    """Seconds of `n_toys` toys with and as many without signal, and the test statistics of those with it."""
    from pyhf.infer.calculators import ToyCalculator

    model, data = pyhf_problem(spec, backend)

    def throw(n: int) -> Any:
        calculator = ToyCalculator(data, model, test_stat="qtilde", ntoys=n, track_progress=False)
        return calculator.distributions(poi)[0]

    if backend == "jax":
        throw(1)  # compiles
    seconds, signal = timed(lambda: throw(n_toys))
    return seconds, [float(value) for value in signal.samples]


# ---------------------------------------------------------------------------------------------------------------------
# NextStat and ROOT


def nextstat_limits(spec: Workspace, confidence_level: float, rounds: int) -> Answer:
    try:
        import nextstat
    except ImportError as error:
        raise Absent from error
    nextstat.set_threads(1)
    model = nextstat.from_pyhf(json.dumps(spec))
    best, limits = math.inf, ()
    for _ in range(rounds):
        seconds, (observed, expected) = timed(
            lambda: nextstat.upper_limit(model, method="root", alpha=1.0 - confidence_level)
        )
        best, limits = min(best, seconds), (float(observed), *(float(value) for value in expected))
        if best > 1.0:
            break
    return Answer(name=f"NextStat {nextstat.__version__}", seconds=best, limits=limits)


def root_limits(spec: Workspace, confidence_level: float, scan: tuple[int, float] | None) -> list[Answer]:
    """With RooFit, and with RooStats if a `scan` (points, upper end) is given."""
    problem = {"workspace": spec, "confidence_level": confidence_level, "scan": scan}
    command = [sys.executable, str(Path(__file__).with_name("root_limits.py"))]
    try:
        done = run_process(command, given=json.dumps(problem), at_most_s=_ROOT_PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        msg = f"no answer within {_ROOT_PATIENCE_S:.0f} s"
        raise RuntimeError(msg) from error
    except subprocess.CalledProcessError as error:
        if error.returncode == _ROOT_ABSENT:
            raise Absent from error
        detail = str(error.stderr).strip().splitlines()[-1:] or ["no message"]
        msg = f"exit code {error.returncode}: {detail[0][:120]}"
        raise RuntimeError(msg) from error
    found = json.loads(done.output)
    names = {"profile": "RooFit", "scan": "HypoTestInverter"}
    return [
        Answer(
            name=f"ROOT {found['version']} {name}", seconds=found[key]["seconds"], limits=tuple(found[key]["limits"])
        )
        for key, name in names.items()
        if found[key]
    ]
