"""From the templates of a grid point to a HistFactory workspace.

Every workspace loads in stock pyhf: only normfactor, normsys, histosys, staterror and lumi modifiers are used, and all numbers are
floats. The signal is normalised to a reference rate that is close to the expected limit, so that the signal
strength `mu` is of order one where it matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np

from modelbuilder.histograms import bernstein
from modelbuilder.histograms.sideband import SUFFIX
from modelbuilder.histograms.templates import FloatArray, PointTemplates, SampleTemplates
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.interpretations import default_law
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.search import (
    SIGNAL,
    AnyBackground,
    Background,
    BackgroundFromFiles,
    BernsteinShape,
    Channel,
    LuminositySystematic,
    ProducedSystematic,
    RateSystematic,
    SearchSpec,
    ShapeSystematic,
    SpuriousSignal,
    Systematic,
    has_luminosity,
)
from modelbuilder.spec.sideband import TransferSystematic
from modelbuilder.spec.topology import INITIAL
from modelbuilder.workspace.lint import LintMessage, lint

POI = "mu"
POI_BOUND = 20.0
SMALLEST_YIELD = 1e-3
"""Spurious signals, and totals, below this number of events count as zero."""
SMALLEST_SIGNIFICANCE = 0.02
"""Fixed-rate samples that would be seen with less than this many standard deviations, alone, are left out."""
LARGEST_SHARE = 0.1
"""But not those with more than this share of what is expected in some bin, however little that is."""
SMALLEST_CHANGE = 1e-4
"""Shape variations with a smaller summed change, relative to the sample, are left out."""
ONE_SIDED = 0.1
"""A shape variation with one side smaller than this fraction of the other, or with both the same way, is one-sided."""
LARGEST_OPEN_SIGNAL = 0.1
"""A spurious signal that the finite simulation leaves more uncertain than this, in reference signals, is warned of."""
SMALLEST_COEFFICIENT = 0.1
"""A Bernstein sample is normalised to at least this fraction of the mean, so that its rate can move away from zero."""
SMALLEST_STATISTICAL = 0.01
"""The finite simulation enters the likelihood where its variance exceeds this fraction of that of the data."""
LARGEST_STATISTICAL = 0.1
"""Where it exceeds this fraction there is a warning."""
SMALLEST_P_VALUE = 1e-3
"""A simulated spectrum that its smooth description fits worse than this is warned of."""
MAX_RATE = 10.0
SIGNAL_IN_WINDOW = 0.5
"""Entries in the window over selected signal events; below it there is a warning."""
LEAST_COUNTED = 0.25
"""The same in a counting experiment, whose windows are narrow."""
LEAST_IN_SIDEBAND = 0.1
"""The sample in a sideband is normalised to at least so many events, so that its rate is a number of an ordinary size."""
SMALLEST_LEAKAGE = 1e-3
"""Signal in the sideband below this fraction of that in the window is left out."""
LARGEST_LEAKAGE = 0.1
"""Where the sideband takes a larger part of the signal for background there is a warning."""

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PointWorkspace:
    """A workspace and what it takes to read its signal strength.

    reference: rate at mu = 1, as of the spec.    signal_yield: selected signal events at mu = 1; an event can have more
    than one entry in the window, or none.    background_yield: expected entries in the window.
    """

    workspace: Json
    reference: float
    signal_yield: float
    background_yield: float
    lint: tuple[LintMessage, ...]


@dataclass(frozen=True, kw_only=True)
class ChannelModel:
    """A channel of HistFactory and its unconstrained parameters, the signal strength first.

    notes: what was left out or changed on the way, and warnings.    sideband: of a count, with notes of its own.
    """

    name: str
    samples: list[Json]
    observation: list[float]
    parameters: list[Json]
    signal_yield: float
    background_yield: float
    notes: tuple[LintMessage, ...]
    sideband: ChannelModel | None = None

    @property
    def with_sideband(self) -> tuple[ChannelModel, ...]:
        """The channel, and its sideband if there is one."""
        return (self,) if self.sideband is None else (self, self.sideband)


def build_workspace(search: LoadedSearch, point: GridPoint, templates: PointTemplates) -> PointWorkspace:
    """The workspace of one grid point, with its lint messages."""
    background = np.sum([sample.nominal.values for sample in templates.backgrounds.values()], axis=0)
    reference = reference_rate(templates.signal.nominal.values, background)
    channel = build_channel(search, point, templates, reference)
    samples = [sample for one in channel.with_sideband for sample in one.samples]
    parameters = [*channel.parameters, *_luminosity(samples, search.spec.luminosity.uncertainty)]
    workspace = workspace_of([channel], parameters, point.name)
    return PointWorkspace(
        workspace=workspace,
        reference=reference,
        signal_yield=channel.signal_yield,
        background_yield=channel.background_yield,
        lint=(*(note for one in channel.with_sideband for note in one.notes), *lint(workspace)),
    )


def build_channel(search: LoadedSearch, point: GridPoint, templates: PointTemplates, reference: float) -> ChannelModel:
    """The channel of one grid point. reference: rate of the signal at a strength of 1."""
    channel = _Builder(search, point, templates, reference).build()
    if templates.sideband is None:
        return channel
    beside = _Builder(search, point, templates.sideband, reference, window=templates)
    return replace(channel, sideband=beside.build_sideband())


def workspace_of(models: Sequence[ChannelModel], parameters: list[Json], measurement: str) -> Json:
    """Channels, with their sidebands, as a workspace of pyhf."""
    channels = [channel for model in models for channel in model.with_sideband]
    return {
        "channels": [{"name": channel.name, "samples": channel.samples} for channel in channels],
        "measurements": [{"name": measurement, "config": {"poi": POI, "parameters": parameters}}],
        "observations": [{"name": channel.name, "data": channel.observation} for channel in channels],
        "version": "1.0.0",
    }


class _Builder:
    """Builds a channel. window: that of the sideband that the templates are of."""

    def __init__(
        self,
        search: LoadedSearch,
        point: GridPoint,
        templates: PointTemplates,
        reference: float,
        window: PointTemplates | None = None,
    ) -> None:
        self.reference = reference
        self.window = window
        self.name = point.channel if window is None else f"{point.channel}{SUFFIX}"
        self.search = search
        self.spec: SearchSpec = search.spec
        self.point = point
        self.templates = templates
        self.background = np.sum([sample.nominal.values for sample in templates.backgrounds.values()], axis=0)
        self.messages: list[LintMessage] = []
        self.scales: dict[str, float] = {}

    def build(self) -> ChannelModel:
        signal = self.templates.signal.scaled(self.reference)
        parameters: list[Json] = [_parameter(POI, 1.0, POI_BOUND)]
        samples = [self._signal(signal)]
        for name, background in self.spec.backgrounds.items():
            found = self.templates.backgrounds[name]
            if isinstance(background.shape, BernsteinShape):
                new, rates = self._polynomial(name, background.shape, found)
            else:
                new, rates = self._known_shape(name, background, found)
            samples.extend(new)
            parameters.extend(rates)
            if isinstance(background, Background):
                self._check_smoothness(name, found)
                for text in self.search.missing_photons[name]:
                    self._note("warning", "photons-not-simulated", name, text, "backgrounds", name, "laws")
        self._add_finite_simulation(samples)
        samples.extend(self._spurious_signals(signal))
        self._check_window()
        self._check_laws()
        return self._channel(samples, parameters)

    def build_sideband(self) -> ChannelModel:
        """The channel of a sideband. Its free rate is a parameter of the window."""
        samples = self._leaking_signal()
        for name, found in self.templates.backgrounds.items():
            new, _ = self._known_shape(name, self.spec.backgrounds[name], found)
            samples.extend(new)
        self._add_finite_simulation(samples)
        return self._channel(samples, [])

    def _channel(self, samples: list[Json], parameters: list[Json]) -> ChannelModel:
        return ChannelModel(
            name=self.name,
            samples=samples,
            observation=_floats(self.templates.observation),
            parameters=parameters,
            signal_yield=self.reference * self.spec.events_per_rate * self.templates.efficiency,
            background_yield=float(self.background.sum()),
            notes=tuple(self.messages),
        )

    def _leaking_signal(self) -> list[Json]:
        """The signal in a sideband, where that is not next to nothing."""
        assert self.window is not None
        inside, outside = self.window.signal.nominal.total, self.templates.signal.nominal.total
        if outside <= SMALLEST_LEAKAGE * inside:
            return []
        free = [name for name, background in self.spec.backgrounds.items() if background.rate == "free"]
        transfer = math.fsum(self.window.backgrounds[name].nominal.total for name in free) / max(
            math.fsum(self.templates.backgrounds[name].nominal.total for name in free), 1e-300
        )
        lost = transfer * outside / max(inside, 1e-300)
        if lost > LARGEST_LEAKAGE:
            text = (
                f"{100 * lost:.0f} % of the signal in the window is taken for background, because of the signal in the"
                " sideband; leave out more around the window"
            )
            self._note("warning", "signal-in-sideband", SIGNAL, text, "channels", self.point.channel, "sideband")
        return [self._signal(self.templates.signal.scaled(self.reference))]

    def _signal(self, signal: SampleTemplates) -> Json:
        modifiers: list[Json] = [{"name": POI, "type": "normfactor", "data": None}]
        if self.spec.signal.ratio_to is not None:  # both have the rate of the background, which is free
            modifiers.append({"name": rate_name(self.spec.signal.ratio_to), "type": "normfactor", "data": None})
        modifiers.extend(self._systematics(SIGNAL, signal))
        return {"name": SIGNAL, "data": _floats(signal.nominal.values), "modifiers": modifiers}

    def _polynomial(self, name: str, shape: BernsteinShape, found: SampleTemplates) -> tuple[list[Json], list[Json]]:
        """One sample for each basis polynomial; at rate 1, or where the fit is at its bound at 0, the fitted spectrum."""
        order = round(shape.bernstein.at(self.point.values))
        edges = self.templates.edges
        coefficients = bernstein.fit(found.nominal.values, edges, order)
        basis = bernstein.basis(edges, order)
        floor = SMALLEST_COEFFICIENT * max(float(coefficients.mean()), SMALLEST_YIELD)
        samples, parameters = [], []
        for k, coefficient in enumerate(coefficients.tolist()):
            nominal = max(coefficient, floor)
            rate = f"{name}_bernstein_{k}"
            samples.append(
                {
                    "name": rate,
                    "data": _floats(nominal * basis[k]),
                    "modifiers": [{"name": rate, "type": "normfactor", "data": None}],
                }
            )
            parameters.append(
                _parameter(rate, coefficient / nominal, MAX_RATE * max(1.0, float(coefficients.mean()) / nominal))
            )
            if coefficient < floor:
                text = f"the expected spectrum puts this coefficient at {coefficient:.3g}, close to its bound at 0"
                self._note("note", "coefficient-at-bound", rate, text, "backgrounds", name, "shape")
        return samples, parameters

    def _known_shape(
        self, name: str, background: AnyBackground, found: SampleTemplates
    ) -> tuple[list[Json], list[Json]]:
        if background.rate == "fixed" and self._is_negligible(found.nominal.values):
            return [], []
        parameters = []
        rate = rate_name(name)
        if background.rate == "free":
            self.scales[name], parameter = self._free_rate(name, rate)
            found = found.scaled(self.scales[name])
            parameters.append(parameter)
        modifiers = self._systematics(name, found)
        if parameters:
            modifiers.insert(0, {"name": rate, "type": "normfactor", "data": None})
        return [{"name": name, "data": _floats(found.nominal.values), "modifiers": modifiers}], parameters

    def _free_rate(self, name: str, rate: str) -> tuple[float, Json]:
        """The free rate of a background, and the scale of its samples.

        Where a sideband measures it, what is expected there is at a rate of 1, unless that is next to nothing; and the bound
        is far above what all events together could ask for, since they may be many more than expected.
        """
        sideband = self.templates.sideband if self.window is None else self.templates
        if sideband is None:
            return 1.0, _parameter(rate, 1.0, MAX_RATE)
        window = self.templates if self.window is None else self.window
        expected = sideband.backgrounds[name].nominal.total
        for where, total in (("sideband", expected), ("window", window.backgrounds[name].nominal.total)):
            if total <= 0.0 and self.window is not None:
                text = (
                    f"nothing is expected in the {where}, so that the sideband does not tell how much of this background"
                    " is in the window"
                )
                self._note("error", f"empty-{where}", name, text, "channels", self.point.channel, "sideband")
        if expected <= 0.0:
            return 1.0, _parameter(rate, 1.0, MAX_RATE)
        nominal = max(expected, LEAST_IN_SIDEBAND)
        events = float(window.observation.sum() + sideband.observation.sum())
        return nominal / expected, _parameter(rate, expected / nominal, MAX_RATE * max(1.0, (events + 2.0) / nominal))

    def _is_negligible(self, values: FloatArray) -> bool:
        """Whether nobody would miss these events: by the root of the sum of s^2 / b, and by their share of each bin."""
        significance = math.sqrt(float(np.sum(values**2 / np.maximum(self.background, SMALLEST_YIELD))))
        return significance < SMALLEST_SIGNIFICANCE and bool(np.all(values <= LARGEST_SHARE * self.background))

    def _add_finite_simulation(self, samples: list[Json]) -> None:
        """`staterror` on the simulated backgrounds, if their simulation is not much larger than the data."""
        simulated = []
        for name, found in self.templates.backgrounds.items():
            background, nominal = self.spec.backgrounds[name], found.nominal
            share = float(nominal.variances.sum()) / max(float(self.background.sum()), SMALLEST_YIELD)
            if share > LARGEST_STATISTICAL:
                text = f"the simulation has {share:.2g} times the variance of the data in the window; raise `events`"
                if isinstance(background, BackgroundFromFiles):
                    text = f"the files have {share:.2g} times the variance of the data in the window; take larger ones"
                self._note("warning", "few-simulated-events", name, text, "backgrounds", name, "events")
            if background.shape == "simulated":
                simulated.append(name)
        total = sum(float(self.templates.backgrounds[name].nominal.variances.sum()) for name in simulated)
        if total <= SMALLEST_STATISTICAL * float(self.background.sum()):
            return
        for sample in samples:
            if sample["name"] in simulated:
                errors = np.sqrt(self.templates.backgrounds[sample["name"]].nominal.variances)
                errors = errors * self.scales.get(sample["name"], 1.0)
                modifier = {"name": f"staterror_{self.name}", "type": "staterror", "data": _floats(errors)}
                sample["modifiers"].append(modifier)

    def _systematics(self, sample: str, found: SampleTemplates) -> list[Json]:
        """The modifiers of one sample, in the order of the table."""
        modifiers: list[Json] = []
        for name, systematic in self.spec.systematics.items():
            if isinstance(systematic, LuminositySystematic) and self._follows_luminosity(sample, systematic):
                modifiers.append({"name": "lumi", "type": "lumi", "data": None})
            elif isinstance(systematic, ProducedSystematic) and sample in (SIGNAL, *systematic.also):
                assert self.spec.signal.produced is not None
                modifiers.append(normsys(name, self.spec.signal.produced.uncertainty))
            elif self._is_rate(systematic) and sample in systematic.on:
                modifiers.append(normsys(name, systematic.size.at(self.point.values)))
            elif isinstance(systematic, ShapeSystematic) and sample in systematic.on and name in found.varied:
                modifiers.extend(self._histosys(name, sample, found))
        return modifiers

    def _is_rate(self, systematic: Systematic) -> TypeGuard[RateSystematic | TransferSystematic]:
        """Whether it is an uncertainty of a yield here; that of a transfer factor is in the window with a sideband."""
        if isinstance(systematic, TransferSystematic):
            return self.window is None and self.templates.sideband is not None
        return isinstance(systematic, RateSystematic)

    def _follows_luminosity(self, sample: str, systematic: LuminositySystematic) -> bool:
        """What is simulated at a fixed rate; of what is stated, where the spec says so."""
        if sample == SIGNAL:
            return self.spec.rate.kind == "cross section"
        background = self.spec.backgrounds[sample]
        return background.rate == "fixed" and (has_luminosity(background) or sample in systematic.also)

    def _histosys(self, name: str, sample: str, found: SampleTemplates) -> list[Json]:
        nominal = found.nominal.values
        up, down = (template.values - nominal for template in found.varied[name])
        sizes = float(np.abs(up).sum()), float(np.abs(down).sum())
        change = max(sizes) / max(float(nominal.sum()), SMALLEST_YIELD)
        if change < SMALLEST_CHANGE:
            text = f"left out: {name} changes it by {change:.1e} in sum, less than {SMALLEST_CHANGE:g}"
            self._note("note", "pruned", sample, text, "systematics", name)
            return []
        if float(np.dot(up, down)) > 0.0 or min(sizes) < ONE_SIDED * max(sizes):
            text = f"{name}: one-sided; the larger variation is mirrored to the other side"
            self._note("note", "symmetrised", sample, text, "systematics", name)
            up, down = (up, -up) if sizes[0] >= sizes[1] else (-down, down)
        data = {"hi_data": _floats(np.maximum(nominal + up, 0.0)), "lo_data": _floats(np.maximum(nominal + down, 0.0))}
        return [{"name": name, "type": "histosys", "data": data}]

    def _spurious_signals(self, signal: SampleTemplates) -> list[Json]:
        """For each choice of a background shape, a sample that is empty at 0 and has the spurious signal at +-1 sigma."""
        samples = []
        for name, systematic in self.spec.systematics.items():
            if not isinstance(systematic, SpuriousSignal):
                continue
            shape = self.spec.backgrounds[systematic.of].shape
            assert isinstance(shape, BernsteinShape)
            order = round(shape.bernstein.at(self.point.values))
            background = self.templates.backgrounds[systematic.of]
            values = signal.nominal.values
            size, error = bernstein.spurious_signal(background, values, self.templates.edges, order)
            if error > LARGEST_OPEN_SIGNAL:
                text = (
                    f"the simulation of {systematic.of} leaves {error:.2g} of the reference signal open, which widens the "
                    f"limit; {_more_of(systematic.of, self.spec.backgrounds[systematic.of])}"
                )
                self._note("warning", "few-simulated-events", name, text, "backgrounds", systematic.of, "events")
            size = max(abs(size), error)
            if size * float(values.sum()) < SMALLEST_YIELD:
                text = f"left out: {systematic.of} has a spurious signal of less than {SMALLEST_YIELD:g} events"
                self._note("note", "pruned", name, text, "systematics", name)
                continue
            data = {"hi_data": _floats(size * values), "lo_data": _floats(-size * values)}
            modifier = {"name": name, "type": "histosys", "data": data}
            samples.append({"name": name, "data": [0.0] * len(values), "modifiers": [modifier]})
        return samples

    def _check_smoothness(self, name: str, found: SampleTemplates) -> None:
        smoothing = found.smoothing
        if smoothing is not None and smoothing.p_value < SMALLEST_P_VALUE:
            text = (
                f"the simulated spectrum does not follow the smooth one in its place, p-value {smoothing.p_value:.1g};"
                " take fewer bins in `smooth`"
            )
            self._note("warning", "not-smooth", name, text, "backgrounds", name, "smooth")

    def _check_window(self) -> None:
        if self.templates.efficiency == 0.0:
            return  # nothing is left of the signal at this lifetime
        channel, second = self.spec.channels[self.point.channel], self.templates.second
        found = self.templates.signal.nominal
        shape = (-1, 1 if second is None else second.n_bins)
        values, variances = (part.reshape(shape).sum(axis=1) for part in (found.values, found.variances))
        inside = found.total / max(self.spec.events_per_rate * self.templates.efficiency, 1e-300)
        counts = not isinstance(channel, Channel) or channel.count or channel.bins == 1
        if inside < (LEAST_COUNTED if counts else SIGNAL_IN_WINDOW):
            text = f"only {100 * inside:.0f} % of the selected signal lies in the window"
            self._note("warning", "signal-outside-window", SIGNAL, text, "channels", self.point.channel, "window")
        peak = int(np.argmax(values))
        if not counts and peak in (0, len(values) - 1):
            text = (
                "the signal peaks in the outermost bin of the window; is the mass within the range of the observable?"
            )
            self._note("warning", "signal-at-edge", SIGNAL, text, "channels", self.point.channel, "window")
        error = math.sqrt(variances[peak]) / max(values[peak], 1e-300)
        if error > 0.05:
            text = f"the simulation leaves {100 * error:.0f} % uncertainty in the peak; raise signal.events"
            self._note("warning", "few-simulated-events", SIGNAL, text, "signal", "events")

    def _check_laws(self) -> None:
        """Models whose production is another one than that which is simulated: their efficiency may be another one."""
        if not self.spec.signal.events or self.spec.rate.kind != "cross section":
            return  # stated, not simulated
        law = self.spec.signal.laws.get(INITIAL)
        simulated = default_law(self.spec.interpretations) if law is None else getattr(law, "law", law)
        for name, interpretation in self.spec.interpretations.items():
            if interpretation.theory.law not in (None, simulated):
                text = (
                    f"the production is simulated with the law {simulated!r}, that of {interpretation.model} is "
                    f"{interpretation.theory.law!r}; {name} has the efficiency of the former"
                )
                self._note("warning", "other-law", SIGNAL, text, "interpretations", name)

    def _note(self, severity: Any, rule: str, sample: str, text: str, *path: str) -> None:
        place = str(self.search.place_of(*path))
        self.messages.append(
            LintMessage(severity=severity, rule=rule, channel=self.name, sample=sample, message=text, place=place)
        )


def _luminosity(samples: list[Json], sigma: float) -> list[Json]:
    """The parameter of the luminosity, if something depends on it."""
    if not any(modifier["type"] == "lumi" for sample in samples for modifier in sample["modifiers"]):
        return []
    bounds = [[max(0.0, 1.0 - 5.0 * sigma), 1.0 + 5.0 * sigma]]
    return [{"name": "lumi", "inits": [1.0], "bounds": bounds, "auxdata": [1.0], "sigmas": [sigma]}]


def reference_rate(signal: FloatArray, background: FloatArray) -> float:
    """A rate of one digit that is of the size of the expected limit: two standard deviations + 3 events.

    signal: events in each bin for a rate of 1; or for 1 of anything else that they are proportional to.
    background: expected events. Zero signal gives 1.
    """
    total = float(signal.sum())
    if total <= 0.0:
        return 1.0
    floor = max(float(background.sum()) / len(background) * 1e-3, 1e-9)
    information = float(np.sum(signal**2 / np.maximum(background, floor)))
    size = 2.0 / math.sqrt(information) + 3.0 / total
    power = 10.0 ** math.floor(math.log10(size))
    return float(f"{round(size / power) * power:.0e}")


def rate_name(background: str) -> str:
    """The parameter of a free rate."""
    return f"{background}_rate"


def _parameter(name: str, init: float, upper: float) -> Json:
    return {"name": name, "inits": [float(init)], "bounds": [[0.0, float(upper)]]}


def _more_of(name: str, background: AnyBackground) -> str:
    return "take larger files" if isinstance(background, BackgroundFromFiles) else f"raise backgrounds.{name}.events"


def normsys(name: str, size: float) -> Json:
    """A relative uncertainty; the lower factor is the inverse of the upper, so that the yield stays positive."""
    return {"name": name, "type": "normsys", "data": {"hi": 1.0 + size, "lo": 1.0 / (1.0 + size)}}


def _floats(values: FloatArray) -> list[float]:
    return [float(value) for value in values]
