"""The code in the pages runs, and the pages lead to each other.

Every fenced block of every page is tested. `bash` and `console` blocks are run, one after the other as a reader would, in
a folder of their own that has `specs/`; what a `console` block shows must be what comes out. `python` blocks are run in
the same folder. `yaml` blocks are read as specs. HTML comments above a block say what a reader knows from the text:

    <!-- first: COMMANDS -->             commands that lead there, beside those of the page itself: `cp A B`, `zip Z FOLDER`,
                                         `sed FILE OLD NEW`
    <!-- instead of "A": "B" -->         a part that is replaced, to save time, or for dots that stand for something
    <!-- file NAME: line; line -->       a file that the block refers to
    <!-- events NAME: column; column --> a file of events that the block refers to
    <!-- spec: BASE -->                  a fragment: a variant of this spec, or of `new KIND`, a starting spec
    <!-- spec: BASE at a.b -->           the same, below this key
    <!-- spec: BASE, in place at a.b -->    takes the place of what this spec has there
    <!-- spec: BASE, each line at a.b -->   the same for each line by itself
    <!-- spec in FOLDER -->              a whole spec or variant, whose paths are relative to this folder
    <!-- with: a.b=value; c=value -->    what else changes in the spec, as with `--set`, to go with the fragment
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from modelbuilder.cli import main
from modelbuilder.errors import ModelBuilderError
from modelbuilder.spec.load import load_experiment, load_spec
from modelbuilder.spec.starting import write_archetype

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
KINDS = ("bash", "console", "python", "yaml")
_BLOCK = re.compile(r"((?:^<!--.*?-->\n+)*)^( *)```([^\n]*)\n(.*?)^\2```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!-- (.*?) -->", re.DOTALL)
_REPLACED = re.compile(r'instead of "(.*?)": "(.*?)"', re.DOTALL)
_NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block, with what the comments above it say. line: of its first fence."""

    page: Path
    line: int
    kind: str
    text: str
    first: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    events: tuple[tuple[str, tuple[str, ...]], ...]
    base: str
    changes: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page. Fails for a comment that is not understood, or replaces what is not there."""
    source = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(source):
        above, indent, kind, text = found.groups()
        line = source.count("\n", 0, found.start(2)) + 1
        text = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        first, files, events, changes, base = [], [], [], [], ""
        for comment in _COMMENT.findall(above):
            replaced = _REPLACED.fullmatch(comment)
            if replaced:
                assert replaced[1] in text, f"{page.name}:{line}: {replaced[1]!r} is not in the block"
                text = text.replace(*replaced.groups())
            elif comment.startswith("first: "):
                first += comment.removeprefix("first: ").split(";")
            elif comment.startswith("with: "):
                changes += [change.strip() for change in comment.removeprefix("with: ").split(";")]
            elif comment.startswith("file "):
                name, _, content = comment.removeprefix("file ").partition(": ")
                files.append((name, "\n".join(row.strip() for row in content.split(";")) + "\n"))
            elif comment.startswith("events "):
                name, _, content = comment.removeprefix("events ").partition(": ")
                events.append((name, tuple(column.strip() for column in content.split(";"))))
            elif comment.startswith("spec"):
                base = comment.removeprefix("spec").removeprefix(":").strip()
            else:
                assert comment.startswith(("command: ", "generated: ")), f"{page.name}:{line}: unknown: {comment}"
        yield Block(page, line, kind.strip(), text, tuple(first), tuple(files), tuple(events), base, tuple(changes))


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


WITH_BLOCKS = [page for page in PAGES if "```" in page.read_text(encoding="utf-8")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader would be: a checkout with `specs/` and `schemas/`, and nothing else that is written to."""
    for name in ("specs", "schemas"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=page_id)
