"""What changed: exactly that, and nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from modelbuilder.errors import InputFileError, UserError
from modelbuilder.regression.diff import aggregated, diff, spec_changes, spec_leaves, workspace_changes
from modelbuilder.spec.load import load_search, resolve

SPECS = Path(__file__).parents[2] / "specs"
ALP = SPECS / "belle2" / "alp_gammagamma_2018.yaml"


def workspace() -> dict[str, Any]:
    """Two samples with one uncertainty of each kind."""
    return {
        "version": "1.0.0",
        "channels": [
            {
                "name": "c",
                "samples": [
                    {
                        "name": "signal",
                        "data": [1.0, 3.0],
                        "modifiers": [
                            {"name": "mu", "type": "normfactor", "data": None},
                            {"name": "eff", "type": "normsys", "data": {"hi": 1.08, "lo": 0.92}},
                        ],
                    },
                    {
                        "name": "b",
                        "data": [50.0, 50.0],
                        "modifiers": [
                            {"name": "shape", "type": "histosys",
                             "data": {"hi_data": [55.0, 45.0], "lo_data": [45.0, 55.0]}},
                            {"name": "mc", "type": "staterror", "data": [3.0, 4.0]},
                        ],
                    },
                ],
            }
        ],
        "observations": [{"name": "c", "data": [52.0, 48.0]}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
    }  # fmt: skip


def lines_of(before: Any, after: Any) -> list[str]:
    return [change.line() for change in workspace_changes(before, after)]


def test_equal_workspaces_have_no_changes() -> None:
    """Catches differences that are made up, such as that of a list to its copy."""
    assert lines_of(workspace(), workspace()) == []


def test_each_change_of_a_workspace_is_one_line() -> None:
    """Hand-made: catches an uncertainty that hides behind another, or a change that is told twice."""
    changed = workspace()
    changed["channels"][0]["samples"][0]["modifiers"][1]["data"]["hi"] = 1.09
    assert lines_of(workspace(), changed) == ["eff on c/signal, up: 0.08 -> 0.09 (+12.5 %)"]

    changed = workspace()
    changed["channels"][0]["samples"][1]["modifiers"][0]["data"]["hi_data"] = [60.0, 40.0]
    assert lines_of(workspace(), changed) == ["shape on c/b, up: 0.1 -> 0.2 (+100 %)"]

    changed = workspace()
    changed["channels"][0]["samples"][1]["modifiers"][1]["data"] = [6.0, 8.0]
    assert lines_of(workspace(), changed) == ["mc on c/b: 0.05 -> 0.1 (+100 %)"]

    changed = workspace()
    changed["observations"][0]["data"] = [48.0, 52.0]
    assert lines_of(workspace(), changed) == ["c, mean bin: 1.48 -> 1.52 (+2.7 %)"]

    changed = workspace()
    del changed["channels"][0]["samples"][0]["modifiers"][1]
    assert lines_of(workspace(), changed) == [
        "eff: gone; it was normsys",
        "eff on c/signal, up: gone; it was 0.08",
        "eff on c/signal, down: gone; it was -0.08",
    ]


def test_settings_of_a_parameter_are_compared_as_numbers() -> None:
    """Hand-made: catches bounds in which the last bit of a product of floats counts as a change, and one that does not."""

    def with_bounds(*bounds: float) -> dict[str, Any]:
        found = workspace()
        entry = {"name": "mu", "inits": [1.0], "bounds": [[*bounds]]}
        found["measurements"][0]["config"]["parameters"] = [entry]
        return found

    assert lines_of(with_bounds(0.0, 30.0), with_bounds(0.0, 30.000000000000004)) == []
    assert lines_of(with_bounds(0.0, 30.0), with_bounds(0.0, 33.0)) == ["upper bound of mu: 30 -> 33 (+10 %)"]
    assert lines_of(with_bounds(0.0, 30.0), with_bounds(-1.0, 30.0)) == ["lower bound of mu: 0 -> -1"]


def test_a_yield_that_moves_between_bins_is_seen() -> None:
    """Catches a comparison of sums only: the same number of events elsewhere is another signal."""
    changed = workspace()
    changed["channels"][0]["samples"][0]["data"] = [3.0, 1.0]
    assert lines_of(workspace(), changed) == ["c/signal, mean bin: 1.75 -> 1.25 (-28.6 %)"]


def test_changes_of_many_points_are_told_once() -> None:
    """Hand-made: catches a list of thousand lines, and the wrong point as the one that changed most."""
    two, three = workspace(), workspace()
    two["channels"][0]["samples"][0]["data"] = [1.1, 3.3]
    three["channels"][0]["samples"][0]["data"] = [1.2, 3.6]
    (found,) = aggregated([("p1", workspace_changes(workspace(), two)), ("p2", workspace_changes(workspace(), three))])
    assert found.line() == "c/signal [events]: 4 -> 4.8 (+20 %) at p2; 2 points in all, from +10 % on"


def test_one_changed_systematic_is_all_that_differs() -> None:
    """Catches values that move along: one size of one systematic is changed by a variant, and its source with it."""
    before = load_search(ALP)
    after = load_search(
        ALP, overrides=["systematics.lumi.kind=luminosity", "systematics.photon_energy_scale.size=0.3 %"]
    )
    found = list(spec_changes(spec_leaves(before.tree), spec_leaves(after.tree)))
    assert [change.line() for change in found] == [
        "systematics.photon_energy_scale.size: 0.2 % -> 0.3 % (+50 %)",
        "systematics.photon_energy_scale.source: assumption -> assumption: --set systematics.photon_energy_scale.size=0.3 %",
    ]  # fmt: skip


def test_the_same_number_in_another_unit_is_no_change(tmp_path: Path) -> None:
    """Catches a comparison of texts: 445 pb^-1 are 0.445 fb^-1, and 12 % are 0.12."""
    one = spec_leaves(resolve(ALP)[0])
    two = dict(one)
    assert two["luminosity.value"] == "445 pb^-1"
    two["luminosity.value"] = "0.445 fb^-1"
    two["luminosity.uncertainty"] = "0.0067"
    assert list(spec_changes(one, two)) == []
    two["luminosity.value"] = "0.890 fb^-1"
    (change,) = spec_changes(one, two)
    assert change.relative == pytest.approx(1.0)


def test_parts_that_come_and_go_are_one_change() -> None:
    """Catches a background that goes with a line for each of its values."""
    one = spec_leaves(resolve(ALP)[0])
    two = {path: value for path, value in one.items() if not path.startswith("backgrounds.eta.")}
    (gone,) = spec_changes(one, two)
    assert gone.what == "backgrounds.eta"
    assert gone.line().startswith("backgrounds.eta: gone; it was ")
    (new,) = spec_changes(two, one)
    assert new.line().startswith("backgrounds.eta: new: ")


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    """Reads the messages: a workspace against a spec, a folder that is nothing, a file that is not there."""
    file = tmp_path / "w.json"
    file.write_text(json.dumps(workspace()))
    with pytest.raises(UserError, match=r"is a workspace and .* a spec; give two of one kind"):
        diff(file, ALP)
    with pytest.raises(InputFileError, match=r"neither a run \(run.json\) nor a bundle \(submission.yaml\)"):
        diff(tmp_path, ALP)
    with pytest.raises(InputFileError, match="no such file"):
        diff(tmp_path / "none.yaml", ALP)
    same = tmp_path / "v.json"
    same.write_text(json.dumps(copy.deepcopy(workspace())))
    assert list(diff(file, same).lines()) == ["equal: two workspaces that say the same"]
