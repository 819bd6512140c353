"""What `validate` and `show` say about a sound spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelbuilder.spec.check_file import check_file
from modelbuilder.spec.load import load_search
from modelbuilder.spec.summary import count_sources, counted_sources, grid_lines, summary_lines
from modelbuilder.spec.tree import plain, walk

OURS = sorted((Path(__file__).parents[2] / "specs").rglob("*.yaml"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_our_specs_are_sound(path: Path) -> None:
    """Invariant: catches a spec of ours that the language has left behind, or that was left half edited."""
    checked = check_file(path)
    assert [str(problem) for problem in checked.problems] == []
    assert checked.summary


def test_check_file_of_a_search(specs: Path) -> None:
    """Catches a summary that counts something else than the grid and the sources of this search."""
    search = load_search(specs)
    checked = check_file(specs)
    assert checked.problems == ()
    assert checked.summary == (
        f"{len(search.points)} grid points, channels diphoton, recoil, inputs: {counted_sources(search)}"
    )


def test_check_file_knows_experiments(specs: Path) -> None:
    """Catches an experiment, or a variant of one that leaves `schema` to its base, that is checked as a search."""
    assert check_file(Path("specs/experiments/belle2.yaml")).summary == "the experiment Belle II"
    Path("specs/v.yaml").write_text("extends: experiments/belle2.yaml\ntitle: Belle III\n", encoding="utf-8")
    assert check_file(Path("specs/v.yaml")).summary == "the experiment Belle III"
    Path("specs/w.yaml").write_text("extends: experiments/belle2.yaml\ntitle: 5\n", encoding="utf-8")
    assert [str(p) for p in check_file(Path("specs/w.yaml")).problems] == [
        "specs/w.yaml:2:1: title: found 5; expected text"
    ]


@pytest.mark.parametrize("schema", ["schema: nonsense/1\n", "", "schema: [1]\n"])
def test_check_file_of_an_unknown_kind(specs: Path, schema: str) -> None:
    """Catches a kind that is not known being passed, or causing a traceback: it is checked as a search."""
    specs.write_text(specs.read_text(encoding="utf-8").replace("schema: search/1\n", schema), encoding="utf-8")
    (problem,) = check_file(specs).problems
    assert problem.path == "schema"


def test_summary_lines(specs: Path) -> None:
    """Golden: catches a value that is shown in another unit than it says, and a part of the search that is left out."""
    search = load_search(specs)
    lines = summary_lines(search)
    assert lines[:8] == [
        "belle2-alp-gammagamma-2018: e+ e- -> gamma a, a -> gamma gamma",
        "papers       arXiv:2007.13071",
        "experiment   Belle II, sqrt(s) = 10.5796 GeV",
        "luminosity   0.445 fb^-1 +- 0.67 %",
        "signal       e+ e- -> gamma a, a -> gamma gamma; 200000 events per point",
        "limit on     cross section times branching fraction, at lowest order",
        "coupling     g_agammagamma_per_gev: alp-photon",
        f"grid         {len(search.points)} points, 0.2 to {search.points[-1].mass:g} GeV",
    ]
    text = "\n".join(lines)
    for line in (
        "cut          theta(gamma) between 37.3 deg and 123.7 deg\n",
        "cut          energy(gamma) above 0.65 GeV where m_a > 4 GeV\n",
        "cut          mass(gamma gamma gamma) / sqrt_s between 0.88 and 1.03\n",
        "statistics   profile-likelihood, cls, 95 % CL\n",
        "data         pseudo-data, seed 2018 (there is no public event sample)\n",
    ):
        assert line in text
    spec = search.spec
    for kind, names in (("background", spec.backgrounds), ("systematic", spec.systematics), ("channel", spec.channels)):
        shown = [line.split()[1].rstrip(":") for line in lines if line.startswith(kind)]
        assert shown == list(names)
    assert lines[-1] == f"digest       {search.digest}"


def test_grid_lines(specs: Path) -> None:
    """Golden: catches columns that do not line up, and a point that is not listed."""
    search = load_search(specs, overrides=["grid.m_a.segments=[{values: [0.2 GeV, 9.7 GeV], source: assumption}]"])
    assert grid_lines(search) == [
        "    0  m_a_0p2000           0.2000 GeV  diphoton",
        "    1  m_a_9p7000           9.7000 GeV  recoil",
    ]


def test_sources_are_counted_over_all_files(specs: Path) -> None:
    """Reference (a count of the resolved tree): catches sources of the experiment file that are not counted."""
    search = load_search(specs)
    sources = [str(plain(node)) for path, node in walk(search.tree) if path and path[-1] == "source"]
    assert sum(count_sources(search).values()) == len(sources) > 30
    assert count_sources(search)["assumption"] == sum(source.startswith("assumption") for source in sources)
