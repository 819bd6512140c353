"""What `modelbuilder limit` can be pointed at: a run directory, a directory of published likelihoods, or single files."""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelbuilder.errors import FitFailure, InputFileError, RunDirectoryError, WorkspaceError
from modelbuilder.inference.choice import LimitRequest, find_limit, open_likelihood
from modelbuilder.scan.likelihood_files import LikelihoodFiles, find_likelihoods, stated_confidence_level
from modelbuilder.workspace.files import read_json

INVALID = "invalid-workspace"
RUN = "run.json"
"""What makes a directory a run; that of `scan.store`, which brings the simulation with it."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One workspace. `name` is that of its patch or grid point, or None; `values` are what the patch stands for."""

    name: str | None
    values: tuple[float | str, ...]
    workspace: Mapping[str, Any]
    patch: Sequence[Mapping[str, Any]] | None = None


def targets_at(path: Path, *, patchset: Path | None = None, pattern: str | None = None) -> Iterator[Target]:
    """The workspaces at a path; `pattern` chooses patches or grid points by name, with * and ?.

    Raises InputFileError or WorkspaceError where there are none.
    """
    if path.is_dir() and (path / RUN).is_file():
        yield from _run_targets(path, pattern)
    elif path.is_dir():
        yield from _folder_targets(path, pattern)
    elif patchset is not None:
        yield from _patched_targets(path, patchset, pattern)
    else:
        if pattern is not None:
            msg = "--patch needs --patchset, or a run directory"
            raise InputFileError(msg)
        yield Target(name=None, values=(), workspace=read_json(path))


def limit_of(target: Target, request: LimitRequest) -> dict[str, Any]:
    """The limit on a target as one JSON-like object; a failure has its name in `status` and no numbers.

    One of several targets that is no workspace is such a failure too, `invalid-workspace`; alone it is an error.
    """
    found: dict[str, Any] = {} if target.name is None else {"patch": target.name, "values": list(target.values)}
    try:
        likelihood, notes = open_likelihood(target.workspace, None if target.patch is None else [target.patch])
    except WorkspaceError as error:
        if target.name is None:
            raise
        return {**found, "method": request.method, "status": INVALID, "detail": str(error)}
    found |= {
        "poi": likelihood.poi_name,
        "method": request.method,
        "confidence_level": request.confidence_level,
    }
    try:
        limit = find_limit(likelihood, request)
    except FitFailure as failure:
        return {**found, "status": failure.reason, "detail": failure.detail}
    except WorkspaceError as error:
        if target.name is None:
            raise
        return {**found, "status": INVALID, "detail": str(error)}
    counters = likelihood.counters
    return {
        **found,
        "status": "ok",
        "observed": limit.observed,
        "expected": None if limit.expected is None else list(limit.expected),
        "poi_hat": limit.discovery.poi_hat,
        "p_value": limit.discovery.p_value,
        **limit.details,
        "fits": counters.fits,
        "evaluations": counters.evaluations,
        "warnings": [*notes, *limit.warnings],
    }


def limits_at(targets: Iterable[Target], request: LimitRequest, *, jobs: int) -> Iterator[dict[str, Any]]:
    """`limit_of` each target, in their order, by that many threads; the result does not depend on their number.

    Targets are taken as they are needed, so that memory does not grow with their number.
    """
    targets = iter(targets)
    first = next(targets, None)
    if first is None:
        return
    second = next(targets, None)
    if second is None:  # all threads for the toys of one
        yield limit_of(first, replace(request, n_threads=jobs))
        return
    with ThreadPoolExecutor(jobs) as pool:
        waiting = deque(pool.submit(limit_of, target, request) for target in (first, second))
        for target in targets:
            waiting.append(pool.submit(limit_of, target, request))
            if len(waiting) > 2 * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def confidence_level_of(path: Path) -> float:
    """That of the run at a path, or of the run that was published; 0.95 for anything else."""
    if not path.is_dir():
        return 0.95
    if not (path / RUN).is_file():
        return stated_confidence_level(path) or 0.95
    from modelbuilder.scan.store import load_run

    return load_run(path)[0].spec.statistics.confidence_level


