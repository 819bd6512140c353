"""Speed of the kinematics engines against the same work in numpy and other packages, in one run.

    python benchmarks/kinematics.py [--json] [--events N] [--threads N]

The work: e+e- -> gamma a, a -> gamma gamma at Belle II beams; all three photons smeared in energy and direction, cut on
polar angle and energy; all three pair masses and all three recoil masses into histograms of 300 bins, with variances.
No radiation. The numpy version works in chunks of 10 000 events, which was the fastest size, on one thread.

Both are checked to give the same histograms before they are timed: `agreement` is the p-value of a chi-square
comparison, the smaller of the two observables. Times are the best of several rounds, taken in turn.

Phase space of three and four bodies: momenta and weights by the algorithm of Raubold and Lynch, nothing kept; ours also
goes to the laboratory. Against numpy, against `phasespace` (zfit) and ROOT's TGenPhaseSpace where they are installed;
all on one thread. Agreement as above, of the mass of a pair, for numpy; for the packages the smallest p-value of
Kolmogorov and Smirnov over the masses of pairs, an energy and a cosine, with a row each for two to five bodies. The
packages have no place in the environment of the project: make one of its own, `pip install ROOT phasespace numba
particle pydantic`, and run this there with PYTHONPATH and NUMBA_CACHE_DIR set.

Matrix elements: events per second on one thread, with the share that the effective sample size is of them; their
product is the rate of events without weights that tell as much.

Searches of `specs/`, one thread: from the generator through detector, cuts and observable to the histogram, in one pass
and, as the other, step by step over whole pieces with the same bits, checked before. Then a grid of 500 points of 20 000
events each with all variations, as a search makes it, and what its normalisation takes. Cores: the same on several threads. Memory: the largest
resident set of a process that makes few and many events.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuilder import load_search
from modelbuilder.histograms.look import Looker
from modelbuilder.histograms.simulate import Simulation
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import ChainGenerator, simulate_chain, weigh_chain
from modelbuilder.kinematics.cuts import fill_entries
from modelbuilder.kinematics.measure import Detector, varied_detector
from modelbuilder.kinematics.observables import evaluate_entries
from modelbuilder.kinematics.processes import GammaAlp
from modelbuilder.kinematics.response import PhotonResponse
from modelbuilder.kinematics.sample import NOMINAL
from modelbuilder.kinematics.selection import PhotonSelection
from modelbuilder.kinematics.simulate import simulate_histograms
from modelbuilder.spec.topology import Law, parse_chain

Floats = npt.NDArray[np.float64]

MASS = 3.0
N_BINS = 300
RANGES = {"mass2": (0.0, 100.0), "recoil2": (-10.0, 110.0)}
BEAMS = Beams(electron_energy=7.004, positron_energy=4.002, crossing_angle=0.083)
RESPONSE = PhotonResponse(noise=0.00066, stochastic=0.0081, constant=0.0134, angle=0.004)
SELECTION = PhotonSelection(theta=((math.radians(37.3), math.radians(123.7)),), min_energy=1.0)
AXES = {name: np.linspace(low, high, N_BINS + 1) for name, (low, high) in RANGES.items()}
CHUNK = 10_000


def ours(n_events: int, n_threads: int, seed: int) -> dict[str, tuple[Floats, Floats]]:
    """Values and variances by observable."""
    result = simulate_histograms(
        GammaAlp(mass=MASS),
        BEAMS,
        RESPONSE,
        SELECTION,
        axes=AXES,
        isr=False,
        n_events=n_events,
        seed=seed,
        stream="benchmark",
        n_threads=n_threads,
    )
    return {name: (h.values, h.variances) for name, h in result.histograms.items()}


def in_numpy(n_events: int, seed: int) -> dict[str, tuple[Floats, Floats]]:
    """The same with numpy: float64, PCG64, one chunk after the other."""
    rng = np.random.default_rng(seed)
    output = {name: (np.zeros(N_BINS), np.zeros(N_BINS)) for name in RANGES}
    done = 0
    while done < n_events:
        n = min(CHUNK, n_events - done)
        done += n
        _numpy_chunk(rng, n, output)
    return output


def _numpy_chunk(rng: np.random.Generator, n: int, output: dict[str, tuple[Floats, Floats]]) -> None:
    s, root = BEAMS.s, BEAMS.sqrt_s
    total = np.array(BEAMS.four_momentum)
    boost = np.array(BEAMS.boost)
    gamma = 1.0 / math.sqrt(1.0 - boost @ boost)
    # the electron direction in the e+e- frame and two axes orthogonal to it
    half = 0.5 * BEAMS.crossing_angle
    electron = np.array([math.sin(half), 0.0, math.cos(half)])
    third = electron + boost * (gamma * gamma / (gamma + 1.0) * (boost @ electron) - gamma)
    third /= math.sqrt(third @ third)
    second = np.array([0.0, 1.0, 0.0])
    first = np.cross(second, third)

    momentum = (s - MASS**2) / (2.0 * root)
    energy = (s + MASS**2) / (2.0 * root)
    half_y = 4.0 * rng.random(n) - 2.0
    radical = np.sqrt(half_y * half_y + 1.0)
    c = np.cbrt(radical + half_y) - np.cbrt(radical - half_y)
    st = np.sqrt(1.0 - c * c)
    azimuth = (2.0 * math.pi) * rng.random(n)
    cf, sf = np.cos(azimuth), np.sin(azimuth)
    cd = 2.0 * rng.random(n) - 1.0
    sd = np.sqrt(1.0 - cd * cd)
    turn = (2.0 * math.pi) * rng.random(n)
    k1, k2 = 0.5 * MASS * sd * np.cos(turn), 0.5 * MASS * sd * np.sin(turn)
    nx, ny, nz = st * cf, st * sf, c
    along = -0.5 * energy * cd
    kx, ky, kz = along * nx + k1 * c * cf - k2 * sf, along * ny + k1 * c * sf + k2 * cf, along * nz - k1 * st
    ke = 0.5 * momentum * cd
    h = -0.5 * momentum
    photons = (
        (np.full(n, momentum), momentum * nx, momentum * ny, momentum * nz),
        (0.5 * energy + ke, h * nx + kx, h * ny + ky, h * nz + kz),
        (0.5 * energy - ke, h * nx - kx, h * ny - ky, h * nz - kz),
    )
    keep = np.ones(n, dtype=bool)
    cos_low, cos_high = math.cos(SELECTION.theta[0][1]), math.cos(SELECTION.theta[0][0])
    measured = []
    for e, x, y, z in photons:
        # boost to the laboratory
        vx, vy, vz = (x * first[i] + y * second[i] + z * third[i] for i in range(3))
        parallel = boost[0] * vx + boost[2] * vz
        shift = gamma * gamma / (gamma + 1.0) * parallel + gamma * e
        e = gamma * (e + parallel)
        vx, vz = (vx + shift * boost[0]) / e, (vz + shift * boost[2]) / e
        vy = vy / e
        # smear
        sqrt_e = np.sqrt(e)
        sigma = np.sqrt(RESPONSE.noise**2 + e * (RESPONSE.stochastic**2 * sqrt_e + RESPONSE.constant**2 * e))
        normal = rng.standard_normal((3, n))
        e = np.maximum(e + sigma * normal[0], RESPONSE.energy_floor)
        width = RESPONSE.angle / sqrt_e
        d1, d2 = width * normal[1], width * normal[2]
        rho = np.sqrt(vx * vx + vy * vy)
        cphi, sphi = vx / rho, vy / rho
        norm = 1.0 / np.sqrt(1.0 + d1 * d1 + d2 * d2)
        wx = (vx + d1 * vz * cphi - d2 * sphi) * norm
        wy = (vy + d1 * vz * sphi + d2 * cphi) * norm
        wz = (vz - d1 * rho) * norm
        keep &= (wz >= cos_low) & (wz <= cos_high) & (e > SELECTION.min_energy)
        measured.append((e, wx, wy, wz))
    # only the kept events from here
    index = np.flatnonzero(keep)
    kept = [tuple(part[index] for part in photon) for photon in measured]
    entries: dict[str, list[Floats]] = {"mass2": [], "recoil2": []}
    for i in range(3):
        (e1, x1, y1, z1), (e2, x2, y2, z2) = kept[(i + 1) % 3], kept[(i + 2) % 3]
        entries["mass2"].append(e1 * e2 * ((x1 - x2) ** 2 + (y1 - y2) ** 2 + (z1 - z2) ** 2))
        e, x, _, z = kept[i]
        entries["recoil2"].append(s - 2.0 * e * (total[0] - total[1] * x - total[3] * z))
    for name, rows in entries.items():
        low, high = RANGES[name]
        stacked = np.array(rows)
        bins = np.floor((stacked - low) * (N_BINS / (high - low))).astype(np.int64)
        bins[(bins < 0) | (bins >= N_BINS)] = N_BINS
        output[name][0][:] += np.bincount(bins.ravel(), minlength=N_BINS + 1)[:N_BINS]
        same01, same02, same12 = bins[0] == bins[1], bins[0] == bins[2], bins[1] == bins[2]
        squares = np.concatenate([np.ones(len(index)), 1.0 + 2.0 * same01, 1.0 + 2.0 * same02 + 2.0 * same12])
        output[name][1][:] += np.bincount(bins.ravel(), weights=squares, minlength=N_BINS + 1)[:N_BINS]


def agreement(n_events: int) -> float:
    """p-value of chi-square between the two engines: the smaller one of the two observables."""
    from scipy.stats import chi2

    one, two = ours(n_events, 1, 11), in_numpy(n_events, 12)
    p_values = []
    for name in RANGES:
        variance = one[name][1] + two[name][1]
        used = variance > 50.0
        difference = one[name][0][used] - two[name][0][used]
        p_values.append(float(chi2.sf(np.sum(difference**2 / variance[used]), np.count_nonzero(used))))
    return min(p_values)


def best_times(functions: list[Callable[[], Any]], rounds: int) -> list[float]:
    """Best wall time of each, s; the functions take turns, so that a busy machine hurts all alike."""
    best = [math.inf] * len(functions)
    for _ in range(rounds):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description="Kinematics engine against numpy.")
    parser.add_argument("--json", action="store_true", help="print one JSON list on standard output")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="threads of the second row")
    arguments = parser.parse_args()
    n = arguments.events

    p_value = agreement(n)
    if p_value < 1e-4:
        sys.stderr.write(f"the engines disagree: p = {p_value:.2g}; not timed\n")
        return 1
    ours(1000, arguments.threads, 1)
    times = best_times(
        [lambda: ours(n, 1, 1), lambda: ours(n, arguments.threads, 1), lambda: in_numpy(n, 1)], arguments.rounds
    )
    rows = [
        {
            "name": f"gamma a, a to gamma gamma: {n} events, {threads} thread{'s' if threads > 1 else ''}",
            "ours_s": seconds,
            "other": f"numpy {np.__version__}, 1 thread, chunks of {CHUNK}",
            "other_s": times[2],
            "ratio": times[2] / seconds,
            "agreement": p_value,
        }
        for threads, seconds in ((1, times[0]), (arguments.threads, times[1]))
    ]
    rows += phase_space_rows(n, arguments.rounds)
    rows += agreement_rows()
    rows += matrix_element_rows(n, arguments.rounds)
    rows += search_rows(n, arguments.rounds)
    rows += grid_rows()
    rows += core_rows(4 * n, arguments.threads, arguments.rounds)
    rows += memory_rows(n)
    if arguments.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        for row in rows:
            if row["ratio"] is None:
                sys.stdout.write(f"{row['name']}: {row['other']}\n")
            else:
                agreement_ = "" if row["agreement"] is None else f", agreement p = {row['agreement']:.2g}"
                sys.stdout.write(
                    f"{row['name']}: {row['ours_s']:.3f} s, {row['other']}: {row['other_s']:.3f} s, "
                    f"ratio {row['ratio']:.1f}{agreement_}\n"
                )
    return 0


PARENT = 5.0
BODIES = {"K+": 0.493677, "pi-": 0.13957039, "pi0": 0.1349768}


def phase_space_rows(n_events: int, rounds: int) -> list[dict[str, Any]]:
    """Rows for three and four bodies; a competitor that is absent has a row that says so."""
    rows: list[dict[str, Any]] = []
    for names in (["K+", "pi-", "pi0"], ["K+", "pi-", "pi0", "pi0"]):
        topology = parse_chain(f"X -> {' '.join(names)}", masses={"X": PARENT})
        masses = [BODIES[name] for name in names]

        def own(topology: Any = topology) -> None:
            weigh_chain(topology, BEAMS, isr=False, n_events=n_events, seed=1, stream="benchmark", n_threads=1)

        weigh_chain(topology, BEAMS, isr=False, n_events=1000, seed=1, stream="benchmark", n_threads=1)
        others = {
            f"numpy {np.__version__}, chunks of {CHUNK}": lambda masses=masses: numpy_phase_space(n_events, masses),
            "phasespace": _phasespace(n_events, masses),
            "ROOT TGenPhaseSpace": _root(n_events, masses),
        }
        present = {name: function for name, function in others.items() if function is not None}
        times = best_times([own, *present.values()], rounds)
        p_value = phase_space_agreement(topology, n_events, masses)
        seconds = dict(zip(present, times[1:], strict=True))
        rows += [
            {
                "name": f"{len(names)}-body phase space: {n_events} events, 1 thread",
                "ours_s": times[0],
                "other": name if name in seconds else f"{name}: absent",
                "other_s": seconds.get(name),
                "ratio": seconds[name] / times[0] if name in seconds else None,
                "agreement": p_value if name.startswith("numpy") else None,
            }
            for name in others
        ]
    return rows


def numpy_phase_space(n_events: int, masses: list[float], keep: bool = False) -> tuple[Floats, Floats]:
    """Squared mass of the first pair and weights of all events, or of the last chunk only."""
    rng = np.random.default_rng(1)
    kept = []
    for start in range(0, n_events, CHUNK):
        momenta, weights = _numpy_phase_space(rng, min(CHUNK, n_events - start), masses)
        pair = momenta[0] + momenta[1]
        kept = [*kept, (pair, weights)] if keep else [(pair, weights)]
    pairs = np.concatenate([pair for pair, _ in kept], axis=1)
    return pairs[0] ** 2 - pairs[1] ** 2 - pairs[2] ** 2 - pairs[3] ** 2, np.concatenate([w for _, w in kept])


def _numpy_phase_space(rng: np.random.Generator, n: int, masses: list[float]) -> tuple[list[Floats], Floats]:
    """F. James, CERN 68-15 (1968): from the first pair up, each system boosted into the frame of the next."""
    n_bodies = len(masses)
    sums = np.cumsum(masses)
    ordered = np.sort(rng.random((n_bodies - 2, n)), axis=0)
    inner = [np.full(n, masses[0])]
    inner += [ordered[k - 1] * (PARENT - sums[-1]) + sums[k] for k in range(1, n_bodies - 1)]
    inner.append(np.full(n, PARENT))
    weights = np.ones(n)
    momenta: list[Floats] = [np.array([inner[0], np.zeros(n), np.zeros(n), np.zeros(n)])]
    for k in range(1, n_bodies):
        m, below, mass = inner[k], inner[k - 1], masses[k]
        p = np.sqrt((m - below - mass) * (m + below + mass) * (m - below + mass) * (m + below - mass)) / (2.0 * m)
        weights *= p
        c = 2.0 * rng.random(n) - 1.0
        st = np.sqrt(1.0 - c * c)
        phi = 2.0 * math.pi * rng.random(n)
        kx, ky, kz = p * st * np.cos(phi), p * st * np.sin(phi), p * c
        # the system of the bodies so far goes with k, the new one against it
        energy = np.sqrt(p * p + below * below)
        for q in momenta:
            along = q[1] * kx + q[2] * ky + q[3] * kz
            factor = (along / (energy + below) + q[0]) / below
            q[0] = (q[0] * energy + along) / below
            q[1] += kx * factor
            q[2] += ky * factor
            q[3] += kz * factor
        momenta.append(np.array([np.sqrt(p * p + mass * mass), -kx, -ky, -kz]))
    return momenta, weights


def phase_space_agreement(topology: Any, n_events: int, masses: list[float]) -> float:
    """p-value of chi-square between ours and numpy, of the squared mass of the first pair."""
    from scipy.stats import chi2

    n = min(n_events, 500_000)
    ours_ = simulate_chain(topology, BEAMS, isr=False, n_events=n, seed=3, stream="agreement", n_threads=1)
    pair = ours_.momenta[:, 1] + ours_.momenta[:, 2]
    mass2 = pair[:, 0] ** 2 - np.sum(pair[:, 1:] ** 2, axis=1)
    samples = [(mass2, ours_.weights), numpy_phase_space(n, masses, keep=True)]
    edges = np.linspace(0.0, (PARENT - sum(masses[2:])) ** 2, 51)
    shares, variances = [], []
    for value, weights in samples:
        shares.append(np.histogram(value, edges, weights=weights / weights.sum())[0])
        variances.append(np.histogram(value, edges, weights=(weights / weights.sum()) ** 2)[0])
    used = (variances[0] > 0.0) & (variances[1] > 0.0)
    chi_square = np.sum(((shares[0] - shares[1]) ** 2)[used] / (variances[0] + variances[1])[used])
    return float(chi2.sf(chi_square, np.count_nonzero(used) - 1))


def _phasespace(n_events: int, masses: list[float]) -> Callable[[], Any] | None:
    """zfit's package, in chunks of 1e5, after a call that compiles its graph."""
    decay = _phasespace_decay(masses)
    if decay is None:
        return None
    chunk = 100_000

    def generate() -> None:
        for start in range(0, n_events, chunk):
            weights, _ = decay.generate(n_events=min(chunk, n_events - start))
            weights.numpy()

    generate()
    return generate


