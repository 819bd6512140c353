"""Run a simulation: events, or histograms without keeping the events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.processes import Process
from modelbuilder.kinematics.response import PhotonResponse
from modelbuilder.kinematics.selection import STEPS, PhotonSelection
from modelbuilder.kinematics.shards import ordered_sum, run_shards, shard_bounds, stream_key

Floats = npt.NDArray[np.float64]
Pairing = Literal["all", "true"]

OBSERVABLES = {"mass2": 0, "recoil2": 1}  # codes as in _three_photons._observe


@dataclass(frozen=True, kw_only=True)
class PseudoData:
    """Turn a simulation into a pseudo-experiment: each event enters with a Poisson weight.

    luminosity: fb^-1.    efficiency: of what the simulation does not contain.
    seed: of the Poisson numbers; the simulated events depend on the seed of the simulation only.
    cross_section: fb, for a process with relative weights; None for one with weights in fb.

    The mean for an event is w luminosity efficiency (cross_section) / n_events. The number depends on the event alone,
    so one event is in all histograms and selections or in none, and every total is Poisson distributed. Its mean is
    that of the simulated events, which has their statistical error: simulate many more events than are expected.
    """

    luminosity: float
    seed: int
    efficiency: float = 1.0
    cross_section: float | None = None


@dataclass(frozen=True, kw_only=True)
class SimulatedHistogram:
    """One observable: sums of weights, not divided by the number of events.

    edges: shape (n_bins + 1,), GeV^2; a bin contains its lower edge and not its upper one.
    values: shape (n_bins,).
    variances: shape (n_bins,), statistical; an event with k entries in a bin adds (k w)^2. Entries of one event in
        different bins correlate these bins; that is not stored.
    underflow, overflow: sums of weights outside.
    """

    edges: Floats
    values: Floats
    variances: Floats
    underflow: float
    overflow: float


@dataclass(frozen=True, kw_only=True)
class CutFlow:
    """Sums of weights and of squared weights after each step, in the order of the cuts."""

    steps: tuple[str, ...]
    sum_weights: tuple[float, ...]
    sum_squared_weights: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SimulatedHistograms:
    """What a simulation gives. `histograms` is keyed by observable."""

    histograms: Mapping[str, SimulatedHistogram]
    cut_flow: CutFlow
    n_events: int
    weight_unit: str

    @property
    def selected_per_event(self) -> float:
        """Sum of selected weights over n_events: acceptance, or cross section after cuts in fb (see weight_unit)."""
        return self.cut_flow.sum_weights[-1] / self.n_events

    @property
    def selected_per_event_stdev(self) -> float:
        """Statistical standard deviation of `selected_per_event`."""
        mean = self.selected_per_event
        return math.sqrt(max(self.cut_flow.sum_squared_weights[-1] / self.n_events - mean**2, 0.0) / self.n_events)

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2 of the selected events; 0 if there are none."""
        squared = self.cut_flow.sum_squared_weights[-1]
        return self.cut_flow.sum_weights[-1] ** 2 / squared if squared > 0.0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Events:
    """Simulated events, all of them.

    true, reconstructed: laboratory E, px, py, pz of photons 0, 1, 2, GeV; shape (n_events, 3, 4).
    weights: before the selection; shape (n_events,). Events of weight 0 are not physical (below threshold or outside
        the generator cuts) and their momenta mean nothing.
    selected: whether the event passes the selection; shape (n_events,).
    """

    true: Floats
    reconstructed: Floats
    weights: Floats
    selected: npt.NDArray[np.bool_]


