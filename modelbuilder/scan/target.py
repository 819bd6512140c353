"""What `modelbuilder limit` can be pointed at: a run directory, a workspace, or a workspace with a patchset."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from modelbuilder.errors import FitFailure, InputFileError, WorkspaceError
from modelbuilder.inference import AsymptoticCalculator, LimitMethod, PyhfLikelihood
from modelbuilder.inference.bayesian import bayesian_upper_limit
from modelbuilder.inference.choice import open_likelihood, upper_limit_of
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.feldman_cousins import feldman_cousins
from modelbuilder.inference.toys import ToyCalculator
from modelbuilder.kinematics.shards import available_threads
from modelbuilder.scan.store import WORKSPACES, load_run
from modelbuilder.workspace.files import read_json

Method = LimitMethod | Literal["feldman-cousins", "bayesian"]
_ASYMPTOTIC = get_args(LimitMethod)


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
    if path.is_dir():
        yield from _run_targets(path, pattern)
    elif patchset is not None:
        yield from _patched_targets(path, patchset, pattern)
    else:
        if pattern is not None:
            msg = "--patch needs --patchset, or a run directory"
            raise InputFileError(msg)
        yield Target(name=None, values=(), workspace=read_json(path))


def limit_of(
    target: Target, *, method: Method, confidence_level: float, toys: int | None = None, seed: int = 1
) -> dict[str, Any]:
    """The limit on a target as one JSON-like object; a failure has its name in `status` and no numbers.

    toys: for profile-likelihood and cls, that many per hypothesis in place of asymptotic formulas; for feldman-cousins
        as many, or by default what its precision asks for.    seed: of them.
    """
    found: dict[str, Any] = {} if target.name is None else {"patch": target.name, "values": list(target.values)}
    likelihood, notes = open_likelihood(target.workspace, None if target.patch is None else [target.patch])
    found |= {"poi": likelihood.poi_name, "method": method, "confidence_level": confidence_level}
    try:
        if method in _ASYMPTOTIC and toys is None:
            numbers = _asymptotic(likelihood, cast("LimitMethod", method), confidence_level)
        elif isinstance(likelihood, CompiledLikelihood):
            numbers = _other(likelihood, method, confidence_level, toys, seed)
        else:
            msg = f"{method} needs the compiled likelihood: {notes[0]}"
            raise WorkspaceError(msg)
    except FitFailure as failure:
        return {**found, "status": failure.reason, "detail": failure.detail}
    counters = likelihood.counters
    return {
        **found,
        "status": "ok",
        **numbers,
        "fits": counters.fits,
        "evaluations": counters.evaluations,
        "warnings": [*notes, *numbers["warnings"]],
    }


def _asymptotic(
    likelihood: CompiledLikelihood | PyhfLikelihood, method: LimitMethod, confidence_level: float
) -> dict[str, Any]:
    calculator = AsymptoticCalculator(likelihood)
    limit = upper_limit_of(likelihood, calculator, method=method, confidence_level=confidence_level)
    return {
        "observed": limit.observed,
        "expected": list(limit.expected),
        "poi_hat": limit.poi_hat,
        "p_value": calculator.discovery().p_value,
        "warnings": limit.warnings,
    }


def _other(
    likelihood: CompiledLikelihood, method: Method, confidence_level: float, toys: int | None, seed: int
) -> dict[str, Any]:
    """Limits with toys, Bayesian ones, and Feldman-Cousins intervals."""
    threads = available_threads(None)
    if method == "bayesian":
        posterior = bayesian_upper_limit(likelihood, confidence_level=confidence_level, seed=seed)
        expected = None if posterior.expected is None else list(posterior.expected)
        return {"observed": posterior.observed, "expected": expected, "prior": posterior.prior,
                "relative_error": posterior.relative_error, "warnings": posterior.warnings}  # fmt: skip
    if method == "feldman-cousins":
        interval = feldman_cousins(
            likelihood, seed=seed, confidence_level=confidence_level, n_toys=toys, n_threads=threads
        )
        return {"observed": interval.upper.value, "observed_lower_edge": interval.lower.value, "expected": None,
                "observed_interval": [interval.upper.lower, interval.upper.upper], "poi_hat": interval.poi_hat,
                "toys": interval.n_toys, "warnings": interval.warnings}  # fmt: skip
    calculator = ToyCalculator(likelihood, seed=seed, n_toys=toys, n_threads=threads)
    limit = calculator.upper_limit(method=method, confidence_level=confidence_level)
    return {
        "observed": limit.observed.value,
        "observed_interval": [limit.observed.lower, limit.observed.upper],
        "expected": [estimate.value for estimate in limit.expected],
        "poi_hat": likelihood.fit().poi_value,
        "toys": limit.n_toys,
        "failed_toys": limit.n_failed,
        "warnings": limit.warnings,
    }


def _run_targets(path: Path, pattern: str | None) -> Iterator[Target]:
    search, _ = load_run(path)
    built = [point for point in search.points if (path / WORKSPACES / f"{point.name}.json").is_file()]
    chosen = [point for point in built if pattern is None or fnmatch.fnmatchcase(point.name, pattern)]
    if not chosen:
        example = f"; there is for example {built[0].name}" if built else ""
        msg = f"{path}: no grid point {'is called ' + pattern if pattern else 'was built'}{example}"
        raise InputFileError(msg)
    for point in chosen:
        workspace = read_json(path / WORKSPACES / f"{point.name}.json")
        yield Target(name=point.name, values=(point.mass,), workspace=workspace)


def _patched_targets(path: Path, patchset: Path, pattern: str | None) -> Iterator[Target]:
    import pyhf

    workspace = read_json(path)
    try:
        patches = pyhf.PatchSet(read_json(patchset))
        patches.verify(workspace)
    except pyhf.exceptions.PatchSetVerificationError as error:
        msg = f"{patchset}: does not belong to {path}: {error}"
        raise WorkspaceError(msg) from None
    except (pyhf.exceptions.InvalidPatchSet, pyhf.exceptions.InvalidSpecification, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{patchset}: not a pyhf patchset: {reason}"
        raise WorkspaceError(msg) from None
    names = [patch.name for patch in patches]
    chosen = [patch for patch in patches if pattern is None or fnmatch.fnmatchcase(patch.name, pattern)]
    if not chosen:
        msg = f"{patchset}: no patch is called {pattern}; there is for example {names[0]}"
        raise WorkspaceError(msg)
    for patch in chosen:
        yield Target(name=patch.name, values=tuple(patch.values), workspace=workspace, patch=list(patch))