def _phasespace_decay(masses: list[float]) -> Any:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import phasespace
    except ImportError:
        return None
    return phasespace.nbody_decay(PARENT, masses)


def _root(n_events: int, masses: list[float]) -> Callable[[], Any] | None:
    """ROOT's generator in a compiled loop."""
    root = _root_loops()
    return None if root is None else lambda: root.phase_space_loop(PARENT, masses, n_events)


def _root_loops() -> Any:
    try:
        import ROOT
    except ImportError:
        return None
    if not hasattr(ROOT, "phase_space_loop"):
        ROOT.gInterpreter.Declare(
            "#include <TGenPhaseSpace.h>\n"
            "double phase_space_loop(double mass, std::vector<double> masses, int n) {\n"
            "  TGenPhaseSpace generator; TLorentzVector parent(0, 0, 0, mass); double sum = 0;\n"
            "  generator.SetDecay(parent, masses.size(), masses.data());\n"
            "  for (int i = 0; i < n; ++i) sum += generator.Generate();\n"
            "  return sum; }\n"
            "void phase_space_sample(double mass, std::vector<double> masses, int n, double* out) {\n"
            "  TGenPhaseSpace generator; TLorentzVector parent(0, 0, 0, mass);\n"
            "  generator.SetDecay(parent, masses.size(), masses.data());\n"
            "  for (int i = 0; i < n; ++i) { *out++ = generator.Generate();\n"
            "    for (size_t k = 0; k < masses.size(); ++k) { TLorentzVector* p = generator.GetDecay(k);\n"
            "      *out++ = p->E(); *out++ = p->Px(); *out++ = p->Py(); *out++ = p->Pz(); } } }"
        )
    return ROOT


