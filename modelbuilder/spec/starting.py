"""Starting specs: one commented file for each kind of search, complete enough to run."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from modelbuilder.errors import UserError
from modelbuilder.spec.problems import nearest

EXPERIMENT = "experiment"
_FOLDER = "archetypes"


def archetypes() -> dict[str, str]:
    """The kinds of searches by name, each with what it is."""
    found = {}
    for file in sorted(resources.files("modelbuilder.spec").joinpath(_FOLDER).iterdir(), key=lambda file: file.name):
        name = file.name.removesuffix(".yaml")
        if name not in (EXPERIMENT, file.name):
            found[name] = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    return found


def write_archetype(name: str, path: Path) -> list[Path]:
    """Write a starting spec, and its experiment file beside it unless there is one; returns what was written.

    Raises UserError for a name that is not known, or if the file is there already.
    """
    known = archetypes()
    if name not in known:
        msg = f"found {name!r}; expected one of {', '.join(known)}{nearest(name, known)}"
        raise UserError(msg)
    if path.suffix != ".yaml":
        msg = f"{path}: give a name that ends in .yaml"
        raise UserError(msg)
    if path.exists():
        msg = f"{path}: is there already; give another name with -o"
        raise UserError(msg)
    wanted = {path: name}
    experiment = path.with_name(f"{EXPERIMENT}.yaml")
    if not experiment.exists():
        wanted[experiment] = EXPERIMENT
    for target, source in wanted.items():
        text = resources.files("modelbuilder.spec").joinpath(_FOLDER, f"{source}.yaml").read_text(encoding="utf-8")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            msg = f"{target}: cannot be written: {error.strerror or error}; choose another place"
            raise UserError(msg) from None
    return list(wanted)
