"""The templates of a workspace as UHI histograms (schema 1), one JSON file that hist, boost-histogram and others read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from modelbuilder import __version__
from modelbuilder.errors import BundleError
from modelbuilder.workspace.files import read_json

Json = dict[str, Any]


def to_uhi(workspace: Mapping[str, Any], axes: Mapping[str, Sequence[Json]] | None = None) -> Json:
    """Histograms by name: `channel/sample`, `channel/sample/modifier/up` and `down`, `channel/observation`.

    axes: UHI axes by channel; where there are none, bins are counted from 0. Variances are those of `staterror`.
    """
    found: Json = {}
    observed = {item["name"]: item["data"] for item in workspace["observations"]}
    for channel in workspace["channels"]:
        name = channel["name"]
        own = (axes or {}).get(name)
        if own is None or math.prod(len(axis["edges"]) - 1 for axis in own) != len(observed[name]):
            own = [_counted(len(observed[name]))]
        for sample in channel["samples"]:
            errors = [m["data"] for m in sample["modifiers"] if m["type"] == "staterror"]
            variances = [math.fsum(e * e for e in bins) for bins in zip(*errors, strict=True)] if errors else None
            found[f"{name}/{sample['name']}"] = _histogram(own, sample["data"], variances)
            for modifier in sample["modifiers"]:
                for side, values in _sides(modifier, sample["data"]):
                    found[f"{name}/{sample['name']}/{modifier['name']}/{side}"] = _histogram(own, values)
        found[f"{name}/observation"] = _histogram(own, observed[name])
    return found


def write_uhi(path: Path, workspace: Mapping[str, Any], axes: Mapping[str, Sequence[Json]] | None = None) -> None:
    """Write, check against the schema, read back and compare. Raises BundleError."""
    import jsonschema

    histograms = to_uhi(workspace, axes)
    schema = json.loads((files("uhi") / "resources" / "histogram.schema.json").read_text(encoding="utf-8"))
    for name, histogram in histograms.items():
        for error in jsonschema.Draft7Validator(schema).iter_errors(histogram):
            msg = f"{path}: {name}: not a UHI histogram: {error.message[:200]}"
            raise BundleError(msg)
    path.write_text(json.dumps(histograms, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    from modelbuilder.histograms.templates import from_uhi_json

    again = from_uhi_json(path.read_text(encoding="utf-8"))
    for name, histogram in again.items():
        if histogram.values().tolist() != histograms[name]["storage"]["values"]:
            msg = f"{path}: {name} does not read back as it was written"
            raise BundleError(msg)
    if again.keys() != histograms.keys() or read_json(path) != histograms:
        msg = f"{path}: does not read back as it was written"
        raise BundleError(msg)


def _sides(modifier: Mapping[str, Any], nominal: Sequence[float]) -> list[tuple[str, list[float]]]:
    data = modifier["data"]
    if modifier["type"] == "histosys":
        return [("up", data["hi_data"]), ("down", data["lo_data"])]
    if modifier["type"] == "normsys":
        return [(side, [data[key] * value for value in nominal]) for side, key in (("up", "hi"), ("down", "lo"))]
    return []


def _counted(n_bins: int) -> Json:
    return {
        "type": "variable",
        "edges": [float(index) for index in range(n_bins + 1)],
        "underflow": False,
        "overflow": False,
        "circular": False,
        "metadata": {"name": "bin", "label": "bin", "units": ""},
    }


def _histogram(axes: Sequence[Json], values: Sequence[float], variances: Sequence[float] | None = None) -> Json:
    shape = [len(axis["edges"]) - 1 for axis in axes]  # of several axes the last runs fastest
    storage: Json = {"type": "double", "values": np.reshape(np.array(values, dtype=float), shape).tolist()}
    if variances is not None:
        storage |= {"type": "weighted", "variances": np.reshape(np.array(variances), shape).tolist()}
    return {
        "uhi_schema": 1,
        "writer_info": {"modelbuilder": {"version": __version__}},
        "axes": list(axes),
        "storage": storage,
    }
