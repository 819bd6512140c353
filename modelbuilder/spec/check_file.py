"""Check one spec file of whatever kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelbuilder.errors import InputFileError, Problem, SpecError
from modelbuilder.spec.load import load_experiment, load_search, resolve
from modelbuilder.spec.summary import counted_sources
from modelbuilder.spec.tree import Scalar


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The problems of a file, or what it holds if there are none."""

    problems: tuple[Problem, ...]
    summary: str = ""


def check_file(path: Path, *, root: Path | None = None) -> Checked:
    """Check a search or an experiment, as its `schema:` says; a search, if it says nothing."""
    try:
        kind = resolve(path, root=root)[0].get("schema")  # resolved: a variant may leave it to what it extends
        if isinstance(kind, Scalar) and str(kind.value).startswith("experiment/"):
            experiment = load_experiment(path, root=root)
            return Checked(problems=(), summary=f"the experiment {experiment.title}")
        search = load_search(path, root=root)
    except SpecError as error:
        return Checked(problems=error.problems)
    except InputFileError as error:
        text = str(error).removeprefix(f"{path}: ")
        return Checked(problems=(Problem(file=str(path), line=0, column=0, path="", message=text),))
    channels = ", ".join(search.spec.channels)
    text = f"{len(search.points)} grid points, channels {channels}, inputs: {counted_sources(search)}"
    return Checked(problems=(), summary=text)
