"""A look at one simulated sample: its cut flow, an observable with its resolution, and the events themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modelbuilder.errors import FitFailure, UserError
from modelbuilder.histograms.binning import Peak
from modelbuilder.histograms.events_file import EventsFile
from modelbuilder.histograms.peak import PeakFit, fit_peak, peak_edges
from modelbuilder.histograms.samples import GeneralSample, Variation
from modelbuilder.histograms.simulate import Simulation, stream_of
from modelbuilder.histograms.templates import Axis, FloatArray, Template, axis_of
from modelbuilder.kinematics.cuts import Step
from modelbuilder.kinematics.observables import evaluate_entries
from modelbuilder.kinematics.sample import NOMINAL, AtLifetime, ChainSample, drawn_lifetimes
from modelbuilder.spec.grid import DECIMALS, GridError, GridPoint, channel_of, point_name, text_of
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.observables import Observable, arguments_of
from modelbuilder.spec.plane import PlaneChannel
from modelbuilder.spec.problems import nearest
from modelbuilder.spec.process import hypotheses
from modelbuilder.spec.quantities import ENERGY, LENGTH, parse_quantity
from modelbuilder.spec.search import MASS_LIKE, SIGNAL

FEW = 100.0
"""Effective events at a lifetime; with fewer its efficiency, and the error of it, are not to be trusted."""
MOST_CTAUS = 100
_SAME = 1e-9  # values that differ by less, relative, are one


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was simulated of a sample.

    sample: `signal`, or a background.    point: whose mass, cuts and observable were taken.
    flow: what is left after each step.    nominal, varied: the observable in fine bins, scaled to the number of simulated events;
    `edges` in the unit of the axis.    underflow, overflow: what lies outside.    fit: of the peak, or None with the reason in `no_fit`.
    effective_sample_size: (sum w)^2 / sum w^2 after all cuts.
    lifetime_of, lifetimes: a particle, and the efficiency at other lifetimes of it.
    """

    sample: str
    process: str
    point: GridPoint
    n_events: int
    observable: str
    axis: Axis
    flow: tuple[Step, ...]
    edges: FloatArray
    nominal: Template
    varied: Mapping[str, tuple[Template, Template]]
    underflow: float
    overflow: float
    fit: PeakFit | None
    no_fit: str
    effective_sample_size: float
    lifetime_of: str = ""
    lifetimes: tuple[AtLifetime, ...] = ()

    def lines(self) -> list[str]:
        """In words: the process, the cut flow, the peak."""
        at = f" at {self.point.text}" if self.sample == SIGNAL else ""
        yield_lines = [f"{self.sample}: {self.process}{at}, {self.n_events} events", ""]
        width = max(len(step.text) for step in self.flow)
        yield_lines.append(f"  {'':{width}}  {'efficiency':>21}  {'of the step before':>18}")
        for before, step in zip((None, *self.flow), self.flow, strict=False):
            efficiency = f"{100.0 * step.efficiency:9.4f} +- {100.0 * step.efficiency_stdev:.4f} %"
            share = step.sum_weights / before.sum_weights if before is not None and before.sum_weights > 0.0 else None
            relative = "" if share is None else f"{100.0 * share:.3f} %"
            yield_lines.append(f"  {step.text:{width}}  {efficiency:>21}  {relative:>18}")
        yield_lines += ["", f"effective sample size after all cuts: {self.effective_sample_size:.0f}"]
        return [*yield_lines, *self._peak_lines(), *self._lifetime_lines()]

    def _lifetime_lines(self) -> Iterator[str]:
        if not self.lifetimes:
            return
        yield ""
        yield f"  {f'c tau of {self.lifetime_of}':>14}  {'efficiency':>21}  {'effective sample size':>21}"
        for row in self.lifetimes:
            efficiency = f"{100.0 * row.efficiency:9.4f} +- {100.0 * row.efficiency_stdev:.4f} %"
            few = "  too few: simulate more" if row.effective_sample_size < FEW else ""
            yield f"  {f'{row.ctau:g} cm':>14}  {efficiency:>21}  {row.effective_sample_size:21.0f}{few}"

    def _peak_lines(self) -> list[str]:
        unit = "" if self.axis.unit == "1" else f" {self.axis.unit}"
        if self.fit is None:
            return [f"{self.observable}: no peak fitted: {self.no_fit}"]
        fit = self.fit
        width = f", half width of the central 68.3 % {fit.half_width:.4g} +- {fit.half_width_stdev:.2g}{unit}"
        text = (
            f"{self.observable}: peak at {fit.location:.6g} +- {fit.location_stdev:.2g}{unit}, "
            f"sigma {fit.sigma:.4g} +- {fit.sigma_stdev:.2g}{unit} ({fit.shape})"
            f"{width if math.isfinite(fit.half_width) else ''}"
        )
        lines = [text]
        if not fit.acceptable:
            lines.append("  the shape does not describe the peak well; see the figure before quoting its width")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        fit = None
        if self.fit is not None:
            names = (
                "shape",
                "location",
                "location_stdev",
                "sigma",
                "sigma_stdev",
                "half_width",
                "half_width_stdev",
                "bias",
                "acceptable",
            )
            values = {name: getattr(self.fit, name) for name in names}
            fit = {
                name: None if isinstance(value, float) and math.isnan(value) else value
                for name, value in values.items()
            }
        return {
            "sample": self.sample,
            "process": self.process,
            "point": self.point.name,
            **{f"{variable}_gev": mass for variable, mass in self.point.coordinates},
            "channel": self.point.channel,
            "events": self.n_events,
            "cut_flow": [
                {
                    "step": step.text,
                    "sum_weights": step.sum_weights,
                    "efficiency": step.efficiency,
                    "efficiency_stdev": step.efficiency_stdev,
                }
                for step in self.flow
            ],
            "effective_sample_size": self.effective_sample_size,
            "observable": self.observable,
            "unit": self.axis.unit,
            "peak": fit,
            "no_peak": self.no_fit,
            "outside": {"below": self.underflow, "above": self.overflow},
            "lifetimes": [
                {
                    "particle": self.lifetime_of,
                    "ctau_cm": row.ctau,
                    "efficiency": row.efficiency,
                    "efficiency_stdev": row.efficiency_stdev,
                    "effective_sample_size": row.effective_sample_size,
                }
                for row in self.lifetimes
            ],
        }