def test_blocks_of_the_pages(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an example that no longer runs, an output that is no longer printed, and a fragment that is not valid."""
    for block in blocks_of(page):
        assert block.kind in KINDS, f"{block.place}: found {block.kind!r}; known are {', '.join(KINDS)}"
        for name, content in block.files:
            for path in (
                folder / name,
                *(folder / "specs" / place / name for place in ("started", "belle2", "experiments")),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")
        for name, columns in block.events:
            path = folder / "specs" / "started" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({column: [0.5, 1.5] for column in columns}), path)
        for command in block.first:
            run(command.strip(), block, monkeypatch)
        match block.kind:
            case "bash":
                for command in commands_of(block.text):
                    run(command, block, monkeypatch)
            case "console":
                for command, shown in sessions_of(block.text):
                    compare(shown, run(command, block, monkeypatch), f"{block.place}: {command}")
            case "python":
                run_python(block)
            case "yaml":
                read_yaml(block, folder)


# ------------------------------------------------------------------------------------------------------------- commands


def commands_of(text: str) -> Iterator[str]:
    """The commands of a block of shell, without comments; a line that ends in a backslash goes on in the next."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        command: list[str] = []
        for word in words:
            if word == "&&":
                yield shlex.join(command)
                command = []
            else:
                command.append(word)
        if command:
            yield shlex.join(command)


def sessions_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console with the lines that it printed."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not parts[0].strip(), "a console begins with a command, after a dollar sign"
    for part in parts[1:]:
        command, *shown = part.splitlines()
        yield command, [line for line in shown if line.strip()]


def run(command: str, block: Block, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run one command in this process; what it printed, messages included. Fails with it if the exit code is not what it says."""
    program, *words = shlex.split(command)
    if program == "cp":
        shutil.copy(*words)
        return ""
    if program == "sed":
        path, old, new = words
        text = Path(path).read_text(encoding="utf-8")
        assert old in text, f"{block.place}: {old!r} is not in {path}"
        Path(path).write_text(text.replace(old, new), encoding="utf-8")
        return ""
    if program == "zip":
        shutil.make_archive(words[0].removesuffix(".zip"), "zip", words[1])
        return ""
    if program != "modelbuilder":
        check_installation(program, words, block.place)
        return ""
    output = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["modelbuilder", *words])
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), pytest.raises(SystemExit) as stopped:
        main()
    faulty = words[0] == "validate" and "broken.yaml" in words
    expected = 2 if faulty else 1 if words[0] in ("diff", "why") else 0  # two runs that differ
    wrong = stopped.value.code != expected
    assert not wrong, f"{block.place}: {command}\n{output.getvalue()}"
    return output.getvalue()


def check_installation(program: str, words: Sequence[str], place: str) -> None:
    """What sets up a machine is not run here (`.ci/run` does); what it names must be there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras, development = project["optional-dependencies"], " ".join(project["optional-dependencies"]["dev"])
    match program, *words:
        case "pip", "install", *rest:
            named = [extra for word in rest for extra in re.findall(r"\[(\w+)\]", word)]
            assert set(named) <= extras.keys(), f"{place}: no extra {named}"
        case "pytest", *rest:
            assert rest == ["-n", "auto"] or all((ROOT / path).exists() for path in rest), f"{place}: {rest}"
        case "mkdocs", ("build" | "serve"), *_:
            assert (ROOT / "mkdocs.yml").is_file()
        case "python3", "-m", "venv", _:
            pass
        case ".", activate:
            assert activate.endswith("/bin/activate"), f"{place}: {activate}"
        case "pre-commit", "install":
            assert "pre-commit" in development
            assert (ROOT / ".pre-commit-config.yaml").is_file()
        case "python", script, *rest:  # takes minutes, or hours
            found = subprocess.run(
                [sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True
            )
            assert all(word in found.stdout for word in rest if word.startswith("-")), f"{place}: {rest}"
        case "pyhf", *_:
            assert any(requirement.startswith("pyhf") for requirement in project["dependencies"])
        case _:
            pytest.fail(f"{place}: nothing is known of the command {program!r}")


def compare(shown: Sequence[str], printed: str, where: str) -> None:
    """Each line of the page must be printed, in this order; numbers to 0.1 %, and `...` stands for anything."""
    lines = iter(printed.splitlines())
    for wanted in shown:
        if wanted.strip() != "...":
            assert any(same(wanted, line) for line in lines), (
                f"{where}\nthe page shows  {wanted}\nbut printed was\n{printed}"
            )


def same(wanted: str, found: str) -> bool:
    """Whether two lines agree but for blanks, the last digits of numbers, and what `...` stands for within a line."""
    if "..." in wanted.strip():
        pattern = r"\s+".join(re.escape(word) for word in wanted.split()).replace(re.escape("..."), ".*")
        return re.fullmatch(rf"\s*{pattern}\s*", found) is not None
    words, numbers = zip(
        *((_NUMBER.sub("#", text).split(), _NUMBER.findall(text)) for text in (wanted, found)), strict=True
    )
    if words[0] != words[1] or len(numbers[0]) != len(numbers[1]):
        return False
    return all(float(a) == pytest.approx(float(b), rel=1e-3) for a, b in zip(*numbers, strict=True))


@pytest.mark.parametrize(
    ("wanted", "found", "agree"),
    [
        ("  a  0.5000 b", "a 0.50001 b", True),
        ("a 0.50", "a 0.51", False),
        ("a 0.50", "a 0.50 0.50", False),
        ("a b", "a c", False),
        ("m_a_1p27", "m_a_1p27", True),
    ],
)
def test_lines_are_compared(wanted: str, found: str, agree: bool) -> None:
    """Invariant: catches a comparison that lets everything pass, or nothing."""
    assert same(wanted, found) == agree


# ---------------------------------------------------------------------------------------------------- python and specs


def run_python(block: Block) -> None:
    """Run it as a program; what it prints is not looked at."""
    program = Path("from_the_page.py")
    program.write_text(block.text, encoding="utf-8")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(program), run_name="__main__")
    except Exception:  # noqa: BLE001 (an example may fail in any way)
        pytest.fail(f"{block.place}\n{traceback.format_exc()}")


def read_yaml(block: Block, folder: Path) -> None:
    """Read it as the spec it is, or as a part of one. Raises SpecError with what is wrong."""
    assert block.base, f"{block.place}: no comment says what spec this is a part of, `<!-- spec: BASE -->`"
    whole = re.fullmatch(r"in (\S+)", block.base)
    if whole:
        check(folder / whole[1] / "from_the_page.yaml", block.text, block)
        return
    found = re.fullmatch(r"(new [^\s,]+|[^\s,]+)(?:, (each line|in place))?(?: at (\S+))?", block.base)
    assert found, f"{block.place}: not understood: spec: {block.base}"
    base, how, place = found.groups()
    path = folder / base
    if base.startswith("new "):
        path = folder / "specs" / "started" / f"{base.removeprefix('new ')}.yaml"
        if not path.exists():
            write_archetype(path.stem, path)
    keys = place.split(".") if place else []
    if how:
        for part in block.text.splitlines() if how == "each line" else [block.text]:
            spec = YAML(typ="safe").load(path)
            functools.reduce(lambda inner, key: inner[key], keys, spec).update(YAML(typ="safe").load(part))
            check(path.with_name("from_the_page.json"), json.dumps(spec), block)
        return
    head = "".join(f"{'  ' * depth}{key}:\n" for depth, key in enumerate(keys))
    body = "".join(f"{'  ' * len(keys)}{line}\n" for line in block.text.splitlines())
    check(path.with_name("from_the_page.yaml"), f"extends: {path.name}\n{head}{body}", block)


def check(path: Path, text: str, block: Block) -> None:
    """Read a spec, an experiment or a variant of one."""
    path.write_text(text, encoding="utf-8")
    try:
        if "experiments" in path.parts:
            load_experiment(path)
        else:
            load_spec(path, overrides=block.changes)
    except ModelBuilderError as error:
        pytest.fail(f"{block.place}\n{text}\n{error}")


def test_every_fence_is_a_block() -> None:
    """Catches a fence that the pattern above does not see, whose block nobody would test."""
    for page in PAGES:
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert len(fences) == 2 * len(list(blocks_of(page))), page.name


# --------------------------------------------------------------------------------------------------------------- links


def slugs_of(page: Path) -> set[str]:
    """The anchors of a page as GitHub makes them from its headings; those of what the site puts in are left to it."""
    source = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", source, flags=re.MULTILINE)
    plain = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_anchors_are_headings(page: Path) -> None:
    """Catches a link to a heading that was renamed. That the pages themselves exist is looked at elsewhere."""
    for target, anchor in re.findall(r"\]\(([^()\s#]*)#([^()\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        assert anchor in slugs_of((page.parent / target).resolve() if target else page), (
            f"{page.name}: {target}#{anchor}"
        )