def simulate_histograms(
    process: Process,
    beams: Beams,
    response: PhotonResponse,
    selection: PhotonSelection,
    *,
    axes: Mapping[str, npt.ArrayLike],
    isr: bool,
    n_events: int,
    seed: int,
    stream: str,
    pairing: Pairing = "all",
    n_threads: int | None = None,
    pseudo: PseudoData | None = None,
) -> SimulatedHistograms:
    """Simulate and fill, in memory that does not grow with n_events.

    axes: bin edges in GeV^2 by observable: `mass2`, the squared mass of a photon pair, and `recoil2`, the squared mass
        recoiling against a photon, s - 2 sqrt(s) E*, with the nominal beams.
    isr: collinear radiation of both beams.
    seed, stream: the random numbers are a function of these and of the number of the event.
    pairing: "all" for three entries per event, "true" for the pair from the decay and the photon recoiling against it.
    n_threads: None for one per processor. The result is the same bit for bit.
    """
    if not axes:
        msg = f"simulation: no observable; known: {', '.join(sorted(OBSERVABLES))}"
        raise KinematicsError(msg)
    all_edges = {name: _checked_edges(name, edges) for name, edges in axes.items()}
    arrays = _run(
        process, beams, response, selection, all_edges, isr, n_events, seed, stream, pairing, n_threads, pseudo, False
    )
    values, variances = ordered_sum(arrays["values"]), ordered_sum(arrays["variances"])
    histograms = {}
    offset = 0
    for name, edges in all_edges.items():
        part = slice(offset, offset + len(edges) + 1)
        histograms[name] = SimulatedHistogram(
            edges=edges,
            values=values[part][1:-1].copy(),
            variances=variances[part][1:-1].copy(),
            underflow=float(values[part][0]),
            overflow=float(values[part][-1]),
        )
        offset = part.stop
    sums = ordered_sum(arrays["sums"])
    return SimulatedHistograms(
        histograms=histograms,
        cut_flow=CutFlow(
            steps=STEPS,
            sum_weights=tuple(float(w) for w in sums[:, 0]),
            sum_squared_weights=tuple(float(w) for w in sums[:, 1]),
        ),
        n_events=n_events,
        weight_unit="1" if pseudo is not None else process.weight_unit,
    )


def simulate_events(
    process: Process,
    beams: Beams,
    response: PhotonResponse,
    selection: PhotonSelection,
    *,
    isr: bool,
    n_events: int,
    seed: int,
    stream: str,
    n_threads: int | None = None,
    pseudo: PseudoData | None = None,
) -> Events:
    """The events that `simulate_histograms` fills, with the same arguments: 208 bytes each."""
    arrays = _run(process, beams, response, selection, {}, isr, n_events, seed, stream, "all", n_threads, pseudo, True)
    weights = arrays["weights"]
    return Events(
        true=arrays["true"],
        reconstructed=arrays["reconstructed"],
        weights=weights[:, 0].copy(),
        selected=weights[:, 1] != 0.0,
    )


def _checked_edges(name: str, edges: npt.ArrayLike) -> Floats:
    if name not in OBSERVABLES:
        msg = f"simulation: unknown observable {name!r}; known: {', '.join(sorted(OBSERVABLES))}"
        raise KinematicsError(msg)
    checked = np.array(edges, dtype=np.float64)
    if checked.ndim != 1 or len(checked) < 2 or not np.all(np.isfinite(checked)) or not np.all(np.diff(checked) > 0.0):
        msg = f"simulation: edges of {name} must be at least two finite ascending numbers"
        raise KinematicsError(msg)
    return checked


def _guide(edges: Floats) -> npt.NDArray[np.int64]:
    """For equal cells between the outer edges, a bin not above the bin of any point of the cell (see _three_photons._fill)."""
    n_cells = min(4 * (len(edges) - 1), 1 << 16)
    step = (edges[-1] - edges[0]) / n_cells
    # the kernel may round a point into the cell above its own, hence the shift
    left = edges[0] + (np.arange(n_cells) - 1e-3) * step
    guide: npt.NDArray[np.int64] = np.maximum(np.searchsorted(edges, left, side="right") - 1, 0).astype(np.int64)
    return guide


