"""Coverage of upper limits of a count and its sideband, exactly: sums of Poisson probabilities over both counts.

The window counts n1, Poisson around s + b, and the sideband n2, Poisson around b / transfer; nothing else is uncertain. A
method covers a signal s with the probability of the pairs (n1, n2) for which it does not exclude s. What toys find for
CLs, the one-sided profile likelihood and Feldman-Cousins is here a sum too: the toys of a hypothesis are thrown with the
background at its best fit to the pair, so its p-value is the sum of the probabilities of all pairs with as large a test
statistic. Statistics of one signal that differ by less than 1e-9 are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

ExactMethod = Literal["bayesian", "cls", "profile-likelihood", "feldman-cousins"]
EXACT_METHODS: tuple[ExactMethod, ...] = ("bayesian", "cls", "profile-likelihood", "feldman-cousins")

_TIE = 1e-9
_BEYOND = 1e-9


@dataclass(frozen=True, kw_only=True)
class OnOffPairs:
    """All pairs of counts that matter, as arrays of shape (n1 + 1, n2 + 1) in all results.

    transfer: background in the window over that in the sideband.    most: the largest n1 and n2.
    """

    transfer: float
    most: tuple[int, int]

    @classmethod
    def up_to(cls, expected: float, background: float, transfer: float) -> OnOffPairs:
        """Pairs that leave out less than about 1e-9, also of toys thrown from what such pairs are fitted with."""
        from scipy.stats import poisson

        beside = background / transfer
        most = [2.0 * float(poisson.isf(_BEYOND, mean)) + 10.0 for mean in (expected, beside)]
        return cls(transfer=transfer, most=(int(most[0]), int(max(most[1], most[0]))))

    @property
    def counts(self) -> tuple[Array, Array]:
        """n1 and n2, to be broadcast."""
        one, two = (np.arange(most + 1, dtype=np.float64) for most in self.most)
        return one[:, None], two[None, :]

    def chances(self, signal: float, background: float) -> Array:
        """The probability of each pair. background: events in the window."""
        from scipy.stats import poisson

        one, two = self.counts
        return np.asarray(poisson.pmf(one, signal + background) * poisson.pmf(two, background / self.transfer))

    def best_background(self, signal: float) -> Array:
        """The background in the window that fits each pair best: the positive root of a quadratic, or 0.

        From n1/(s + b) + n2/b = 1 + 1/transfer.
        """
        one, two = self.counts
        r = 1.0 + 1.0 / self.transfer
        middle = one + two - r * signal
        return np.asarray((middle + np.sqrt(middle**2 + 4.0 * r * two * signal)) / (2.0 * r))

    def log_likelihood(self, signal: Array | float, background: Array) -> Array:
        """ln L without what depends on the counts alone."""
        from scipy.special import xlogy

        one, two = self.counts
        beside = background / self.transfer
        return np.asarray(xlogy(one, signal + background) - signal - background + xlogy(two, beside) - beside)

    def best_signal(self) -> tuple[Array, Array]:
        """Signal, 0 or above, and background of the best fit to each pair."""
        one, two = self.counts
        signal = np.maximum(one - self.transfer * two, 0.0)
        return signal, np.where(signal > 0.0, self.transfer * two, self.best_background(0.0))

    def statistic(self, signal: float, *, two_sided: bool) -> Array:
        """qmu_tilde, or tmu_tilde, of each pair."""
        best, background = self.best_signal()
        found = 2.0 * (
            self.log_likelihood(best, background) - self.log_likelihood(signal, self.best_background(signal))
        )
        return np.asarray(np.maximum(found if two_sided else np.where(best <= signal, found, 0.0), 0.0))

    def p_values(self, statistic: Array, signal: float, hypothesis: float, which: NDArray[np.bool_]) -> Array:
        """Of some pairs, for the signal of a hypothesis and the background that fits them best with it; shape (n,)."""
        from scipy.stats import poisson

        background = self.best_background(hypothesis)[which]
        one, two = self.counts
        first = np.asarray(poisson.pmf(one.ravel()[None, :], (hypothesis + background)[:, None]))
        second = np.asarray(poisson.pmf(two.ravel()[None, :], (background / self.transfer)[:, None]))
        found = [
            window @ (statistic >= seen - _TIE) @ beside
            for window, beside, seen in zip(first, second, statistic[which].tolist(), strict=True)
        ]
        return np.array(found)


def excluded(
    pairs: OnOffPairs, signal: float, method: ExactMethod, *, confidence_level: float, which: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether a method excludes a signal, for some pairs; shape (n,)."""
    alpha = 1.0 - confidence_level
    if method == "bayesian":
        return np.asarray(posterior_above(pairs, signal)[which] < alpha)
    statistic = pairs.statistic(signal, two_sided=method == "feldman-cousins")
    with_signal = pairs.p_values(statistic, signal, signal, which)
    if method != "cls":
        return np.asarray(with_signal < alpha)
    return np.asarray(with_signal < alpha * pairs.p_values(statistic, signal, 0.0, which))


def posterior_above(pairs: OnOffPairs, signal: float) -> Array:
    """The posterior probability of signals above this one, flat in signal and background; see `on_off`."""
    from scipy.special import gammaincc
    from scipy.stats import nbinom

    one, two = pairs.counts
    chance = np.asarray(nbinom.pmf(one, two + 1.0, 1.0 / (1.0 + pairs.transfer)))  # background events, row a
    tails = gammaincc(one.ravel() + 1.0, signal)
    found = np.zeros_like(chance)
    for k, tail in enumerate(tails.tolist()):
        found[k:] += tail * chance[: len(chance) - k]
    return np.asarray(found / chance.cumsum(axis=0))


def coverage(
    signal: float,
    background: float,
    *,
    transfer: float,
    confidence_level: float,
    methods: Sequence[ExactMethod] = EXACT_METHODS,
) -> dict[ExactMethod, float]:
    """The probability that a signal is not excluded when it is there, by method. background: events in the window."""
    pairs = OnOffPairs.up_to(signal + background, background, transfer)
    chances = pairs.chances(signal, background)
    which = chances > _BEYOND
    return {
        method: float(
            1.0 - chances[which][excluded(pairs, signal, method, confidence_level=confidence_level, which=which)].sum()
        )
        for method in methods
    }
