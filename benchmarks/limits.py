"""Speed of limits and toys against pyhf, NextStat and ROOT, in one run, on one thread.

    python benchmarks/limits.py [--json] [--rounds N] [--full] [--workspace FILE...]

Limits: the observed and the five expected 95% CLs limits, everything warm, the model already built, for each family of
`families.py`; the name tells what ours took in fits and evaluations of value, gradient and Hessian. `agreement` is the
largest relative difference of the six limits. A row whose answers differ by more than 1%, or than 3% for the interpolated
scan of RooStats, is not timed: it has no ratio, and the script ends with exit code 1. For the others see `competitors.py`.

pyhf takes minutes for some. Then its time is estimated, and the name says so, as one hypothesis test times the number of
tests that it needed for `count`; `agreement` is then the largest difference of the CLs of that test (pyhf's minimiser at
its default tolerance is the larger part). pyhf with numpy is too slow for `multi` even for one test: there the time is
that of one evaluation of its likelihood, times their number in a test of `bump60`, scaled by the number of parameters (its
gradient is numerical), times the number of tests; `agreement` is the relative difference of -2 ln L at the best fit
without signal. `--full` measures where otherwise a test is multiplied, which takes some ten minutes more.

`--workspace`: published background-only workspaces, to which a signal is added (see `families.py`).

Models: what it takes to make one from the specification that `pyhf.Model` takes, and from a workspace, checked against
the schema. `agreement`: relative difference of -2 ln L at the initial values.

Toys: the time of one toy, two fits each, thrown with a signal of strength 1 and fitted for qmu-tilde; ours best of several
rounds. `agreement`: p-value of Kolmogorov and Smirnov between the distributions of the statistic; below 1e-4 is a failure.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from competitors import (
    Absent,
    Answer,
    largest_difference,
    nextstat_limits,
    pyhf_evaluation,
    pyhf_evaluations_per_test,
    pyhf_limits,
    pyhf_problem,
    pyhf_test,
    pyhf_toys,
    root_limits,
)
from families import FAMILIES, Workspace, published
from timing import Row, best_time, parse_arguments, print_rows, row, say, with_one_thread

from modelbuilder.inference import AsymptoticCalculator, CompiledLikelihood, UpperLimit, compiled_upper_limit
from modelbuilder.inference.toys import toy_statistics

CONFIDENCE_LEVEL = 0.95
MASS = 2.0
SCAN_POINTS = 30  # of RooStats
BACKENDS = ("numpy", "jax")
SAME = 0.01
SAME_SCAN = 0.03  # linear interpolation between the points


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A model, our limits on it and what they took, s."""

    name: str
    spec: Workspace
    likelihood: CompiledLikelihood
    limit: UpperLimit
    seconds: float

    @property
    def title(self) -> str:
        return f"{self.name}: limits, {self.limit.fits} fits, {self.limit.evaluations} evaluations"

    @property
    def limits(self) -> tuple[float, ...]:
        return (self.limit.observed, *self.limit.expected)


def solved(name: str, spec: Workspace, rounds: int) -> Problem:
    likelihood = CompiledLikelihood(spec)
    limit = compiled_upper_limit(likelihood, confidence_level=CONFIDENCE_LEVEL)  # compiles, where it has to
    seconds = our_seconds(likelihood, rounds)
    return Problem(name=name, spec=spec, likelihood=likelihood, limit=limit, seconds=seconds)


def our_seconds(likelihood: CompiledLikelihood, rounds: int) -> float:
    return best_time(lambda: compiled_upper_limit(likelihood, confidence_level=CONFIDENCE_LEVEL), rounds)


class Comparison:
    """Rows of limits, one by one; remembers how many tests pyhf's search needs, and whether answers differed."""

    def __init__(self, full: bool, rounds: int) -> None:
        self._full, self._rounds = full, rounds
        self._tests = 0
        self._per_test = 0.0
        self.rows: list[Row] = []
        self.differ: list[str] = []

    def add(self, problem: Problem, other: str, work: Callable[[Problem], list[Row]]) -> None:
        """The rows of one competitor; one that is absent, or fails, has a row nevertheless. Ours is timed beside it."""
        say(f"{problem.name}: {other} ...")
        problem = replace(problem, seconds=our_seconds(problem.likelihood, self._rounds))
        try:
            self.rows += work(problem)
        except Absent:
            self.rows.append(row(problem.title, problem.seconds, f"{other}: absent"))
        except Exception as error:  # noqa: BLE001 - what others raise is their affair, and a result
            detail = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            self.rows.append(row(problem.title, problem.seconds, f"{other}: failed, {detail}"))

    def against(self, problem: Problem) -> None:
        for backend in BACKENDS:
            self.add(problem, f"pyhf {backend}+scipy", lambda one, backend=backend: self._pyhf(one, backend))
        self.add(problem, "NextStat", lambda one: [self._row(one, nextstat_limits(one.spec, CONFIDENCE_LEVEL, 3))])
        scan = None if len(problem.likelihood.parameters) > 100 else (SCAN_POINTS, 1.3 * max(problem.limits))
        self.add(
            problem,
            "ROOT",
            lambda one: [self._row(one, answer) for answer in root_limits(one.spec, CONFIDENCE_LEVEL, scan)],
        )

    def _row(self, problem: Problem, answer: Answer) -> Row:
        agreement = largest_difference(answer.limits, problem.limits)
        if agreement > (SAME_SCAN if "HypoTestInverter" in answer.name else SAME):
            self.differ.append(f"{problem.name}: {answer.name} finds {answer.limits}, ours are {problem.limits}")
            return row(f"{problem.title} (answers differ)", problem.seconds, answer.name, None, agreement)
        return row(problem.title, problem.seconds, answer.name, answer.seconds, agreement)

    def _pyhf(self, problem: Problem, backend: str) -> list[Row]:
        other, spec, limit = f"pyhf {backend}+scipy", problem.spec, problem.limit
        small = len(problem.likelihood.parameters) < (20 if backend == "numpy" else 80)
        if small or self._full or not self._tests:
            answer = pyhf_limits(spec, backend, CONFIDENCE_LEVEL, max(problem.limits))
            self._tests = self._tests or answer.tests
            return [self._row(problem, answer)]
        if backend == "numpy" and len(problem.likelihood.parameters) > 80:
            self._per_test = self._per_test or pyhf_evaluations_per_test(FAMILIES["bump60"](MASS), 1.0)
            one, agreement = pyhf_evaluation(spec, problem.likelihood)
            calls = self._per_test * len(problem.likelihood.parameters)
            name = f"{problem.title} (estimated: {calls:.0f} evaluations in each of {self._tests} tests)"
            return [row(name, problem.seconds, other, one * calls * self._tests, agreement)]
        test = AsymptoticCalculator(problem.likelihood).hypothesis_test(limit.observed)
        one, agreement = pyhf_test(spec, backend, limit.observed, [test.cl_s, *test.expected_cl_s])
        name = f"{problem.title} (estimated: {self._tests} times one hypothesis test)"
        return [row(name, problem.seconds, other, one * self._tests, agreement)]