def _run(
    process: Process,
    beams: Beams,
    response: PhotonResponse,
    selection: PhotonSelection,
    all_edges: Mapping[str, Floats],
    isr: bool,
    n_events: int,
    seed: int,
    stream: str,
    pairing: Pairing,
    n_threads: int | None,
    pseudo: PseudoData | None,
    keep_events: bool,
) -> dict[str, Floats]:
    """Check, call the kernels, and return their arrays: values, variances and sums by shard, and the events."""
    if n_events < 1:
        msg = f"simulation: n_events is {n_events}; it must be at least 1"
        raise KinematicsError(msg)
    if n_threads is not None and n_threads < 1:
        msg = f"simulation: n_threads is {n_threads}; it must be at least 1"
        raise KinematicsError(msg)
    if pairing not in ("all", "true"):
        msg = f"simulation: pairing is {pairing!r}; known: all, true"
        raise KinematicsError(msg)
    if pairing == "true" and not process.has_true_pairing:
        msg = f'simulation: {type(process).__name__} has no decay to two photons, so no "true" pairing; use "all"'
        raise KinematicsError(msg)
    parameters = process.parameters(beams, response, selection)
    events_per_weight = _events_per_weight(process, n_events, pseudo)

    from modelbuilder.kinematics import _random, _three_photons

    bounds = shard_bounds(n_events, _random.BLOCK)
    n_shards = len(bounds) - 1
    edges = list(all_edges.values())
    guides = [_guide(part) for part in edges]
    window = selection.mass_window
    half = 0.5 * beams.crossing_angle
    n_kept = n_events if keep_events else 0
    n_values = sum(len(part) + 1 for part in edges)
    arrays: dict[str, Floats] = {
        "values": np.zeros((n_shards, n_values)),
        "variances": np.zeros((n_shards, n_values)),
        "sums": np.zeros((n_shards, _three_photons.N_STEPS, 2)),
        "true": np.zeros((n_kept, 3, 4)),
        "reconstructed": np.zeros((n_kept, 3, 4)),
        "weights": np.zeros((n_kept, 2)),
    }
    pseudo_key = stream_key(pseudo.seed, f"{stream}/pseudo") if pseudo is not None else (0, 0)
    physics: tuple[Any, ...] = (
        process.code,
        np.array([*stream_key(seed, stream), *pseudo_key], dtype=np.uint64),
        (
            beams.electron_energy,
            beams.positron_energy,
            math.sin(half),
            math.cos(half),
            beams.sqrt_s,
            beams.electron_energy_spread / beams.electron_energy,
            beams.positron_energy_spread / beams.positron_energy,
            beams.isr_beta if isr else 0.0,
        ),
        tuple(float(number) for number in parameters),
        (
            float(response.noise),
            float(response.stochastic),
            float(response.constant),
            float(response.angle),
            float(response.energy_scale),
            float(response.resolution_scale),
            float(response.energy_floor),
        ),
        np.array([math.cos(high) for _, high in selection.theta]),
        np.array([math.cos(low) for low, _ in selection.theta]),
        (
            float(selection.min_energy),
            window[0] ** 2 * beams.s if window is not None else -math.inf,
            window[1] ** 2 * beams.s if window is not None else math.inf,
            math.cos(selection.min_opening_angle),
        ),
        events_per_weight,
        1 if pairing == "true" else 3,
        np.array([OBSERVABLES[name] for name in all_edges], dtype=np.int64),
        np.concatenate([np.zeros(0), *edges]),
        np.cumsum([0, *(len(part) for part in edges)], dtype=np.int64),
        np.concatenate([np.zeros(0, dtype=np.int64), *guides]),
        np.cumsum([0, *(len(guide) for guide in guides)], dtype=np.int64),
    )
    kept = (arrays["true"], arrays["reconstructed"], arrays["weights"])

    def run(shard: int) -> None:
        outputs = (arrays["values"][shard], arrays["variances"][shard], arrays["sums"][shard])
        arguments = (int(bounds[shard]), int(bounds[shard + 1]), *physics, *outputs, *kept)
        _three_photons.simulate_shard(*arguments)

    run_shards(run, n_shards, n_threads)
    return arrays


def _events_per_weight(process: Process, n_events: int, pseudo: PseudoData | None) -> float:
    """Factor from an event weight to the mean of its Poisson number; 0 without pseudo-data."""
    if pseudo is None:
        return 0.0
    in_fb = process.weight_unit == "fb"
    if in_fb == (pseudo.cross_section is not None):
        name = type(process).__name__
        msg = f"pseudo-data: {name} has weights in fb; cross_section must be None"
        if not in_fb:
            msg = f"pseudo-data: {name} has relative weights; give cross_section, the one at nominal beams, in fb"
        raise KinematicsError(msg)
    cross_section = 1.0 if pseudo.cross_section is None else pseudo.cross_section
    for name, value in (
        ("luminosity", pseudo.luminosity),
        ("efficiency", pseudo.efficiency),
        ("cross_section", cross_section),
    ):
        if not (math.isfinite(value) and value > 0.0):
            msg = f"pseudo-data: {name} is {value:g}; it must be positive"
            raise KinematicsError(msg)
    return float(pseudo.luminosity * pseudo.efficiency * cross_section / n_events)
