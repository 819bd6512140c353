"""From a search to its simulated templates: regions, backgrounds, pseudo-data, and the signal of a grid point."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from particle import Particle

from modelbuilder.errors import UserError
from modelbuilder.histograms.binning import FineBinning, fine_binning
from modelbuilder.histograms.templates import AXES, Axis, FloatArray, PointTemplates, SampleTemplates, Template
from modelbuilder.kinematics import processes
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.response import PhotonResponse
from modelbuilder.kinematics.selection import PhotonSelection
from modelbuilder.kinematics.simulate import PseudoData, SimulatedHistograms, simulate_histograms
from modelbuilder.spec.experiment import Experiment
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.search import (
    SIGNAL,
    THREE_PHOTONS,
    AngleCut,
    AsimovData,
    Background,
    Cut,
    EnergyCut,
    MassCut,
    SearchSpec,
    ShapeSystematic,
)

_OBSERVABLES = {"mass2(gamma gamma)": "mass2", "recoil2(gamma)": "recoil2"}
_PEAKS = {
    "e+ e- -> gamma pi0, pi0 -> gamma gamma": "pi0",
    "e+ e- -> gamma eta, eta -> gamma gamma": "eta",
    "e+ e- -> gamma eta_prime, eta_prime -> gamma gamma": "eta'(958)",
}
_PHOTONS = 3


@dataclass(frozen=True, kw_only=True)
class Region:
    """A channel with one set of cuts: all grid points of a region are fitted in windows of the same data."""

    name: str
    channel: str
    axis: Axis
    selection: PhotonSelection
    binning: FineBinning


@dataclass(frozen=True, kw_only=True)
class RegionTemplates:
    """Backgrounds (expected events) and observation of a region, on its fine binning."""

    region: Region
    backgrounds: Mapping[str, SampleTemplates]
    observation: FloatArray

    def at(self, point: GridPoint, signal: SampleTemplates, efficiency: float) -> PointTemplates:
        """The templates of a grid point within its window; `signal` is on the fine binning, in events per fb."""
        bins = self.region.binning.window(point.mass)
        return PointTemplates(
            axis=self.region.axis,
            edges=self.region.binning.window_edges(point.mass),
            signal=signal.sliced(bins),
            backgrounds={name: sample.sliced(bins) for name, sample in self.backgrounds.items()},
            observation=self.observation[bins],
            efficiency=efficiency,
        )


class Simulation:
    """Runs the simulations that a search asks for. n_threads: of one simulation; the result does not depend on it."""

    def __init__(self, search: LoadedSearch, *, n_threads: int = 1) -> None:
        self.search = search
        self.spec: SearchSpec = search.spec
        self.n_threads = n_threads
        self.beams = beams_of(self.spec.experiment)
        self.response = response_of(self.spec.experiment)
        self.photon_efficiency = self.spec.experiment.photons.efficiency.value**_PHOTONS

    @functools.cached_property
    def regions(self) -> dict[str, Region]:
        """The regions by name, in the order of the grid."""
        found = dict.fromkeys((point.channel, self._selection(point)) for point in self.search.points)
        several = [channel for channel, _ in found]
        regions: dict[str, Region] = {}
        for channel, selection in found:
            number = sum(region.channel == channel for region in regions.values()) + 1
            name = f"{channel}_{number}" if several.count(channel) > 1 else channel
            axis = AXES[self.spec.channels[channel].observable]
            binning = self._binnings[channel]
            regions[name] = Region(name=name, channel=channel, axis=axis, selection=selection, binning=binning)
        return regions

    def region_of(self, point: GridPoint) -> Region:
        selection = self._selection(point)
        return next(r for r in self.regions.values() if r.channel == point.channel and r.selection == selection)

    @functools.cached_property
    def _binnings(self) -> dict[str, FineBinning]:
        variable = self.spec.grid_variable
        binnings = {}
        for name in dict.fromkeys(point.channel for point in self.search.points):
            channel = self.spec.channels[name]
            masses = np.array([point.mass for point in self.search.points if point.channel == name])
            try:
                binnings[name] = fine_binning(
                    lambda mass, resolution=channel.resolution: resolution.at({variable: mass}),  # type: ignore[misc]
                    masses,
                    bin_width=channel.bin_width,
                    window=channel.window,
                    largest_mass=self.beams.sqrt_s,
                )
            except ValueError as error:
                place = self.search.place_of("channels", name, "resolution")
                msg = f"{place}: channels.{name}.resolution: windows reach further than the grid: {error}"
                raise UserError(msg) from None
        return binnings

    def _selection(self, point: GridPoint) -> PhotonSelection:
        holding = [cut for cut in self.spec.selection if cut.where is None or cut.where.holds(point.values)]
        return selection_of(self.spec.experiment, holding)

    def background(self, region: Region) -> RegionTemplates:
        """Simulate all backgrounds of a region, and its data."""
        templates = {name: self._background(region, name) for name in self.spec.backgrounds}
        if isinstance(self.spec.data, AsimovData):
            observation = np.sum([sample.nominal.values for sample in templates.values()], axis=0)
        else:
            observation = self._pseudo_data(region)
        return RegionTemplates(region=region, backgrounds=templates, observation=observation)

    def signal(self, region: Region, point: GridPoint) -> tuple[SampleTemplates, float]:
        """Signal templates on the fine binning in events per fb, and the efficiency (acceptance included)."""
        spec = self.spec
        efficiency = self.photon_efficiency * spec.signal.efficiency.at(point.values)
        per_fb = spec.luminosity.value * efficiency
        process = processes.GammaAlp(mass=point.mass)
        stream = f"{SIGNAL}/{point.name}"
        sizes = {name: s.size.at(point.values) for name, s in self._shape_systematics(SIGNAL).items()}
        nominal = self._simulate(process, region, spec.signal.events, stream, self.response)
        samples = self._varied(process, region, spec.signal.events, stream, sizes, nominal)
        return samples.scaled(per_fb / spec.signal.events), efficiency * nominal.selected_per_event

    def _background(self, region: Region, name: str) -> SampleTemplates:
        background = self.spec.backgrounds[name]
        process = self._process(background)
        scale = self.spec.luminosity.value * self.photon_efficiency * background.efficiency.value / background.events
        if background.cross_section is not None:
            scale *= background.cross_section.value
        nominal = self._simulate(process, region, background.events, name, self.response)
        sizes = {key: s.size.at({}) for key, s in self._shape_systematics(name).items()}
        return self._varied(process, region, background.events, name, sizes, nominal).scaled(scale)

    def _pseudo_data(self, region: Region) -> FloatArray:
        """Poisson distributed data from the simulated backgrounds; an event is in all regions that select it."""
        assert not isinstance(self.spec.data, AsimovData)
        total = np.zeros(region.binning.n_bins)
        for name, background in self.spec.backgrounds.items():
            pseudo = PseudoData(
                luminosity=self.spec.luminosity.value,
                efficiency=self.photon_efficiency * background.efficiency.value,
                seed=self.spec.data.seed,
                cross_section=None if background.cross_section is None else background.cross_section.value,
            )
            if pseudo.cross_section == 0.0:
                continue
            run = self._simulate(self._process(background), region, background.events, name, self.response, pseudo)
            total += self._values(run, region).values
        return total

    def _process(self, background: Background) -> processes.Process:
        if background.process == THREE_PHOTONS:
            return self._three_photons
        return processes.GammaAlp(mass=peak_mass(background.process))

    @functools.cached_property
    def _three_photons(self) -> processes.ThreePhotons:
        """With one set of generator cuts for all regions, so that their events are the same."""
        selections = [region.selection for region in self.regions.values()]
        return processes.ThreePhotons.covering(self.beams, self.response, selections)

    def _shape_systematics(self, sample: str) -> dict[str, ShapeSystematic]:
        table = self.spec.systematics.items()
        return {name: s for name, s in table if isinstance(s, ShapeSystematic) and sample in s.on}

    def _varied(
        self,
        process: processes.Process,
        region: Region,
        events: int,
        stream: str,
        sizes: Mapping[str, float],
        nominal: SimulatedHistograms,
    ) -> SampleTemplates:
        """The nominal template and those with the response varied, from the same random numbers."""
        varied = {}
        for name, size in sizes.items():
            systematic = self.spec.systematics[name]
            assert isinstance(systematic, ShapeSystematic)
            up, down = (
                self._simulate(process, region, events, stream, varied_response(self.response, systematic.vary, change))
                for change in (size, -size)
            )
            varied[name] = (self._values(up, region), self._values(down, region))
        return SampleTemplates(self._values(nominal, region), varied)

    def _simulate(
        self,
        process: processes.Process,
        region: Region,
        events: int,
        stream: str,
        response: PhotonResponse,
        pseudo: PseudoData | None = None,
    ) -> SimulatedHistograms:
        return simulate_histograms(
            process,
            self.beams,
            response,
            region.selection,
            axes={self._observable(region): region.binning.edges},
            isr=self.spec.radiation.initial_state == "collinear",
            n_events=events,
            seed=self.spec.seed,
            stream=stream,
            n_threads=self.n_threads,
            pseudo=pseudo,
        )

    def _observable(self, region: Region) -> str:
        return _OBSERVABLES[self.spec.channels[region.channel].observable]

    def _values(self, run: SimulatedHistograms, region: Region) -> Template:
        histogram = run.histograms[self._observable(region)]
        return Template(histogram.values, histogram.variances)


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


def response_of(experiment: Experiment) -> PhotonResponse:
    """The photon response of an experiment for the kinematics engine."""
    energy = experiment.photons.energy_resolution
    return PhotonResponse(
        noise=energy.noise,
        stochastic=energy.stochastic,
        constant=energy.constant,
        angle=experiment.photons.angle_resolution.at_1_gev,
    )


def varied_response(response: PhotonResponse, vary: str, change: float) -> PhotonResponse:
    """The response with one of its parameters (`vary` of a shape systematic) changed by a relative amount."""
    factor = max(0.0, 1.0 + change)
    scaled = {
        "photons.energy_scale": {"energy_scale": response.energy_scale * factor},
        "photons.energy_resolution": {"resolution_scale": response.resolution_scale * factor},
        "photons.angle_resolution": {"angle": response.angle * factor},
        "photons.resolution": {
            "resolution_scale": response.resolution_scale * factor,
            "angle": response.angle * factor,
        },
    }
    return replace(response, **scaled[vary])


def selection_of(experiment: Experiment, cuts: Iterable[Cut]) -> PhotonSelection:
    """The acceptance of the experiment and all the cuts together."""
    theta = [(polar.low, polar.high) for polar in experiment.photons.acceptance]
    energy = experiment.photons.minimum_energy
    window: tuple[float, float] | None = None
    for cut in cuts:
        if isinstance(cut, AngleCut):
            low, high = cut.between
            theta = [(max(a, low), min(b, high)) for a, b in theta if max(a, low) < min(b, high)]
        elif isinstance(cut, EnergyCut):
            energy = max(energy, cut.above)
        elif isinstance(cut, MassCut):
            low, high = window or cut.between
            window = (max(low, cut.between[0]), min(high, cut.between[1]))
    return PhotonSelection(
        theta=tuple(theta),
        min_energy=energy,
        mass_window=window,
        min_opening_angle=experiment.photons.minimum_opening_angle,
    )


def peak_mass(process: str) -> float:
    """The mass, GeV, of the meson in a peaking process; from the `particle` package (PDG)."""
    meson = Particle.from_name(_PEAKS[process])
    assert meson.mass is not None
    return float(meson.mass) * 1e-3
