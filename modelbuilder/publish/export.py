"""Likelihoods and limits in the formats of other programs; every file is read back and compared before it stays."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from modelbuilder.errors import BundleError, UserError, WorkspaceError
from modelbuilder.publish.finished_run import finished_run
from modelbuilder.publish.hs3 import Dialect, write_hs3
from modelbuilder.scan.target import Target, whole_workspace
from modelbuilder.workspace.files import read_json

Format = Literal["hs3", "xml", "uhi", "darkcast"]


def export_targets(
    targets: Iterable[Target], output: Path, format_: Format, *, dialect: Dialect = "root", run: Path | None = None
) -> list[Path]:
    """One file, or for XML one folder, for each workspace. run: the directory whose templates have the axes.

    Raises UserError for a place that is taken, WorkspaceError for what the format cannot hold; a file that does not say
    the same as the workspace is not kept.
    """
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for target in targets:
        workspace = whole_workspace(target)
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", target.name or "workspace").strip(".") or "workspace"
        path = output / (name if format_ == "xml" else f"{name}.{format_}.json")
        if path.exists():
            msg = f"{path}: is there already; choose another directory, or remove it"
            raise UserError(msg)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            _write(temporary, format_, workspace, dialect, run, target.name)
            temporary.rename(path)
        except (BundleError, WorkspaceError) as error:
            msg = f"{target.name or 'the workspace'}: {error}"
            raise type(error)(msg) from None
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            temporary.unlink(missing_ok=True)
        written.append(path)
    return written


def export_darkcast(run: Path, output: Path) -> list[Path]:
    """Files for Darkcast, of a finished run."""
    from modelbuilder.publish.darkcast import write_darkcast

    found = finished_run(run)
    output.mkdir(parents=True, exist_ok=True)
    return write_darkcast(output, found)


def _write(
    path: Path, format_: Format, workspace: dict[str, Any], dialect: Dialect, run: Path | None, name: str | None
) -> None:
    if format_ == "hs3":
        write_hs3(path, workspace, dialect)
    elif format_ == "xml":
        from modelbuilder.publish.histfactory_xml import write_xml

        write_xml(path, workspace)
    else:
        from modelbuilder.publish.templates_uhi import write_uhi

        write_uhi(path, workspace, _axes(run, name, workspace))


def _axes(run: Path | None, name: str | None, workspace: dict[str, Any]) -> dict[str, Any] | None:
    """The axes of the templates of a grid point, if it has one channel and they were kept."""
    if run is None or name is None or len(workspace["channels"]) != 1:
        return None
    path = run / "templates" / f"{name}.json"
    axes = read_json(path)["observation"]["axes"] if path.is_file() else []
    if not axes or any("edges" not in axis for axis in axes):
        return None
    return {workspace["channels"][0]["name"]: axes}
