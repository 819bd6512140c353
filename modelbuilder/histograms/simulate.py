"""From a search to its simulated templates: regions, backgrounds, pseudo-data, and the signal of a grid point."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from modelbuilder.errors import UserError
from modelbuilder.histograms import three_photons
from modelbuilder.histograms.binning import FineBinning, Peak, fine_binning, fine_binning_of_square, fixed_binning
from modelbuilder.histograms.samples import DataRequest, GeneralSample, Sample, Variation
from modelbuilder.histograms.smooth import smoothed
from modelbuilder.histograms.stated import expected_events, pseudo_counts
from modelbuilder.histograms.templates import (
    Axis,
    FloatArray,
    PointTemplates,
    SampleTemplates,
    SecondAxis,
    Template,
    axis_of,
)
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import ChainGenerator
from modelbuilder.kinematics.measure import detector_of
from modelbuilder.kinematics.processes import ThreePhotons
from modelbuilder.kinematics.sample import ChainSample
from modelbuilder.spec.experiment import Experiment
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.interpretations import default_law
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.observables import arguments_of, parse_observable
from modelbuilder.spec.process import FinalState, candidates_of, chain_of, default_final_state, needs_photon_cuts
from modelbuilder.spec.search import (
    MASS_LIKE,
    SIGNAL,
    AsimovData,
    Background,
    Cut,
    SearchSpec,
    SecondObservable,
    ShapeSystematic,
    Signal,
    Spectrum,
    StatedBackground,
)
from modelbuilder.spec.topology import Topology, known_particle, visible_places
from modelbuilder.theory import lepton_pair

_RADIATED: dict[str, lepton_pair.Kind] = {
    "leptons-vector": "vector",
    "leptons-scalar": "scalar",
    "leptons-pseudoscalar": "pseudoscalar",
}
"""Laws whose cross section is an integral that takes a millisecond."""
WEIGHED_EVENTS = 1 << 20
"""Simulated for the mean weight of a process: to about 0.1 %."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A channel with one set of cuts: all grid points of a region are fitted in windows of the same data.

    second: the second observable, which runs fastest in all arrays of bins.    count: whether a window is one bin.
    """

    name: str
    channel: str
    axis: Axis
    cuts: tuple[Cut, ...]
    binning: FineBinning
    second: SecondAxis | None = None
    count: bool = False

    @property
    def n_bins(self) -> int:
        """Of the fine binning, in both observables."""
        return self.binning.n_bins * (1 if self.second is None else self.second.n_bins)

    def window(self, mass: float) -> slice:
        """The bins of the fit window around a mass (GeV), in both observables."""
        bins = self.binning.window(mass)
        times = 1 if self.second is None else self.second.n_bins
        return slice(times * bins.start, times * bins.stop)


@dataclass(frozen=True, kw_only=True)
class RegionTemplates:
    """Backgrounds (expected events) and observation of a region, on its fine binning."""

    region: Region
    backgrounds: Mapping[str, SampleTemplates]
    observation: FloatArray

    def at(self, point: GridPoint, signal: SampleTemplates, efficiency: float) -> PointTemplates:
        """The templates of a grid point within its window; `signal` is on the fine binning, in events per fb."""
        region, bins = self.region, self.region.window(point.mass)
        edges = region.binning.window_edges(point.mass)
        found = PointTemplates(
            axis=region.axis,
            edges=edges,
            signal=signal.sliced(bins),
            backgrounds={name: sample.sliced(bins) for name, sample in self.backgrounds.items()},
            observation=self.observation[bins],
            efficiency=efficiency,
            second=region.second,
        )
        if not region.count:
            return found
        return replace(
            found,
            edges=edges[[0, -1]],
            signal=found.signal.summed(),
            backgrounds={name: sample.summed() for name, sample in found.backgrounds.items()},
            observation=found.observation.sum(keepdims=True),
        )


class Simulation:
    """Runs the simulations that a search asks for.

    points: that templates are wanted for; those of the search if None. The binning is that of the points of the search.
    n_threads: of one simulation; the result does not depend on it.
    """

    def __init__(
        self, search: LoadedSearch, *, points: tuple[GridPoint, ...] | None = None, n_threads: int = 1
    ) -> None:
        self.search = search
        self.points = search.points if points is None else points
        self.spec: SearchSpec = search.spec
        self.n_threads = n_threads
        self.beams = beams_of(self.spec.experiment)
        self.detector = detector_of(self.spec.experiment)
        self._mean_weights: dict[str, float] = {}
        self._last_topology: tuple[str, Topology] | None = None

    @functools.cached_property
    def regions(self) -> dict[str, Region]:
        """The regions by name, in the order of the grid."""
        found = dict.fromkeys((point.channel, self._holding(point)) for point in self.points)
        several = [channel for channel, _ in found]
        regions: dict[str, Region] = {}
        for channel, holding in found:
            number = sum(region.channel == channel for region in regions.values()) + 1
            name = f"{channel}_{number}" if several.count(channel) > 1 else channel
            asked = self.spec.line(channel)
            regions[name] = Region(
                name=name,
                channel=channel,
                axis=axis_of(asked.observable),
                cuts=tuple(self.spec.selection[index] for index in holding),
                binning=self._binnings[channel],
                second=None if asked.second is None else _second_axis(asked.second),
                count=asked.count,
            )
        return regions

    def region_of(self, point: GridPoint) -> Region:
        """The region that a grid point is fitted in."""
        cuts = tuple(self.spec.selection[index] for index in self._holding(point))
        return next(r for r in self.regions.values() if r.channel == point.channel and r.cuts == cuts)

    def _holding(self, point: GridPoint) -> tuple[int, ...]:
        """The places of the cuts that hold at a grid point."""
        cuts = enumerate(self.spec.selection)
        return tuple(index for index, cut in cuts if cut.where is None or cut.where.holds(point.values))

    @functools.cached_property
    def _binnings(self) -> dict[str, FineBinning]:
        return {name: self._binning(name) for name in dict.fromkeys(point.channel for point in self.search.points)}

    def _binning(self, name: str) -> FineBinning:
        channel = self.spec.line(name)
        if channel.bins is not None:
            return fixed_binning(*channel.limits, channel.bins)
        assert channel.window is not None
        assert channel.bin_width is not None
        points = [point for point in self.search.points if point.channel == name]
        masses = np.array([point.mass for point in points])
        (variable,) = self.spec.grid_variables
        shared = {"bin_width": channel.bin_width, "window": channel.window, "largest_mass": self.beams.sqrt_s}
        resolution = channel.resolution or channel.resolution2
        assert resolution is not None

        def at(mass: float) -> float:
            return resolution.at({variable: mass})

        if channel.resolution is None:
            return fine_binning_of_square(at, masses, **shared)
        return fine_binning(at, masses, **shared, peak=self.peak(channel.observable, points[0]))

    def peak(self, text: str, point: GridPoint) -> Peak:
        """Where the mass lies on the axis of an observable."""
        kind = MASS_LIKE[arguments_of(text)[0]]
        if kind == "mass":
            return Peak("mass")
        if kind == "mass2":
            return Peak("mass2")
        topology = self._topology(SIGNAL, point)
        seen = candidates_of(topology, self._final_state, self.spec.signal.taken_for)[0].seen
        pair = parse_observable(text, topology, seen).entries[0][0]
        places = visible_places(topology)
        names = dict(seen)
        known = [known_particle(names[places[member]]) for member in pair]
        return Peak("reduced_mass", sum(particle.mass for particle in known if particle is not None))

    def background(self, region: Region) -> RegionTemplates:
        """Simulate all backgrounds of a region, and its data."""
        templates, counts = {}, np.zeros(region.n_bins)
        for name, background in self.spec.backgrounds.items():
            if isinstance(background, StatedBackground):
                templates[name] = self._stated(background, region)
                if not isinstance(self.spec.data, AsimovData):
                    stream = f"{name}/{region.channel}"
                    counts += pseudo_counts(templates[name].nominal.values, seed=self.spec.data.seed, stream=stream)
                continue
            sample = self.sample(name, region)
            scale = self.scale(name)
            wanted = scale > 0.0 and not isinstance(self.spec.data, AsimovData)
            data = DataRequest(scale=scale, seed=self.spec.data.seed) if wanted else None  # type: ignore[union-attr]
            edges, second = region.binning.edges, None if region.second is None else region.second.edges
            found = sample.run(edges, self.variations(name, {}), second=second, data=data, n_threads=self.n_threads)
            templates[name] = found.templates.scaled(scale)
            if background.smooth is not None:
                templates[name] = smoothed(templates[name].nominal, background.smooth)
            if found.counts is not None:
                counts += found.counts
        if isinstance(self.spec.data, AsimovData):
            counts = np.sum([sample.nominal.values for sample in templates.values()], axis=0)
        return RegionTemplates(region=region, backgrounds=templates, observation=counts)

    def scale(self, name: str) -> float:
        """Expected events of a simulated background for a weight of one, before the selection."""
        background = self.spec.backgrounds[name]
        assert isinstance(background, Background)
        scale = self.spec.luminosity.value * background.efficiency.value / background.events
        if background.cross_section is not None:
            scale *= background.cross_section.value / self._produced(name)
        return scale

    def _stated(self, background: StatedBackground, region: Region) -> SampleTemplates:
        spectrum = background.expected[region.channel]
        assert isinstance(spectrum, Spectrum)
        points, densities = spectrum.density(self.spec.line(region.channel).observable)
        scale = self.spec.luminosity.value * (1.0 if background.efficiency is None else background.efficiency.value)
        values = scale * expected_events(points, densities, region.binning.edges, spectrum.interpolation)
        if spectrum.second is not None:
            shares = np.array(spectrum.second)
            values = np.outer(values, shares / shares.sum()).ravel()
        return SampleTemplates(Template(values, np.zeros_like(values)))

    def signal(self, region: Region, point: GridPoint) -> tuple[SampleTemplates, float]:
        """Signal templates on the fine binning in events per fb, and the efficiency (acceptance included).

        Per fb of the cross section without radiation, at the nominal energy; of that of a resonance as it is made.
        """
        signal = self.spec.signal
        sample = self.sample(SIGNAL, region, point)
        found = sample.run(
            region.binning.edges,
            self.variations(SIGNAL, point.values),
            second=None if region.second is None else region.second.edges,
            n_threads=self.n_threads,
        )
        efficiency = signal.efficiency.at(point.values) / self.born_cross_section(SIGNAL, point)
        per_fb = self.spec.luminosity.value * efficiency / signal.events
        return found.templates.scaled(per_fb), efficiency * found.selected_per_event

    def sample(self, name: str, region: Region, point: GridPoint | None = None) -> Sample:
        """The signal at a grid point, or a background, with the cuts of a region."""
        spec, process = self.spec, self._process(name)
        topology = self._topology(name, point)
        channel = spec.line(region.channel)
        observable, second = channel.observable, channel.second
        candidates = candidates_of(topology, self._final_state, process.taken_for)
        varied = [s.vary for s in self._shape_systematics(name).values()]
        if second is None and three_photons.can_run(
            process, topology, candidates, spec.experiment, region.cuts, observable, varied
        ):
            return three_photons.ThreePhotonSample(
                process=three_photons.process_of(topology, self._photon_cuts if needs_photon_cuts(process) else None),
                beams=self.beams,
                response=self.detector.photons.response,
                selection=three_photons.selection_of(spec.experiment, region.cuts),
                observable=observable,
                photon_efficiency=float(spec.experiment.photons.efficiency.value),  # type: ignore[union-attr]
                isr=self.spec.radiation.acts_on(process, topology),
                n_events=process.events,
                seed=spec.seed,
                stream=stream_of(name, point),
            )
        chain = self.chain_sample(name, region.cuts, point)
        return GeneralSample(
            chain=chain,
            detector=self.detector,
            observable=observable,
            second=None if second is None else second.observable,
        )

    def chain_sample(
        self,
        name: str,
        cuts: Sequence[Cut],
        point: GridPoint | None = None,
        *,
        n_events: int | None = None,
        lifetimes: Mapping[str, Sequence[float]] | None = None,
    ) -> ChainSample:
        """The same for the general engine, with any cuts and number of events.

        lifetimes: by species, ctau in cm that proper lengths are drawn from in place of that of the spec.
        """
        process = self._process(name)
        topology = self._topology(name, point)
        if lifetimes is not None:
            nodes = (replace(n, ctau=lifetimes[n.species][0]) if n.species in lifetimes else n for n in topology.nodes)
            topology = replace(topology, nodes=tuple(nodes))
        vertices = self.spec.final_state.vertices if self.spec.final_state else {}
        return ChainSample(
            topology,
            self.beams,
            candidates=candidates_of(topology, self._final_state, process.taken_for),
            cuts=cuts,
            vertices=vertices,
            taken_for=process.taken_for,
            isr=self.spec.radiation.acts_on(process, topology),
            n_events=n_events or process.events,
            seed=self.spec.seed,
            stream=stream_of(name, point),
            lifetimes=lifetimes,
        )

    def _process(self, name: str) -> Signal | Background:
        process = self.spec.signal if name == SIGNAL else self.spec.backgrounds[name]
        if isinstance(process, StatedBackground):
            msg = f"nothing of {name} is simulated: the spec states what is expected of it"
            raise UserError(msg)
        return process

    def _topology(self, name: str, point: GridPoint | None) -> Topology:
        stream = stream_of(name, point)
        if self._last_topology is None or self._last_topology[0] != stream:  # asked for several times in a row
            self._last_topology = stream, self._parsed_topology(name, point)
        return self._last_topology[1]

    def _parsed_topology(self, name: str, point: GridPoint | None) -> Topology:
        process = self._process(name)
        cuts = (self._photon_cuts.min_energy, self._photon_cuts.max_cos) if needs_photon_cuts(process) else None
        return chain_of(
            process,
            {} if point is None else point.values,
            sqrt_s=self.beams.sqrt_s,
            law=default_law(self.spec.interpretations) if name == SIGNAL else None,
            **({} if cuts is None else {"photon_cuts": cuts}),
        )

    @functools.cached_property
    def _photon_cuts(self) -> ThreePhotons:
        """One set for all regions, so that their events are the same."""
        cuts = dict.fromkeys(self._holding(point) for point in (*self.search.points, *self.points))
        selections = [
            three_photons.selection_of(self.spec.experiment, [self.spec.selection[i] for i in holding])
            for holding in cuts
        ]
        return three_photons.photon_cuts(self.beams, self.spec.experiment, selections)

    @functools.cached_property
    def _final_state(self) -> FinalState:
        """That of the spec, or all that is visible of the signal."""
        if self.spec.final_state is not None:
            return self.spec.final_state
        return default_final_state(self._topology(SIGNAL, self.search.points[0]), self.spec.signal.taken_for)

    def born_cross_section(self, name: str, point: GridPoint | None) -> float:
        """The mean weight without radiation: 1, or the cross section in fb for a coupling of 1.

        A resonance is made at its own energy, with the beams as they are: what is measured of it holds for them.
        """
        topology = self._topology(name, point)
        first = topology.vertices[0]
        if first.law.name in _RADIATED:
            lepton, _, radiated = (topology.nodes[child] for child in first.children)
            return lepton_pair.cross_section(self.beams.sqrt_s, lepton.mass, radiated.mass, _RADIATED[first.law.name])
        generator = ChainGenerator(topology, self.beams, isr=False)
        resonance = first.law.name == "resonance"
        if generator.weight_unit == "1" and not resonance:
            return 1.0
        return self._weigh(generator, f"{stream_of(name, point)}/born")

    def _produced(self, name: str) -> float:
        """The mean weight of a background, radiation included."""
        if name not in self._mean_weights:
            topology = self._topology(name, None)
            radiates = self.spec.radiation.acts_on(self._process(name), topology)
            generator = ChainGenerator(topology, self.beams, isr=radiates)
            self._mean_weights[name] = self._weigh(generator, f"{name}/produced")
        return self._mean_weights[name]

    def _weigh(self, generator: ChainGenerator, stream: str) -> float:
        seed, n_threads = self.spec.seed, self.n_threads
        return generator.weigh(n_events=WEIGHED_EVENTS, seed=seed, stream=stream, n_threads=n_threads).mean

    def _shape_systematics(self, sample: str) -> dict[str, ShapeSystematic]:
        table = self.spec.systematics.items()
        return {name: s for name, s in table if isinstance(s, ShapeSystematic) and sample in s.on}

    def variations(self, sample: str, point: Mapping[str, float]) -> dict[str, Variation]:
        """The shape systematics of a sample at a grid point."""
        return {name: (s.vary, s.size.at(point)) for name, s in self._shape_systematics(sample).items()}


def _second_axis(second: SecondObservable) -> SecondAxis:
    return SecondAxis(axis_of(second.observable), np.linspace(*second.limits, second.bins + 1))


def stream_of(name: str, point: GridPoint | None) -> str:
    """The name of the random numbers of a sample."""
    return name if point is None else f"{name}/{point.name}"


def beams_of(experiment: Experiment) -> Beams:
    """The beams of an experiment for the kinematics engine."""
    beams = experiment.beams
    return Beams(
        electron_energy=beams.electron_energy,
        positron_energy=beams.positron_energy,
        crossing_angle=beams.crossing_angle,
        electron_energy_spread=beams.electron_energy_spread,
        positron_energy_spread=beams.positron_energy_spread,
    )
