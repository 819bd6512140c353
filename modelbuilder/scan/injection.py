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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelbuilder.errors import FitFailure, RunDirectoryError
from modelbuilder.histograms.templates import FloatArray, from_uhi_json
from modelbuilder.inference import diagnostics
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.toys import MAX_FAILED, toy_data
from modelbuilder.kinematics.shards import stream_key
from modelbuilder.scan.store import TEMPLATES, WORKSPACES, load_run
from modelbuilder.spec.grid import spread
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.search import SIGNAL
from modelbuilder.workspace.files import read_json

FEW_EVENTS = 5.0
"""Expected in the bins of the peak, weighted by the signal: with fewer, pulls are not normal whatever the model."""
_ROOM = 0.95  # of the way to the negative signal strength at which a bin expects nothing


@dataclass(frozen=True, kw_only=True)
class Injection:
    """Fits of pseudo-data with one signal strength at one grid point.

    strength: injected, in standard deviations of the estimate without a signal.    mu, events: the same as signal
    strength and events in the window.    bias: of the fit to the expected counts themselves, in its own standard
    deviations.    mean, width: of (estimate - injected)/uncertainty over the toys, with their errors.    n_failed: fits
    without a result.    n_cut_off: estimates on the lower bound, where a bin would expect less than nothing.
    """

    strength: float
    mu: float
    events: float
    bias: float
    mean: float
    mean_error: float
    width: float
    width_error: float
    n_toys: int
    n_failed: int
    n_cut_off: int


@dataclass(frozen=True, kw_only=True)
class PointInjections:
    """All strengths at one grid point, or why there are none.

    peak_background: mean expected background of a bin, weighted by the signal.    failure: empty, or what went wrong.
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
        for one in self.injections:
            failed = f", {one.n_failed} failed" if one.n_failed else ""
            cut_off = f", {one.n_cut_off} cut off" if one.n_cut_off else ""
            yield (
                f"{self.point:24} {one.strength:4g} sigma {one.events:10.4g} events   bias {one.bias:+6.3f}   "
                f"pull {one.mean:+6.3f} +- {one.mean_error:.3f}   width {one.width:5.3f} +- {one.width_error:.3f}"
                f"{failed}{cut_off}"
            )
        if self.failure:
            yield f"{self.point:24} failed: {self.failure}"
        elif self.peak_background < FEW_EVENTS:
            yield (
                f"{'':24} note: {self.peak_background:.2g} background events in a bin of the peak: pulls of so few events"
                " are not normal"
            )


def inject(
    path: Path,
    *,
    points: int,
    strengths: Sequence[float],
    n_toys: int,
    seed: int,
    n_threads: int = 1,
    only: Sequence[str] | None = None,
) -> list[PointInjections]:
    """Inject signals at some points of a run directory; the same for any number of threads.

    points: that many of those with limits, spread over the grid.    strengths: in standard deviations.
    only: names of the points to choose from.
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
    chosen = spread(tuple(point for point in search.points if point.name in names), points)
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
        self.peak_background = float(np.average(background, weights=self.signal))
        self.nominal = np.array([parameter.init for parameter in self.likelihood.parameters])
        self.sigma, _ = self._estimate(self._expected(0.0))

    def injection(self, strength: float, n_toys: int) -> Injection:
        """Toys with a signal of this strength."""
        mu = strength * self.sigma
        width, best = self._estimate(self._expected(mu))
        pulls, cut_off = np.full(n_toys, math.nan), 0
        for index, data in enumerate(self._toys(mu, strength, n_toys)):
            try:
                error, found = self._estimate(data)
            except FitFailure:
                continue
            cut_off += found <= self.lower
            pulls[index] = (found - mu) / error
        good = pulls[np.isfinite(pulls)]
        n_failed = n_toys - len(good)
        if n_failed > MAX_FAILED * n_toys:
            reason, detail = "toys-failed", f"{n_failed} of {n_toys} toys at {self.stream} cannot be fitted"
            raise FitFailure(reason, detail)
        spread_of = float(np.std(good, ddof=1))
        return Injection(
            strength=strength,
            mu=mu,
            events=mu * float(self.signal.sum()),
            bias=(best - mu) / width,
            mean=float(np.mean(good)),
            mean_error=spread_of / math.sqrt(len(good)),
            width=spread_of,
            width_error=spread_of / math.sqrt(2.0 * (len(good) - 1)),
            n_toys=n_toys,
            n_failed=n_failed,
            n_cut_off=int(cut_off),
        )

    def _expected(self, mu: float) -> FloatArray:
        """Expected counts, and auxiliary data at their nominal values."""
        n = len(self.background)
        return np.concatenate([self.background + mu * self.signal, self.likelihood.observed_data[n:]])

    def _toys(self, mu: float, strength: float, n_toys: int) -> FloatArray:
        n = len(self.background)
        key = stream_key(self.seed, f"inject/{self.stream}/{strength!r}")
        truth = self.nominal.copy()
        truth[self.likelihood.poi_index] = 0.0
        data = toy_data(self.likelihood, truth.tolist(), seed=key[0], hypothesis="signal", n_toys=n_toys).copy()
        rng = np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64)))
        data[:, :n] = rng.poisson(self.background + mu * self.signal, size=(n_toys, n))
        return data

    def _estimate(self, data: FloatArray) -> tuple[float, float]:
        """Uncertainty and value of the signal strength."""
        fit = diagnostics.fit_with_uncertainties(self.likelihood, data, poi_lower=self.lower)
        assert fit.uncertainties is not None
        return fit.uncertainties[self.likelihood.poi_index], fit.poi_value


def to_json(found: Sequence[PointInjections]) -> str:
    """The text of `injection.json`."""
    return json.dumps([one.as_dict() for one in found], indent=1, allow_nan=False) + "\n"
