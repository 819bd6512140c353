"""Why a point would be simulated again: exactly what was changed, part by part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelbuilder.errors import InputFileError
from modelbuilder.regression.plan import make_plan
from modelbuilder.regression.why import Why, find_why
from modelbuilder.scan.run import run_search
from modelbuilder.scan.store import RUN
from modelbuilder.spec.load import load_search

SIMULATED = """\
  others:
    title: others
    process: e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ gamma gamma
    events: 2000
    cross_section: {value: 1 fb, source: assumption}
    efficiency: {value: 0.5, source: assumption}
    shape: simulated
    rate: fixed
systematics:
  scale: {kind: shape, vary: photons.energy_scale, size: 1 %, on: [signal], source: assumption}
"""


@pytest.fixture
def spec(small: Path) -> Path:
    """The small search, with a simulated background, a shape systematic, pseudo-data, and its selection in a table."""
    text = small.read_text().replace("systematics:\n", SIMULATED).replace("{kind: asimov}", "{kind: pseudo, seed: 3}")
    text = text.replace("efficiency: {value: 0.5, source: assumption}\ngrid:", EFFICIENCY)
    small.write_text(text)
    (small.parent / "efficiency.csv").write_text("m,e\n1,0.5\n2,0.5\n3,0.5\n")
    return small


EFFICIENCY = """\
efficiency:
    csv: efficiency.csv
    columns: {m_a: m, value: e}
    units: {m_a: GeV, value: ""}
    source: assumption
grid:"""


@pytest.fixture
def run(spec: Path, tmp_path: Path) -> Path:
    run_search(load_search(spec), tmp_path / "run", points=2, jobs=1)
    return tmp_path / "run"


def parts(why: Why) -> dict[str, list[str]]:
    """What is made again, with the paths of the changes."""
    return {part.name: [cause.change.what for cause in part.causes] for part in why.parts if part.again}


def test_nothing_changed(spec: Path, run: Path) -> None:
    """Catches parts that are always made again, and a point that has no result and counts as one that has."""
    why = find_why(load_search(spec), run, "m_a_1p0000")
    assert why.nothing
    assert [part.name for part in why.parts] == ["signal", "others", "data of others", "workspaces", "limits"]
    assert list(why.lines())[-1] == "nothing to do: the point is what the spec asks for"
    assert json.loads(json.dumps(why.as_dict()))["nothing"] is True
    why = find_why(load_search(spec), run, "2")
    assert (why.point, why.has_point, why.finished, why.nothing, parts(why)) == ("m_a_2p0000", True, False, False, {})
    why = find_why(load_search(spec, overrides=("title=another",)), run, "1")
    assert why.nothing


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("systematics.efficiency.size=11 %", []),
        ("luminosity.value=500 fb^-1", ["data of others"]),
        ("systematics.scale.size=2 %", ["signal"]),
        ("backgrounds.others.events=3000", ["others", "data of others"]),
        ("backgrounds.others.cross_section.value=2 fb", ["data of others"]),
        ("signal.events=3000", ["signal"]),
        ("seed=2", ["signal", "others", "data of others"]),
        ("data.seed=4", ["data of others"]),
        ("selection[0].above=5.275 GeV", ["signal", "others", "data of others"]),
        ("experiment.beams.crossing_angle=82 mrad", ["signal", "others", "data of others"]),
    ],
)
def test_one_change_is_the_only_cause(change: str, again: list[str], spec: Path, run: Path) -> None:
    """Each change beside one that no simulation knows. Catches causes that are not, parts that are forgotten, and a plan
    that would not simulate what has changed.
    """
    search = load_search(spec, overrides=(change, "systematics.lumi=null"))
    what = change.partition("=")[0]
    why = find_why(search, run, "1")
    found = parts(why)
    assert {name: causes for name, causes in found.items() if name not in ("workspaces", "limits")} == {
        name: [what] for name in again
    }
    assert what in found["workspaces"]
    assert what in found["limits"]
    stages = make_plan(search, run).stages
    assert "simulation of the signal" in stages or "signal" not in again
    assert "simulation of backgrounds" in stages or "others" not in again
    assert "data" in stages or "data of others" not in again


def test_where_a_change_stands(spec: Path, run: Path) -> None:
    """Reads the lines of changes in the spec, in the experiment and in a table, and of a systematic that has gone."""
    text = spec.read_text()
    spec.write_text(
        text.replace("size: 10 %", "size: 10.1 %").replace("  scale: {kind: shape", "  scale2: {kind: shape")
    )
    experiment = spec.parent / "belle2.yaml"
    experiment.write_text(experiment.read_text().replace("electron_energy: 7.004 GeV", "electron_energy: 7.005 GeV"))
    table = spec.parent / "efficiency.csv"
    table.write_text(table.read_text().replace("2,0.5", "2,0.6"))
    why = find_why(load_search(spec), run, "1")
    lines = [line for line in why.lines() if line.startswith("changed")]
    line = 1 + text.splitlines().index(next(row for row in text.splitlines() if "size: 10 %" in row))
    expected = [
        f"systematics.efficiency.size: 10 % -> 10.1 % (+1 %)  ({spec}:{line})",
        "experiment.beams.electron_energy: 7.004 GeV -> 7.005 GeV",
        "signal.efficiency.table.value: ",
        "systematics.scale: gone; ",
        "systematics.scale2: new: ",
    ]
    for beginning in expected:
        assert sum(one.startswith(f"changed {beginning}") for one in lines) == 1, (beginning, lines)
    assert len(lines) == len(expected)
    assert any(f"({table}:" in one or f"({spec}:" in one for one in lines if "signal.efficiency" in one)
    assert any(f"({experiment}:" in one for one in lines if "electron_energy" in one)
    causes = parts(why)
    assert causes["others"] == ["experiment.beams.electron_energy"]
    assert "signal.efficiency.table.value" not in causes["signal"], "it multiplies what was simulated"


def test_other_versions_and_points(spec: Path, run: Path) -> None:
    """Catches another numpy that asks for nothing, and reads what is said of points that are not there."""
    about = json.loads((run / RUN).read_text())
    about["versions"]["numpy"] = "1.0"
    (run / RUN).write_text(json.dumps(about))
    why = find_why(load_search(spec), run, "1")
    assert all(part.again and [c.change.what for c in part.causes] == ["numpy"] for part in why.parts)
    more = "grid.m_a.segments=[{values: [1 GeV, 2.5 GeV], source: assumption}]"
    lines = list(find_why(load_search(spec, overrides=(more,)), run, "2.5").lines())
    assert lines == [f"m_a_2p5000, against {run}", "new     the run has no such point"]
    with pytest.raises(InputFileError, match="no grid point is called 'm_b' in small; there is for example m_a_1p0000"):
        find_why(load_search(spec), run, "m_b")
