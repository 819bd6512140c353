"""Toys that the points of a run share: one set of events of each region, thrown from its expected background.

The windows of the grid points are slices of the fine binning of their region, so that neighbours see the same events, as
they do in the data. Constraint terms of one name are one measurement for all points of a region, and in a combination for
all points. Events of different regions are thrown independently.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbuilder.errors import InputFileError
from modelbuilder.histograms.sideband import SUFFIX, BinsBeside
from modelbuilder.histograms.templates import FloatArray, from_uhi_json
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.scan.points import points_of, searches_at, searches_of
from modelbuilder.scan.store import TEMPLATES, WORKSPACES
from modelbuilder.spec.combination import ALL
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import Loaded, LoadedCombination, LoadedSearch
from modelbuilder.workspace.files import read_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

Json = dict[str, Any]
STATERROR = "staterror_"
_NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Window:
    """A channel of a workspace as bins of a region, or as their sum.

    file: of the region.    bins: of the region, in order.    count: whether the channel is one bin, their sum.
    """

    channel: str
    search: str
    file: str
    bins: tuple[int, ...]
    count: bool


class Windows:
    """Where the data of the points of a run lie in the data of its regions."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.simulations = points_of(loaded).simulations

    def of(self, point: GridPoint) -> list[Window]:
        """Those of a point, one for each search that takes part, and one for its sideband."""
        found = []
        for search, own in searches_at(self.loaded, point).items():
            region = self.simulations[search].region_of(own)
            channel, file = (f"{search}_{name}" if search else name for name in (own.channel, region.name))
            inside, sideband = region.window(own.mass), region.sideband
            bins = tuple(range(inside.start, inside.stop))
            count = region.count or sideband is not None
            found.append(Window(channel=channel, search=search, file=file, bins=bins, count=count))
            if isinstance(sideband, BinsBeside):
                bins = tuple(sideband.at(region.binning, own.mass).tolist())
            elif sideband is not None:
                file = f"{file}{SUFFIX}"
            if sideband is not None:
                beside = Window(channel=f"{channel}{SUFFIX}", search=search, file=file, bins=bins, count=True)
                found.append(beside)
        return found

    def groups(self, points: Sequence[GridPoint]) -> dict[str, list[GridPoint]]:
        """Points that share toys, in the order of the first ones: of one region, or all of a combination."""
        found: dict[str, list[GridPoint]] = {}
        for point in points:
            name = ALL if isinstance(self.loaded, LoadedCombination) else self.of(point)[0].file
            found.setdefault(name, []).append(point)
        return found


class SharedToys:
    """The likelihoods of points that share regions, and one of all data of these regions that toys are thrown from."""

    def __init__(self, windows: Windows, path: Path, points: Sequence[GridPoint]) -> None:
        workspaces = [read_json(path / WORKSPACES / f"{point.name}.json") for point in points]
        of_points = [{window.channel: window for window in windows.of(point)} for point in points]
        searches = searches_of(windows.loaded)
        regions = {window.file: searches[window.search] for found in of_points for window in found.values()}
        backgrounds = {file: _background(search, path, file) for file, search in regions.items()}
        with_errors = {
            found[channel["name"]].file
            for found, workspace in zip(of_points, workspaces, strict=True)
            for channel in workspace["channels"]
            if any(modifier["type"] == "staterror" for modifier in _modifiers(channel))
        }
        self.likelihoods = [CompiledLikelihood(workspace) for workspace in workspaces]
        self.common = CompiledLikelihood(common_workspace(workspaces, backgrounds, with_errors))
        place = {datum: index for index, datum in enumerate(data_names(self.common))}
        self.selections = []
        for found, likelihood in zip(of_points, self.likelihoods, strict=True):
            names = data_names(likelihood)
            if any(window.count for window in found.values()):
                simulated = {file: values for file, (_, values, _) in backgrounds.items()}
                self.selections.append(_sums_over_windows(names, found, place, simulated))
            else:
                self.selections.append(np.array([place[_name_in_region(datum, found)] for datum in names]))


def _sums_over_windows(
    names: Sequence[str],
    windows: Mapping[str, Window],
    place: Mapping[str, int],
    simulated: Mapping[str, FloatArray],
) -> FloatArray:
    """The data of windows that are one bin, as a matrix to multiply all data with; shape (n_common, n_data).

    windows: by channel.    simulated: events, by file.    The count is the sum of those of the bins, and the auxiliary
    measurement of its simulation the mean of theirs, weighted with what is simulated.
    """
    matrix = np.zeros((len(place), len(names)))
    for column, name in zip(matrix.T, names, strict=True):
        stem = name.removesuffix("[0]")
        window = windows.get(stem.removeprefix(STATERROR)) if stem != name else None
        if window is None or not window.count:
            column[place[_name_in_region(name, windows)]] = 1.0
            continue
        inside = simulated[window.file][list(window.bins)]
        is_mean = stem.startswith(STATERROR)
        weights = inside / inside.sum() if is_mean else np.ones(len(inside))
        for index, weight in zip(window.bins, weights.tolist(), strict=True):
            if weight > 0.0:
                column[place[f"{STATERROR if is_mean else ''}{window.file}[{index}]"]] = weight
    return matrix


