"""Speed of upper limits against pyhf, in one run.

    python benchmarks/limits.py [--json] [--rounds N]

The work: the observed and the five expected 90% CLs limits, one thread, everything warm, the model already built.
Families: `count`, a signal bin with two control bins, 9 parameters; `bump60`, a peak in 60 bins, 3 backgrounds, 73
parameters; `multi`, 4 channels of 100 bins, 421 parameters.

pyhf with numpy is too slow for `multi` even for one test: there the time is that of one evaluation of its likelihood,
times their number in a test of `bump60`, scaled by the number of parameters (its gradient is numerical), times the
number of tests; `agreement` is then the relative difference of -2 ln L at the best fit without signal.

pyhf scans with `toms748_scan` and scipy, with its numpy backend and with jax where that is installed. Its time for a
family is measured where it takes minutes at most; elsewhere it is one hypothesis test, times the number of tests that
the scan of `count` needed: an entry so estimated says so in its name. `agreement` is the largest relative difference
of the six limits, or of the CLs values of that one test (pyhf's minimiser at its default tolerance is the larger part).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuilder.inference import AsymptoticCalculator, CompiledLikelihood, compiled_upper_limit

Floats = npt.NDArray[np.float64]
Workspace = dict[str, Any]

CONFIDENCE_LEVEL = 0.9
LUMI = {"name": "lumi", "type": "lumi", "data": None}


def normfactor(name: str) -> dict[str, Any]:
    return {"name": name, "type": "normfactor", "data": None}


def normsys(name: str, hi: float, lo: float) -> dict[str, Any]:
    return {"name": name, "type": "normsys", "data": {"hi": hi, "lo": lo}}


def histosys(name: str, hi: Floats, lo: Floats) -> dict[str, Any]:
    return {"name": name, "type": "histosys", "data": {"hi_data": hi.tolist(), "lo_data": lo.tolist()}}


def staterror(name: str, yields: Floats, relative: float) -> dict[str, Any]:
    return {"name": name, "type": "staterror", "data": (np.sqrt(yields) * relative).tolist()}


def peak(edges: Floats, mass: float, width: float) -> Floats:
    """Share of a Gaussian in each bin."""
    return np.diff([0.5 * (1.0 + math.erf((edge - mass) / (width * math.sqrt(2.0)))) for edge in edges])


def workspace(channels: dict[str, tuple[list[dict[str, Any]], Floats]], poi_bound: float) -> Workspace:
    """channels: samples and counts by name."""
    lumi = {"name": "lumi", "auxdata": [1.0], "bounds": [[0.5, 1.5]], "inits": [1.0], "sigmas": [0.017]}
    poi = {"name": "mu", "bounds": [[0.0, poi_bound]], "inits": [1.0]}
    return {
        "version": "1.0.0",
        "channels": [{"name": name, "samples": samples} for name, (samples, _) in channels.items()],
        "observations": [{"name": name, "data": counts.tolist()} for name, (_, counts) in channels.items()],
        "measurements": [{"name": "limit", "config": {"poi": "mu", "parameters": [lumi, poi]}}],
    }


def sample(name: str, yields: Floats | float, *modifiers: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "data": np.atleast_1d(yields).tolist(), "modifiers": list(modifiers)}


def count(mass: float) -> Workspace:
    """A signal bin and two control bins that fix the two backgrounds."""
    rng = np.random.default_rng(13)
    efficiency = 0.6 + 0.3 * math.sin(mass)
    signal = [normfactor("mu"), LUMI, normsys("sig_eff", 1.06, 0.94)]
    a, b = normfactor("k_A"), normfactor("k_B")
    stat = [{"name": "stat_SR", "type": "staterror", "data": [value]} for value in (0.5, 0.4)]
    counts = [np.array([float(rng.poisson(expected))]) for expected in (10.5, 135.0, 80.0)]
    return workspace(
        {
            "SR": (
                [
                    sample("signal", 8.0 * efficiency, *signal, normsys("sig_th", 1.1, 0.92)),
                    sample("A", 6.0, a, normsys("A_extrap", 1.08, 0.93), stat[0]),
                    sample("B", 3.0 + 0.2 * mass, b, normsys("B_extrap", 1.12, 0.90), stat[1]),
                ],
                counts[0],
            ),
            "CR1": (
                [sample("signal", 0.4 * efficiency, *signal), sample("A", 120.0, a), sample("B", 15.0, b)],
                counts[1],
            ),
            "CR2": ([sample("A", 20.0, a), sample("B", 60.0, b)], counts[2]),
        },
        15.0,
    )


def bump60(mass: float) -> Workspace:
    """A peak on three backgrounds, with rate, shape and per-bin uncertainties."""
    edges = np.linspace(0.0, 6.0, 61)
    x = 0.5 * (edges[1:] + edges[:-1])
    t = (x - x.mean()) / (x.max() - x.min())
    continuum = 250.0 * np.exp(-0.55 * x)
    rising = 18.0 * (0.3 + 0.25 * x)
    broad = 40.0 * np.exp(-0.5 * ((x - 3.0) / 0.5) ** 2)
    width = 0.06 + 0.02 * mass
    window = abs(x - mass) < 2.0 * width
    events = 2.0 * math.sqrt(float((continuum + rising + broad)[window].sum()) + 4.0)
    up, down = (events * peak(edges, mass, width * factor) for factor in (1.1, 0.9))
    samples = [
        sample(
            "signal",
            events * peak(edges, mass, width),
            normfactor("mu"),
            LUMI,
            normsys("sig_eff", 1.05, 0.95),
            normsys("sig_trig", 1.02, 0.98),
            normsys("sig_scale", 1.08, 0.93),
            normsys("pdf", 1.03, 0.97),
            histosys("sig_width", up, down),
        ),
        sample(
            "cont",
            continuum,
            normfactor("k_cont"),
            normsys("pdf", 1.02, 0.99),
            histosys("cont_slope", continuum * (1.0 + 0.1 * t), continuum * (1.0 - 0.09 * t)),
            staterror("stat", continuum, 0.4),
        ),
        sample(
            "rising",
            rising,
            LUMI,
            normsys("rise_xs", 1.1, 0.92),
            histosys("rise_shape", rising * (1.0 + 0.2 * t), rising * (1.0 - 0.2 * t)),
            staterror("stat", rising, 0.3),
        ),
        sample(
            "broad",
            broad,
            LUMI,
            normsys("broad_xs", 1.15, 0.85),
            histosys("broad_jes", broad * (1.0 + 0.15 * np.sin(x)), broad * (1.0 - 0.13 * np.sin(x))),
            staterror("stat", broad, 0.3),
        ),
    ]
    counts = np.random.default_rng(11).poisson(continuum + rising + broad).astype(float)
    return workspace({"SR": (samples, counts)}, 10.0)


def multi(mass: float) -> Workspace:
    """Four channels of different purity that share most of their systematics."""
    rng = np.random.default_rng(12)
    edges = np.linspace(0.0, 10.0, 101)
    x = 0.5 * (edges[1:] + edges[:-1])
    t = (x - 5.0) / 10.0
    width = 0.1 + 0.02 * mass
    channels = {}
    for k, purity in enumerate((1.0, 0.5, 0.15, 0.05)):
        cont = 400.0 * (1.0 - 0.2 * k) * np.exp(-0.45 * x) + 0.3
        rising = 15.0 * (1 + k) * (0.3 + 0.1 * x)
        broad = 20.0 * np.exp(-0.5 * (x - 4.0) ** 2) + 0.05
        counts = rng.poisson(cont + rising + broad).astype(float)
        window = abs(x - mass) < 2.0 * width
        events = 1.6 * purity * math.sqrt(float((cont + rising + broad)[window].sum()) + 4.0)
        nominal, up, down = (events * peak(edges, mass, width * factor) for factor in (1.0, 1.1, 0.9))
        stat, wave = f"stat_{k}", np.sin(x)
        samples = [
            sample(
                "signal",
                nominal,
                normfactor("mu"),
                LUMI,
                normsys("sig_eff", 1.05, 0.95),
                normsys(f"sig_id{k}", 1.02, 0.98),
                normsys("sig_scale", 1.08, 0.93),
                normsys("pdf", 1.03, 0.97),
                histosys("sig_width", up, down),
            ),
            sample(
                "cont",
                cont,
                normfactor("k_cont"),
                normsys("pdf", 1.02, 0.99),
                normsys(f"cont_extrap{k}", 1.03, 0.97),
                histosys("cont_slope", cont * (1.0 + 0.1 * t), cont * (1.0 - 0.09 * t)),
                histosys("jes", cont * (1.0 + 0.03 * t), cont * (1.0 - 0.03 * t)),
                staterror(stat, cont, 0.4),
            ),
            sample(
                "rising",
                rising,
                normfactor("k_rise"),
                normsys("rise_xs", 1.1, 0.92),
                histosys("rise_shape", rising * (1.0 + 0.2 * t), rising * (1.0 - 0.2 * t)),
                histosys("jes", rising * (1.0 - 0.04 * t), rising * (1.0 + 0.04 * t)),
                staterror(stat, rising, 0.3),
            ),
            sample(
                "broad",
                broad,
                LUMI,
                normsys("broad_xs", 1.15, 0.85),
                histosys("jes", broad * (1.0 + 0.15 * wave), broad * (1.0 - 0.13 * wave)),
                staterror(stat, broad, 0.3),
            ),
        ]
        channels[f"ch{k}"] = (samples, counts)
    return workspace(channels, 10.0)


FAMILIES: dict[str, Callable[[float], Workspace]] = {"count": count, "bump60": bump60, "multi": multi}


def best_time(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of several rounds."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def pyhf_problem(spec: Workspace, backend: str) -> tuple[Any, list[float]]:
    """pyhf with this backend, its model and data."""
    import pyhf

    pyhf.set_backend(backend, pyhf.optimize.scipy_optimizer())
    config = spec["measurements"][0]["config"]
    model = pyhf.Model(
        {"channels": spec["channels"], "parameters": config["parameters"]}, poi_name="mu", validate=False
    )
    counts = {observation["name"]: observation["data"] for observation in spec["observations"]}
    return model, [n for channel in model.config.channels for n in counts[channel]] + model.config.auxdata


def measured_scan(spec: Workspace, backend: str, limits: list[float]) -> tuple[float, float, int]:
    """Seconds of pyhf's scan, its largest relative difference from `limits`, and the number of its hypothesis tests."""
    from pyhf.infer.intervals import upper_limits

    model, data = pyhf_problem(spec, backend)
    calls = 0
    hypotest = upper_limits.hypotest

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return hypotest(*arguments, **options)

    upper_limits.hypotest = counted
    try:
        begin = time.perf_counter()
        # from just above zero, where pyhf's CLs is 0/0
        observed, expected = upper_limits.toms748_scan(data, model, 0.01, 15.0, level=1.0 - CONFIDENCE_LEVEL, rtol=1e-4)
        seconds = time.perf_counter() - begin
    finally:
        upper_limits.hypotest = hypotest
    theirs = [float(observed), *(float(value) for value in expected)]
    return seconds, max(abs(a / b - 1.0) for a, b in zip(theirs, limits, strict=True)), calls


