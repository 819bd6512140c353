"""Templates: expected events per bin, nominal and varied, and their files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelbuilder.histograms.typeset import particle_formula
from modelbuilder.spec.observables import arguments_of, unit_of

if TYPE_CHECKING:
    import hist

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Template:
    """Expected events per bin and their variances from the finite simulation, both of shape (n_bins,)."""

    values: FloatArray
    variances: FloatArray

    def scaled(self, factor: float) -> Template:
        return Template(self.values * factor, self.variances * factor**2)

    def sliced(self, bins: slice) -> Template:
        return Template(self.values[bins], self.variances[bins])

    def summed(self) -> Template:
        """All bins as one."""
        return Template(self.values.sum(keepdims=True), self.variances.sum(keepdims=True))

    @property
    def total(self) -> float:
        return float(self.values.sum())


@dataclass(frozen=True)
class Smoothing:
    """Of a smooth spectrum: the p-value of the simulated one in it, and its covariance, shape (n_bins, n_bins)."""

    p_value: float
    covariance: FloatArray

    def scaled(self, factor: float) -> Smoothing:
        return Smoothing(self.p_value, self.covariance * factor**2)

    def sliced(self, bins: slice) -> Smoothing:
        return Smoothing(self.p_value, self.covariance[bins, bins])


@dataclass(frozen=True)
class SampleTemplates:
    """A sample: its nominal template, and those at +1 and -1 standard deviation of each shape systematic.

    smoothing: where a smooth spectrum stands in place of the simulated one, what is known of it.
    """

    nominal: Template
    varied: Mapping[str, tuple[Template, Template]] = field(default_factory=dict)
    smoothing: Smoothing | None = None

    def scaled(self, factor: float) -> SampleTemplates:
        varied = {name: (up.scaled(factor), down.scaled(factor)) for name, (up, down) in self.varied.items()}
        smoothing = None if self.smoothing is None else self.smoothing.scaled(factor)
        return SampleTemplates(self.nominal.scaled(factor), varied, smoothing)

    def sliced(self, bins: slice) -> SampleTemplates:
        varied = {name: (up.sliced(bins), down.sliced(bins)) for name, (up, down) in self.varied.items()}
        smoothing = None if self.smoothing is None else self.smoothing.sliced(bins)
        return SampleTemplates(self.nominal.sliced(bins), varied, smoothing)

    def taken(self, bins: npt.NDArray[np.int64]) -> SampleTemplates:
        """The sum over some bins, as one."""

        def one(template: Template) -> Template:
            return Template(template.values[bins], template.variances[bins]).summed()

        return SampleTemplates(
            one(self.nominal), {name: (one(up), one(down)) for name, (up, down) in self.varied.items()}
        )

    @property
    def covariance(self) -> FloatArray:
        """Of the nominal template, from the finite simulation; shape (n_bins, n_bins)."""
        return np.diag(self.nominal.variances) if self.smoothing is None else self.smoothing.covariance

    def summed(self) -> SampleTemplates:
        """All bins as one."""
        return SampleTemplates(
            self.nominal.summed(), {name: (up.summed(), down.summed()) for name, (up, down) in self.varied.items()}
        )


@dataclass(frozen=True)
class Axis:
    """The observable of a channel. `name` is one that hist accepts; `label` is for figures."""

    name: str
    label: str
    unit: str


@dataclass(frozen=True)
class SecondAxis:
    """The second observable of a channel. Templates are flattened, with its bins running fastest.

    edges: shape (n + 1,), in the unit of the axis.
    """

    axis: Axis
    edges: FloatArray

    @property
    def n_bins(self) -> int:
        return len(self.edges) - 1


def axis_of(observable: str) -> Axis:
    """The axis of an observable as a spec writes it."""
    name = re.sub(r"_+", "_", re.sub(r"\W", "_", _plain(observable))).strip("_")
    return Axis(name, _label(observable), unit_of(observable))


def _plain(text: str) -> str:
    return text.replace("+", "p").replace("-", "m")


_FUNCTIONS = {
    "mass": "M({})",
    "mass2": "M^2({})",
    "recoil": r"M_\mathrm{{recoil}}({})",
    "recoil2": r"M^2_\mathrm{{recoil}}({})",
    "reduced_mass": r"M_\mathrm{{red}}({})",
    "constrained_mass": r"M_\mathrm{{con}}({})",
    "mbc": r"M_\mathrm{{bc}}({})",
    "delta_e": r"\Delta E({})",
    "tau_x": "x({})",
    "energy": "E({})",
    "energy_cm": "E^*({})",
    "momentum": "p({})",
    "momentum_cm": "p^*({})",
    "pt": r"p_\mathrm{{T}}({})",
    "pt_cm": r"p^*_\mathrm{{T}}({})",
    "theta": r"\theta({})",
    "theta_cm": r"\theta^*({})",
    "recoil_theta": r"\theta_\mathrm{{recoil}}({})",
    "recoil_theta_cm": r"\theta^*_\mathrm{{recoil}}({})",
    "cos_helicity": r"\cos\theta_\mathrm{{hel}}({})",
}


def _label(observable: str) -> str:
    """For figures."""
    function, arguments = arguments_of(observable)
    if function not in _FUNCTIONS:
        return observable
    groups = [r"\,".join(particle_formula(word) or rf"\mathrm{{{word}}}" for word in group.split())
              for group in arguments.split(",")]  # fmt: skip
    label = _FUNCTIONS[function].format(", ".join(groups))
    return rf"${label} / \sqrt{{s}}$" if " / " in observable else f"${label}$"


@dataclass(frozen=True, kw_only=True)
class PointTemplates:
    """Everything that the workspace of one grid point is made of, within its fit window.

    edges: shape (n_bins + 1,), in the unit of the axis.    signal: events for a rate of 1.
    backgrounds: expected events.    observation: events, shape (n_bins,).
    efficiency: of the signal before the window, acceptance included.
    second: the second observable, if there is one; the templates then have n_bins times as many bins as it has.
    sideband: the same of the sideband of a count, with the backgrounds that are there; edges are those of the window.
    """

    axis: Axis
    edges: FloatArray
    signal: SampleTemplates
    backgrounds: Mapping[str, SampleTemplates]
    observation: FloatArray
    efficiency: float
    second: SecondAxis | None = None
    sideband: PointTemplates | None = None


def as_hist(template: Template, axis: Axis, edges: FloatArray, second: SecondAxis | None = None) -> hist.Hist[Any]:
    """A histogram with named axes, one or two, and weighted storage, without flow bins."""
    import hist

    axes = [_variable(axis, edges)] + ([] if second is None else [_variable(second.axis, second.edges)])
    histogram: hist.Hist[Any] = hist.Hist(*axes, storage=hist.storage.Weight())
    view: Any = histogram.view()
    view["value"], view["variance"] = (part.reshape(view.shape) for part in (template.values, template.variances))
    return histogram


def _variable(axis: Axis, edges: FloatArray) -> Any:
    import hist

    variable = hist.axis.Variable(edges, name=axis.name, label=f"{axis.label} [{axis.unit}]", flow=False)
    variable.units = axis.unit
    return variable


def histograms(
    samples: Mapping[str, SampleTemplates],
    observation: FloatArray | None,
    axis: Axis,
    edges: FloatArray,
    second: SecondAxis | None = None,
) -> dict[str, hist.Hist[Any]]:
    """All templates by name: `sample`, `sample/systematic/up`, `sample/systematic/down`, and `observation` if given."""
    found = {}
    for name, sample in samples.items():
        found[name] = as_hist(sample.nominal, axis, edges, second)
        for systematic, (up, down) in sample.varied.items():
            found[f"{name}/{systematic}/up"] = as_hist(up, axis, edges, second)
            found[f"{name}/{systematic}/down"] = as_hist(down, axis, edges, second)
    if observation is not None:
        found["observation"] = as_hist(Template(observation, observation), axis, edges, second)
    return found


def to_uhi_json(histograms: Mapping[str, hist.Hist[Any]]) -> str:
    """The text of a UHI histogram file (schema 1)."""
    import uhi.io.json

    return json.dumps(dict(histograms), default=uhi.io.json.default, allow_nan=False) + "\n"


def from_uhi_json(text: str) -> dict[str, hist.Hist[Any]]:
    """The histograms of a UHI file by name."""
    import hist
    import uhi.io.json

    return {name: hist.Hist(item) for name, item in json.loads(text, object_hook=uhi.io.json.object_hook).items()}