class Looker:
    """Looks at samples of a search.

    sample: `signal` or the name of a background.    masses: of the hypothesis, GeV, on the grid or not; None for the
    middle of the grid. A background has none, but its cuts and its observable may depend on it.
    observable: as in a spec; None for that of the channel.
    lifetimes: a species and the ctau, cm, at which its efficiency is wanted as well.

    Raises UserError for what is not there or not possible.
    """

    def __init__(
        self,
        search: LoadedSearch,
        *,
        sample: str = SIGNAL,
        masses: tuple[float, ...] | None = None,
        observable: str | None = None,
        lifetimes: tuple[str, tuple[float, ...]] | None = None,
        n_events: int,
        n_threads: int = 1,
    ) -> None:
        self.search = search
        self.spec = search.spec
        self.sample = sample
        self.n_events, self.n_threads = n_events, n_threads
        if sample != SIGNAL and sample not in self.spec.backgrounds:
            msg = f"there is no sample {sample!r}{nearest(sample, [SIGNAL, *self.spec.backgrounds])}"
            raise UserError(msg)
        self.point = point_at(search, masses)
        if sample == SIGNAL and self.spec.signal.lifetime is not None:
            self.point = replace(self.point, ctau=self.spec.signal.lifetime.usual)
        self.simulation = Simulation(search, n_threads=n_threads)
        self.observable = observable or self._observables_of_channel()[0]
        self.cuts = [cut for cut in self.spec.selection if cut.where is None or cut.where.holds(self.point.values)]
        self.own_point = self.point if sample == SIGNAL else None
        self.chain: ChainSample = self.simulation.chain_sample(sample, self.cuts, self.own_point, n_events=n_events)
        self.observables = self.chain.observables(self.observable)
        self.lifetimes = lifetimes
        if lifetimes is not None:
            self._refuse_stable(lifetimes[0])

    def _refuse_stable(self, species: str) -> None:
        topology = self.chain.topology
        production, *decays = topology.vertices
        resonances = set(production.children) if production.law.name == "resonance" else set()
        decaying = [topology.nodes[vertex.parent].species for vertex in decays if vertex.parent not in resonances]
        if species not in decaying:
            msg = f"--lifetime: no {species} decays in {topology.text}{nearest(species, decaying) if decaying else ''}"
            raise UserError(msg)

    def _at_lifetimes(self) -> tuple[AtLifetime, ...]:
        if self.lifetimes is None:
            return ()
        species, ctaus = self.lifetimes
        drawn = {species: drawn_lifetimes(ctaus)}
        chain = self.simulation.chain_sample(
            self.sample, self.cuts, self.own_point, n_events=self.n_events, lifetimes=drawn
        )
        return chain.at_lifetimes(self.simulation.detector, species, ctaus, n_threads=self.n_threads)

    @property
    def process(self) -> str:
        """The decay chain as the spec has it."""
        return self.chain.topology.text

    def look(self) -> Look:
        """Simulate, and fit the peak of the observable."""
        edges = self._edges()
        sample = GeneralSample(chain=self.chain, detector=self.simulation.detector, observable=self.observable)
        variations: dict[str, Variation] = self.simulation.variations(self.sample, self.point.values)
        found = sample.select(edges, variations, n_threads=self.n_threads)
        nominal = found.histograms[NOMINAL]
        scale = self.n_events / found.sum_weights
        templates = {name: Template(h.values, h.variances).scaled(scale) for name, h in found.histograms.items()}
        template = templates[NOMINAL]
        fit, reason = None, ""
        try:
            fit = fit_peak(
                edges,
                template.values,
                template.variances,
                reference=self._reference(),
                underflow=scale * nominal.underflow,
                overflow=scale * nominal.overflow,
            )
        except FitFailure as failure:
            reason = failure.detail
        return Look(
            sample=self.sample,
            process=self.process,
            point=self.point,
            n_events=self.n_events,
            observable=self.observable,
            axis=axis_of(self.observable),
            flow=found.flow,
            edges=edges,
            nominal=template,
            varied={name: (templates[f"{name}/up"], templates[f"{name}/down"]) for name in variations},
            underflow=scale * nominal.underflow,
            overflow=scale * nominal.overflow,
            fit=fit,
            no_fit=reason,
            effective_sample_size=found.effective_sample_size,
            lifetime_of="" if self.lifetimes is None else self.lifetimes[0],
            lifetimes=self._at_lifetimes(),
        )

    def write_events(self, path: Path) -> int:
        """Write the selected events to a Parquet file; the number of rows.

        A row is a way to find the final state in an event, with its weight. Columns: the number of the event, the
        weight, measured E, px, py, pz of each particle that is found, true ones of it and of hypothetical particles,
        points where particles decay in flight, and all observables of the channel and the cuts.
        """
        metadata: dict[str, str | int | float] = {
            "search": self.spec.name,
            "digest": self.search.digest,
            "sample": self.sample,
            "process": self.process,
            "point": self.point.name,
            "seed": self.spec.seed,
            "stream": stream_of(self.sample, self.own_point),
            "simulated_events": self.n_events,
            "sum_of_simulated_weights": self._sum_of_weights(),
            "weight_unit": self.chain.weight_unit,
        }
        with EventsFile(path, units=self._units(), metadata=metadata) as file:
            for columns in self._columns():
                file.write(columns)
            return file.n_events

    def _sum_of_weights(self) -> float:
        """Of all simulated events: what the weights in a file are an efficiency relative to."""
        chain = self.chain
        generator = chain.generator
        weighed = generator.weigh(
            n_events=self.n_events, seed=chain.seed, stream=chain.stream, n_threads=self.n_threads
        )
        return weighed.sum_weights

    def _edges(self) -> FloatArray:
        """Fine bins of the observable, from the first events."""
        for piece in self.chain.pieces(self.simulation.detector, n_threads=1):
            entries = [evaluate_entries(one, piece.measured, self.simulation.beams) for one in self.observables]
            weights = np.repeat(piece.weights, [len(rows) for rows in entries], axis=0)
            values = np.concatenate(entries)
            used = (weights > 0.0) & np.isfinite(values)
            if not np.any(used):
                continue
            least, most = float(values[used].min()), float(values[used].max())
            if most - least <= _SAME * max(abs(least), 1.0):
                return np.linspace(least - 0.5, least + 0.5, 101)
            return peak_edges(values[used], weights[used])
        msg = f"none of the {self.n_events} simulated events of {self.sample} passes; simulate more, or loosen the cuts"
        raise UserError(msg)

    def _reference(self) -> float | None:
        """Where the peak should be."""
        kind = MASS_LIKE.get(arguments_of(self.observable)[0])
        if self.sample != SIGNAL or kind is None or " / " in self.observable:
            return None
        peak: Peak = self.simulation.peak(self.observable, self.point)
        if len(self.point.masses) == 1:
            return peak.at(self.point.mass)
        texts = [" ".join(text.split()) for text in self._observables_of_channel()]
        own = " ".join(self.observable.split())
        return peak.at(self.point.masses[texts.index(own)]) if own in texts else None

    def _observables_of_channel(self) -> tuple[str, ...]:
        channel = self.spec.channels[self.point.channel]
        return channel.observables if isinstance(channel, PlaneChannel) else (channel.observable,)

    def _units(self) -> dict[str, str]:
        units = {"event": "1", "weight": "1" if self.chain.weight_unit == "1" else self.chain.weight_unit}
        for name in [*self._seen_names(), *(f"true {name}" for name in [*self._seen_names(), *self._hypotheses()])]:
            units |= {f"{name} {component}": "GeV" for component in ("E", "px", "py", "pz")}
        for name in self._flying():
            units |= {f"{name} decay {component}": "cm" for component in ("x", "y", "z")}
        for observables in self._all_observables():
            units |= dict.fromkeys(_entry_names(observables[0]), observables[0].unit)
        return units

    def _columns(self) -> Iterator[dict[str, FloatArray]]:
        topology, beams = self.chain.topology, self.simulation.beams
        first = 0
        for piece in self.chain.pieces(self.simulation.detector, n_threads=self.n_threads):
            numbers = np.arange(first, first + len(piece.events.weights))
            first += len(numbers)
            tables = []
            for index, candidate in enumerate(self.chain.candidates):
                kept = piece.weights[index] > 0.0
                columns = {"event": numbers[kept], "weight": piece.weights[index][kept]}
                places = [place for place, _ in candidate.seen]
                for name, place in zip(self._seen_names(), places, strict=True):
                    position = piece.measured.names.index(topology.nodes[place].name)
                    columns |= _momenta(name, piece.measured.momenta[kept, position])
                    columns |= _momenta(f"true {name}", piece.events.momenta[kept, place])
                for name in self._hypotheses():
                    columns |= _momenta(f"true {name}", piece.events.momenta[kept, topology.place(name)])
                for name in self._flying():
                    point = piece.measured.points[kept, topology.place(name)]
                    columns |= {f"{name} decay {axis}": point[:, i] for i, axis in enumerate(("x", "y", "z"))}
                for observables in self._all_observables():
                    values = evaluate_entries(observables[index], piece.measured, beams)[:, kept]
                    columns |= dict(zip(_entry_names(observables[index]), values, strict=True))
                tables.append(columns)
            yield {name: np.concatenate([table[name] for table in tables]) for name in self._units()}

    def _seen_names(self) -> list[str]:
        """`gamma`, `gamma[2]`: the particles of the final state."""
        names = [name for _, name in self.chain.candidates[0].seen]
        counted = [names[: index + 1].count(name) for index, name in enumerate(names)]
        return [name if number == 1 else f"{name}[{number}]" for name, number in zip(names, counted, strict=True)]

    def _hypotheses(self) -> list[str]:
        unknown = hypotheses(self.process)
        return [node.name for node in self.chain.topology.nodes if node.species in unknown]

    def _flying(self) -> list[str]:
        nodes = self.chain.topology.nodes
        return [nodes[v.parent].name for v in self.chain.topology.vertices[1:] if nodes[v.parent].ctau > 0.0]

    def _all_observables(self) -> list[tuple[Observable, ...]]:
        texts = dict.fromkeys([self.observable, *(cut.quantity for cut in self.chain.cuts)])
        return [self.chain.observables(text) for text in texts]