# ---------------------------------------------------------------------------------------------------------------------
# Agreement with the samples of the packages


def _sample_of_phasespace(n_events: int, masses: list[float]) -> tuple[Floats, Floats] | None:
    """Momenta, shape (n_bodies, n, 4), and weights."""
    decay = _phasespace_decay(masses)
    if decay is None:
        return None
    weights, particles = decay.generate(n_events=n_events, seed=1)
    momenta = np.stack([particles[f"p_{i}"].numpy() for i in range(len(masses))])
    return momenta[..., [3, 0, 1, 2]], weights.numpy()


def _sample_of_root(n_events: int, masses: list[float]) -> tuple[Floats, Floats] | None:
    root = _root_loops()
    if root is None:
        return None
    out = np.zeros(n_events * (1 + 4 * len(masses)))
    root.phase_space_sample(PARENT, masses, n_events, out)
    rows = out.reshape(n_events, -1)
    return rows[:, 1:].reshape(n_events, len(masses), 4).transpose(1, 0, 2), rows[:, 0]


def _variables(momenta: Floats) -> list[Floats]:
    """Energy and cosine of the first body, squared masses of neighbours, cosine between two."""
    direction = momenta[..., 1:] / np.sqrt(np.sum(momenta[..., 1:] ** 2, axis=-1))[..., None]
    pairs = [momenta[i] + momenta[i + 1] for i in range(len(momenta) - 1)]
    variables = [direction[0, :, 2], direction[0, :, 0]]
    if len(momenta) > 2:
        variables += [momenta[0, :, 0], momenta[-1, :, 0], np.sum(direction[0] * direction[-1], axis=-1)]
        variables += [p[:, 0] ** 2 - np.sum(p[:, 1:] ** 2, axis=1) for p in pairs]
    return variables