def measured_test(spec: Workspace, backend: str, mu: float, cls: list[float]) -> tuple[float, float]:
    """Seconds of one of pyhf's hypothesis tests, and its largest difference in CLs."""
    from pyhf.infer import hypotest

    model, data = pyhf_problem(spec, backend)
    begin = time.perf_counter()
    observed, expected = hypotest(mu, data, model, return_expected_set=True)
    seconds = time.perf_counter() - begin
    theirs = [float(observed), *(float(value) for value in expected)]
    return seconds, max(abs(a - b) for a, b in zip(theirs, cls, strict=True))


def measured_evaluation(spec: Workspace, likelihood: CompiledLikelihood) -> tuple[float, float]:
    """Seconds of one evaluation of pyhf's likelihood with numpy, and its relative difference in -2 ln L."""
    model, data = pyhf_problem(spec, "numpy")
    point = list(likelihood.fit_fixed_poi(0.0).bestfit)
    seconds = best_time(lambda: model.logpdf(point, data), 10)
    return seconds, abs(-2.0 * float(model.logpdf(point, data)[0]) / likelihood.twice_nll(point) - 1.0)


def counted_evaluations(spec: Workspace, mu: float) -> float:
    """Evaluations of the likelihood in one of pyhf's hypothesis tests with numpy, per parameter."""
    from pyhf import Model
    from pyhf.infer import hypotest

    model, data = pyhf_problem(spec, "numpy")
    calls = 0
    logpdf = Model.logpdf

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return logpdf(*arguments)

    Model.logpdf = counted
    try:
        hypotest(mu, data, model)
    finally:
        Model.logpdf = logpdf
    return calls / float(model.config.npars)