def _run_targets(path: Path, pattern: str | None) -> Iterator[Target]:
    from modelbuilder.scan.store import WORKSPACES, load_run  # and with it the simulation: not for a workspace

    search, _ = load_run(path)
    built = [point for point in search.points if (path / WORKSPACES / f"{point.name}.json").is_file()]
    chosen = [point for point in built if pattern is None or fnmatch.fnmatchcase(point.name, pattern)]
    if not chosen:
        example = f"; there is for example {built[0].name}" if built else ""
        msg = f"{path}: no grid point {'is called ' + pattern if pattern else 'was built'}{example}"
        raise InputFileError(msg)
    for point in chosen:
        workspace = read_json(path / WORKSPACES / f"{point.name}.json")
        yield Target(name=point.name, values=point.masses, workspace=workspace)


def _folder_targets(path: Path, pattern: str | None) -> Iterator[Target]:
    """All likelihoods in a directory; a name is that of the patch, after its folder unless one of ours made the names."""
    names: list[str] = []
    chosen = 0
    for found in find_likelihoods(path):
        for target in _targets_of(path, found):
            names.append(target.name or "")
            if pattern is None or any(fnmatch.fnmatchcase(name, pattern) for name in (names[-1], _last(names[-1]))):
                chosen += 1
                yield target
    if not names:
        msg = f"{path}: not a run directory, and there are no likelihoods in it (pyhf workspaces, patchsets)"
        raise RunDirectoryError(msg)
    if not chosen:
        msg = f"{path}: no likelihood is called {pattern}; there is for example {names[0]}"
        raise InputFileError(msg)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _targets_of(path: Path, found: LikelihoodFiles) -> Iterator[Target]:
    workspace = read_json(found.folder / found.workspace)
    folder = found.folder.relative_to(path).as_posix()
    before = "" if folder == "." else f"{folder}/"
    if found.patchset is not None:
        patchset = read_json(found.folder / found.patchset)
        ours = isinstance(patchset["metadata"], dict) and "spec_digest" in patchset["metadata"]
        for patch in _patches_of(workspace, patchset, found.folder / found.patchset, found.folder / found.workspace):
            name = patch.name if ours else f"{before}{patch.name}"
            yield Target(name=name, values=tuple(patch.values), workspace=workspace, patch=list(patch))
        return
    for file in found.patches:
        operations = read_json(found.folder / file)
        yield Target(name=before + file.removesuffix(".json"), values=(), workspace=workspace, patch=operations)
    if not found.patches:
        yield Target(name=before + found.workspace.removesuffix(".json"), values=(), workspace=workspace)


def _patched_targets(path: Path, patchset: Path, pattern: str | None) -> Iterator[Target]:
    workspace = read_json(path)
    patches = _patches_of(workspace, read_json(patchset), patchset, path)
    chosen = [patch for patch in patches if pattern is None or fnmatch.fnmatchcase(patch.name, pattern)]
    if not chosen:
        msg = f"{patchset}: no patch is called {pattern}; there is for example {patches[0].name}"
        raise WorkspaceError(msg)
    for patch in chosen:
        yield Target(name=patch.name, values=tuple(patch.values), workspace=workspace, patch=list(patch))


def _patches_of(workspace: Any, patchset: Any, patchset_path: Path, path: Path) -> list[Any]:
    """The patches of a patchset that belongs to a workspace. Raises WorkspaceError."""
    import pyhf

    try:
        patches = pyhf.PatchSet(patchset)
        patches.verify(workspace)
    except pyhf.exceptions.PatchSetVerificationError as error:
        msg = f"{patchset_path}: does not belong to {path}: {error}"
        raise WorkspaceError(msg) from None
    except (pyhf.exceptions.InvalidPatchSet, pyhf.exceptions.InvalidSpecification, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{patchset_path}: not a pyhf patchset: {reason}"
        raise WorkspaceError(msg) from None
    return list(patches)
