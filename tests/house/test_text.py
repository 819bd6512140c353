"""What is written in the repository: it speaks of itself alone, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Places that exist on somebody's machine only. Written so that this file does not find itself.
FOREIGN = re.compile(
    r"""
      \.\./share[d]\b                                 # a folder beside the repository
    | \bshare[d]/(?:[A-Z]{3,}|physics|prototypes)\b
    | (?<![\w.}$])/wor[k](?=/|\b)(?!\w)               # where a checkout happens to lie
    | (?<![\w.}$])/opt/m[b]\b
    | (?<![\w.}$])/(?:home|Users)/\w
    | (?<![\w.}$])/roo[t]\b
    | \b(?:DESIG[N]|STYL[E]|FORMAT[S])(?:\.md\b|,?\ §?\ ?(?:section\ )?\d)
    """,
    re.VERBOSE,
)


def tracked_files() -> list[Path]:
    """The files under version control; the whole tree has build products and a developer's notes beside them."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked is not known")
    # safe.directory: a clone that belongs to another user is still only read.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def texts() -> dict[str, str]:
    """Contents of the tracked files that are text, by path."""
    found = {}
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content:
            found[path.relative_to(ROOT).as_posix()] = content.decode("utf-8")
    return found


@pytest.mark.parametrize(
    ("line", "is_foreign"),
    [
        ("see ../share" + "d/physics/x.md", True),
        ("share" + "d/PHYSIC" + "S.md", True),
        ("cd /wor" + "k/main", True),
        ("cd '/wor" + "k'", True),
        ("/opt/m" + "b/bin/python", True),
        ("/hom" + "e/someone/specs", True),
        ("STYL" + "E.md", True),
        ("as in DESIG" + "N section 11", True),
        ("mkdir $scratch/work", False),
        ("modelbuilder/workspace/", False),
        ("a/work/b", False),
        ("shared parts live in their own files", False),
        ("styles and FORMATS", False),
    ],
)
def test_foreign_places_are_recognised(line: str, is_foreign: bool) -> None:
    """Invariant: catches a pattern that matches nothing, or everything, in the test below."""
    assert bool(FOREIGN.search(line)) == is_foreign


def test_the_project_speaks_of_itself_alone() -> None:
    """Catches a path or a document that only its author has, in code, comments, specs or pages."""
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if FOREIGN.search(line)
    ]
    assert found == []


def test_links_between_pages_lead_somewhere() -> None:
    """Catches a link to a page or a picture that was moved, or was never committed."""
    tracked = {path.resolve() for path in tracked_files()}
    folders = {parent for path in tracked for parent in path.parents}
    broken = []
    for name, text in texts().items():
        if not name.endswith(".md"):
            continue
        for target in re.findall(r"\]\(([^()\s#]+)(?:#[^()\s]*)?\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            if (ROOT / name).parent.joinpath(target).resolve() not in tracked | folders:
                broken.append(f"{name}: {target}")
    assert broken == []


def test_files_that_pyproject_names_exist() -> None:
    """Catches a licence or a page that the package promises and does not have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [name for name in [project["readme"], *project["license-files"]] if not (ROOT / name).is_file()] == []
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("BSD 3-Clause License\n")
    assert "The modelbuilder developers" in licence


def test_readme_has_its_two_commands() -> None:
    """Catches a README whose commands `.ci/run` and readers would not find, or that tests less than it should."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = dict(
        re.findall(r"^<!-- command: (\w+) -->\n+```bash\n(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)
    )
    assert set(commands) == {"run", "test"}
    assert "modelbuilder run specs/" in commands["run"]
    assert re.search(r"\bpytest -n auto\s*$", commands["test"]), "the test command has to run the whole suite"