def compare(family: str, backend: str, rounds: int, n_tests: int) -> tuple[dict[str, Any], int]:
    """One row of the table, and the number of hypothesis tests of a scan."""
    spec = FAMILIES[family](2.0)
    likelihood = CompiledLikelihood(spec)
    limit = compiled_upper_limit(likelihood, confidence_level=CONFIDENCE_LEVEL)  # compiles, where it has to
    ours = best_time(lambda: compiled_upper_limit(likelihood, confidence_level=CONFIDENCE_LEVEL), rounds)
    name, other = family, f"pyhf {backend}+scipy"
    from pyhf.exceptions import ImportBackendError

    try:
        if backend == "jax" or family == "count":
            theirs, agreement, n_tests = measured_scan(spec, backend, [limit.observed, *limit.expected])
        elif family == "multi":
            name = f"{family} (estimated: evaluations as for bump60, by parameters, in {n_tests} tests)"
            one, agreement = measured_evaluation(spec, likelihood)
            calls = counted_evaluations(FAMILIES["bump60"](2.0), 1.0) * len(likelihood.parameters)
            theirs = one * calls * n_tests
        else:
            name = f"{family} (estimated: {n_tests} times one hypothesis test)"
            test = AsymptoticCalculator(likelihood).hypothesis_test(limit.observed)
            one, agreement = measured_test(spec, backend, limit.observed, [test.cl_s, *test.expected_cl_s])
            theirs = one * n_tests
    except ImportBackendError:
        absent = {"name": name, "ours_s": ours, "other": f"{other} (absent)", "other_s": None}
        return {**absent, "ratio": None, "agreement": None}, n_tests
    row = {"name": name, "ours_s": ours, "other": other, "other_s": theirs, "ratio": theirs / ours}
    return {**row, "agreement": agreement}, n_tests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of ours; the fastest counts")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # SLSQP says so when it clips a step to the bounds
    rows = []
    n_tests = 0
    for backend in ("numpy", "jax"):
        for family in FAMILIES:
            print(f"{family} against pyhf with {backend} ...", file=sys.stderr)
            row, n_tests = compare(family, backend, arguments.rounds, n_tests)
            rows.append(row)
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        theirs = "absent" if row["ratio"] is None else f"{row['other_s']:.3g} s, {row['ratio']:.0f} times ours"
        print(f"{row['name']}: {1e3 * row['ours_s']:.3f} ms; {row['other']}: {theirs}; agreement {row['agreement']}")


if __name__ == "__main__":
    main()
