"""Combinations in the language: searches by name, their grids, their data, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelbuilder.errors import SpecError
from modelbuilder.spec.check_file import check_file
from modelbuilder.spec.combination import shared_systematics
from modelbuilder.spec.emit import to_yaml
from modelbuilder.spec.load import LoadedCombination, LoadedSearch, load_combination, load_search, load_spec
from modelbuilder.spec.search import PseudoData
from modelbuilder.spec.summary import grid_lines, summary_lines

from .conftest import ALP

PATH = Path("specs/belle2/both.yaml")
TEXT = """schema: combination/1
name: both
title: two searches
searches:
  tight: alp_gammagamma_2018.yaml
  loose:
    extends: alp_gammagamma_2018.yaml
    luminosity: {value: 10 fb^-1, source: assumption}
    grid: {m_a: {segments: [{from: 2 GeV, to: 9 GeV, step: 1 GeV, source: assumption}], gaps: [{low: 3.5 GeV, high: 4.5 GeV, source: assumption}]}}
parameter: g_agammagamma_per_gev
grid: {m_a: {segments: [{values: [1 GeV, 2 GeV, 4 GeV, 9 GeV, 9.6 GeV], source: assumption}]}}
separate: [selection_efficiency]
statistics: {methods: [cls], confidence_level: 95 %, source: assumption}
data: {kind: pseudo, seed: 7}
"""
Write = Callable[..., None]


@pytest.fixture
def write(specs: Path) -> Write:
    """Writes the combination beside the copied search, with replacements."""

    def combination(*edits: tuple[str, str]) -> None:
        text = TEXT
        for old, new in edits:
            assert old in text
            text = text.replace(old, new, 1)
        PATH.write_text(text, encoding="utf-8")

    combination()
    return combination


def problems() -> list[str]:
    return [str(problem).replace(str(PATH), "C").replace(ALP, "A") for problem in check_file(PATH).problems]


def test_a_search_takes_part_where_it_has_a_grid(write: Write) -> None:
    """By hand: catches a search that is asked outside of its range or within its gap, and points without any search."""
    found = load_combination(PATH)
    part = {point.mass: list(found.searches_at(point)) for point in found.points}
    assert part == {1.0: ["tight"], 2.0: ["tight", "loose"], 4.0: ["tight"], 9.0: ["tight", "loose"], 9.6: ["tight"]}
    assert {point.channel for point in found.points} == {"all"}
    own = found.searches_at(found.points[3])["loose"]
    assert (own.name, own.values, own.channel) == ("m_a_9p0000", {"m_a": 9.0}, "recoil")
    assert [point.index for point in found.points] == [0, 1, 2, 3, 4]
    assert grid_lines(found)[1] == "    1  m_a_2p0000           2.0000 GeV  tight diphoton, loose diphoton"


def test_masses_without_a_search_are_a_gap(write: Write) -> None:
    """Catches a point that nothing is known of, and a line in a figure across it."""
    write(
        ("tight: alp_gammagamma_2018.yaml", "tight: {extends: alp_gammagamma_2018.yaml, grid: {m_a: {segments: [{values: [0.5 GeV, 1 GeV, 1.5 GeV], source: assumption}]}}}"),
    )  # fmt: skip
    found = load_combination(PATH)
    assert [point.mass for point in found.points] == [1.0, 2.0, 9.0]
    assert found.grid.gaps == ((2.0, 9.0),)  # 4 GeV is a gap of one and outside of the other
    write(("values: [1 GeV, 2 GeV, 4 GeV, 9 GeV, 9.6 GeV]", "values: [0.1 GeV, 9.9 GeV]"))
    assert problems() == ["C:11:8: grid.m_a: no search has a grid where this one has points, 0.1 to 9.9 GeV"]


def test_steps_in_resolutions_are_those_of_the_first_search_there(write: Write) -> None:
    """Reference: catches steps of another search; alone the first one has the same points in this range."""
    steps = "{from: 2 GeV, to: 3 GeV, step: 2 resolution, source: assumption}"
    values = "{values: [1 GeV, 2 GeV, 4 GeV, 9 GeV, 9.6 GeV], source: assumption}"
    write((values, steps))
    found = load_combination(PATH)
    alone = load_search(ALP, overrides=[f"grid.m_a.segments=[{steps}]"])
    assert [point.mass for point in found.points] == [point.mass for point in alone.points]
    write((values, "{from: 9 GeV, to: 10.2 GeV, step: 2 resolution, source: assumption}"))  # further than all grids
    beyond = load_combination(PATH).points[-1].mass
    assert 9.6 < beyond <= load_search(ALP).points[-1].mass


def test_each_search_has_data_of_its_own(write: Write) -> None:
    """Catches searches that share their pseudo-data, or that keep those of their own file."""
    found = load_combination(PATH)
    assert [search.spec.data for search in found.searches.values()] == [
        PseudoData(kind="pseudo", seed=7),
        PseudoData(kind="pseudo", seed=8),
    ]
    asimov = load_combination(PATH, overrides=["data={kind: asimov}"])
    assert {search.spec.data.kind for search in asimov.searches.values()} == {"asimov"}


def test_a_search_is_that_of_its_file(write: Write) -> None:
    """Catches a search that changes on its way into a combination, but for its data."""
    found = load_combination(PATH)
    alone = load_search(ALP)
    assert found.searches["tight"].spec == alone.spec.model_copy(update={"data": found.searches["tight"].spec.data})
    assert found.searches["tight"].points == alone.points
    assert found.searches["loose"].spec.luminosity.value == 10.0
    assert found.searches["loose"].spec.backgrounds == alone.spec.backgrounds


def test_what_belongs_to_the_digest(write: Write) -> None:
    """Catches a change in a search, or in the experiment of one, that resumes a run of the other."""
    before = load_combination(PATH).digest
    changes = [
        "searches.loose.luminosity.value=11 fb^-1",
        "searches.tight.signal.events=1000",
        "searches.tight.experiment.photons.minimum_energy=40 MeV",
        "separate=[]",
        "data.seed=8",
    ]
    digests = [load_combination(PATH, overrides=[change]).digest for change in changes]
    assert len({before, *digests}) == 6
    resolved = Path("specs/resolved.yaml")
    resolved.write_text(to_yaml(load_combination(PATH).tree), encoding="utf-8")
    again = load_combination(resolved)
    assert again.digest == before
    assert again.points == load_combination(PATH).points


def test_a_value_of_one_search_changes(write: Write) -> None:
    """Catches an override that changes both searches, or none; and one without its source."""
    found = load_combination(PATH, overrides=["searches.tight.experiment.photons.minimum_energy=40 MeV"])
    energies = [search.spec.experiment.photons.minimum_energy for search in found.searches.values()]
    assert energies == [0.04, load_search(ALP).spec.experiment.photons.minimum_energy]


def test_a_variant_of_a_combination(write: Write) -> None:
    """Catches a search of the base that is lost, and changes to one that replace it."""
    Path("specs/belle2/v.yaml").write_text(
        "extends: both.yaml\nname: v\nsearches:\n  tight: {luminosity: {value: 1 fb^-1, source: assumption}}\n"
        "  loose: null\nseparate: []\n",
        encoding="utf-8",
    )
    found = load_combination("specs/belle2/v.yaml")
    assert list(found.searches) == ["tight"]
    assert found.searches["tight"].spec.luminosity.value == 1.0
    assert found.spec.title == "two searches"


def test_the_kind_of_a_file(write: Write) -> None:
    """Catches a combination that is taken for a search, and the reverse."""
    assert isinstance(load_spec(PATH), LoadedCombination)
    assert isinstance(load_spec(ALP), LoadedSearch)
    with pytest.raises(SpecError, match="schema: found 'combination/1'; expected 'search/1'"):
        load_search(PATH)
    with pytest.raises(SpecError, match="schema: found 'search/1'; expected 'combination/1'"):
        load_combination(ALP)
    assert check_file(PATH).summary.startswith("5 grid points, searches tight, loose, inputs: ")


def test_what_is_shared(write: Write) -> None:
    """By hand: catches a parameter that is shared against what the spec says, and the spurious signal of a polynomial."""
    found = load_combination(PATH)
    both = ["tight", "loose"]
    shared = dict.fromkeys(("lumi_belle2", "photon_energy_resolution", "photon_energy_scale", "peaking_rate"), both)
    assert shared_systematics(found.spec) == shared
    lines = summary_lines(found)
    assert "shared       lumi_belle2: tight, loose" in lines
    assert "coupling     g_agammagamma_per_gev: alp-photon" in lines
    assert sum(line.startswith("search ") for line in lines) == 2


REFUSED = {
    "a path that leads nowhere": (
        ("tight: alp_gammagamma_2018.yaml", "tight: alp.yaml"),
        "C:5:10: searches.tight: found 'alp.yaml': no such file; it is looked up from HERE/specs/belle2",
    ),
    "something else": (
        ("tight: alp_gammagamma_2018.yaml", "tight: ../experiments/belle2.yaml"),
        "E:3:1: searches.tight.schema: found 'experiment/1'; expected 'search/1'",
    ),
    "a fault in a variant": (("value: 10 fb^-1", "value: 10 GeV"), "C:8:18: searches.loose.luminosity.value: found '10 GeV': 'GeV' is not the unit of an integrated luminosity; expected for example '445 pb^-1'"),
    "an unknown key in a variant": (("luminosity: {value: 10", "luminosty: {value: 10"), "C:8:5: searches.loose.luminosty: unknown key 'luminosty'; did you mean 'luminosity'?"),
    "a number without its source": ((", source: assumption}\n    grid", "}\n    grid"), "C:8:18: searches.loose.luminosity.value: the number changes, but its source would stay 'read: arXiv:2007.13071, abstract (445 +- 3 pb^-1)'; give `source:` beside it"),
    "an unknown parameter": (("parameter: g_agammagamma_per_gev", "parameter: g_agg"), "C:10:1: parameter: found 'g_agg', which tight does not interpret its limit in; known: g_agammagamma_per_gev"),
    "another mass": (("grid: {m_a: {segments: [{values", "grid: {m_b: {segments: [{values"), "A:23:1: searches.tight.grid: it scans m_a, the combination m_b; all searches scan the same mass"),
    "an unknown systematic": (("separate: [selection_efficiency]", "separate: [efficiency]"), "C:12:12: separate[0]: found 'efficiency', which no search has; did you mean 'selection_efficiency'?"),
    "names that begin alike": (("  loose:\n", "  tight_2:\n"), "C:6:3: searches.tight_2: 'tight_' is how the parameters of tight begin; choose another name"),
    "no search": (("searches:\n  tight: alp_gammagamma_2018.yaml\n", "searches: {}\nnotes:\n"), "C:4:1: searches: found 0 items; expected at least 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, write: Write) -> None:
    """Catches a message or a place that changes, and a fault in a search that is not found within a combination."""
    edit, expected = REFUSED[case]
    write(edit)
    found = [line.replace("specs/experiments/belle2.yaml", "E").replace(str(Path.cwd()), "HERE") for line in problems()]
    assert expected in found


def test_systematics_that_cannot_be_shared(write: Write) -> None:
    """Catches a luminosity that is one parameter with an efficiency, and a name that another parameter has already."""
    extra = "    systematics: {%s: {kind: rate, size: 1 %%, on: [signal], source: assumption}}\nparameter"
    for name, place, reason in (
        ("lumi", "C:10:19", "it is a luminosity in one search and something else in another (tight, loose); rename one"),
        ("lumi_belle2", "C:10:19", "'lumi_belle2' is the name of the luminosity of an experiment in a combination; rename it"),
        ("tight_selection_efficiency", "C:10:19", "'tight_selection_efficiency' is the name of a parameter that only tight has; rename it, or the search"),
        ("tight_three_photon_rate", "C:10:19", "'tight_three_photon_rate' is the name of a parameter that only tight has; rename it, or the search"),
    ):  # fmt: skip
        write(("parameter", extra % name))
        assert f"{place}: searches.loose.systematics.{name}: {reason}" in problems()
    write(("parameter", extra % "tight_size"))  # begins like those of the other search, and is none of them
    assert problems() == []
    write(("separate: [selection_efficiency]", "separate: [x]"), ("parameter", extra % "x"))
    assert problems() == ["C:13:12: separate[0]: only loose has 'x', so nothing shares it; remove it"]


def test_a_coupling_that_is_no_power(write: Write) -> None:
    """Catches a signal whose size does not follow one coupling in the same way everywhere."""
    model = "interpretations: {g_agammagamma_per_gev: {model: alp-photon-escaping, length: 3 m, source: assumption}}"
    write(("    luminosity:", f"    {model}\n    luminosity:"))
    (problem,) = problems()
    assert problem == (
        "C:8:23: searches.loose.interpretations.g_agammagamma_per_gev: with the model alp-photon-escaping the signal is no "
        "power of the coupling, so that one signal strength cannot stand for it in several searches"
    )
    write(
        (
            "    luminosity:",
            "    interpretations: {g_agammagamma_per_gev: null, y: {model: alp-photon}}\n    luminosity:",
        )
    )
    assert any("searches.loose.interpretations.y: the coupling of alp-photon" in problem for problem in problems())
