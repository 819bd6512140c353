"""Samples of three photons by the engine that does nothing else: from the generator to the histogram in one kernel.

It is about ten times as fast as the general engine, which gives the same up to statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from modelbuilder.histograms.samples import DataRequest, SimulatedSample, Variation
from modelbuilder.histograms.templates import FloatArray, Template
from modelbuilder.kinematics import processes
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.measure import detector_of
from modelbuilder.kinematics.response import PhotonResponse
from modelbuilder.kinematics.selection import PhotonSelection
from modelbuilder.kinematics.simulate import PseudoData, SimulatedHistograms, simulate_histograms
from modelbuilder.spec.cuts import Cut
from modelbuilder.spec.experiment import ConstantEfficiency, Experiment
from modelbuilder.spec.process import Candidate, Simulated, needs_photon_cuts
from modelbuilder.spec.topology import Topology

OBSERVABLES = {"mass2(gamma gamma)": "mass2", "recoil2(gamma)": "recoil2"}
_THETA, _ENERGY, _MASS = "theta(gamma)", "energy(gamma)", "mass(gamma gamma gamma) / sqrt_s"
_VARIED = ("photons.energy_scale", "photons.energy_resolution", "photons.angle_resolution", "photons.resolution")
_PHOTONS = 3


@dataclass(frozen=True, kw_only=True)
class ThreePhotonSample:
    """A process with its cuts."""

    process: processes.Process
    beams: Beams
    response: PhotonResponse
    selection: PhotonSelection
    observable: str
    photon_efficiency: float
    isr: bool
    n_events: int
    seed: int
    stream: str

    @property
    def inputs(self) -> object:
        """As `Sample.inputs`."""
        return self

    def run(
        self,
        edges: FloatArray,
        variations: Mapping[str, Variation],
        *,
        second: FloatArray | None = None,
        data: DataRequest | None = None,
        n_threads: int | None = None,
    ) -> SimulatedSample:
        """As `Sample.run`, of one observable only."""
        assert second is None
        efficiency = self.photon_efficiency**_PHOTONS
        nominal = self._histograms(edges, self.response, n_threads)
        varied = {}
        for name, (vary, size) in variations.items():
            what = vary.removeprefix("photons.")
            responses = (self.response.varied(what, max(0.0, 1.0 + change)) for change in (size, -size))
            up, down = (self._template(self._histograms(edges, r, n_threads)).scaled(efficiency) for r in responses)
            varied[name] = (up, down)
        counts = None
        if data is not None:
            pseudo = PseudoData(
                luminosity=data.scale * self.n_events,
                efficiency=efficiency,
                seed=data.seed,
                cross_section=1.0 if self.process.weight_unit == "1" else None,
            )
            counts = self._template(self._histograms(edges, self.response, n_threads, pseudo)).values
        return SimulatedSample(
            nominal=self._template(nominal).scaled(efficiency),
            varied=varied,
            selected_per_event=efficiency * nominal.selected_per_event,
            counts=counts,
        )

    def _histograms(
        self, edges: FloatArray, response: PhotonResponse, n_threads: int | None, pseudo: PseudoData | None = None
    ) -> SimulatedHistograms:
        return simulate_histograms(
            self.process,
            self.beams,
            response,
            self.selection,
            axes={OBSERVABLES[self.observable]: edges},
            isr=self.isr,
            n_events=self.n_events,
            seed=self.seed,
            stream=self.stream,
            n_threads=n_threads,
            pseudo=pseudo,
        )

    def _template(self, run: SimulatedHistograms) -> Template:
        histogram = run.histograms[OBSERVABLES[self.observable]]
        return Template(histogram.values, histogram.variances)


def can_run(
    sample: Simulated,
    topology: Topology,
    candidates: Sequence[Candidate],
    experiment: Experiment,
    cuts: Iterable[Cut],
    observable: str,
    varied: Iterable[str],
) -> bool:
    """Whether a sample is of this kind: prompt photons, their own cuts, and nothing else in the final state."""
    photons = [node for node in topology.nodes if node.kind == "photon"]
    return (
        (needs_photon_cuts(sample) or _is_a_prompt_pair(topology))
        and len(photons) == _PHOTONS
        and len(candidates) == 1
        and len(candidates[0].seen) == _PHOTONS
        and isinstance(experiment.photons.efficiency, ConstantEfficiency)
        and observable in OBSERVABLES
        and all(_is_simple(cut) for cut in cuts)
        and all(name in _VARIED for name in varied)
    )


def _is_a_prompt_pair(topology: Topology) -> bool:
    """e+ e- -> gamma X, X -> gamma gamma."""
    if len(topology.vertices) != 2 or len(topology.nodes) != 5:
        return False
    production, decay = topology.vertices
    parent = topology.nodes[decay.parent]
    laws = production.law.name, decay.law.name
    return laws == ("photon-pseudoscalar", "phase-space") and parent.ctau == 0.0 and parent.width == 0.0


def _is_simple(cut: Cut) -> bool:
    plain = cut.turn_on is None and cut.at_least is None
    form = {_THETA: cut.between, _MASS: cut.between, _ENERGY: cut.above}.get(cut.quantity)
    return plain and form is not None


def selection_of(experiment: Experiment, cuts: Iterable[Cut]) -> PhotonSelection:
    """The acceptance of the experiment and the cuts on every photon together; other cuts are passed over."""
    theta = [(polar.low, polar.high) for polar in experiment.photons.acceptance]
    energy = experiment.photons.minimum_energy
    window: tuple[float, float] | None = None
    for cut in cuts:
        if not _is_simple(cut):
            continue
        low, high = cut.bounds
        if cut.quantity == _THETA:
            theta = [(max(a, low), min(b, high)) for a, b in theta if max(a, low) < min(b, high)]
        elif cut.quantity == _ENERGY:
            energy = max(energy, low)
        else:
            least, most = window or (low, high)
            window = (max(least, low), min(most, high))
    return PhotonSelection(
        theta=tuple(theta),
        min_energy=energy,
        mass_window=window,
        min_opening_angle=experiment.photons.minimum_opening_angle,
    )


def photon_cuts(beams: Beams, experiment: Experiment, selections: Iterable[PhotonSelection]) -> processes.ThreePhotons:
    """Cuts on simulated photons that no event from outside of could pass any of the selections."""
    return processes.ThreePhotons.covering(beams, detector_of(experiment).photons.response, selections)


def process_of(topology: Topology, covering: processes.ThreePhotons | None) -> processes.Process:
    """The process of a chain that `can_run`."""
    if covering is not None:
        return covering
    return processes.GammaAlp(mass=topology.nodes[topology.vertices[1].parent].mass)