def _entry_names(observable: Observable) -> list[str]:
    number = len(observable.entries)
    return [observable.text] if number == 1 else [f"{observable.text} {index + 1}" for index in range(number)]


def _momenta(name: str, momenta: FloatArray) -> dict[str, FloatArray]:
    return {f"{name} {component}": momenta[:, i] for i, component in enumerate(("E", "px", "py", "pz"))}


def point_at(search: LoadedSearch, masses: tuple[float, ...] | None) -> GridPoint:
    """The grid point of masses in GeV, or one that is not on the grid; the middle of the grid for None."""
    if masses is None:
        return search.points[len(search.points) // 2]
    variables = search.spec.grid_variables
    if len(masses) != len(variables):
        msg = (
            f"--point: found {len(masses)} of the masses {', '.join(variables)}; write one number for each, with commas"
        )
        raise UserError(msg)
    values = {variable: round(mass, DECIMALS) for variable, mass in zip(variables, masses, strict=True)}
    for point in search.points:
        if point.values == values:
            return point
    largest = search.spec.experiment.beams.sqrt_s
    if not all(0.0 < mass < largest for mass in values.values()):
        msg = f"{text_of(values)}: it must lie between 0 and the collision energy, {largest:.4g} GeV"
        raise UserError(msg)
    try:
        channel = channel_of(search.spec.channels, values)
    except GridError as error:
        msg = f"{text_of(values)}: {error}"
        raise UserError(msg) from None
    return GridPoint(-1, point_name(values), tuple(values.items()), channel)


def parse_lifetimes(text: str) -> tuple[str, tuple[float, ...]]:
    """A species and ctau in cm from `S = 0.1 mm, 1 cm, 2 m`. Raises UserError."""
    species, equals, values = (part.strip() for part in text.partition("="))
    shape = f"--lifetime: found {text!r}; it reads like 'S = 0.1 mm, 1 cm, 2 m'"
    if not (species and equals and values):
        raise UserError(shape)
    try:
        ctaus = tuple(parse_quantity(value.strip(), LENGTH) for value in values.split(","))
    except ValueError as error:
        msg = f"--lifetime: {error}"
        raise UserError(msg) from None
    if not all(ctau > 0.0 for ctau in ctaus) or len(ctaus) > MOST_CTAUS:
        msg = f"{shape}, with at most {MOST_CTAUS} lifetimes, each above 0"
        raise UserError(msg)
    return species, ctaus


def parse_masses(text: str) -> tuple[float, ...]:
    """Masses in GeV from `3`, `3 GeV`, `300 MeV`, or for two of them `4, 1 GeV`; UserError if it is none."""
    return tuple(_parse_mass(part.strip()) for part in text.split(","))


def _parse_mass(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return parse_quantity(text, ENERGY)
    except ValueError as error:
        msg = f"--point: {error}"
        raise UserError(msg) from None
