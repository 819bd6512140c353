"""Speed and memory of whole scans, and start-up of the program, in one run.

    python benchmarks/scan.py [--json] [--points N] [--run-points N]

Hypotheses: the observed and five expected 95% CLs limits for 9000 masses of two families of `families.py`: `single`, one bin
with two nuisance parameters, and `count`, a signal bin with two control bins. From workspaces to limits: their check and
making the models is included, in batches of 1000; a row tells it apart. On one thread, seconds of processor, and on two,
seconds by the clock on the wall; Python makes the models on one in any case. pyhf does a few points only, and its time is that many times longer: the name says so. `agreement` is the largest
relative difference of the limits of those points.

Memory: the largest resident set of a fresh process with a ninth of the points and with all of them.

Bayesian: 90% upper limits for the points of `single`, flat prior, both nuisance parameters integrated. Where the package has
no limits of many likelihoods in one call, twenty points are done one by one, and the name says so. The other is scipy, a
few points: the integral over the signal strength in closed form, the other two by Gauss-Legendre quadrature in three pieces
of 40 nodes, the limit by Brent's method. `agreement` is the largest relative difference.

Runs: `modelbuilder run` of so many points of the ALP search, from start to end of the process, with one job and with two.

Start-up: wall time of processes, best of several: `--help`, and `limit` of a workspace of the family `count`, against pyhf's
`--version` and a single hypothesis test, `pyhf cls`. Cold: the same with a folder for compiled code (NUMBA_CACHE_DIR) that
is empty at first, as on a new machine; that the compiled code goes there, and nowhere else, is checked.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from competitors import Absent, largest_difference, pyhf_limits, pyhf_problem
from families import Floats, Workspace, count, single
from timing import (
    Process,
    Row,
    best_time,
    parse_arguments,
    print_rows,
    row,
    run_process,
    say,
    timed,
    wall_time,
    with_one_thread,
)

from modelbuilder.errors import FitFailure, WorkspaceError
from modelbuilder.inference import CompiledLikelihood, bayesian, compiled_upper_limits

CONFIDENCE_LEVEL = 0.95
BAYESIAN_LEVEL = 0.9
BATCH = 1000
FAMILIES: dict[str, Callable[[float], Workspace]] = {"single": single, "count": count}
SAMPLE = {"single": 5, "count": 3}  # points that pyhf does
SPEC = Path(__file__).resolve().parents[1] / "specs" / "belle2" / "alp_gammagamma_2018.yaml"


def masses(n_points: int) -> list[float]:
    return np.linspace(0.5, 5.5, n_points).tolist()


def batches(family: str, n_points: int) -> Iterator[list[Workspace]]:
    points = masses(n_points)
    for first in range(0, n_points, BATCH):
        yield [FAMILIES[family](mass) for mass in points[first : first + BATCH]]


def made(specs: list[Workspace]) -> list[CompiledLikelihood]:
    found = []
    for likelihood in CompiledLikelihood.many(specs):
        if isinstance(likelihood, WorkspaceError):
            raise likelihood
        found.append(likelihood)
    return found


def limits(family: str, n_points: int, n_threads: int) -> tuple[float, float, Floats]:
    """Seconds for all, and for making models; and the limits, observed and expected, shape (n_points, 6)."""
    clock = time.perf_counter if n_threads > 1 else time.process_time
    rows = []
    spent, making = 0.0, 0.0
    for specs in batches(family, n_points):
        begin = clock()
        likelihoods = made(specs)
        making += clock() - begin
        found = compiled_upper_limits(likelihoods, confidence_level=CONFIDENCE_LEVEL, n_threads=n_threads)
        spent += clock() - begin
        for limit in found:
            if isinstance(limit, FitFailure):
                raise limit
            rows.append((limit.observed, *limit.expected))
    return spent, making, np.array(rows)


def limit_rows(family: str, n_points: int) -> list[Row]:
    import pyhf

    say(f"{family}: {n_points} hypotheses ...")
    limits(family, 20, 2)  # compiles, where it has to
    one_thread, making, found = limits(family, n_points, 1)
    seconds = {1: one_thread, 2: limits(family, n_points, 2)[0]}
    chosen = np.linspace(0, n_points - 1, SAMPLE[family]).round().astype(int).tolist()
    points = masses(n_points)
    theirs, agreement = 0.0, 0.0
    for index in chosen:
        say(f"{family}: pyhf, point {index} ...")
        answer = pyhf_limits(FAMILIES[family](points[index]), "numpy", CONFIDENCE_LEVEL, float(found[index].max()))
        theirs += answer.seconds / len(chosen)
        agreement = max(agreement, largest_difference(answer.limits, found[index].tolist()))
    spec = FAMILIES[family](2.0)
    pyhf_problem(spec, "numpy")
    alone = best_time(lambda: CompiledLikelihood(spec), 20) * n_points
    their_making = best_time(lambda: pyhf.Workspace(spec).model(), 5) * n_points
    other = f"pyhf numpy+scipy (extrapolated from {len(chosen)} points)"
    return [
        *(
            row(
                f"{family}: {n_points} hypotheses, models included, {threads} thread{'s' if threads > 1 else ''}",
                ours,
                other,
                theirs * n_points,
                agreement,
            )
            for threads, ours in seconds.items()
        ),
        row(
            f"{family}: of that, making {n_points} models of workspaces, checked",
            making,
            "pyhf.Workspace.model (extrapolated)",
            their_making,
        ),
        row(f"{family}: the same one by one (extrapolated)", alone, "together", making),
    ]


_MEMORY = """
import sys
sys.path.insert(0, {folder!r})
import scan
scan.limits("single", int(sys.argv[1]), 1)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def memory_rows(n_points: int) -> list[Row]:
    """On Linux."""
    if not Path("/proc/self/status").exists():
        return []
    say("memory ...")
    code = _MEMORY.format(folder=str(Path(__file__).resolve().parent))
    few = max(n_points // 9, 1)
    sizes = [
        int(run_process([sys.executable, "-c", code, str(n)]).output.split()[-1]) / 1024.0 for n in (few, n_points)
    ]
    return [row(f"memory, single: {few} and {n_points} points", None, f"{sizes[0]:.0f} and {sizes[1]:.0f} MB")]


# ---------------------------------------------------------------------------------------------------------------------
# Bayesian limits


def bayesian_rows(n_points: int) -> list[Row]:
    every = getattr(bayesian, "bayesian_upper_limits", None)
    points = masses(n_points)
    if every is None:
        done = points[:: max(n_points // 20, 1)][:20]
        say("Bayesian limits, one by one ...")

        def one_by_one() -> list[float]:
            return [
                bayesian.bayesian_upper_limit(
                    CompiledLikelihood(single(mass)), confidence_level=BAYESIAN_LEVEL
                ).observed
                for mass in done
            ]

        one_by_one()
        seconds, found = timed(one_by_one)
        factor = n_points / len(done)
        name = f"Bayesian limits of {n_points} hypotheses (extrapolated from {len(done)} points, one by one)"
        ours = {f"{name}, 1 thread": seconds * factor}
    else:
        done = points
        say("Bayesian limits, in batches ...")

        def together(n_threads: int) -> list[float]:
            values = []
            for specs in batches("single", n_points):
                for one in every(made(specs), confidence_level=BAYESIAN_LEVEL, n_threads=n_threads):
                    if isinstance(one, FitFailure):
                        raise one
                    values.append(one.observed)
            return values

        every(made([single(2.0)]), confidence_level=BAYESIAN_LEVEL)
        seconds, found = timed(lambda: together(1))
        name = f"Bayesian limits of {n_points} hypotheses, models included"
        ours = {f"{name}, 1 thread": seconds, f"{name}, 2 threads": wall_time(lambda: together(2))[0]}
    chosen = np.linspace(0, len(done) - 1, 5).round().astype(int).tolist()
    theirs, references = timed(lambda: [posterior_limit(single(done[index])) for index in chosen])
    agreement = largest_difference([found[index] for index in chosen], references)
    other = f"scipy and numpy (extrapolated from {len(chosen)} points)"
    return [row(name, value, other, theirs / len(chosen) * n_points, agreement) for name, value in ours.items()]


def posterior_limit(spec: Workspace) -> float:
    """An independent calculation for `single`."""
    from scipy.optimize import brentq
    from scipy.special import gammainc

    (signal, background) = spec["channels"][0]["samples"]
    n = spec["observations"][0]["data"][0]
    pieces = [(-5.0, -1.0), (-1.0, 1.0), (1.0, 5.0)]  # pyhf's bounds; the interpolation changes its form at one sigma
    unit, weight = np.polynomial.legendre.leggauss(40)
    alpha = np.concatenate([0.5 * (a + b) + 0.5 * (b - a) * unit for a, b in pieces])
    density = np.concatenate([0.5 * (b - a) * weight for a, b in pieces]) * np.exp(-0.5 * alpha**2)
    s = signal["data"][0] * code4(signal["modifiers"][1]["data"], alpha)[:, None]
    b = background["data"][0] * code4(background["modifiers"][0]["data"], alpha)[None, :]

    def below(mu: float) -> float:
        # of the Poisson probability as a function of mu
        return float(density @ ((gammainc(n + 1.0, mu * s + b) - gammainc(n + 1.0, b)) / s) @ density)

    total = float(density @ ((1.0 - gammainc(n + 1.0, b)) / s) @ density)
    return float(brentq(lambda mu: below(mu) - BAYESIAN_LEVEL * total, 0.0, 100.0, xtol=1e-13, rtol=1e-12))


def code4(sizes: dict[str, float], alpha: Floats) -> Floats:
    """hi^alpha and lo^-alpha beyond one sigma, between them the polynomial that fits on with two derivatives."""
    log_hi, log_lo = math.log(sizes["hi"]), math.log(sizes["lo"])
    power = np.arange(1, 7)
    matrix = np.array(
        [factor * sign**order for sign in (1.0, -1.0) for factor, order in ((1, power), (power, power - 1))]
        + [power * (power - 1) * sign**power for sign in (1.0, -1.0)]
    )
    hi, lo = sizes["hi"], sizes["lo"]
    ends = [hi - 1.0, hi * log_hi, lo - 1.0, -lo * log_lo, hi * log_hi**2, lo * log_lo**2]
    coefficients = np.linalg.solve(matrix, ends)
    inside = 1.0 + (alpha[:, None] ** power) @ coefficients
    outside = np.where(alpha > 0.0, hi ** np.abs(alpha), lo ** np.abs(alpha))
    return np.where(np.abs(alpha) < 1.0, inside, outside)


# ---------------------------------------------------------------------------------------------------------------------
# Processes


def best_process(command: list[str], environment: dict[str, str], rounds: int) -> Process:
    return min((run_process(command, environment) for _ in range(rounds)), key=lambda one: one.wall_s)


def process_rows(run_points: int) -> Iterator[Row]:
    """One by one, so that what fails late does not take the others along."""
    program = [sys.executable, "-m", "modelbuilder"]
    package = Path(import_module("modelbuilder").__file__ or "").parent
    pyhf_program = [sys.executable, "-c", "from pyhf.cli import cli; cli()"]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        cache = scratch / "compiled"
        environment = {"NUMBA_CACHE_DIR": str(cache)}
        before = set(package.rglob("*.nb*"))

        def cold(name: str, command: list[str]) -> Row:
            say(f"{name}, cold ...")
            process = run_process(command, environment)
            files = sum(1 for _ in cache.rglob("*.nbi"))
            elsewhere = len(set(package.rglob("*.nb*")) - before)
            where = f"{files} kernels in NUMBA_CACHE_DIR so far, {elsewhere} files elsewhere"
            return row(f"{name}, nothing compiled, {process.processor_s:.1f} s of processor", process.wall_s, where)

        workspace = scratch / "count.json"
        workspace.write_text(json.dumps(count(2.0)), encoding="utf-8")
        limit = [*program, "limit", str(workspace), "--json"]
        run = [*program, "run", str(SPEC), "-o"]
        yield cold("modelbuilder limit", limit)
        say("start-up ...")
        for name, command, other, their_command in (
            ("modelbuilder --help", [*program, "--help"], "pyhf --version", ["--version"]),
            ("modelbuilder limit WORKSPACE", limit, "pyhf cls, one test", ["cls", str(workspace)]),
        ):
            ours = best_process(command, environment, 7)
            theirs = best_process([*pyhf_program, *their_command], {}, 3)
            title = f"{name}, {ours.processor_s:.2f} s of processor"
            yield row(title, ours.wall_s, other, theirs.wall_s)
        yield cold("modelbuilder run, 2 points", [*run, str(scratch / "first"), "--points", "2", "--jobs", "1"])
        spent: dict[int, Process] = {}
        for jobs in (1, 2):
            say(f"modelbuilder run, {run_points} points, {jobs} jobs ...")
            command = [*run, str(scratch / f"run{jobs}"), "--points", str(run_points), "--jobs", str(jobs)]
            spent[jobs] = run_process(command, environment)
        same = (scratch / "run1" / "limits.csv").read_bytes() == (scratch / "run2" / "limits.csv").read_bytes()
        first = spent[1]
        yield row(
            f"modelbuilder run, {run_points} points, 1 job, {first.processor_s:.1f} s of processor",
            first.wall_s,
            "nothing else does all of it",
        )
        yield row(
            f"modelbuilder run, {run_points} points, 2 jobs, {spent[2].processor_s:.1f} s of processor, "
            f"{'the same' if same else 'not the same'} limits.csv",
            spent[2].wall_s,
            "1 job",
            first.wall_s,
            0.0 if same else None,
        )


def guarded(what: str, work: Callable[[], Iterable[Row]]) -> list[Row]:
    """The rows; the last one says so where something is absent or fails."""
    rows: list[Row] = []
    try:
        rows.extend(work())
    except Absent:
        rows.append(row(what, None, "absent"))
    except subprocess.CalledProcessError as error:
        detail = (str(error.stderr).strip().splitlines() or ["no message"])[-1]
        rows.append(row(what, None, f"failed: {detail[:160]}"))
    return rows


def main() -> int:
    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--points", type=int, default=9000, help="hypotheses")
        parser.add_argument("--run-points", type=int, default=20, help="points of the ALP search")

    arguments: Any = parse_arguments(__doc__, options)
    warnings.simplefilter("ignore")  # SLSQP says so when it clips a step to the bounds
    rows: list[Row] = []
    for family in FAMILIES:
        rows += guarded(family, lambda family=family: limit_rows(family, arguments.points))
    rows += guarded("memory", lambda: memory_rows(arguments.points))
    rows += guarded("Bayesian limits", lambda: bayesian_rows(arguments.points))
    rows += guarded("processes", lambda: process_rows(arguments.run_points))
    say(f"load of this machine, of {os.cpu_count()} cores: {os.getloadavg()[0]:.1f}")
    print_rows(rows, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    with_one_thread()
    raise SystemExit(main())
