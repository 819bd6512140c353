"""Bayesian limits of counting experiments: workspaces with one bin, whose uncertainties are those of rates.

The count n is Poisson distributed around mu s + b, where s and b depend on nuisance parameters with normal constraints
(normsys, histosys, lumi, staterror). These are integrated over by Gauss rules, and what is left is a sum over points k of closed
forms. With a flat prior for mu, and Q the regularised upper incomplete gamma function, the limit solves

    sum_k w_k/s_k Q(n + 1, mu s_k + b_k) = (1 - CL) sum_k w_k/s_k Q(n + 1, b_k)

Constraints of one kind of samples are combined first: those of the signal alone to one distribution of its factor, those
of the backgrounds alone to one of their sum, each replaced by the Gauss rule of its own moments (Lanczos), with as many
nodes as the count can tell apart. One that changes samples by different factors is summed over nodes of its own.

Expected limits are exact, without toys: the limit rises with n, so its quantiles are the limits at the quantiles of n,
for background only, with the constraints as they are measured and within their uncertainties. The quantile q is the
smallest n that at least the share q of all experiments does not exceed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelbuilder.inference.bayesian import BayesianLimit
from modelbuilder.inference.bayesian_counting import bayesian_counting_limits
from modelbuilder.inference.flatten import normsys_coefficients
from modelbuilder.inference.results import N_SIGMA

if TYPE_CHECKING:
    Array = NDArray[np.float64]

_NODES = 200  # of Gauss and Legendre, for one constraint
_LEAST_NODES, _MOST_NODES = 4, 160  # of a combined factor ...
_MORE_NODES = 3  # ... and of each of its parts
_MOST_POINTS = 100_000  # of the sum; and of what is combined to one rule
_MOST_SHARED = 5_000  # points of one sum for several counts
_REACH = 5.0  # bounds of constrained parameters in pyhf, in standard deviations
_LEFT_OUT = 3e-4  # of the integral, by too few nodes
_SMALLEST = 1e-250  # of Q: below it the sum is not precise


@dataclass(frozen=True, eq=False)
class Factor:
    """A factor with a distribution: values and weights, which sum to 1. Each is itself only, so that rules can be kept."""

    values: Array
    weights: Array

    def times(self, other: Factor) -> Factor:
        values: Array = np.multiply.outer(self.values, other.values).ravel()
        weights: Array = np.multiply.outer(self.weights, other.weights).ravel()
        return Factor(values, weights)

    @functools.cached_property
    def spread(self) -> float:
        """Standard deviation."""
        mean = float(self.values @ self.weights)
        return math.sqrt(max(float(self.weights @ np.square(self.values - mean)), 0.0))

    @functools.lru_cache(maxsize=1024)  # noqa: B019  few factors are in use at a time
    def reduced(self, n: int) -> Factor:
        """The Gauss rule with n nodes for the same moments: exact for polynomials up to degree 2n - 1."""
        if n >= len(self.values):
            return self
        scale = float(np.abs(self.values).max())
        x = self.values / scale
        basis = np.zeros((n + 1, len(x)))
        diagonal, beside = np.zeros(n), np.zeros(n)
        basis[0] = np.sqrt(self.weights)
        for k in range(n):
            step = x * basis[k]
            diagonal[k] = float(step @ basis[k])
            step -= basis[: k + 1].T @ (basis[: k + 1] @ step)
            step -= basis[: k + 1].T @ (basis[: k + 1] @ step)  # once more, for rounding errors
            beside[k] = math.sqrt(float(step @ step))
            if beside[k] < 1e-13:
                n = k + 1
                break
            basis[k + 1] = step / beside[k]
        matrix = np.diag(diagonal[:n]) + np.diag(beside[: n - 1], 1) + np.diag(beside[: n - 1], -1)
        values, vectors = np.linalg.eigh(matrix)
        return Factor(values * scale, np.square(vectors[0]))


@dataclass(frozen=True, eq=False)
class Affine:
    """centre + sigma x, of an x whose rules are kept."""

    centre: float
    sigma: float
    base: Factor

    @property
    def spread(self) -> float:
        """Standard deviation."""
        return self.sigma * self.base.spread

    def reduced(self, n: int) -> Factor:
        """As that of `Factor`."""
        rule = self.base.reduced(n)
        return Factor(self.centre + self.sigma * rule.values, rule.weights)


_Variation = tuple[bool, float, float]
"""Whether it is a normsys and not a histosys, and the factors at +1 and -1 sigma."""


@dataclass(frozen=True, eq=False)
class _Apart:
    """One constraint that changes samples by different factors: by sample, its variations."""

    variations: Mapping[str, tuple[_Variation, ...]]

    def factors(self, alpha: Array) -> dict[str, Array]:
        """By sample, at values of the parameter."""
        return {name: _factors(variations, alpha) for name, variations in self.variations.items()}

    def spread(self, events: Mapping[str, float]) -> float:
        """Standard deviation of the sum of these events."""
        rule = _normal(-_REACH, _REACH)
        found = [events.get(name, 0.0) * factor for name, factor in self.factors(rule.values).items()]
        return Factor(np.sum(found, axis=0), rule.weights).spread

    def nodes(self, n: int) -> list[tuple[dict[str, float], float]]:
        """Factors of the samples, and weights, of a Gauss rule of the parameter."""
        rule = _normal(-_REACH, _REACH).reduced(n)
        factors = self.factors(rule.values)
        return [
            ({name: float(values[node]) for name, values in factors.items()}, weight)
            for node, weight in enumerate(rule.weights.tolist())
        ]


AnyFactor = Factor | Affine
_CERTAIN: NDArray[np.float64] = np.ones(1)
_ONE = Factor(_CERTAIN, _CERTAIN)


@dataclass(frozen=True, kw_only=True)
class CountingModel:
    """One bin. `signal` and `backgrounds` are events by sample, at mu = 1.

    groups: sets of samples, each with the factors that multiply all of them.    apart: what is not like that.
    """

    poi_name: str
    observed: float
    signal: Mapping[str, float]
    backgrounds: Mapping[str, float]
    groups: Mapping[frozenset[str], tuple[AnyFactor, ...]]
    apart: tuple[_Apart, ...] = ()

    @property
    def n_nuisances(self) -> int:
        """Constraints that are integrated over."""
        return sum(len(factors) for factors in self.groups.values()) + len(self.apart)


def counting_model(workspace: Mapping[str, Any]) -> CountingModel | None:
    """The model of a workspace; None where it is another than this module can treat.

    That is: more than one bin; a POI that does not scale the signal alone; free parameters beside it; a shapesys; or a
    shape that can empty the bin.
    """
    if len(workspace["channels"]) != 1 or len(workspace["measurements"]) != 1:
        return None
    samples = workspace["channels"][0]["samples"]
    config = workspace["measurements"][0]["config"]
    poi = config["poi"]
    settings = {entry["name"]: entry for entry in config["parameters"]}
    if any(len(sample["data"]) != 1 for sample in samples) or any(entry.get("fixed") for entry in settings.values()):
        return None
    names = [sample["name"] for sample in samples]
    events = {sample["name"]: float(sample["data"][0]) for sample in samples}
    scaled: set[str] = set()
    acting: dict[tuple[str, str], dict[str, Any]] = {}
    varied: dict[str, dict[str, list[_Variation]]] = {}
    for sample in samples:
        for modifier in sample["modifiers"]:
            kind, name = modifier["type"], modifier["name"]
            if kind == "normfactor" and name == poi:
                scaled.add(sample["name"])
            elif kind in ("lumi", "staterror"):
                acting.setdefault((kind, name), {})[sample["name"]] = modifier["data"]
            elif kind in ("normsys", "histosys"):
                variation = _variation(modifier, events[sample["name"]])
                if variation is None:
                    return None
                varied.setdefault(name, {}).setdefault(sample["name"], []).append(variation)
            else:
                return None
    constrained = [*varied, *(name for kind, name in acting if kind != "lumi")]
    if not scaled or len(set(names)) < len(names) or any(name in settings for name in constrained):
        return None
    groups: dict[frozenset[str], tuple[AnyFactor, ...]] = {}
    apart: list[_Apart] = []

    def add(samples: Iterable[str], factor: AnyFactor | None) -> None:
        if factor is not None:
            group = frozenset(samples)
            groups[group] = (*groups.get(group, ()), factor)

    for by_sample in varied.values():
        one = _Apart({sample: tuple(variations) for sample, variations in by_sample.items()})
        if any((values <= 0.0).any() for values in one.factors(_normal(-_REACH, _REACH).values).values()):
            return None
        first, *others = set(one.variations.values())
        if others:
            apart.append(one)
        else:
            add(by_sample, _varied(first))
    for (kind, name), data in acting.items():
        add(data, factor_of(kind, data, events, settings.get(name)))
    return CountingModel(
        poi_name=poi,
        observed=float(workspace["observations"][0]["data"][0]),
        signal={name: events[name] for name in names if name in scaled},
        backgrounds={name: events[name] for name in names if name not in scaled},
        groups=groups,
        apart=tuple(apart),
    )


def _variation(modifier: Mapping[str, Any], events: float) -> _Variation | None:
    """None where there is nothing to multiply."""
    data = modifier["data"]
    if modifier["type"] == "normsys":
        return True, float(data["hi"]), float(data["lo"])
    high, low = float(data["hi_data"][0]), float(data["lo_data"][0])
    if not events > 0.0:
        return (False, 1.0, 1.0) if high == low == events else None
    return False, high / events, low / events


def factor_of(
    kind: str, data: Mapping[str, Any], events: Mapping[str, float], settings: Mapping[str, Any] | None
) -> AnyFactor | None:
    """The distribution of one constrained factor, of all samples in `data`; None where it is fixed."""
    if kind == "lumi":
        assert settings is not None
        (centre,), (sigma,), ((low, high),) = settings["auxdata"], settings["sigmas"], settings["bounds"]
        return Affine(centre, sigma, _normal((low - centre) / sigma, (high - centre) / sigma))
    if kind == "staterror":
        total = sum(events[name] for name in data)
        sigma = math.sqrt(sum(errors[0] ** 2 for errors in data.values())) / total if total > 0.0 else 0.0
        if not sigma > 0.0:
            return None
        return Affine(1.0, sigma, _normal(-1.0 / sigma, 9.0 / sigma))
    change = next(iter(data.values()))
    return _varied(((True, float(change["hi"]), float(change["lo"])),))


@functools.lru_cache(maxsize=1024)
def _varied(variations: tuple[_Variation, ...]) -> Factor:
    alpha = _normal(-_REACH, _REACH)
    return Factor(_factors(variations, alpha.values), alpha.weights)


def _factors(variations: Iterable[_Variation], alpha: Array) -> Array:
    """The product of variations at values of their parameter."""
    found: Array = np.ones_like(alpha)
    for of_rate, high, low in variations:
        found = found * (_code4 if of_rate else _code4p)(high, low, alpha)
    return found


@functools.cache
def _rule() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return np.asarray(nodes, dtype=np.float64), np.asarray(weights, dtype=np.float64)


def _normal(low: float, high: float) -> Factor:
    """A normal distribution that ends at these standard deviations, or at 8 if they are farther out."""
    return _normal_within(max(round(low, 12), -8.0), min(round(high, 12), 8.0))


@functools.lru_cache(maxsize=64)
def _normal_within(low: float, high: float) -> Factor:
    x, weights = _rule()
    alpha = 0.5 * (low + high) + 0.5 * (high - low) * x
    weights = weights * np.exp(-0.5 * np.square(alpha))
    return Factor(alpha, weights / weights.sum())


def _code4(high: float, low: float, alpha: Array) -> Array:
    """The factor of a normsys: a polynomial within one standard deviation, exponential beyond."""
    log_high, log_low, *coefficients = normsys_coefficients(np.array([high]), np.array([low]))[0].tolist()
    inner = 1.0 + sum(a * alpha**power for power, a in enumerate(coefficients, start=1))
    return np.where(np.abs(alpha) < 1.0, inner, np.exp(np.where(alpha > 0.0, alpha * log_high, -alpha * log_low)))


def _code4p(high: float, low: float, alpha: Array) -> Array:
    """The factor of a histosys: a polynomial within one standard deviation, straight lines beyond."""
    z = np.square(alpha)
    even = np.where(z < 1.0, 0.0625 * z * (15.0 + z * (-10.0 + 3.0 * z)), 0.5 * np.abs(alpha))
    return np.asarray(1.0 + (0.5 * alpha + even) * (high - 1.0) + (0.5 * alpha - even) * (1.0 - low))


def combined(factors: tuple[AnyFactor, ...], n: int) -> Factor:
    """The product of independent factors, with n nodes."""
    if not factors:
        return _ONE
    if len(factors) == 1:
        return factors[0].reduced(n)
    kept = tuple(factor for factor in factors if isinstance(factor, Factor))
    found = _product(kept, n + _MORE_NODES) if kept else _ONE
    for factor in factors:
        if isinstance(factor, Affine):
            found = found.times(factor.reduced(n + _MORE_NODES)).reduced(n + _MORE_NODES)
    return found.reduced(n)


@functools.lru_cache(maxsize=1024)
def _product(factors: tuple[Factor, ...], n: int) -> Factor:
    found = _ONE
    for factor in factors:
        found = found.times(factor.reduced(n + _MORE_NODES)).reduced(n + _MORE_NODES)
    return found.reduced(n)


def spread_of(factors: tuple[AnyFactor, ...]) -> float:
    """Standard deviation of the product."""
    return math.sqrt(sum(factor.spread**2 for factor in factors))


@dataclass(frozen=True)
class _Points:
    """Where the likelihood is evaluated: signal and background events with their weights."""

    signal: Array
    background: Array
    weights: Array


class UnsuitableError(Exception):
    """Rules with so many nodes as this model needs are not made."""


def nodes_needed(spread: float, events: float) -> int:
    """Nodes for a factor that spreads the expected events by this many, where so many are expected.

    The likelihood is about a normal distribution of width sqrt(events); the error of n nodes falls as
    (r^2 / (1 + r^2))^n, with r the ratio of the widths.
    """
    ratio = spread**2 / max(events, 1.0)
    if ratio < 1e-3:
        return _LEAST_NODES
    number = math.ceil(math.log(_LEFT_OUT) / math.log(ratio / (1.0 + ratio)))
    if number > _MOST_NODES:
        raise UnsuitableError
    return max(number, _LEAST_NODES)


def _points(model: CountingModel, counts: Sequence[float], most_points: int) -> _Points:
    """For counts of about these sizes."""
    total_background = sum(model.backgrounds.values())
    largest = max([*counts, total_background])
    least = max(min([*counts, total_background]), 1.0)
    most_signal = max(largest - total_background, 0.0) + 4.0 * math.sqrt(largest + 1.0) + 4.0
    of_signal = model.groups.get(frozenset(model.signal), ())
    alone = combined(of_signal, nodes_needed(spread_of(of_signal) * most_signal, most_signal + total_background))
    shared, others = [], []
    for group, factors in model.groups.items():
        if group.isdisjoint(model.signal):
            others.append((group, factors))
        elif group != model.signal.keys():
            events = sum(model.backgrounds.get(name, 0.0) for name in group) + most_signal
            rule = combined(factors, nodes_needed(spread_of(factors) * events, least))
            shared.append([(dict.fromkeys(group, v), w) for v, w in zip(rule.values, rule.weights, strict=True)])
    alike = not model.apart and all(nodes[0][0].keys() >= model.backgrounds.keys() for nodes in shared)
    size = most_signal / sum(model.signal.values())
    most = {**model.backgrounds, **{name: size * events for name, events in model.signal.items()}}
    shared += [one.nodes(nodes_needed(one.spread(most), least) + _MORE_NODES) for one in model.apart]
    nominal = _background_rule(model.backgrounds, others, least)
    if len(nominal.values) * len(alone.values) * math.prod(map(len, shared)) > most_points:
        raise UnsuitableError
    signal, background, weights = [], [], []
    for nodes in itertools.product(*shared):
        common = [factors for factors, _ in nodes]
        if alike:  # all shared factors scale one rule
            scale = math.prod(next(iter(factors.values())) for factors in common)
            rule = Factor(nominal.values * scale, nominal.weights)
        else:
            rule = _background_rule(_events(model.backgrounds, common), others, least)
        total = sum(_events(model.signal, common).values())
        signal.append(np.tile(alone.values * total, len(rule.values)))
        background.append(np.repeat(rule.values, len(alone.values)))
        weight = math.prod(weight for _, weight in nodes)
        weights.append(weight * np.outer(rule.weights, alone.weights).ravel())
    return _Points(np.concatenate(signal), np.concatenate(background), np.concatenate(weights))


def _events(samples: Mapping[str, float], common: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: events * math.prod(one.get(name, 1.0) for one in common) for name, events in samples.items()}


def _background_rule(
    events: Mapping[str, float], groups: Sequence[tuple[frozenset[str], tuple[AnyFactor, ...]]], least: float
) -> Factor:
    """The distribution of the sum of the backgrounds."""
    shapes = [1] * len(groups)
    parts: dict[str, Array] = {name: np.full(shapes, value) for name, value in events.items()}
    weights: Array = np.ones(shapes)
    for axis, (group, factors) in enumerate(groups):
        acted_on = sum(value for name, value in events.items() if name in group)
        fewer = combined(factors, nodes_needed(spread_of(factors) * acted_on, least) + _MORE_NODES)
        along = [-1 if other == axis else 1 for other in range(len(groups))]
        parts = {name: v * fewer.values.reshape(along) if name in group else v for name, v in parts.items()}
        weights = weights * fewer.weights.reshape(along)
        if weights.size > _MOST_POINTS:
            raise UnsuitableError
    total = np.broadcast_to(sum(parts.values(), np.zeros(shapes)), weights.shape)
    rule = Factor(total.ravel(), weights.ravel())
    return rule.reduced(nodes_needed(rule.spread, least))


def counting_limit(workspace: Mapping[str, Any], *, confidence_level: float) -> BayesianLimit | None:
    """Observed and expected upper limits on the POI, with a flat prior; None where this module does not apply."""
    model = counting_model(workspace)
    if model is None or sum(model.signal.values()) <= 0.0:
        return None
    try:
        counts = [model.observed, *background_quantiles(model)]
        limits = counting_limits(model, counts, confidence_level=confidence_level)
    except UnsuitableError:
        return None
    return BayesianLimit(
        poi_name=model.poi_name,
        prior="flat",
        confidence_level=confidence_level,
        observed=limits[0],
        expected=tuple(limits[1:]),
        marginalisation="quadrature" if model.n_nuisances else "none",
        n_nuisances=model.n_nuisances,
        relative_error=0.0,
        effective_samples=None,
        warnings=(),
    )


def expected_counts(workspace: Mapping[str, Any]) -> list[float] | None:
    """Counts of background alone at -2, -1, 0, +1, +2 sigma; None where this module does not apply."""
    model = counting_model(workspace)
    try:
        return None if model is None else background_quantiles(model)
    except UnsuitableError:
        return None


def background_quantiles(model: CountingModel) -> list[float]:
    """Counts at -2, -1, 0, +1, +2 sigma for background only."""
    from scipy.special import gammaincc, ndtr

    total = sum(model.backgrounds.values())
    groups = [(group, factors) for group, factors in model.groups.items() if group & model.backgrounds.keys()]
    apart = [
        one.nodes(nodes_needed(one.spread(model.backgrounds), max(total, 1.0)) + _MORE_NODES) for one in model.apart
    ]
    rules = [
        (math.prod(weight for _, weight in nodes), _events(model.backgrounds, [factors for factors, _ in nodes]))
        for nodes in itertools.product(*apart)
    ]
    points = [(weight, _background_rule(events, groups, max(total, 1.0))) for weight, events in rules]
    means = np.concatenate([rule.values for _, rule in points])
    weights = np.concatenate([weight * rule.weights for weight, rule in points])
    highest = total + 6.0 * math.sqrt(total + 1.0)
    for _ in range(60):
        n = np.arange(math.ceil(highest) + 1.0)
        share = gammaincc(n[:, None] + 1.0, means) @ weights
        if share[-1] > ndtr(N_SIGMA[-1]):
            break
        highest = 1.5 * highest + 2.0
    return [float(n[np.searchsorted(share, ndtr(n_sigma) - 1e-12)]) for n_sigma in N_SIGMA]


def counting_limits(model: CountingModel, counts: Sequence[float], *, confidence_level: float) -> list[float]:
    """The upper limit for each count."""
    different = sorted(set(map(float, counts)))
    try:
        limits = _solved(model, different, confidence_level, _MOST_SHARED)
    except UnsuitableError:  # a sum for several counts has to suit the largest and the smallest
        limits = [_solved(model, [count], confidence_level, _MOST_POINTS)[0] for count in different]
    by_count = dict(zip(different, limits, strict=True))
    return [by_count[float(count)] for count in counts]


def _solved(model: CountingModel, counts: Sequence[float], confidence_level: float, most_points: int) -> list[float]:
    """The upper limits of these counts with one sum."""
    from scipy.special import gammaincc, gammaln

    points = _points(model, counts, most_points)
    n = np.array(counts)[:, None]
    over = points.weights / points.signal
    start = gammaincc(n + 1.0, points.background) @ over
    if not (start > _SMALLEST).all():
        raise UnsuitableError
    target = np.log((1.0 - confidence_level) * start)
    total_signal, total_background = sum(model.signal.values()), sum(model.backgrounds.values())
    mu = bayesian_counting_limits(counts, total_background, signal=total_signal, confidence_level=confidence_level)
    low, high = np.zeros_like(mu), np.full_like(mu, math.inf)
    for _ in range(100):
        expected = mu[:, None] * points.signal + points.background
        left = gammaincc(n + 1.0, expected) @ over
        slope = np.exp(n * np.log(expected) - expected - gammaln(n + 1.0)) @ points.weights
        with np.errstate(divide="ignore", invalid="ignore"):
            miss = np.log(left) - target
            step = miss * left / slope
        low, high = np.where(miss > 0.0, mu, low), np.where(miss > 0.0, high, mu)
        new = mu + step
        middle = np.where(np.isfinite(high), 0.5 * (low + high), 2.0 * mu)
        new = np.where((new >= low) & (new <= high), new, middle)
        done = np.abs(new - mu) <= 1e-10 * new
        mu = new
        if done.all():
            break
    return list(mu.tolist())
