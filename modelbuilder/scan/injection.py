"""Does a search find what is there: signals injected into pseudo-data, and the strength that the fit gives back.

Counts are thrown from the backgrounds as they were simulated or stated, not from the model that is fitted, so that a
free shape which cannot follow the background shows as a bias. Auxiliary measurements are thrown too. The signal
strength may become negative in the fits: an estimate that is cut off at zero is biased at zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelbuilder.errors import FitFailure, RunDirectoryError
from modelbuilder.histograms.templates import FloatArray, from_uhi_json
from modelbuilder.inference import diagnostics
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.toys import MAX_FAILED, toy_data
from modelbuilder.kinematics.shards import generator, stream_key
from modelbuilder.scan.store import TEMPLATES, WORKSPACES, load_run
from modelbuilder.spec.grid import spread
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.search import SIGNAL
from modelbuilder.workspace.files import read_json

FEW_EVENTS = 10.0
"""Expected background of a bin of the peak: with fewer, pulls are not normal whatever the model."""
LEAST_TOYS = 100
"""A width is known to 7 % with them."""
_ROOM = 0.95  # of the way to the negative signal strength at which a bin expects nothing


@dataclass(frozen=True, kw_only=True)
class Pulls:
    """Estimates of the signal strength over toys, with their errors.

    mean, width: of the pull, (estimate - injected)/uncertainty.    shift, scatter: the same of (estimate -
    injected)/(uncertainty of the fit to the expected counts).    n_failed: fits without a result.    n_cut_off: estimates
    on the lower bound, where a bin would expect less than nothing.
    """

    mean: float
    mean_error: float
    width: float
    width_error: float
    shift: float
    shift_error: float
    scatter: float
    scatter_error: float
    n_toys: int
    n_failed: int
    n_cut_off: int


@dataclass(frozen=True, kw_only=True)
class Injection:
    """Fits of pseudo-data with one signal strength at one grid point.

    strength: injected, in standard deviations of the estimate without a signal.    mu, events: the same as signal
    strength and events in the window.    bias: of the fit to the expected counts themselves, in its own standard
    deviations.    pulls: None without toys.
    """

    strength: float
    mu: float
    events: float
    bias: float
    pulls: Pulls | None


@dataclass(frozen=True, kw_only=True)
class PointInjections:
    """All strengths at one grid point, or why there are none.

    peak_background: expected background of the bins that tell the signal; the mean, weighted by signal^2/background.    failure: empty, or what went wrong.
    """

    point: str
    values: dict[str, float]
    peak_background: float
    injections: tuple[Injection, ...]
    failure: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """For a person."""
        few = self.peak_background < FEW_EVENTS
        for one in self.injections:
            line = f"{self.point:24} {one.strength:4g} sigma {one.events:10.4g} events   bias {one.bias:+6.3f}"
            if one.pulls is None:
                yield line
                continue
            pulls = one.pulls
            failed = f", {pulls.n_failed} failed" if pulls.n_failed else ""
            cut_off = f", {pulls.n_cut_off} cut off" if pulls.n_cut_off else ""
            moments = (
                f"shift {pulls.shift:+6.3f} +- {pulls.shift_error:.3f}   "
                f"scatter {pulls.scatter:5.3f} +- {pulls.scatter_error:.3f}"
                if few
                else f"pull {pulls.mean:+6.3f} +- {pulls.mean_error:.3f}   "
                f"width {pulls.width:5.3f} +- {pulls.width_error:.3f}"
            )
            yield f"{line}   {moments}{failed}{cut_off}"
        if self.failure:
            yield f"{self.point:24} failed: {self.failure}"
        elif few and any(one.pulls is not None for one in self.injections):
            yield f"{'':24} note: {self.peak_background:.2g} background events in a bin of the peak, too few for pulls"


def inject(
    path: Path,
    *,
    points: int | None,
    strengths: Sequence[float],
    n_toys: int,
    seed: int,
    n_threads: int = 1,
    only: Sequence[str] | None = None,
) -> list[PointInjections]:
    """Inject signals at some points of a run directory; the same for any number of threads.

    points: that many of those with limits, spread over the grid; None for all.    strengths: in standard deviations.
    n_toys: of each; 0 for the bias alone.    only: names of the points to choose from.
    A point at which fits fail says so, and does not cost the others. Raises RunDirectoryError where no point has a limit.
    """
    search, rows = load_run(path)
    if not isinstance(search, LoadedSearch):
        msg = f"{path}: a run of a combination; signals are injected into searches with one channel at each point"
        raise RunDirectoryError(msg)
    if search.spec.in_plane:
        msg = f"{path}: counts events in a plane; one number has no pull, coverage is that of the method"
        raise RunDirectoryError(msg)
    names = {row["point"] for row in rows if row["status"] == "ok" and (only is None or row["point"] in only)}
    usable = tuple(point for point in search.points if point.name in names)
    chosen = usable if points is None else spread(usable, points)
    if not chosen:
        msg = f"{path}: no point has a limit; there is nothing to inject a signal into"
        raise RunDirectoryError(msg)
    backgrounds = list(search.spec.backgrounds)

    def at(point: Any) -> PointInjections:
        workspace = read_json(path / WORKSPACES / f"{point.name}.json")
        templates = from_uhi_json((path / TEMPLATES / f"{point.name}.json").read_text(encoding="utf-8"))
        background = np.sum([templates[name].values() for name in backgrounds if name in templates], axis=0)
        values = dict(point.values)
        try:
            thrower = _Thrower(workspace, background.ravel(), stream=point.name, seed=seed)
            return PointInjections(
                point=point.name,
                values=values,
                peak_background=thrower.peak_background,
                injections=tuple(thrower.injection(strength, n_toys) for strength in strengths),
            )
        except FitFailure as failure:
            return PointInjections(
                point=point.name, values=values, peak_background=0.0, injections=(), failure=str(failure)
            )

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(at, chosen))


class _Thrower:
    """Pseudo-data of one workspace with a single channel. background: expected events, shape (n_bins,)."""

    def __init__(self, workspace: dict[str, Any], background: FloatArray, *, stream: str, seed: int) -> None:
        self.likelihood = CompiledLikelihood(workspace)
        self.background = background
        if len(workspace["channels"]) > 1:
            names = ", ".join(channel["name"] for channel in workspace["channels"])
            msg = (
                f"{stream}: has the channels {names}; signals are injected into searches with one channel at each point"
            )
            raise RunDirectoryError(msg)
        samples = workspace["channels"][0]["samples"]
        self.signal = np.array(next(sample["data"] for sample in samples if sample["name"] == SIGNAL))
        self.stream, self.seed = stream, seed
        peak = self.signal > 0.0
        self.lower = -_ROOM * float(np.min(background[peak] / self.signal[peak]))
        telling = np.square(self.signal[peak])
        self.peak_background = float(telling.sum() / (telling / background[peak]).sum())
        self.nominal = np.array([parameter.init for parameter in self.likelihood.parameters])
        self.sigma, _ = self._estimate(self._expected(0.0))

    def injection(self, strength: float, n_toys: int) -> Injection:
        """A signal of this strength."""
        mu = strength * self.sigma
        width, best = self._estimate(self._expected(mu))
        return Injection(
            strength=strength,
            mu=mu,
            events=mu * float(self.signal.sum()),
            bias=(best - mu) / width,
            pulls=self._pulls(mu, strength, width, n_toys) if n_toys else None,
        )

    def _pulls(self, mu: float, strength: float, width: float, n_toys: int) -> Pulls:
        """width: uncertainty of the fit to the expected counts."""
        estimates, errors = np.full(n_toys, math.nan), np.full(n_toys, math.nan)
        for index, data in enumerate(self._toys(mu, strength, n_toys)):
            with suppress(FitFailure):
                errors[index], estimates[index] = self._estimate(data, at_bound=width)
        good = np.isfinite(estimates)
        n_good = int(good.sum())
        if n_toys - n_good > MAX_FAILED * n_toys:
            reason, detail = "toys-failed", f"{n_toys - n_good} of {n_toys} toys at {self.stream} cannot be fitted"
            raise FitFailure(reason, detail)
        (mean, spread_of), (shift, scatter) = (
            (float(np.mean(values)), float(np.std(values, ddof=1)))
            for values in ((estimates[good] - mu) / errors[good], (estimates[good] - mu) / width)
        )
        of_mean, of_spread = 1.0 / math.sqrt(n_good), 1.0 / math.sqrt(2.0 * (n_good - 1))
        return Pulls(
            mean=mean,
            mean_error=spread_of * of_mean,
            width=spread_of,
            width_error=spread_of * of_spread,
            shift=shift,
            shift_error=scatter * of_mean,
            scatter=scatter,
            scatter_error=scatter * of_spread,
            n_toys=n_toys,
            n_failed=n_toys - n_good,
            n_cut_off=int(np.sum(estimates[good] <= self.lower)),
        )

    def _expected(self, mu: float) -> FloatArray:
        """Expected counts, and auxiliary data at their nominal values."""
        n = len(self.background)
        return np.concatenate([self.background + mu * self.signal, self.likelihood.observed_data[n:]])

    def _toys(self, mu: float, strength: float, n_toys: int) -> FloatArray:
        n = len(self.background)
        stream = f"inject/{self.stream}/{strength!r}"
        truth = self.nominal.copy()
        truth[self.likelihood.poi_index] = 0.0
        data = toy_data(
            self.likelihood, truth.tolist(), seed=stream_key(self.seed, stream)[0], hypothesis="signal", n_toys=n_toys
        ).copy()
        data[:, :n] = generator(self.seed, stream).poisson(self.background + mu * self.signal, size=(n_toys, n))
        return data

    def _estimate(self, data: FloatArray, *, at_bound: float | None = None) -> tuple[float, float]:
        """Uncertainty and value of the signal strength.

        at_bound: uncertainty where it stops at its lower bound and changes nothing, as in a window without events.
        """
        try:
            fit = diagnostics.fit_with_uncertainties(self.likelihood, data, poi_lower=self.lower)
        except FitFailure as failure:
            if failure.reason != "singular-hessian" or at_bound is None:
                raise
            value = self.likelihood.fit(data, poi_lower=self.lower).poi_value
            if value > self.lower:
                raise
            return at_bound, value
        assert fit.uncertainties is not None
        return fit.uncertainties[self.likelihood.poi_index], fit.poi_value


def to_json(found: Sequence[PointInjections]) -> str:
    """The text of `injection.json`."""
    return json.dumps([one.as_dict() for one in found], indent=1, allow_nan=False) + "\n"