def _kolmogorov(one: Floats, w1: Floats, two: Floats, w2: Floats) -> float:
    """p-value for weighted samples, with their effective sizes."""
    from scipy.stats import kstwobign

    order = np.argsort(np.concatenate([one, two]), kind="stable")
    steps = np.concatenate([w1 / w1.sum(), -w2 / w2.sum()])[order]
    n1, n2 = w1.sum() ** 2 / np.sum(w1**2), w2.sum() ** 2 / np.sum(w2**2)
    return float(kstwobign.sf(np.max(np.abs(np.cumsum(steps))) * math.sqrt(n1 * n2 / (n1 + n2))))


def agreement_rows() -> list[dict[str, Any]]:
    """Two to five bodies against the samples of the packages: the smallest p-value of all variables."""
    rows: list[dict[str, Any]] = []
    names = ["K+", "pi-", "pi0", "pi0", "gamma"]
    known = {**BODIES, "gamma": 0.0}
    for n in (2, 3, 4, 5):
        # in the laboratory at rest
        masses = [known[name] for name in names[:n]]
        topology = parse_chain(f"X -> {' '.join(names[:n])}", masses={"X": PARENT})
        beams = Beams(electron_energy=5.0, positron_energy=5.0)
        events = simulate_chain(topology, beams, isr=False, n_events=200_000, seed=5, stream="sample", n_threads=1)
        own = _variables(events.momenta[:, 1:].transpose(1, 0, 2))
        samples = {
            "phasespace": _sample_of_phasespace(200_000, masses),
            "ROOT TGenPhaseSpace": _sample_of_root(200_000, masses),
        }
        for name, sample in samples.items():
            row = {"name": f"{n}-body phase space: distributions", "ours_s": None, "other_s": None, "ratio": None}
            if sample is None:
                rows.append({**row, "other": f"{name}: absent", "agreement": None})
                continue
            others = _variables(sample[0])
            p_values = [_kolmogorov(a, events.weights, b, sample[1]) for a, b in zip(own, others, strict=True)]
            text = f"{name}: smallest p of {len(p_values)} tests {min(p_values):.2g}"
            rows.append({**row, "other": text, "agreement": min(p_values)})
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# Matrix elements, cores, memory

