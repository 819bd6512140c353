"""A simulated sample of a search, whichever engine makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from modelbuilder.histograms.cache import Arrays
from modelbuilder.histograms.templates import FloatArray, SampleTemplates, Template
from modelbuilder.kinematics.measure import Detector, varied_detector
from modelbuilder.kinematics.sample import NOMINAL, ChainSample, Selected, Thinning

Variation = tuple[str, float]
"""A parameter of the detector, as in a shape systematic, and its relative change."""


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """Pseudo-data. scale: expected events for a weight of one.    seed: of the counts."""

    scale: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class SimulatedSample:
    """Sums of weights.

    nominal, varied: of the observable, the latter up and down.    selected_per_event: sum of the weights after all
    cuts over the number of simulated events.    counts: pseudo-data, shape (n_bins,), if asked for.
    """

    nominal: Template
    varied: Mapping[str, tuple[Template, Template]]
    selected_per_event: float
    counts: FloatArray | None

    @property
    def templates(self) -> SampleTemplates:
        """Without the scale."""
        return SampleTemplates(self.nominal, self.varied)


def arrays_of(found: SimulatedSample) -> Arrays:
    """As a cache keeps it, without the pseudo-data; shape of the templates (1 + 2 n_variations, 2, n_bins)."""
    varied = [template for pair in found.varied.values() for template in pair]
    templates = [np.array([template.values, template.variances]) for template in (found.nominal, *varied)]
    return {"templates": np.array(templates), "selected_per_event": np.array(found.selected_per_event)}


def sample_of(kept: Arrays, variations: Mapping[str, Variation], counts: FloatArray | None) -> SimulatedSample:
    """The reverse of `arrays_of`."""
    nominal, *varied = (Template(values, variances) for values, variances in kept["templates"])
    return SimulatedSample(
        nominal=nominal,
        varied=dict(zip(variations, zip(varied[::2], varied[1::2], strict=True), strict=True)),
        selected_per_event=float(kept["selected_per_event"]),
        counts=counts,
    )


class Sample(Protocol):
    """A process with its final state and cuts."""

    @property
    def inputs(self) -> object:
        """All that the events and their selection depend on, as `cache.digest_of_inputs` takes it."""

    def run(
        self,
        edges: FloatArray,
        variations: Mapping[str, Variation],
        *,
        second: FloatArray | None = None,
        data: DataRequest | None = None,
        n_threads: int | None = None,
    ) -> SimulatedSample:
        """Simulate and fill, once for the nominal detector and twice for each variation, with the same random numbers.

        edges: of the observable, in its unit.    variations: by name.    The result does not depend on n_threads.
        second: edges of the second observable, whose bins then run fastest.
        """


@dataclass(frozen=True, kw_only=True)
class GeneralSample:
    """Any decay chain.    second: the second observable, if there is one."""

    chain: ChainSample
    detector: Detector
    observable: str
    second: str | None = None

    @property
    def inputs(self) -> object:
        """As `Sample.inputs`."""
        return self.chain.inputs, self.detector, self.observable, self.second

    def run(
        self,
        edges: FloatArray,
        variations: Mapping[str, Variation],
        *,
        second: FloatArray | None = None,
        data: DataRequest | None = None,
        n_threads: int | None = None,
    ) -> SimulatedSample:
        """As `Sample.run`."""
        found = self.select(edges, variations, second=second, data=data, n_threads=n_threads)
        templates = {name: Template(h.values, h.variances) for name, h in found.histograms.items()}
        return SimulatedSample(
            nominal=templates[NOMINAL],
            varied={name: (templates[f"{name}/up"], templates[f"{name}/down"]) for name in variations},
            selected_per_event=found.selected_per_event,
            counts=found.counts,
        )

    def select(
        self,
        edges: FloatArray,
        variations: Mapping[str, Variation],
        *,
        second: FloatArray | None = None,
        data: DataRequest | None = None,
        n_threads: int | None = None,
    ) -> Selected:
        """The same with the cut flow; histograms by name of the variation, `name/up` and `name/down`."""
        detectors = {NOMINAL: self.detector}
        for name, (vary, size) in variations.items():
            detectors[f"{name}/up"] = varied_detector(self.detector, vary, size)
            detectors[f"{name}/down"] = varied_detector(self.detector, vary, -size)
        thinning = None if data is None else Thinning(scale=data.scale, seed=data.seed)
        with_second = None if self.second is None or second is None else (self.second, second)
        return self.chain.run(
            detectors, self.observable, edges, second=with_second, thinning=thinning, n_threads=n_threads
        )
