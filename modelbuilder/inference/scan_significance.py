"""Global significance of the largest excess in a scan: the probability of one as large anywhere, background only.

Two ways, each with the uncertainty of its toys. Gross and Vitells, Eur. Phys. J. C 70 (2010) 525, arXiv:1005.1891: the
mean number of upcrossings of q0 above a low level c0, from the observed scan or better from toy scans, tells that above
the observed maximum c, and p_global <= p_local + <N(c0)> exp(-(c - c0)/2), nearly an equality for a significant excess.
Or correlated toys: each toy is one set of data that all points of the scan share, or share in part, and the largest q0
of each toy is compared with the observed one; right for any scan, if enough toys are affordable.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.inference.toys import MAX_FAILED, Estimate, toy_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference.compiled_likelihood import CompiledLikelihood

    Array = NDArray[np.float64]

_TOLERANCE = 1e-5
_TAIL = 0.15865525393145707  # above one sigma


@dataclass(frozen=True, kw_only=True)
class GlobalSignificance:
    """Of the largest local significance in a scan. point: where it is.

    global_p_value, global_significance: with their central 68.3% interval, of the number of toys only.
    n_scans: scans from which upcrossings were counted, or toys that were compared.    n_counted: of upcrossings in all
    these scans, or of toys with as large an excess.    reference_level: c0, in units of q0; None for toys.
    """

    method: Literal["upcrossings", "toys"]
    point: int
    local_p_value: float
    local_significance: float
    global_p_value: Estimate
    global_significance: Estimate
    n_scans: int
    n_counted: int
    n_failed: int
    reference_level: float | None


def q0_of_p_values(p_values: ArrayLike) -> Array:
    """The q0 that has this local p-value; 0 for 0.5 and more."""
    from scipy.special import ndtri

    p = np.asarray(p_values, dtype=float)
    if not ((p > 0.0) & (p <= 1.0)).all():
        msg = "p_values: have to lie above 0, and not above 1"
        raise ValueError(msg)
    return np.asarray(np.square(np.maximum(-ndtri(np.minimum(p, 0.5)), 0.0)))


def count_upcrossings(q0: ArrayLike, level: float) -> int:
    """How often scans (last axis, in the order of the mass) go from `level` or below to above it."""
    above = np.asarray(q0, dtype=float) > level
    return int(np.count_nonzero(above[..., 1:] & ~above[..., :-1]))


def global_significance_from_upcrossings(
    q0: ArrayLike, reference_scans: ArrayLike | None = None, *, reference_level: float = 0.5
) -> GlobalSignificance:
    """By upcrossings. q0: observed, in the order of the mass, so finely spaced that it is smooth.

    reference_scans: q0 of background-only toys; shape (n_scans, n_points). Without, the observed scan itself is
    counted: one scan, with an uncertainty to match, and a little too many if there is a signal.
    """
    from scipy.special import gammaincinv, ndtr

    observed = _scan(q0)
    scans = observed[None, :] if reference_scans is None else np.asarray(reference_scans, dtype=float)
    if scans.ndim != 2 or scans.shape[1] != len(observed):
        msg = f"reference_scans: found shape {scans.shape}; expected (n_scans, {len(observed)})"
        raise ValueError(msg)
    if not reference_level > 0.0:
        msg = f"reference_level: found {reference_level}; it lies above 0, such as 0.5"
        raise ValueError(msg)
    failed = np.isnan(scans).any(axis=1)
    _check_failed(int(failed.sum()), len(scans))
    kept = scans[~failed]
    n = count_upcrossings(kept, reference_level)
    point = int(np.argmax(observed))
    largest = float(observed[point])
    local = float(ndtr(-math.sqrt(largest)))
    fall = math.exp(-0.5 * (largest - reference_level)) / len(kept)
    lower = float(gammaincinv(n, _TAIL)) if n > 0 else 0.0
    upper = float(gammaincinv(n + 1, 1.0 - _TAIL))
    p_values = [min(local + count * fall, 1.0) for count in (n, lower, upper)]
    return GlobalSignificance(
        method="upcrossings",
        point=point,
        local_p_value=local,
        local_significance=math.sqrt(largest),
        global_p_value=Estimate(value=p_values[0], lower=p_values[1], upper=p_values[2]),
        global_significance=_significance(*p_values),
        n_scans=len(kept),
        n_counted=n,
        n_failed=int(failed.sum()),
        reference_level=reference_level,
    )


def global_significance_from_toys(q0: ArrayLike, toy_scans: ArrayLike) -> GlobalSignificance:
    """By the largest q0 of each toy; toy_scans: shape (n_toys, n_points).

    A toy that failed at some point counts as neither in the lower edge, and as an excess in the value and upper edge.
    """
    from scipy.special import betaincinv, ndtr

    observed, scans = _scan(q0), np.asarray(toy_scans, dtype=float)
    if scans.ndim != 2 or scans.shape[1] != len(observed) or not len(scans):
        msg = f"toy_scans: found shape {scans.shape}; expected (n_toys, {len(observed)})"
        raise ValueError(msg)
    point = int(np.argmax(observed))
    largest = float(observed[point])
    sure = (scans >= largest - 1e-6 * (1.0 + largest)).any(axis=1)
    n, k = len(scans), int(sure.sum())
    n_failed = int((np.isnan(scans).any(axis=1) & ~sure).sum())
    _check_failed(n_failed, n)
    most = k + n_failed
    lower = float(betaincinv(k, n - k + 1, _TAIL)) if k > 0 else 0.0
    upper = float(betaincinv(most + 1, n - most, 1.0 - _TAIL)) if most < n else 1.0
    return GlobalSignificance(
        method="toys",
        point=point,
        local_p_value=float(ndtr(-math.sqrt(largest))),
        local_significance=math.sqrt(largest),
        global_p_value=Estimate(value=most / n, lower=lower, upper=upper),
        global_significance=_significance(most / n, lower, upper),
        n_scans=n,
        n_counted=k,
        n_failed=n_failed,
        reference_level=None,
    )


def toy_scans(
    likelihoods: Sequence[CompiledLikelihood],
    common: CompiledLikelihood,
    *,
    seed: int,
    n_toys: int,
    first: int = 0,
    selections: Sequence[ArrayLike] | None = None,
    n_threads: int = 1,
) -> Array:
    """q0 of each toy at each point; shape (n_toys, n_points), NaN where a fit failed.

    Toys are thrown from `common`, fitted to its observed data without a signal: it has all data of all points.
    selections: for each point, which of the common data (in pyhf order, auxiliary data included) are its data, in its
    order; or a matrix that makes its data of the common ones, shape (n_common, n_data). By default all of them: points
    that differ in their signal only.
    """
    truth = common.fit_fixed_poi(0.0).bestfit
    data = toy_data(common, truth, seed=seed, hypothesis="background", n_toys=n_toys, first=first)
    if selections is not None and len(selections) != len(likelihoods):
        msg = f"selections: found {len(selections)} for {len(likelihoods)} likelihoods"
        raise ValueError(msg)
    scans = np.full((len(likelihoods), n_toys), math.nan)

    def point(k: int) -> None:
        scans[k] = q0_of_data(likelihoods[k], data if selections is None else _selected(data, selections[k]))

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(point, range(len(likelihoods))))
    return scans.T.copy()


def _selected(data: Array, selection: ArrayLike) -> Array:
    chosen = np.asarray(selection)
    return data @ chosen if chosen.ndim == 2 else data[:, chosen]


def q0_of_data(likelihood: CompiledLikelihood, data: Array) -> Array:
    """q0 of the data in each row, in pyhf order; NaN where a fit failed."""
    from modelbuilder.inference._toys import given_packed

    flat = likelihood.flat
    n_bins, n_data = len(flat.bin_names), len(likelihood.observed_data)
    if data.shape[1] != n_data:
        msg = f"selections: found {data.shape[1]} data; {n_data} are needed"
        raise ValueError(msg)
    extended = np.concatenate([data[:, n_bins:], np.zeros((len(data), 1))], axis=1)  # for those without, numbered -1
    null = likelihood.fit_fixed_poi(0.0)
    strong = np.array(null.bestfit)
    strong[flat.poi_index] = 1.0
    starts = np.array([null.bestfit, [parameter.init for parameter in flat.parameters], strong])[:, flat.globals_]
    lower = min(flat.parameters[flat.poi_index].lower, 0.0)
    statistics = np.full(len(data), math.nan)
    given_packed(
        flat.integers,
        flat.floats,
        np.ascontiguousarray(data[:, :n_bins]),
        np.ascontiguousarray(extended[:, flat.global_data]),
        np.ascontiguousarray(extended[:, flat.local_data]),
        -1,
        0.0,
        lower,
        _TOLERANCE,
        np.ascontiguousarray(starts),
        statistics,
    )
    return statistics


def _scan(q0: ArrayLike) -> Array:
    scan = np.asarray(q0, dtype=float)
    if scan.ndim != 1 or len(scan) < 2 or not (np.isfinite(scan) & (scan >= 0.0)).all():
        msg = "q0: expected a scan of two or more finite numbers, 0 or more"
        raise ValueError(msg)
    return scan


def _check_failed(n_failed: int, n: int) -> None:
    if n_failed > MAX_FAILED * n:
        reason, detail = "toys-failed", f"{n_failed} of {n} scans have points that cannot be fitted"
        raise FitFailure(reason, detail)


def _significance(value: float, lower: float, upper: float) -> Estimate:
    """Normal deviates; where no toy is as extreme, the deviate of the upper edge, which is then exceeded."""
    from scipy.special import ndtri

    low, high = -float(ndtri(upper)), -float(ndtri(lower))
    return Estimate(value=low if value == 0.0 else -float(ndtri(value)), lower=low, upper=high)