PROCESSES: list[tuple[str, dict[str, float], dict[str, Law]]] = [
    ("mu+ mu- X", {"X": 0.3}, {"e+ e-": Law(name="leptons-vector")}),
    ("mu+ mu- X", {"X": 5.0}, {"e+ e-": Law(name="leptons-vector")}),
    ("tau+ tau- X", {"X": 1.0}, {"e+ e-": Law(name="leptons-scalar")}),
    ("mu+ mu- X", {"X": 5.0}, {"e+ e-": Law(name="leptons-pseudoscalar")}),
    ("e+ mu- X", {"X": 1.0}, {"e+ e-": Law(name="mixed-leptons-vector")}),
    ("gamma gamma gamma", {}, {"e+ e-": Law(name="three-photons", min_energy=0.3, max_cos=0.9)}),
    ("gamma gamma gamma", {}, {"e+ e-": Law(name="three-photons", min_energy=0.05, max_cos=0.999)}),
    ("gamma gamma", {}, {"e+ e-": Law(name="two-photons", min_energy=0.5, max_cos=0.95)}),
    ("mu+ mu- gamma", {}, {"e+ e-": Law(name="leptons-photon", min_energy=0.1, max_cos=0.9)}),
    ("tau+ tau- gamma", {}, {"e+ e-": Law(name="leptons-photon", min_energy=0.1, max_cos=0.9)}),
    ("gamma A", {"A": 3.0}, {"e+ e-": Law(name="photon-vector", min_energy=0.5, max_cos=0.95)}),
    ("tau+ tau-, tau+ -> pi+ nu, tau- -> nu e- nubar", {}, {"tau-": Law(name="leptonic")}),
]


