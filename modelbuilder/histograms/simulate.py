"""From a search to its simulated templates: regions, backgrounds, pseudo-data, and the signal of a grid point."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import Problem, SpecError, UserError
from modelbuilder.histograms import three_photons
from modelbuilder.histograms.binning import (
    FineBinning,
    Peak,
    Reach,
    fine_binning,
    fine_binning_of_square,
    fixed_binning,
)
from modelbuilder.histograms.cache import Arrays, SimulationCache
from modelbuilder.histograms.inputs import template_from_file, total_of_file
from modelbuilder.histograms.samples import (
    DataRequest,
    GeneralSample,
    Sample,
    SimulatedSample,
    Variation,
    arrays_of,
    sample_of,
)
from modelbuilder.histograms.sideband import BinsBeside, Elsewhere, bins_beside
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
from modelbuilder.kinematics.sample import AtLifetime, ChainSample, drawn_lifetimes
from modelbuilder.spec.cuts import Cut
from modelbuilder.spec.experiment import Experiment
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.inputs import is_at
from modelbuilder.spec.interpretations import default_law
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.observables import arguments_of, parse_observable
from modelbuilder.spec.process import (
    FinalState,
    candidates_of,
    chain_of,
    default_final_state,
    hypotheses,
    needs_photon_cuts,
)
from modelbuilder.spec.search import (
    MASS_LIKE,
    SIGNAL,
    AsimovData,
    Background,
    BackgroundFromFiles,
    Channel,
    ObservedData,
    PseudoData,
    SearchSpec,
    SecondObservable,
    ShapeSystematic,
    Signal,
    Spectrum,
    StatedBackground,
)
from modelbuilder.spec.sideband import SidebandBeside, SidebandElsewhere, sideband_name
from modelbuilder.spec.topology import INITIAL, Topology, known_particle, parse_chain, visible_places
from modelbuilder.theory import lepton_pair

_RADIATED: dict[str, lepton_pair.Kind] = {
    "leptons-vector": "vector",
    "leptons-scalar": "scalar",
    "leptons-pseudoscalar": "pseudoscalar",
}
"""Laws whose cross section is an integral that takes a millisecond."""
FEWEST_EVENTS = 20.0
"""Effective sample size below which an efficiency at a lifetime is not known."""
WEIGHED_EVENTS = 1 << 20
"""Simulated for the mean weight of a process: to about 0.1 %."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A channel with one set of cuts: all grid points of a region are fitted in windows of the same data.

    second: the second observable, which runs fastest in all arrays of bins.    count: whether a window is one bin.
    sideband: of a count, with the name of the background that it measures.
    """

    name: str
    channel: str
    axis: Axis
    cuts: tuple[Cut, ...]
    binning: FineBinning
    second: SecondAxis | None = None
    count: bool = False
    sideband: BinsBeside | SidebandElsewhere | None = None
    measured: str = ""

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
    """Backgrounds (expected events) and observation of a region, on its fine binning.

    elsewhere: the same of a sideband in another quantity.
    """

    region: Region
    backgrounds: Mapping[str, SampleTemplates]
    observation: FloatArray
    elsewhere: Elsewhere | None = None

    def at(self, point: GridPoint, signal: SampleTemplates, efficiency: float) -> PointTemplates:
        """The templates of a grid point within its window; `signal` is on the fine binning, for a rate of 1."""
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
        if region.count:
            found = replace(
                found,
                edges=edges[[0, -1]],
                signal=found.signal.summed(),
                backgrounds={name: sample.summed() for name, sample in found.backgrounds.items()},
                observation=found.observation.sum(keepdims=True),
            )
        if isinstance(region.sideband, BinsBeside):
            beside = region.sideband.at(region.binning, point.mass)
            return replace(found, sideband=self._beside(found, signal, beside))
        if isinstance(region.sideband, SidebandElsewhere):
            return self._with_elsewhere(found, bins, region.sideband, point)
        return found

    def _beside(self, window: PointTemplates, signal: SampleTemplates, bins: npt.NDArray[np.int64]) -> PointTemplates:
        """The sum of bins of the same observable."""
        return replace(
            window,
            signal=signal.taken(bins),
            backgrounds={name: sample.taken(bins) for name, sample in self.backgrounds.items()},
            observation=self.observation[bins].sum(keepdims=True),
        )

    def _with_elsewhere(
        self, window: PointTemplates, bins: slice, sideband: SidebandElsewhere, point: GridPoint
    ) -> PointTemplates:
        """The window with a sideband that holds one background. What the simulation leaves open of that is not in the
        transfer factor, which is stated.
        """
        assert self.elsewhere is not None
        name = self.region.measured
        expected, observed = (
            part[bins].sum(keepdims=True) for part in (self.elsewhere.expected, self.elsewhere.observation)
        )
        leakage = 0.0 if sideband.leakage is None else sideband.leakage.at(point.values)
        found = replace(
            window,
            signal=window.signal.scaled(leakage),
            backgrounds={name: SampleTemplates(Template(expected, np.zeros(1)))},
            observation=observed,
        )
        measured = window.backgrounds[name].nominal
        exact = SampleTemplates(Template(measured.values, np.zeros(1)))
        return replace(window, backgrounds={**window.backgrounds, name: exact}, sideband=found)


@dataclass(frozen=True)
class RelativeEfficiency:
    """At a c tau (cm), over that at another one, and its statistical error; 0 where too few events are left to know."""

    ctau: float
    relative: float
    stdev: float


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a search asks of a simulated sample: templates, and of a background the pseudo-data.

    counted: what the number of events in the data depends on, besides the sample; None where none are wanted.
    """

    sample: Sample
    edges: FloatArray
    variations: Mapping[str, Variation]
    second: FloatArray | None
    counted: tuple[object, ...] | None

    @property
    def inputs(self) -> object:
        """All that the templates depend on."""
        return "templates", self.sample.inputs, self.edges, self.variations, self.second

    @property
    def data_inputs(self) -> object:
        """All that the pseudo-data depend on."""
        return "pseudo-data", self.sample.inputs, self.edges, self.second, self.counted


