"""The likelihoods of a run as they are published: background-only workspaces, and one patch for each grid point.

Points whose fit regions have the same edges, data and background share a background-only workspace. Of sliding windows
each is a region of its own. A background-only workspace never stands for another region than its own, so that programs
that add a signal of their own to `BkgOnly.json` find the right background in it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbuilder.errors import WorkspaceError
from modelbuilder.publish.finished_run import Column, FinishedRun

BACKGROUND = "BkgOnly.json"
PATCHSET = "patchset.json"
INDEX = "index.csv"
REGIONS = "regions"
MEASUREMENT = "measurement"
EMPTY_SAMPLE = "no_background"
"""Stands for the background of a channel in which none is expected; a channel needs a sample."""
DIGITS = 12
"""Significant digits of yields: an error of 1e-12, ten thousand times below what limits are found to."""
UNPUBLISHED = "ins0000000"
"""In place of the INSPIRE number of a paper that has none yet."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Split:
    """A workspace as a background, and the operations that make it whole again."""

    background: Json
    patch: list[Json]


@dataclass(frozen=True)
class Region:
    """A set of fit regions, and the points that share it. `folder` is relative, empty for the only one."""

    folder: str
    points: tuple[str, ...]

    def file(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name


def rounded(value: Any) -> Any:
    """JSON with every number as a float of DIGITS significant digits. Raises WorkspaceError for one that is not finite."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        if not math.isfinite(value):
            msg = f"found {value} among the numbers of a workspace; all must be finite"
            raise WorkspaceError(msg)
        return float(f"{value:.{DIGITS - 1}e}") + 0.0  # which makes 0.0 of -0.0
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value]


def in_order(workspace: Mapping[str, Any]) -> Json:
    """The workspace with everything sorted by name, as `pyhf.Workspace.sorted` does it."""

    def by_name(items: Sequence[Mapping[str, Any]]) -> list[Json]:
        return sorted((dict(item) for item in items), key=lambda item: str(item["name"]))

    channels = by_name(workspace["channels"])
    for channel in channels:
        channel["samples"] = by_name(channel["samples"])
        for sample in channel["samples"]:
            sample["modifiers"] = sorted(sample["modifiers"], key=lambda modifier: (modifier["name"], modifier["type"]))
    measurements = by_name(workspace["measurements"])
    for measurement in measurements:
        config = measurement["config"]
        measurement["config"] = {"poi": config["poi"], "parameters": by_name(config["parameters"])}
    return {
        "channels": channels,
        "measurements": measurements,
        "observations": by_name(workspace["observations"]),
        "version": workspace["version"],
    }


def split(workspace: Mapping[str, Any], signal_samples: frozenset[str]) -> Split:
    """Take the signal out of a workspace: samples with the signal strength, and those named in `signal_samples`.

    The workspace is sorted and rounded first; the patch adds the samples where the order puts them. The measurement, whose
    name does not enter the likelihood, gets one that all points share.
    """
    whole: Json = in_order(rounded(workspace))
    (measurement,) = whole["measurements"]
    measurement["name"] = MEASUREMENT
    poi = measurement["config"]["poi"]
    patch: list[Json] = []
    for c, channel in enumerate(whole["channels"]):
        samples = channel["samples"]
        signal = [
            sample
            for sample in samples
            if sample["name"] in signal_samples or any(modifier["name"] == poi for modifier in sample["modifiers"])
        ]
        kept = [sample for sample in samples if sample not in signal]
        if not kept:
            kept = [{"name": EMPTY_SAMPLE, "data": [0.0] * len(samples[0]["data"]), "modifiers": []}]
        channel["samples"] = kept
        order = sorted(sample["name"] for sample in (*signal, *kept))
        for sample in signal:  # by name: each index is that of the final order
            path = f"/channels/{c}/samples/{order.index(sample['name'])}"
            patch.append({"op": "add", "path": path, "value": sample})
    return Split(whole, patch)


def regions_of(run: FinishedRun) -> tuple[Region, ...]:
    """The points of a run, by the fit regions that they share; in the order of the grid."""
    found: dict[bytes, list[str]] = {}
    channels: dict[bytes, str] = {}
    for point in run.points:
        background = split(run.workspace(point), run.signal_samples).background
        key = hashlib.sha256(to_text([background, run.edges(point)]).encode()).digest()
        found.setdefault(key, []).append(point)
        channels.setdefault(key, "_".join(channel["name"] for channel in background["channels"]))
    if len(found) == 1:
        return (Region("", run.points),)
    names = list(channels.values())
    return tuple(
        Region(
            f"{REGIONS}/{channels[key] if len(points) > 1 and names.count(channels[key]) == 1 else points[0]}",
            tuple(points),
        )
        for key, points in found.items()
    )


def write_region(run: FinishedRun, region: Region, folder: Path, *, about: Mapping[str, Any], inspire: str) -> None:
    """Write the background-only workspace and the patchset of a region below `folder`."""
    patches = []
    background: Json = {}
    for point in region.points:
        parts = split(run.workspace(point), run.signal_samples)
        background = parts.background
        reference = run.head[point].get(run.reference.name)
        metadata: Json = {"name": point, "values": list(run.values_of(point))}
        if reference is not None:
            metadata[run.reference.name] = reference
        patches.append({"metadata": metadata, "patch": parts.patch})
    patchset = {
        "version": "1.0.0",
        "metadata": {
            "references": {"hepdata": inspire},
            "digests": digests(background),
            "labels": [column.name for column in run.grid],
            "description": description(run),
            "units": {column.name: column.unit for column in run.grid},
            "signal_strength": f"mu = 1 is the {run.reference.description} {run.reference.name} of the patch{in_unit(run.reference)}",
            **about,
        },
        "patches": patches,
    }
    target = folder / region.folder
    target.mkdir(parents=True, exist_ok=True)
    (target / BACKGROUND).write_text(to_text(background), encoding="utf-8", newline="\n")
    (target / PATCHSET).write_text(to_text(patchset), encoding="utf-8", newline="\n")


def digests(workspace: Mapping[str, Any]) -> dict[str, str]:
    """As `pyhf.utils.digest`: of the JSON text with sorted keys and without escapes."""
    text = json.dumps(workspace, sort_keys=True, ensure_ascii=False).encode("utf-8")
    return {"md5": hashlib.md5(text, usedforsecurity=False).hexdigest(), "sha256": hashlib.sha256(text).hexdigest()}


def description(run: FinishedRun) -> str:
    return f"{run.search.spec.title} ({run.experiments}), one patch per grid point. {run.data_text}"


def index_text(run: FinishedRun, regions: Sequence[Region]) -> str:
    """CSV: where the likelihood of each point is, and what its signal strength means."""
    folder_of = {point: region.folder for region in regions for point in region.points}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["patch", *(column.name for column in run.grid), "folder", run.reference.name])
    for point in (point for point in run.points if point in folder_of):
        reference = run.head[point].get(run.reference.name)
        writer.writerow([point, *run.values_of(point), folder_of[point] or ".", "" if reference is None else reference])
    return stream.getvalue()


def in_unit(column: Column) -> str:
    """`, in fb`, or nothing."""
    return f", in {column.unit}" if column.unit else ""


def to_text(value: Any) -> str:
    """The one way in which JSON is written here."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n"


def operations_of(patchset: Mapping[str, Any]) -> Iterator[tuple[str, list[Json]]]:
    """Names and operations of all patches."""
    for patch in patchset["patches"]:
        yield str(patch["metadata"]["name"]), patch["patch"]