def _generator(products: str, masses: dict[str, float], laws: dict[str, Law], isr: bool) -> ChainGenerator:
    return ChainGenerator(parse_chain(f"e+ e- -> {products}", masses=masses, laws=laws), BEAMS, isr=isr)


def matrix_element_rows(n_events: int, rounds: int) -> list[dict[str, Any]]:
    """Rates on one thread, as events and as events without weights that tell as much."""
    rows: list[dict[str, Any]] = []
    for products, masses, laws in PROCESSES:
        for isr in (False, True):
            chain = _generator(products, masses, laws, isr)

            def run(chain: ChainGenerator = chain, n: int = n_events) -> Any:
                return chain.weigh(n_events=n, seed=1, stream="rates", n_threads=1)

            run(n=1000)
            seconds = best_times([run], rounds)[0]
            share = run().effective_sample_size / n_events
            rate = n_events / seconds * 1e-6
            law = next(iter(laws.values())).name
            with_masses = "".join(f", {name} of {mass:g} GeV" for name, mass in masses.items())
            rows.append(
                {
                    "name": f"{products} ({law}{with_masses}){', isr' if isr else ''}: {n_events} events, 1 thread",
                    "ours_s": seconds,
                    "other": (
                        f"{rate:.1f} million/s, effective share {share:.2f}: {rate * share:.1f} million unweighted/s"
                    ),
                    "other_s": None,
                    "ratio": None,
                    "agreement": None,
                }
            )
    return rows


