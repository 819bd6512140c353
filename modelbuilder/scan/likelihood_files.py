"""Likelihoods in a directory, as they are published: background-only workspaces with patchsets or patches, or workspaces alone.

What a file is, its content says, not its name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbuilder.errors import WorkspaceError
from modelbuilder.workspace.files import read_json

PROVENANCE = "provenance.json"


@dataclass(frozen=True, kw_only=True)
class LikelihoodFiles:
    """A workspace and what belongs to it, by the names of files in `folder`.

    patchset: the one whose digest is that of the workspace.    patches: lists of operations beside a single workspace.
    """

    folder: Path
    workspace: str
    patchset: str | None = None
    patches: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "folder": str(self.folder),
            "workspace": self.workspace,
            "patchset": self.patchset,
            "patches": list(self.patches),
        }

    def __str__(self) -> str:
        more = (
            f" with {self.patchset}" if self.patchset else f" with {len(self.patches)} patches" if self.patches else ""
        )
        return f"{self.folder / self.workspace}{more}"


def find_likelihoods(folder: Path) -> Iterator[LikelihoodFiles]:
    """The likelihoods in a directory and all those below it, in natural order; hidden files are left out.

    Raises InputFileError for JSON that is not safe to read, WorkspaceError for a patchset without its workspace.
    """
    for place in sorted({path.parent for path in _json_files(folder)}, key=lambda p: _natural(p.as_posix())):
        documents = {path.name: read_json(path) for path in _json_files(place, here=True)}
        workspaces = {name: found for name, found in documents.items() if _is_workspace(found)}
        patchsets = {name: found for name, found in documents.items() if _is_patchset(found)}
        patches = tuple(name for name, found in documents.items() if _is_patch(found))
        owner = {name: _owner(place / name, found, workspaces) for name, found in patchsets.items()}
        for workspace in workspaces:
            mine = [name for name, of in owner.items() if of == workspace]
            for patchset in mine:
                yield LikelihoodFiles(folder=place, workspace=workspace, patchset=patchset)
            if not mine:
                single = len(workspaces) == 1
                yield LikelihoodFiles(folder=place, workspace=workspace, patches=patches if single else ())


def stated_confidence_level(folder: Path) -> float | None:
    """The confidence level of the run that a bundle was made from, if it says so."""
    for path in sorted(folder.glob(f"**/{PROVENANCE}")):
        found = read_json(path)
        level = found.get("confidence_level") if isinstance(found, dict) else None
        if isinstance(level, float) and 0.5 < level < 1.0:
            return level
    return None


def _json_files(folder: Path, *, here: bool = False) -> list[Path]:
    found = folder.glob("*.json") if here else folder.rglob("*.json")
    visible = (p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    return sorted((p for p in visible if p.is_file() and not p.is_symlink()), key=lambda p: _natural(p.name))


def _natural(text: str) -> list[tuple[int, str]]:
    """So that m_a_2p0 comes before m_a_10p0."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]{1,15})", text)]


def _is_workspace(found: Any) -> bool:
    return isinstance(found, dict) and {"channels", "measurements", "observations"} <= found.keys()


def _is_patchset(found: Any) -> bool:
    return isinstance(found, dict) and {"metadata", "patches"} <= found.keys()


def _is_patch(found: Any) -> bool:
    return (
        isinstance(found, list)
        and bool(found)
        and all(isinstance(x, dict) and {"op", "path"} <= x.keys() for x in found)
    )


def _owner(path: Path, patchset: Mapping[str, Any], workspaces: Mapping[str, Any]) -> str:
    """The workspace beside a patchset that has its digests."""
    metadata = patchset["metadata"]
    stated = metadata.get("digests") if isinstance(metadata, dict) else None
    if not isinstance(stated, dict) or not stated.keys() & _HASHES.keys():
        msg = f"{path}: a patchset without md5 or sha256 digest; it cannot be told which workspace it belongs to"
        raise WorkspaceError(msg)
    for name, workspace in workspaces.items():
        text = json.dumps(workspace, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if all(_HASHES[kind](text) == value for kind, value in stated.items() if kind in _HASHES):
            return name
    beside = ", ".join(workspaces) or "there is none"
    msg = f"{path}: no workspace beside it has its digest (found: {beside}); the files do not belong together"
    raise WorkspaceError(msg)


def _md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


_HASHES = {"md5": _md5, "sha256": _sha256}
