"""Bayesian limits of a count whose background a second count measures: a window and its sideband, one bin each.

The counts n1 and n2 are Poisson distributed around mu s1 + u t1 + c1 and mu s2 + u t2 + c2. The rate u of the background is
free, with a flat prior from 0 up, as is that of mu; s, t and c depend on nuisance parameters with normal constraints
(normsys, lumi, staterror), which are integrated over by Gauss rules as in `counting`. The rest is a sum of closed forms:

    integral of Pois(a | u t1) Pois(b | u t2) over u  =  Binom(a | a + b, t1 / (t1 + t2)) / (t1 + t2)
    Pois(k | mu s1) Pois(j | mu s2)  =  Pois(k + j | mu S) Binom(k | k + j, s1 / S),    S = s1 + s2
    integral of Pois(m | mu S) from mu up  =  Q(m + 1, mu S) / S

with Q the regularised upper incomplete gamma function. So the posterior of mu is a sum of gamma distributions. Without
constraints, c and s2, a sideband that counts n2 gives u t2 a gamma distribution of shape n2 + 1, and the background in
the window a negative binomial one.

Expected limits are exact, without toys: quantiles of the limits of all pairs of counts, with the probabilities that they
have for background only, at the rate that describes both counts best, within the uncertainties of the constraints.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelbuilder.inference.bayesian import BayesianLimit
from modelbuilder.inference.counting import (
    AnyFactor,
    UnsuitableError,
    combined,
    counting_limit,
    factor_of,
    nodes_needed,
    spread_of,
)
from modelbuilder.inference.results import N_SIGMA

if TYPE_CHECKING:
    Array = NDArray[np.float64]

Entry = tuple[int, str]
"""A sample of one of the two channels."""
_Nodes = tuple[frozenset[Entry], NDArray[np.float64], NDArray[np.float64]]
"""Samples, with values and weights of a factor that multiplies them."""

_LEAST_NODES = 10  # for each set of samples that share their factors
_MOST_POINTS = 20_000
_MOST_EVENTS = 1500  # of both counts
_MOST_PAIRS = 200_000  # of counts, for expected limits
_NO_END = 20.0  # events above a few times those that are seen: beyond is nothing of the posterior of the rate
_BEYOND = 1e-8  # of the probability of each count


@dataclass(frozen=True, kw_only=True)
class OnOffModel:
    """Two counts. Events by channel and sample: of the signal at mu = 1, of the free background at a rate of 1, of others.

    groups: sets of these, each with the factors that multiply all of them.
    """

    poi_name: str
    observed: tuple[int, int]
    signal: Mapping[Entry, float]
    free: Mapping[Entry, float]
    others: Mapping[Entry, float]
    groups: Mapping[frozenset[Entry], tuple[AnyFactor, ...]]
    n_nuisances: int


def on_off_model(workspace: Mapping[str, Any]) -> OnOffModel | None:
    """The model of a workspace; None where it is another than this module can treat.

    That is: other than two channels of one bin; a free parameter that does not scale one background in both of them alone,
    or whose bounds matter; shapes; counts that are no whole numbers.
    """
    channels, (measurement, *more) = workspace["channels"], workspace["measurements"]
    if len(channels) != 2 or more or any(len(s["data"]) != 1 for channel in channels for s in channel["samples"]):
        return None
    poi, settings = measurement["config"]["poi"], {p["name"]: p for p in measurement["config"]["parameters"]}
    if any(entry.get("fixed") for entry in settings.values()):
        return None
    events: dict[Entry, float] = {}
    scaled: dict[str, set[Entry]] = {}
    acting: dict[tuple[str, str], dict[Entry, Any]] = {}
    for place, channel in enumerate(channels):
        for sample in channel["samples"]:
            entry = (place, str(sample["name"]))
            if entry in events:
                return None
            events[entry] = float(sample["data"][0])
            for modifier in sample["modifiers"]:
                if modifier["type"] == "normfactor":
                    scaled.setdefault(modifier["name"], set()).add(entry)
                elif modifier["type"] in ("normsys", "lumi", "staterror"):
                    acting.setdefault((modifier["type"], modifier["name"]), {})[entry] = modifier["data"]
                else:
                    return None
    signal, *others = scaled.pop(poi, set()), *scaled.items()
    if not signal or len(others) != 1:
        return None
    ((rate, free),) = others
    observed = {item["name"]: float(item["data"][0]) for item in workspace["observations"]}
    n1, n2 = (observed[channel["name"]] for channel in channels)
    total = math.fsum(events[entry] for entry in free)
    low, high = settings.get(rate, {}).get("bounds", [[0.0, 10.0]])[0]
    if (
        {place for place, _ in free} != {0, 1}
        or free & signal
        or any(events[entry] <= 0.0 for entry in free)
        or n1 != round(n1)
        or n2 != round(n2)
        or low != 0.0
        or high * total < 3.0 * (n1 + n2) + _NO_END
        or any(kind != "lumi" and name in settings for kind, name in acting)
    ):
        return None
    groups: dict[frozenset[Entry], tuple[AnyFactor, ...]] = {}
    n_nuisances = 1
    for (kind, name), data in acting.items():
        if kind == "normsys" and len({(one["hi"], one["lo"]) for one in data.values()}) > 1:
            return None
        by_name = {str(entry): one for entry, one in data.items()}
        factor = factor_of(kind, by_name, {str(entry): value for entry, value in events.items()}, settings.get(name))
        if factor is not None:
            group = frozenset(data)
            groups[group] = (*groups.get(group, ()), factor)
            n_nuisances += 1
    return OnOffModel(
        poi_name=poi,
        observed=(round(n1), round(n2)),
        signal={entry: events[entry] for entry in signal},
        free={entry: events[entry] for entry in free},
        others={entry: value for entry, value in events.items() if entry not in signal | free and value > 0.0},
        groups=groups,
        n_nuisances=n_nuisances,
    )


def limit_of_counts(workspace: Mapping[str, Any], *, confidence_level: float) -> BayesianLimit | None:
    """That of a count, alone or with its sideband, with flat priors; None for any other workspace."""
    find = on_off_limit if len(workspace["channels"]) > 1 else counting_limit
    return find(workspace, confidence_level=confidence_level)


def on_off_limit(
    workspace: Mapping[str, Any], *, confidence_level: float, with_expected: bool = True
) -> BayesianLimit | None:
    """Observed and expected upper limits on the POI, flat in it and in the rate; None where this module does not apply.

    There are no expected limits where the counts are so large that they have too many pairs.
    """
    model = on_off_model(workspace)
    if model is None or sum(model.signal.values()) <= 0.0 or sum(model.observed) > _MOST_EVENTS:
        return None
    try:
        posterior = _Posterior(model)
    except UnsuitableError:
        return None
    expected = posterior.expected(confidence_level) if with_expected else None
    return BayesianLimit(
        poi_name=model.poi_name,
        prior="flat",
        confidence_level=confidence_level,
        observed=posterior.limit(model.observed, confidence_level),
        expected=expected,
        marginalisation="quadrature",
        n_nuisances=model.n_nuisances,
        relative_error=0.0,
        effective_samples=None,
        warnings=(),
    )


@dataclass(frozen=True)
class _Background:
    """The background in both channels at nodes of its nuisance parameters, with their weights; shape (n,) each."""

    free: tuple[Array, Array]
    others: tuple[Array, Array]
    weights: Array


@dataclass(frozen=True)
class _Part:
    """Signal in both channels, with the factors that it has alone, and the background that goes with it.

    weight: of what signal and background share.    factors, weights: of the signal alone.
    """

    weight: float
    signal: tuple[float, float]
    factors: Array
    weights: Array
    background: _Background


class _Posterior:
    """The posterior of mu for any counts of a model."""

    def __init__(self, model: OnOffModel) -> None:
        self.model = model
        self.most = self._most()
        self.parts = self._parts()
        self.tables: dict[tuple[int, int], list[Array]] = {}

    def _most(self) -> float:
        """Events of about the largest size that a factor acts on."""
        total = float(sum(self.model.observed)) + sum(self.model.others.values())
        return total + 4.0 * math.sqrt(total + 1.0) + 4.0

    def _rule(self, factors: tuple[AnyFactor, ...]) -> tuple[Array, Array]:
        number = max(nodes_needed(spread_of(factors) * self.most, self.most), _LEAST_NODES)
        rule = combined(factors, number)
        return rule.values, rule.weights

    def _parts(self) -> list[_Part]:
        signal = frozenset(self.model.signal)
        alone, ones = self.model.groups.get(signal, ()), np.ones(1)
        factors, weights = self._rule(alone) if alone else (ones, ones)
        shared: list[_Nodes] = []
        background: list[_Nodes] = []
        for group, found in self.model.groups.items():
            if group != signal:
                (shared if group & signal else background).append((group, *self._rule(found)))
        sizes = [len(values) for _, values, _ in (*shared, *background)]
        if math.prod(sizes) > _MOST_POINTS:
            raise UnsuitableError
        parts = []
        for nodes in itertools.product(*(range(len(values)) for _, values, _ in shared)):
            common = [(group, v[node], w[node]) for (group, v, w), node in zip(shared, nodes, strict=True)]

            def scaled(events: Mapping[Entry, float], common: Sequence[Any] = common) -> dict[Entry, float]:
                return {e: v * math.prod(f for group, f, _ in common if e in group) for e, v in events.items()}

            here = scaled(self.model.signal)
            parts.append(
                _Part(
                    math.prod(weight for _, _, weight in common),
                    (_of(here, 0), _of(here, 1)),
                    factors,
                    weights,
                    _background(scaled(self.model.free), scaled(self.model.others), background),
                )
            )
        return parts

    def _table(self, counts: tuple[int, int]) -> list[Array]:
        """For each part, the integral over the rate of the background's probability to give a, b events; (n1 + 1, n2 + 1)."""
        if counts not in self.tables:
            self.tables[counts] = [_marginal(part.background, counts) for part in self.parts]
        return self.tables[counts]

    def _kernel(self, part: _Part, mu: float, counts: tuple[int, int]) -> Array:
        """The integral from mu up of the signal's probability to give k, j events; shape (n1 + 1, n2 + 1)."""
        from scipy.special import gammaincc
        from scipy.stats import binom

        one, two = part.signal
        n1, n2 = counts[0], counts[1] if two > 0.0 else 0
        total = (one + two) * part.factors[:, None]
        m = np.arange(n1 + n2 + 1.0)
        tails = np.sum(part.weights[:, None] / total * gammaincc(m + 1.0, mu * total), axis=0)
        k, j = np.arange(n1 + 1)[:, None], np.arange(n2 + 1)[None, :]
        share = np.asarray(binom.pmf(k, k + j, one / (one + two)))
        found: Array = part.weight * tails[k + j] * share
        return found

    def limit(self, counts: tuple[int, int], confidence_level: float) -> float:
        """The upper limit for two counts."""
        from scipy.optimize import brentq

        tables = self._table(counts)
        flipped = [table[::-1, ::-1] for table in tables]

        def left(mu: float) -> float:
            found = 0.0
            for part, table in zip(self.parts, flipped, strict=True):
                kernel = self._kernel(part, mu, counts)
                found += float((kernel * table[:, : kernel.shape[1]]).sum())
            return found

        start = left(0.0)
        if not start > 0.0:
            raise UnsuitableError

        def miss(mu: float) -> float:
            return left(mu) / start - (1.0 - confidence_level)

        size = max(sum(part.signal) for part in self.parts)
        high = (counts[0] + counts[1] + 3.0 - math.log(1.0 - confidence_level)) / size
        while miss(high) > 0.0:
            high *= 2.0
        return float(brentq(miss, 0.0, high, xtol=1e-13 * high, rtol=1e-12))

    def expected(self, confidence_level: float) -> tuple[float, ...] | None:
        """The limits at the quantiles of all pairs of counts; None where there are too many of these."""
        from scipy.signal import fftconvolve
        from scipy.special import ndtr
        from scipy.stats import poisson

        rate = self.best_rate()
        chances: Array = np.zeros((1, 1))
        means = [
            (part.background.free[place] * rate + part.background.others[place])
            for part in self.parts
            for place in (0, 1)
        ]
        most = [int(poisson.isf(_BEYOND, max(float(m.max()) for m in means[place::2]))) for place in (0, 1)]
        counts = (most[0], most[1])
        if (counts[0] + 1) * (counts[1] + 1) > _MOST_PAIRS:
            return None
        for number, part in enumerate(self.parts):
            first, second = (
                np.asarray(poisson.pmf(np.arange(most[place] + 1)[:, None], means[2 * number + place]))
                for place in (0, 1)
            )
            chances = chances + part.weight * (first * part.background.weights) @ second.T
        tables = self._table(counts)

        def left(mu: float) -> Array:
            """Of each pair of counts."""
            found: Array = np.zeros_like(tables[0])
            for part, table in zip(self.parts, tables, strict=True):
                kernel = self._kernel(part, mu, counts)
                if kernel.shape[1] == 1:
                    for k, weight in enumerate(kernel[:, 0].tolist()):
                        found[k:] += weight * table[: len(table) - k]
                else:
                    found += fftconvolve(kernel, table)[: counts[0] + 1, : counts[1] + 1]
            return found

        start = left(0.0)
        usable = start > 1e-12 * start.max(axis=0)
        chances = np.where(usable, chances, 0.0) / chances[usable].sum()

        def share(mu: float) -> float:
            """Of experiments with a limit that is not higher."""
            below = left(mu) <= (1.0 - confidence_level) * start * (1.0 + 1e-11)
            return float(chances[below].sum())

        found = []
        low, size = 0.0, max(sum(part.signal) for part in self.parts)
        for n_sigma in N_SIGMA:
            wanted = float(ndtr(n_sigma)) - 1e-9
            high = max(2.0 * low, 3.0 / size)
            while share(high) < wanted:
                low, high = high, 2.0 * high
            while high - low > 1e-9 * high:
                middle = 0.5 * (low + high)
                low, high = (low, middle) if share(middle) >= wanted else (middle, high)
            found.append(high)
        return tuple(found)

    def best_rate(self) -> float:
        """The free rate that describes both counts best without a signal, other parameters at nominal."""
        from scipy.optimize import brentq

        n, t = self.model.observed, [_of(self.model.free, place) for place in (0, 1)]
        c = [_of(self.model.others, place) for place in (0, 1)]

        def slope(u: float) -> float:
            return sum(n[i] * t[i] / (u * t[i] + c[i]) for i in (0, 1) if n[i]) - sum(t)

        high = sum(n) / sum(t)  # the answer without others, above that with them
        if high <= 0.0 or (all(c[i] > 0.0 or not n[i] for i in (0, 1)) and slope(0.0) <= 0.0):
            return 0.0
        if not any(c):
            return high
        return float(brentq(slope, 1e-12 * high, high * (1.0 + 1e-9)))