SPECS = Path(__file__).resolve().parents[1] / "specs" / "belle2"


def search_rows(n_events: int, rounds: int) -> list[dict[str, Any]]:
    """One sample at one mass: a nominal detector, and all variations of the search."""
    rows: list[dict[str, Any]] = []
    for name, mass in (("zprime_invisible_2018", 3.0), ("alp_gammagamma_2018", 3.0)):
        looker = Looker(load_search(SPECS / f"{name}.yaml"), masses=(mass,), n_events=n_events)
        nominal = looker.simulation.detector
        detectors = {NOMINAL: nominal}
        for key, (vary, size) in looker.simulation.variations("signal", looker.point.values).items():
            detectors |= {f"{key}/{end}": varied_detector(nominal, vary, end * size) for end in (1, -1)}
        for chosen in ({NOMINAL: nominal}, detectors):
            edges = np.linspace(0.0, 11.0 if "recoil" in looker.observable else 100.0, 301)

            def run(looker: Looker = looker, chosen: Any = chosen, edges: Floats = edges) -> dict[str, Floats]:
                found = looker.chain.run(chosen, looker.observable, edges, n_threads=1)
                return {key: histogram.values for key, histogram in found.histograms.items()}

            def in_steps(looker: Looker = looker, chosen: Any = chosen, edges: Floats = edges) -> dict[str, Floats]:
                return {key: _in_steps(looker, detector, edges) for key, detector in chosen.items()}

            one, two = run(), in_steps()
            if not all(np.array_equal(one[key], two[key]) for key in chosen):
                msg = f"{name}: one pass and its steps disagree"
                raise RuntimeError(msg)
            seconds, other = best_times([run, in_steps], rounds)
            number = "nominal detector" if len(chosen) == 1 else f"{len(chosen)} detectors"
            rate = n_events / seconds * 1e-6
            rows.append(
                {
                    "name": f"{looker.process}: {n_events} events to the histogram, {number}, {rate:.2f} million/s",
                    "ours_s": seconds,
                    "other": "step by step",
                    "other_s": other,
                    "ratio": other / seconds,
                    "agreement": None,
                }
            )
    return rows


