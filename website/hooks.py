"""What `mkdocs build` does beside rendering the pages of `docs/`.

* README, CONTRIBUTING and CHANGELOG become pages, and specs and schemas files of the site, so that links between them
  lead somewhere on GitHub and in the site alike; in the pages they are written as on GitHub.
* `<!-- generated: NAME -->` is replaced by what is generated here: the reference of a spec file, or of the command line.
* Formulas between dollars become MathML, which browsers draw without a script.
"""

from __future__ import annotations

import html
import json
import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # mkdocs loads this file by its path, not as a part of the package `website`

from website.commands import commands
from website.reference import PAGES, reference

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

AT_THE_TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages that do not lie in `docs/`, and what they are called in the site."""
FOLDERS = ("specs", "schemas")
_LINK = re.compile(r"(\]\()([^()\s#]+)((?:#[^()\s]*)?\))")
_GENERATED = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside of `docs/`."""
    for source, name in AT_THE_TOP.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")))
    for path in (*(path for path in paths if path.is_file()), ROOT / "LICENSE"):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what is generated, and turn links of the repository into links of the site."""
    markdown = _GENERATED.sub(lambda found: generated(found[1]), markdown)
    return with_links_of_the_site(markdown, page.file.src_uri)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML."""
    return _FORMULA.sub(_as_mathml, html)


def generated(name: str) -> str:
    """The text for a marker. Raises KeyError for one that is not known."""
    if name == "commands":
        return commands()
    texts = {page: (ROOT / "schemas" / f"{page}.schema.json").read_text(encoding="utf-8") for page in PAGES}
    return reference({page: json.loads(text) for page, text in texts.items()})[name]


def with_links_of_the_site(markdown: str, uri: str) -> str:
    """The same with every relative link as the site has it. uri: of the page in the site."""
    sources = {name: source for source, name in AT_THE_TOP.items()}
    own = sources.get(uri, f"docs/{uri}")

    def of_the_site(found: re.Match[str]) -> str:
        before, target, after = found.groups()
        if re.match(r"[a-z]+:", target):
            return found[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(own), target))
        name = AT_THE_TOP.get(place, place.removeprefix("docs/"))
        return f"{before}{posixpath.relpath(name, posixpath.dirname(uri) or '.')}{after}"

    return _LINK.sub(of_the_site, markdown)


def _as_mathml(found: re.Match[str]) -> str:
    element, bracket, formula = found.groups()
    display: Any = "inline" if bracket == "(" else "block"
    return f"<{element}>{convert(html.unescape(formula), display=display)}</{element}>"
