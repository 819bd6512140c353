"""The site of the pages: its reference of the spec has every key, and its links are those of GitHub."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

import modelbuilder
import modelbuilder.inference

ROOT = Path(__file__).resolve().parents[2]


def loaded(name: str) -> ModuleType:
    """A module of the site, which is no part of the package."""
    spec = importlib.util.spec_from_file_location(f"website_{name}", ROOT / "website" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    return {
        name: json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
        for name in ("experiment", "search", "combination")
    }


@pytest.fixture(scope="module")
def pages(schemas: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = loaded("reference").reference(schemas)
    return found


def cells(page: str) -> list[list[str]]:
    """Of all tables; a bar that is escaped is no border."""
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_key_is_there_once(schemas: dict[str, Any], pages: dict[str, str]) -> None:
    """Catches a part that no page has, or two have, and a key that is left out. Variants have the keys of what they vary."""
    whole = "\n".join(pages.values())
    headings = re.findall(r"^## (\w+)$", whole, flags=re.MULTILINE)
    assert len(headings) == len(set(headings))
    parts: dict[str, Any] = {}
    for schema in schemas.values():
        parts = {n: d for n, d in schema["definitions"].items() if not n.endswith(("Variant", "Changes"))} | parts
    assert set(headings) == parts.keys()
    keys = sorted(key for part in parts.values() for key in part.get("properties", ()))
    assert sorted(row[0].strip("`") for row in cells(whole)) == keys
    required = sum(len(part.get("required", ())) for part in parts.values())
    assert sum(row[2] == "required" for row in cells(whole)) == required


def test_every_key_says_what_it_is(pages: dict[str, str]) -> None:
    """Catches a key with neither a meaning of its own nor a part that has one, and a type that nobody could tell."""
    for page in pages.values():
        for key, kind, _, meaning in cells(page):
            assert kind, key
            assert meaning or "](" in kind or "such as" in kind, key


def test_defaults_are_those_of_the_models(pages: dict[str, str]) -> None:
    """By hand: a number, a word, a key that must be there, and one without a default. Catches defaults of another key."""

    def default(page: str, part: str, key: str) -> str:
        section = re.split(rf"^## {part}$", pages[page], flags=re.MULTILINE)[1].split("\n## ")[0]
        (row,) = (row for row in cells(section) if row[0] == f"`{key}`")
        return row[2]

    assert default("search", "SearchSpec", "seed") == "`1`"
    assert default("search", "SearchSpec", "title") == "required"
    assert default("search", "SearchSpec", "final_state") == ""
    assert default("search", "TableForm", "interpolation") == "`linear`"


def test_links_of_the_reference_lead_to_parts(pages: dict[str, str]) -> None:
    """Catches a type that is linked on the wrong page."""
    anchors = {
        name: {h.lower() for h in re.findall(r"^## (\w+)$", page, flags=re.MULTILINE)} for name, page in pages.items()
    }
    for name, page in pages.items():
        for target, anchor in re.findall(r"\]\((\w*)(?:\.md)?#(\w+)\)", page):
            assert anchor in anchors[target or name], (name, target, anchor)


def test_every_page_is_in_the_site() -> None:
    """Catches a page that nobody can reach, and a title that leads nowhere."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    plain = YAML(typ="safe").load(re.sub(r"!!python/\S+ \{.*?\}\}", "x", text).replace("x}", "x}"))

    def targets(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [target for value in (entry.values() if isinstance(entry, dict) else entry) for target in targets(value)]

    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(targets(plain["nav"])) == pages | {"index.md", "contributing.md", "changelog.md"}


def test_python_names_are_in_the_reference() -> None:
    """Catches a public name that is not explained."""
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    named = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)$", text, flags=re.MULTILINE)}
    assert set(modelbuilder.__all__) - named == {"__version__"}
    assert set(modelbuilder.inference.__all__) - named == {"Likelihood", "LimitMethod"}  # types only


@pytest.mark.parametrize(
    ("uri", "link", "expected"),
    [
        ("index.md", "docs/spec.md#two-masses", "spec.md#two-masses"),
        ("index.md", "CONTRIBUTING.md", "contributing.md"),
        ("spec.md", "models.md", "models.md"),
        ("searches.md", "../specs/belle2/alp_invisible.yaml", "specs/belle2/alp_invisible.yaml"),
        ("howto/peak.md", "../statistics.md", "../statistics.md"),
        ("reference/search.md", "../../schemas/search.schema.json", "../schemas/search.schema.json"),
        ("reference/api.md", "../../README.md", "../index.md"),
        ("howto/peak.md", "https://a.b/c", "https://a.b/c"),
    ],
)
def test_links_of_the_site(uri: str, link: str, expected: str) -> None:
    """Catches a link that holds on GitHub and not in the site."""
    pytest.importorskip("mkdocs", reason="the site is built with the extra `docs`")
    pytest.importorskip("latex2mathml", reason="the site is built with the extra `docs`")
    hooks = loaded("hooks")
    assert hooks.with_links_of_the_site(f"a [b]({link}) c", uri) == f"a [b]({expected}) c"


def test_formulas_are_mathml() -> None:
    """Catches a formula that is shown as its source, and one with letters that are markup."""
    pytest.importorskip("mkdocs", reason="the site is built with the extra `docs`")
    pytest.importorskip("latex2mathml", reason="the site is built with the extra `docs`")
    text = loaded("hooks").on_page_content(r'<p><span class="arithmatex">\(a &lt; b\)</span></p>', None, None, None)
    assert text.startswith("<p><span><math")
    assert "<mi>a</mi><mo>&#x0003C;</mo><mi>b</mi>" in text