def _modifiers(channel: Json) -> list[Json]:
    return [modifier for sample in channel["samples"] for modifier in sample["modifiers"]]


def _background(search: LoadedSearch, path: Path, region: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Expected events on the fine binning, with a free or stated shape and simulated; statistical errors of these."""
    file = path / TEMPLATES / f"background_{region}.json"
    if not file.is_file():
        msg = f"{file}: no such file; is the run complete?"
        raise InputFileError(msg)
    templates = from_uhi_json(file.read_text(encoding="utf-8"))
    n_bins = templates["observation"].values().size
    free, simulated, variances = (np.zeros(n_bins) for _ in range(3))
    for name, background in search.spec.backgrounds.items():
        if name not in templates:  # one that is not in a sideband
            continue
        if background.shape == "simulated":
            simulated += np.asarray(templates[name].values()).ravel()
            variances += np.asarray(templates[name].variances()).ravel()
        else:
            free += np.asarray(templates[name].values()).ravel()
    return free, simulated, np.sqrt(variances)


def common_workspace(
    workspaces: Sequence[Json],
    backgrounds: Mapping[str, tuple[FloatArray, FloatArray, FloatArray]],
    with_errors: Collection[str],
) -> Json:
    """All bins of the regions, each a channel, and every constraint term of the points.

    backgrounds: by region, as of `_background`; with_errors: the regions whose statistical errors are in the likelihood.
    The expectation is the background itself: what the constraints act on, and the signal, has no events.
    """
    measured: dict[tuple[str, str], Json] = {}
    parameters: dict[str, Json] = {}
    for workspace in workspaces:
        for modifier in (modifier for channel in workspace["channels"] for modifier in _modifiers(channel)):
            kind, name = modifier["type"], modifier["name"]
            if kind in {"normsys", "histosys"}:
                measured["normsys", name] = {"name": name, "type": "normsys", "data": {"hi": 1.0, "lo": 1.0}}
            elif kind == "lumi":
                measured["lumi", name] = {"name": name, "type": "lumi", "data": None}
        config = workspace["measurements"][0]["config"]
        parameters |= {entry["name"]: entry for entry in config["parameters"] if entry["name"] == "lumi"}
    poi = workspaces[0]["measurements"][0]["config"]["poi"]
    shared: list[Json] = [{"name": poi, "type": "normfactor", "data": None}, *measured.values()]
    channels: list[Json] = []
    observations: list[Json] = []
    for region, (free, simulated, errors) in backgrounds.items():
        binwise = {"name": f"{STATERROR}{region}", "type": "staterror", "data": errors.tolist()}
        samples: list[Json] = [
            {"name": "free", "data": free.tolist(), "modifiers": []},
            {"name": "simulated", "data": simulated.tolist(), "modifiers": [binwise] if region in with_errors else []},
        ]
        if not channels:
            samples.append({"name": _NOTHING, "data": [0.0] * len(free), "modifiers": shared})
        channels.append({"name": region, "samples": samples})
        observations.append({"name": region, "data": (free + simulated).tolist()})
    return {
        "version": "1.0.0",
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": "toys", "config": {"poi": poi, "parameters": list(parameters.values())}}],
    }


def data_names(likelihood: CompiledLikelihood) -> list[str]:
    """A name for each datum in pyhf order: `channel[3]` for a bin, and its parameter for an auxiliary measurement."""
    flat = likelihood.flat
    constraints = flat.constraints
    names = [*flat.bin_names, *[""] * len(flat.auxdata)]
    owners: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = [
        (constraints.normal_data, constraints.normal_parameter),
        (constraints.poisson_data, constraints.poisson_parameter),
    ]
    for data, owner in owners:
        for datum, parameter in zip(data.tolist(), owner.tolist(), strict=True):
            names[len(flat.bin_names) + datum] = likelihood.parameter_names[parameter]
    return names


def _name_in_region(name: str, windows: Mapping[str, Window]) -> str:
    """The name of a datum of a point among those of the regions. windows: by channel."""
    if not name.endswith("]"):
        return name
    stem, number = name[:-1].rsplit("[", 1)
    window = windows[stem.removeprefix(STATERROR)]
    start = STATERROR if stem.startswith(STATERROR) else ""
    return f"{start}{window.file}[{window.bins[int(number)]}]"