def _in_steps(looker: Looker, detector: Detector, edges: Floats) -> Floats:
    """Sums of weights, piece by piece."""
    values = np.zeros(len(edges) + 1)
    for piece in looker.chain.pieces(detector, n_threads=1):
        entries = [evaluate_entries(one, piece.measured, looker.simulation.beams) for one in looker.observables]
        weights = np.repeat(piece.weights, [len(rows) for rows in entries], axis=0)
        values += fill_entries(np.concatenate(entries), weights, edges)[0]
    return values[1:-1]


def grid_rows(n_points: int = 500, n_events: int = 20_000) -> list[dict[str, Any]]:
    """Signal templates of a grid on one thread, once; and their normalisation to the cross section without radiation."""
    rows: list[dict[str, Any]] = []
    for name, variable in (("zprime_invisible_2018", "m_Zp"), ("alp_gammagamma_2018", "m_a")):
        search = load_search(SPECS / f"{name}.yaml", overrides=[f"signal.events={n_events}"])
        points = [search.points[i * len(search.points) // n_points] for i in range(n_points)]
        simulation = Simulation(search)
        simulation.signal(simulation.region_of(points[0]), points[0])
        times = [0.0, 0.0]
        for point in points:
            region = simulation.region_of(point)
            start = time.perf_counter()
            variations = simulation.variations("signal", point.values)
            simulation.sample("signal", region, point).run(region.binning.edges, variations, n_threads=1)
            middle = time.perf_counter()
            simulation.born_cross_section("signal", point)
            times[0] += middle - start
            times[1] += time.perf_counter() - middle
        rows.append(
            {
                "name": f"{name}: {n_points} points in {variable} x {n_events} events, {2 * len(variations)} variations",
                "ours_s": times[0],
                "other": f"{times[0]:.1f} s, and {times[1]:.1f} s for the normalisation",
                "other_s": None,
                "ratio": None,
                "agreement": None,
            }
        )
    return rows


def core_rows(n_events: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    """One thread against several, of one process."""
    products, masses, laws = PROCESSES[0]
    chain = _generator(products, masses, laws, True)

    def run(n_threads: int) -> None:
        chain.weigh(n_events=n_events, seed=1, stream="cores", n_threads=n_threads)

    run(threads)
    one, many = best_times([lambda: run(1), lambda: run(threads)], rounds)
    return [
        {
            "name": f"{products}, isr: {n_events} events, {threads} threads",
            "ours_s": many,
            "other": "1 thread",
            "other_s": one,
            "ratio": one / many,
            "agreement": None,
        }
    ]


_MEMORY = """
import sys
sys.path.insert(0, {folder!r})
from kinematics import _generator, PROCESSES
chain = _generator(*PROCESSES[0], True)
n, piece = int(sys.argv[1]), int(sys.argv[2])
for first in range(0, n, piece):
    if sys.argv[3] == "events":
        chain.events(n_events=min(piece, n - first), first_event=first, seed=1, stream="m", n_threads=1)
    else:
        chain.weigh(n_events=min(piece, n - first), first_event=first, seed=1, stream="m", n_threads=1)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def memory_rows(n_events: int) -> list[dict[str, Any]]:
    """Largest resident set of fresh processes with one and with ten times as many events, MB; on Linux."""
    if not Path("/proc/self/status").exists():
        return []
    code = _MEMORY.format(folder=str(Path(__file__).resolve().parent))
    rows: list[dict[str, Any]] = []
    for what, piece in (("weigh", 10 * n_events), ("events", 100_000)):
        sizes = []
        for n in (n_events, 10 * n_events):
            command = [sys.executable, "-c", code, str(n), str(piece), what]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            sizes.append(int(done.stdout.split()[-1]) / 1024)
        pieces = "sums only" if what == "weigh" else f"all momenta, pieces of {piece}"
        rows.append(
            {
                "name": f"memory, {pieces}: {n_events} and {10 * n_events} events",
                "ours_s": None,
                "other": f"{sizes[0]:.0f} and {sizes[1]:.0f} MB",
                "other_s": None,
                "ratio": None,
                "agreement": None,
            }
        )
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