def model_rows(problem: Problem, rounds: int) -> list[Row]:
    """Time to make a model."""
    import pyhf

    spec = problem.spec
    config = spec["measurements"][0]["config"]
    model_spec = {"channels": spec["channels"], "parameters": config["parameters"]}
    counts = problem.likelihood.observed_data
    model, data = pyhf_problem(spec, "numpy")
    point = model.config.suggested_init()
    agreement = abs(-2.0 * float(model.logpdf(point, data)[0]) / problem.likelihood.twice_nll(point) - 1.0)
    flat = best_time(lambda: CompiledLikelihood.from_spec(model_spec, config["poi"], counts), rounds)
    checked = best_time(lambda: CompiledLikelihood(spec), rounds)
    theirs = best_time(lambda: pyhf.Model(model_spec, poi_name=config["poi"], validate=False), 3)
    theirs_checked = best_time(lambda: pyhf.Workspace(spec).model(), 3)
    return [
        row(f"{problem.name}: model", flat, "pyhf.Model, unchecked", theirs, agreement),
        row(
            f"{problem.name}: model of a workspace, checked", checked, "pyhf.Workspace.model", theirs_checked, agreement
        ),
    ]


def toy_rows(problem: Problem, rounds: int) -> list[Row]:
    """Time of a toy; few of pyhf's, which take long."""
    from scipy.stats import ks_2samp

    n_ours = 20_000 if problem.name == "count" else 5_000
    truth = problem.likelihood.fit_fixed_poi(1.0).bestfit

    def throw(n: int) -> list[float]:
        shard = toy_statistics(
            problem.likelihood, truth, statistic="qmu_tilde", poi=1.0, seed=1, hypothesis="signal", n_toys=n
        )
        return shard.statistics.tolist()

    statistics = throw(n_ours)
    ours = best_time(lambda: throw(n_ours), max(rounds // 10, 3)) / n_ours
    rows = []
    for backend, few in (
        ("numpy", 40 if problem.name == "count" else 4),
        ("jax", 60 if problem.name == "count" else 15),
    ):
        say(f"{problem.name}: toys of pyhf with {backend} ...")
        name, other = f"{problem.name}: one toy, {1.0 / ours:.0f} per second", f"pyhf {backend}+scipy, {2 * few} toys"
        try:
            seconds, theirs = pyhf_toys(problem.spec, backend, 1.0, few)
        except Absent:
            rows.append(row(name, ours, f"pyhf {backend}+scipy: absent"))
            continue
        agreement = float(ks_2samp(theirs, statistics).pvalue)
        rows.append(row(name, ours, other, seconds / (2 * few), agreement))
    return rows


def main() -> int:
    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rounds", type=int, default=30, help="rounds of ours; the fastest counts")
        parser.add_argument("--full", action="store_true", help="also measure what takes pyhf many minutes")
        parser.add_argument(
            "--workspace", type=Path, nargs="+", default=[], metavar="FILE", help="background-only pyhf workspaces"
        )

    arguments = parse_arguments(__doc__, options)
    warnings.simplefilter("ignore")  # SLSQP says so when it clips a step to the bounds
    problems = [solved(name, family(MASS), arguments.rounds) for name, family in FAMILIES.items()]
    problems += [solved(path.stem, published(path), arguments.rounds) for path in arguments.workspace]
    comparison = Comparison(arguments.full, arguments.rounds)
    rows: list[Row] = []
    for problem in problems:
        comparison.against(problem)
        rows += model_rows(problem, arguments.rounds)
        if problem.name in {"count", "bump60"}:
            rows += toy_rows(problem, arguments.rounds)
    print_rows(comparison.rows + rows, as_json=arguments.json)
    for line in comparison.differ:
        say(line)
    strange = [entry["name"] for entry in rows if "toy" in entry["name"] and (entry["agreement"] or 1.0) < 1e-4]
    for name in strange:
        say(f"{name}: the distributions differ")
    return 1 if comparison.differ or strange else 0


if __name__ == "__main__":
    with_one_thread()
    raise SystemExit(main())
