"""Check one spec file of whatever kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelbuilder.errors import InputFileError, Problem, SpecError
from modelbuilder.spec.load import LoadedCombination, load_experiment, load_spec, resolve
from modelbuilder.spec.summary import counted_sources
from modelbuilder.spec.tree import Scalar


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The problems of a file, or what it holds if there are none; whether data or backgrounds come from files."""

    problems: tuple[Problem, ...]
    summary: str = ""
    has_files: bool = False


def check_file(path: Path, *, root: Path | None = None) -> Checked:
    """Check a search, a combination or an experiment, as its `schema:` says; a search, if it says nothing."""
    try:
        kind = resolve(path, root=root)[0].get("schema")  # resolved: a variant may leave it to what it extends
        if isinstance(kind, Scalar) and str(kind.value).startswith("experiment/"):
            experiment = load_experiment(path, root=root)
            return Checked(problems=(), summary=f"the experiment {experiment.title}")
        found = load_spec(path, root=root)
    except SpecError as error:
        return Checked(problems=error.problems)
    except InputFileError as error:
        text = str(error).removeprefix(f"{path}: ")
        return Checked(problems=(Problem(file=str(path), line=0, column=0, path="", message=text),))
    parts = (
        f"searches {', '.join(found.searches)}"
        if isinstance(found, LoadedCombination)
        else f"channels {', '.join(found.spec.channels)}"
    )
    text = f"{len(found.points)} grid points, {parts}, inputs: {counted_sources(found)}"
    searches = found.searches.values() if isinstance(found, LoadedCombination) else [found]
    return Checked(problems=(), summary=text, has_files=any(search.spec.inputs for search in searches))