class Simulation:
    """Runs the simulations that a search asks for.

    points: that templates are wanted for; those of the search if None. The binning is that of the points of the search.
    n_threads: of one simulation; the result does not depend on it.
    cache: what is found there is not simulated again; nothing else changes.
    """

    def __init__(
        self,
        search: LoadedSearch,
        *,
        points: tuple[GridPoint, ...] | None = None,
        n_threads: int = 1,
        cache: SimulationCache | None = None,
    ) -> None:
        self.search = search
        self.points = search.points if points is None else points
        self.spec: SearchSpec = search.spec
        self.n_threads = n_threads
        self.cache = cache
        self.beams = beams_of(self.spec.experiment)
        self.detector = detector_of(self.spec.experiment)
        self._mean_weights: dict[str, float] = {}
        self._last_shape: tuple[tuple[str, str], tuple[SampleTemplates, float, dict[float, float]]] | None = None
        self._last_topology: tuple[tuple[str, GridPoint | None], Topology] | None = None

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
                sideband=self._sideband(asked, self._binnings[channel]),
                measured=next((name for name, one in self.spec.backgrounds.items() if one.rate == "free"), ""),
            )
        return regions

    def _sideband(self, channel: Channel, binning: FineBinning) -> BinsBeside | SidebandElsewhere | None:
        if not isinstance(channel.sideband, SidebandBeside):
            return channel.sideband
        gaps = [(gap.low, gap.high) for gap in self.spec.grid[self.spec.grid_variable].gaps]
        return bins_beside(
            channel.sideband, binning, bin_width=channel.bin_width or 1.0, limits=channel.sideband_limits, gaps=gaps
        )

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
        beside = channel.sideband if isinstance(channel.sideband, SidebandBeside) else None
        fixed = None
        if channel.bins is not None:
            fixed = fixed_binning(*channel.limits, channel.bins, None if beside is None else channel.sideband_limits)
        if fixed is not None and channel.window is None:
            return fixed
        assert channel.window is not None
        points = [point for point in self.search.points if point.channel == name]
        masses = np.array([point.mass for point in points])
        (variable,) = self.spec.grid_variables
        resolution = channel.resolution or channel.resolution2
        assert resolution is not None
        is_square = channel.resolution is None
        if fixed is not None:
            reach = Reach(resolution, variable, 0.5 * channel.window, is_square)
            return replace(fixed, peak=self.peak(channel.observable, points[0]), reach=reach)
        assert channel.bin_width is not None
        shared = {"bin_width": channel.bin_width, "window": channel.window, "largest_mass": self.beams.sqrt_s}
        if beside is not None:
            shared["reach"] = math.inf if beside.window is None else beside.window

        def at(mass: float) -> float:
            return resolution.at({variable: mass})

        if is_square:
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
            if not isinstance(background, Background):
                if isinstance(background, StatedBackground):
                    templates[name] = self._stated(background, region)
                else:
                    templates[name] = self.from_files(name, region)
                if isinstance(self.spec.data, PseudoData):
                    stream = f"{name}/{region.channel}"
                    counts += pseudo_counts(templates[name].nominal.values, seed=self.spec.data.seed, stream=stream)
                continue
            scale = self.scale(name)
            found = self._simulated(self.asked(name, region), scale)
            templates[name] = found.templates.scaled(scale)
            if background.smooth is not None:
                templates[name] = smoothed(templates[name].nominal, background.smooth)
            if found.counts is not None:
                counts += found.counts
        if isinstance(self.spec.data, AsimovData):
            counts = np.sum([sample.nominal.values for sample in templates.values()], axis=0)
        if isinstance(self.spec.data, ObservedData):
            counts = self.observed(region)
        elsewhere = None
        if isinstance(region.sideband, SidebandElsewhere):
            elsewhere = self._elsewhere(region, region.sideband, templates[region.measured].nominal.values)
        return RegionTemplates(region=region, backgrounds=templates, observation=counts, elsewhere=elsewhere)

    def _elsewhere(self, region: Region, sideband: SidebandElsewhere, inside: FloatArray) -> Elsewhere:
        """A sideband in another quantity, with the transfer factor of the nearest mass in each bin.

        inside: expected events of its background within the selection, shape (n_bins,).
        """
        by_mass = {point.mass: point for point in self.search.points if point.channel == region.channel}
        points = [by_mass[mass] for mass in sorted(by_mass)]
        peaks = np.array([region.binning.peak.at(point.mass) for point in points])
        middles = 0.5 * (region.binning.edges[1:] + region.binning.edges[:-1])
        nearest = np.searchsorted(0.5 * (peaks[1:] + peaks[:-1]), middles)
        factors = np.array([sideband.transfer.at(point.values) for point in points])
        expected: FloatArray = inside / factors[nearest]
        if isinstance(self.spec.data, AsimovData):
            return Elsewhere(expected=expected, observation=expected)
        if isinstance(self.spec.data, ObservedData):
            counts = self._read(("data", "files", sideband_name(region.channel)), region).values
            return Elsewhere(expected=expected, observation=counts)
        counts = pseudo_counts(expected, seed=self.spec.data.seed, stream=f"{region.channel}/sideband")
        return Elsewhere(expected=expected, observation=counts)

    def asked(self, name: str, region: Region, point: GridPoint | None = None) -> Asked:
        """What is asked of the signal at a grid point, or of a simulated background."""
        return Asked(
            sample=self.sample(name, region, point),
            edges=region.binning.edges,
            variations=self.variations(name, {} if point is None else point.values),
            second=None if region.second is None else region.second.edges,
            counted=None if name == SIGNAL else self._counted(name),
        )

    def _counted(self, name: str) -> tuple[object, ...] | None:
        data = self.spec.data
        if not isinstance(data, PseudoData) or self._expects_nothing(name):
            return None
        return self.factors(name), data.seed

    def _expects_nothing(self, name: str) -> bool:
        background = self.spec.backgrounds[name]
        assert isinstance(background, Background)
        cross_section = 1.0 if background.cross_section is None else background.cross_section.value
        return self.spec.luminosity.value * background.efficiency.value * cross_section <= 0.0

    def factors(self, name: str) -> object:
        """What `scale` is made of, the mean weight by all that it depends on."""
        background = self.spec.backgrounds[name]
        assert isinstance(background, Background)
        factors = self.spec.luminosity.value, background.efficiency.value, background.events
        if background.cross_section is None:
            return factors
        topology = self._topology(name, None)
        radiates = self.spec.radiation.acts_on(background, topology)
        return factors, background.cross_section.value, topology, self.beams, radiates, self.spec.seed

    def _simulated(self, asked: Asked, scale: float | None = None) -> SimulatedSample:
        """Simulate, or recall, a sample. scale: expected events for a weight of one; there are no data without it."""
        data, counts = None, None
        if scale is not None and asked.counted is not None:
            data = DataRequest(scale=scale, seed=self.spec.data.seed)  # type: ignore[union-attr]

        def run(variations: Mapping[str, Variation], data: DataRequest | None) -> SimulatedSample:
            return asked.sample.run(asked.edges, variations, second=asked.second, data=data, n_threads=self.n_threads)

        if self.cache is None:
            return run(asked.variations, data)
        kept = self.cache.recall(asked.inputs)
        if data is not None:
            kept_counts = self.cache.recall(asked.data_inputs)
            if kept_counts is not None:
                data, counts = None, kept_counts["counts"]
        if kept is None:
            found = run(asked.variations, data)
            self.cache.keep(asked.inputs, arrays_of(found))
            found = replace(found, counts=counts) if data is None else found
        else:
            if data is not None:  # the templates are there, of other data
                counts = run({}, data).counts
            found = sample_of(kept, asked.variations, counts)
        if data is not None:
            assert found.counts is not None
            self.cache.keep(asked.data_inputs, {"counts": found.counts})
        return found

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

    def check_files(self) -> None:
        """Raise SpecError, with all problems, where a file has not the bins that a region needs."""
        problems: list[Problem] = []
        for region in self.regions.values():
            for path in self.spec.inputs:
                if {region.channel, sideband_name(region.channel)} & set(path[2:]):
                    try:
                        self._read(path, region)
                    except SpecError as error:
                        problems.extend(error.problems)
        if problems:
            raise SpecError(tuple(dict.fromkeys(problems)))

    def from_files(self, name: str, region: Region) -> SampleTemplates:
        """A background from files. Raises SpecError where its bins are not those of the region."""
        background = self.spec.backgrounds[name]
        assert isinstance(background, BackgroundFromFiles)
        own = background.files[region.channel]
        found = self._read(("backgrounds", name, "files", region.channel), region)
        scale = self.spec.luminosity.value / own.luminosity
        scale *= 1.0 if background.efficiency is None else background.efficiency.value
        return SampleTemplates(found.scaled(scale))

    def observed(self, region: Region) -> FloatArray:
        """The measured data of a region. Raises SpecError where their bins are not those of the region."""
        return self._read(("data", "files", region.channel), region).values

    def _observables(self, region: Region) -> tuple[str, ...]:
        channel = self.spec.line(region.channel)
        return (channel.observable, *(() if channel.second is None else (channel.second.observable,)))

    def _read(self, path: tuple[str | int, ...], region: Region) -> Template:
        return template_from_file(
            self.search,
            path,
            region.channel,
            observables=self._observables(region),
            edges=(region.binning.edges, *(() if region.second is None else (region.second.edges,))),
            cuts=region.cuts,
        )

    def signal(self, region: Region, point: GridPoint) -> tuple[SampleTemplates, float]:
        """Signal templates on the fine binning in events for a rate of 1, and the efficiency (acceptance included).

        A cross section, in fb, is that without radiation, at the nominal energy; that of a resonance as it is made.
        """
        signal = self.spec.signal
        lifetime = signal.lifetime
        if lifetime is not None and lifetime.shape_at is not None and point.ctau is not None:
            templates, efficiency, relative = self._at_shape(region, replace(point, ctau=None))
            factor = relative[point.ctau]
            return templates.scaled(factor), efficiency * factor
        if signal.files is not None:
            return self._signal_from_file(region, point)
        found = self._simulated(self.asked(SIGNAL, region, point))
        efficiency = self.stated_efficiency(point) / self.made(point)
        per_weight = self.spec.events_per_rate * efficiency / signal.events
        return found.templates.scaled(per_weight), efficiency * found.selected_per_event

    def made(self, point: GridPoint) -> float:
        """The mean weight of the signals that a rate counts: for a cross section those without radiation, as the formulas of
        models have it; for particles that are made in known number, or compared with a background, all of them.
        """
        if self.spec.rate.kind == "cross section":
            return self.born_cross_section(SIGNAL, point)
        return self._produced(SIGNAL, point)

    def _signal_from_file(self, region: Region, point: GridPoint) -> tuple[SampleTemplates, float]:
        signals = (self.spec.signal.files or {}).get(region.channel, [])
        for index, entry in enumerate(signals):
            if is_at(entry.at, point.values):
                path = (SIGNAL, "files", region.channel, index)
                found = self._read(path, region)
                total = total_of_file(self.search, path, self._observables(region), region.cuts)
                efficiency = self.stated_efficiency(point) / entry.generated
                templates = SampleTemplates(found.scaled(self.spec.events_per_rate * efficiency))
                return templates, efficiency * total
        place = self.search.place_of(SIGNAL, "files")
        msg = f"{place}: signal.files: there is no signal of {point.text}; each mass needs one, nothing is interpolated"
        raise UserError(msg)

    def _at_shape(self, region: Region, point: GridPoint) -> tuple[SampleTemplates, float, dict[float, float]]:
        """The signal at the lifetime of the shape, and what to scale it by at others; asked for many times in a row."""
        key = (region.name, point.mass_name)
        if self._last_shape is None or self._last_shape[0] != key:
            relative = {found.ctau: found.relative for found in self.at_lifetimes(region, point)}
            self._last_shape = key, (*self.signal(region, point), relative)
        return self._last_shape[1]

    def at_lifetimes(self, region: Region, point: GridPoint) -> tuple[RelativeEfficiency, ...]:
        """The efficiency at each lifetime of the spec, relative to that at the lifetime of the shape.

        All from one sample of the signal, whose lengths of flight are drawn to cover them.
        """
        chain, species, ctaus = self._flying(region, point)

        def simulate() -> Arrays:
            found = chain.at_lifetimes(self.detector, species, ctaus, n_threads=self.n_threads)
            return {field.name: np.array([getattr(at, field.name) for at in found]) for field in fields(AtLifetime)}

        inputs = self.flying_inputs(region, point)
        kept = simulate() if self.cache is None else self.cache.arrays(inputs, simulate)
        rows = zip(*(column.tolist() for column in kept.values()), strict=True)
        *found, own = (AtLifetime(**dict(zip(kept, row, strict=True))) for row in rows)
        if own.effective_sample_size < FEWEST_EVENTS:
            return tuple(RelativeEfficiency(at.ctau, 0.0, 0.0) for at in found)
        return tuple(
            RelativeEfficiency(at.ctau, at.efficiency / own.efficiency, at.efficiency_stdev / own.efficiency)
            if at.effective_sample_size >= FEWEST_EVENTS
            else RelativeEfficiency(at.ctau, 0.0, 0.0)
            for at in found
        )

    def _flying(self, region: Region, point: GridPoint) -> tuple[ChainSample, str, tuple[float, ...]]:
        """The sample that efficiencies at all lifetimes are from, the particle, and the lifetimes, that of the shape last."""
        lifetime = self.spec.signal.lifetime
        assert lifetime is not None
        assert lifetime.shape_at is not None
        ctaus = (*lifetime.values, lifetime.shape_at)
        drawn = {lifetime.of: drawn_lifetimes(ctaus)}
        return self.chain_sample(SIGNAL, region.cuts, replace(point, ctau=None), lifetimes=drawn), lifetime.of, ctaus

    def flying_inputs(self, region: Region, point: GridPoint) -> object:
        """All that the efficiencies at other lifetimes depend on."""
        chain, species, ctaus = self._flying(region, point)
        return "lifetimes", chain.inputs, self.detector, species, ctaus

    def stated_efficiency(self, point: GridPoint) -> float:
        """Of the signal: what the simulation does not contain, and the branching fractions that the limit does not."""
        known = math.prod(fraction.value for fraction in self.spec.signal.branching_fractions.values())
        return self.spec.signal.efficiency.at(point.values) * known

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
        if not isinstance(process, Signal | Background):
            known = (
                "the spec states what is expected of it" if isinstance(process, StatedBackground) else "it is in files"
            )
            msg = f"nothing of {name} is simulated: {known}"
            raise UserError(msg)
        return process

    def _topology(self, name: str, point: GridPoint | None) -> Topology:
        key = (name, point)
        if self._last_topology is None or self._last_topology[0] != key:  # asked for several times in a row
            self._last_topology = key, self._parsed_topology(name, point)
        return self._last_topology[1]

    def _parsed_topology(self, name: str, point: GridPoint | None) -> Topology:
        process = self._process(name)
        cuts = (self._photon_cuts.min_energy, self._photon_cuts.max_cos) if needs_photon_cuts(process) else None
        return chain_of(
            process,
            {} if point is None else point.values,
            sqrt_s=self.beams.sqrt_s,
            law=default_law(self.spec.interpretations) if name == SIGNAL else None,
            lifetimes=self.spec.signal.lifetime if name == SIGNAL else None,
            ctau=None if point is None else point.ctau,
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
        if first.law.name == "resonance" and (made := _made_of_known(topology)) is not None:
            key = f"{name}/born"  # the same at all points
            if key not in self._mean_weights:
                self._mean_weights[key] = self._weigh(ChainGenerator(made, self.beams, isr=False), key, radiates=False)
            return self._mean_weights[key]
        generator = ChainGenerator(topology, self.beams, isr=False)
        if generator.weight_unit == "1" and first.law.name != "resonance":
            return 1.0
        return self._weigh(generator, f"{stream_of(name, point)}/born", radiates=False)

    def _produced(self, name: str, point: GridPoint | None = None) -> float:
        """The mean weight of a background, or of the signal at a point, radiation included.

        That of a signal which is made as known particles does not depend on what they decay to, and is found once.
        """
        topology = self._topology(name, point)
        radiates = self.spec.radiation.acts_on(self._process(name), topology)
        key = f"{name}/produced"
        if point is not None:
            if not radiates:
                return self.born_cross_section(name, point)
            production = topology.text.split(",")[0]
            if hypotheses(production):
                key = f"{stream_of(name, point)}/produced"
            else:
                topology = parse_chain(production, laws={INITIAL: topology.vertices[0].law})
        if key not in self._mean_weights:
            generator = ChainGenerator(topology, self.beams, isr=radiates)
            self._mean_weights[key] = self._weigh(generator, key, radiates=radiates)
        return self._mean_weights[key]

    def _weigh(self, generator: ChainGenerator, stream: str, *, radiates: bool) -> float:
        seed, n_threads = self.spec.seed, self.n_threads

        def weigh() -> Arrays:
            found = generator.weigh(n_events=WEIGHED_EVENTS, seed=seed, stream=stream, n_threads=n_threads)
            return {"mean": np.array(found.mean)}

        inputs = "mean weight", generator.topology, generator.beams, radiates, WEIGHED_EVENTS, seed, stream
        return float((weigh() if self.cache is None else self.cache.arrays(inputs, weigh))["mean"])

    def _shape_systematics(self, sample: str) -> dict[str, ShapeSystematic]:
        table = self.spec.systematics.items()
        return {name: s for name, s in table if isinstance(s, ShapeSystematic) and sample in s.on}

    def variations(self, sample: str, point: Mapping[str, float]) -> dict[str, Variation]:
        """The shape systematics of a sample at a grid point."""
        return {name: (s.vary, s.size.at(point)) for name, s in self._shape_systematics(sample).items()}


def _made_of_known(topology: Topology) -> Topology | None:
    """A resonance and its first decay, where only known particles are in them: all that its weight depends on."""
    made, *decays = topology.text.split(",")
    first = next((step for step in decays if step.split()[0] == topology.nodes[1].species), None)
    if first is None or hypotheses(first):
        return None
    return parse_chain(f"{made},{first}", laws={INITIAL: topology.vertices[0].law})


def _second_axis(second: SecondObservable) -> SecondAxis:
    return SecondAxis(axis_of(second.observable), np.linspace(*second.limits, second.bins + 1))


def stream_of(name: str, point: GridPoint | None) -> str:
    """The name of the random numbers of a sample: the same at all lifetimes."""
    return name if point is None else f"{name}/{point.mass_name}"


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