def _of(events: Mapping[Entry, float], place: int) -> float:
    return math.fsum(value for (channel, _), value in events.items() if channel == place)


def _background(
    free: Mapping[Entry, float],
    others: Mapping[Entry, float],
    groups: Sequence[_Nodes],
) -> _Background:
    shape = [len(values) for _, values, _ in groups]
    weights: Array = np.ones(shape)
    parts: dict[Entry, Array] = {entry: np.full(shape, value) for entry, value in {**free, **others}.items()}
    for axis, (group, values, own) in enumerate(groups):
        along = [-1 if other == axis else 1 for other in range(len(groups))]
        weights = weights * own.reshape(along)
        parts = {entry: v * values.reshape(along) if entry in group else v for entry, v in parts.items()}

    def total(entries: Mapping[Entry, float], place: int) -> Array:
        found: Array = np.zeros(shape)
        for entry in entries:
            if entry[0] == place:
                found = found + parts[entry]
        return found.ravel()

    return _Background(
        (total(free, 0), total(free, 1)), (total(others, 0), total(others, 1)), np.asarray(weights).ravel()
    )


def _marginal(background: _Background, counts: tuple[int, int]) -> Array:
    """The probability of a, b events, integrated over the rate and averaged over the nodes; shape (n1 + 1, n2 + 1)."""
    from scipy.stats import binom, poisson

    n1, n2 = counts
    a, b = np.arange(n1 + 1)[:, None], np.arange(n2 + 1)[None, :]
    found: Array = np.zeros((n1 + 1, n2 + 1))
    for t1, t2, c1, c2, weight in zip(*background.free, *background.others, background.weights, strict=True):
        own: Array = weight / (t1 + t2) * binom.pmf(a, a + b, t1 / (t1 + t2))
        for axis, (mean, n) in enumerate(((c1, n1), (c2, n2))):
            if mean > 0.0:
                chance = poisson.pmf(np.arange(n + 1), mean)
                steps = np.arange(n + 1)[:, None] - np.arange(n + 1)[None, :]
                matrix = np.where(steps >= 0, chance[np.maximum(steps, 0)], 0.0)
                own = matrix @ own if axis == 0 else own @ matrix.T
        found = found + own
    return found
