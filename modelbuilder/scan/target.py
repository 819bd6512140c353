"""What `modelbuilder limit` can be pointed at: a run directory, a directory of published likelihoods, or single files."""

from __future__ import annotations

import fnmatch
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelbuilder.errors import FitFailure, InputFileError, RunDirectoryError, WorkspaceError
from modelbuilder.inference.asymptotic import AsymptoticCalculator
from modelbuilder.inference.choice import FoundLimit, LimitRequest, bayesian_found, find_limits, open_likelihoods
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.on_off import limit_of_counts
from modelbuilder.inference.pyhf_likelihood import PyhfLikelihood
from modelbuilder.scan.likelihood_files import LikelihoodFiles, find_likelihoods, stated_confidence_level
from modelbuilder.workspace.files import read_json

INVALID = "invalid-workspace"
RUN = "run.json"
"""What makes a directory a run; that of `scan.store`, which brings the simulation with it."""
_MOST_AT_ONCE = 1024  # targets
_QUICK_S = 1.0


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
    """The limit on a target, as `limits_at` has it."""
    (found,) = _limits_of([target], request)
    return found


def limits_at(targets: Iterable[Target], request: LimitRequest, *, jobs: int) -> Iterator[dict[str, Any]]:
    """The limit on each target as a JSON-like object, in their order; a failure has its name in `status` and no numbers.

    One of several targets that is no workspace is such a failure too, `invalid-workspace`; alone it is an error.
    Targets are taken some at a time, more and more of them while that is quick, so that memory does not grow with their
    number. By that many threads; the result does not depend on their number, nor on who is done together.
    """
    targets = iter(targets)
    size = jobs
    while some := list(itertools.islice(targets, size)):
        begin = time.perf_counter()
        yield from _limits_of(some, replace(request, n_threads=jobs))
        size = min(2 * size, _MOST_AT_ONCE) if time.perf_counter() - begin < _QUICK_S else size


def _limits_of(targets: Sequence[Target], request: LimitRequest) -> Iterator[dict[str, Any]]:
    opened = open_likelihoods(
        [target.workspace for target in targets],
        [() if target.patch is None else (target.patch,) for target in targets],
    )
    exact = [
        None if isinstance(one, WorkspaceError) else _of_counts(target, one[0], request)
        for target, one in zip(targets, opened, strict=True)
    ]
    left = [
        one[0]
        for one, limit in zip(opened, exact, strict=True)
        if limit is None and not isinstance(one, WorkspaceError)
    ]
    limits = iter(find_limits(left, request))
    for target, one, known in zip(targets, opened, exact, strict=True):
        names: dict[str, Any] = {} if target.name is None else {"patch": target.name, "values": list(target.values)}
        if isinstance(one, WorkspaceError):
            if target.name is None:
                raise one
            yield {**names, "method": request.method, "status": INVALID, "detail": str(one)}
            continue
        likelihood, notes = one
        limit = known or next(limits)
        if isinstance(limit, WorkspaceError) and target.name is None:
            raise limit
        yield {
            **names,
            "poi": likelihood.poi_name,
            "method": request.method,
            "confidence_level": request.confidence_level,
            **_result(limit, likelihood, notes),
        }


def _of_counts(
    target: Target, likelihood: CompiledLikelihood | PyhfLikelihood, request: LimitRequest
) -> FoundLimit | None:
    """The Bayesian limit of a count, alone or with a sideband, as a run finds it; None for anything else."""
    if request.method != "bayesian" or request.prior != "flat" or not isinstance(likelihood, CompiledLikelihood):
        return None
    if len(target.workspace["channels"]) > 2:
        return None
    try:
        limit = limit_of_counts(whole_workspace(target), confidence_level=request.confidence_level)
        return None if limit is None else bayesian_found(limit, AsymptoticCalculator(likelihood).discovery())
    except FitFailure:
        return None


def whole_workspace(target: Target) -> dict[str, Any]:
    """The workspace of a target with its patch, checked, and its first measurement. Raises WorkspaceError."""
    from modelbuilder.inference._pyhf_workspace import check_workspace

    checked = check_workspace(target.workspace, patches=() if target.patch is None else (target.patch,))
    config = {"poi": checked.poi_name, "parameters": checked.model_spec["parameters"]}
    return {
        "channels": checked.model_spec["channels"],
        "measurements": [{"name": checked.measurement_name, "config": config}],
        "observations": [{"name": name, "data": data} for name, data in checked.observations.items()],
        "version": "1.0.0",
    }


def _result(
    limit: FoundLimit | FitFailure | WorkspaceError,
    likelihood: CompiledLikelihood | PyhfLikelihood,
    notes: tuple[str, ...],
) -> dict[str, Any]:
    if isinstance(limit, FitFailure):
        return {"status": limit.reason, "detail": limit.detail}
    if isinstance(limit, WorkspaceError):
        return {"status": INVALID, "detail": str(limit)}
    return {
        "status": "ok",
        "observed": limit.observed,
        "expected": None if limit.expected is None else list(limit.expected),
        "poi_hat": limit.discovery.poi_hat,
        "p_value": limit.discovery.p_value,
        **limit.details,
        "fits": likelihood.counters.fits,
        "evaluations": likelihood.counters.evaluations,
        "warnings": [*notes, *limit.warnings],
    }


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
