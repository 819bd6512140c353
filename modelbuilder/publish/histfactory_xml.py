"""HistFactory XML with ROOT histograms, as ROOT's hist2workspace reads it; written by pyhf, with uproot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from modelbuilder.errors import UserError, WorkspaceError

COMBINATION = "FitConfig.xml"
_NAME = re.compile(r"[A-Za-z0-9_.+-]+")


def write_xml(folder: Path, workspace: Mapping[str, Any]) -> None:
    """Write FitConfig.xml, config/ and data/data.root into an empty folder, read them back and compare.

    What XML has no room for takes pyhf's defaults there: bounds of parameters with a constraint, and names of `staterror`,
    of which a channel has one. Raises WorkspaceError for names that cannot be those of files, and BundleError if the
    likelihood is another one.
    """
    writer, reader = _pyhf_xml()
    from modelbuilder.inference._pyhf_backend import numpy_backend
    from modelbuilder.inference.choice import open_likelihood
    from modelbuilder.publish.verify import difference

    plain = _as_xml_has_it(workspace)
    folder = folder.resolve()
    (folder / "config").mkdir(parents=True)
    (folder / "data").mkdir()
    with numpy_backend():
        text = writer.writexml(plain, str(folder / "config"), str(folder / "data"), "FitConfig")
        inside = text.decode("utf-8").replace(f"{folder}/", "")  # so that the folder can be moved
        (folder / COMBINATION).write_text(inside, encoding="utf-8", newline="\n")
        for path in (folder / "config").glob("*.xml"):
            path.write_text(path.read_text(encoding="utf-8").replace(f"{folder}/", ""), encoding="utf-8", newline="\n")
        reader.clear_filecache()
        with np.errstate(invalid="ignore"):  # of spurious signals, whose templates are negative: errors are not used
            again = reader.parse(str(folder / COMBINATION), str(folder), track_progress=False)
    published, _ = open_likelihood(_with_settings(again, plain))
    direct, _ = open_likelihood(plain)
    difference(direct, published, where=str(folder))


def _pyhf_xml() -> tuple[Any, Any]:
    if find_spec("uproot") is None:
        msg = "HistFactory XML needs uproot: pip install 'modelbuilder[xml]'"
        raise UserError(msg)
    from pyhf import readxml, writexml

    return writexml, readxml


def _as_xml_has_it(workspace: Mapping[str, Any]) -> dict[str, Any]:
    """The workspace with the names that it will have when it is read back. Raises WorkspaceError."""
    channels = []
    for channel in workspace["channels"]:
        names = {modifier["name"] for sample in channel["samples"] for modifier in _of(sample, "staterror")}
        if len(names) > 1:
            msg = f"{channel['name']}: staterror modifiers of several names ({', '.join(sorted(names))}); XML has one"
            raise WorkspaceError(msg)
        samples = []
        for sample in channel["samples"]:
            for name in (channel["name"], sample["name"], *(modifier["name"] for modifier in sample["modifiers"])):
                if not _NAME.fullmatch(name):
                    msg = f"{name!r}: not a name for XML and ROOT files: letters, digits, and _ . + -"
                    raise WorkspaceError(msg)
            for modifier in (*_of(sample, "staterror"), *_of(sample, "shapesys")):
                if any(size > 0.0 >= nominal for size, nominal in zip(modifier["data"], sample["data"], strict=True)):
                    what = f"{channel['name']}/{sample['name']}: {modifier['name']}"
                    msg = f"{what}: the uncertainty of an empty bin; XML has relative ones only"
                    raise WorkspaceError(msg)
            modifiers = [
                {**modifier, "name": f"staterror_{channel['name']}"} if modifier["type"] == "staterror" else modifier
                for modifier in sample["modifiers"]
            ]
            samples.append({**sample, "modifiers": modifiers})
        channels.append({**channel, "samples": samples})
    return {**workspace, "channels": channels, "measurements": workspace["measurements"][:1]}


def _of(sample: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [modifier for modifier in sample["modifiers"] if modifier["type"] == kind]


def _with_settings(again: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """What was read back, with the bounds and initial values of constrained parameters, which XML does not hold."""
    free = {
        modifier["name"]
        for channel in plain["channels"]
        for sample in channel["samples"]
        for modifier in _of(sample, "normfactor")
    }
    (before,) = plain["measurements"]
    (after,) = again["measurements"]
    known = {item["name"]: dict(item) for item in after["config"]["parameters"]}
    for item in before["config"]["parameters"]:
        if item["name"] not in free:
            mine = known.setdefault(item["name"], {"name": item["name"]})
            mine.update({key: item[key] for key in ("inits", "bounds") if key in item})
    config = {"poi": after["config"]["poi"], "parameters": list(known.values())}
    return {**again, "measurements": [{"name": after["name"], "config": config}]}
