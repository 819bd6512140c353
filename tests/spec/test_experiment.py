"""Tables of efficiency in the experiment file, in place or from CSV, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from modelbuilder.errors import SpecError
from modelbuilder.kinematics.measure import EfficiencyTable, detector_of
from modelbuilder.spec.check_file import check_file
from modelbuilder.spec.experiment import Experiment, TableEfficiency
from modelbuilder.spec.load import load_experiment

EXPERIMENT = Path("specs/experiments/belle2.yaml")
ONE_NUMBER = '  efficiency:\n    value: 0.98\n    source: "assumption"\n'
CSV = """# efficiency of tracks
p_min, p_max, t_min, t_max, eff, err
0.5, 1, 17, 90, 0.80, 0.01
0.5, 1, 90, 150, 0.70, 0.02
1, 5, 17, 90, 0.90, 0.01
1, 5, 90, 150, 0.85, 0.01
"""
COLUMNS = """  efficiency:
    csv: tracks.csv
    columns: {momentum_low: p_min, momentum_high: p_max, theta_low: t_min, theta_high: t_max, value: eff, uncertainty: err}
    units: {momentum_low: GeV, momentum_high: GeV, theta_low: deg, theta_high: deg, value: "", uncertainty: ""}
    source: assumption
"""
TABLE: dict[str, list[object]] = {
    "transverse_momentum_low": ["0 GeV", "1 GeV"],
    "transverse_momentum_high": ["1 GeV", "9 GeV"],
    "cos_theta_low": [-1, -1],
    "cos_theta_high": [1, 1],
    "value": ["50 %", 0.9],
}

With = Callable[..., Experiment]


@pytest.fixture
def experiment(specs: Path) -> With:
    """A function that reads the copied experiment with another efficiency of tracks, and a table beside it."""

    def with_efficiency(text: str, csv: str = CSV) -> Experiment:
        whole = EXPERIMENT.read_text(encoding="utf-8")
        at = whole.rindex(ONE_NUMBER)
        EXPERIMENT.write_text(whole[:at] + text + whole[at + len(ONE_NUMBER) :], encoding="utf-8")
        (EXPERIMENT.parent / "tracks.csv").write_text(csv, encoding="utf-8")
        return load_experiment(EXPERIMENT)

    return with_efficiency


def test_a_table_from_a_file(experiment: With) -> None:
    """By hand: each value in its bin, angles in rad, whatever the order of the rows."""
    rows = CSV.splitlines(keepends=True)
    for csv in (CSV, "".join([*rows[:2], rows[5], rows[2], rows[4], rows[3]])):
        table = detector_of(experiment(COLUMNS, csv)).tracks.efficiency
        assert isinstance(table, EfficiencyTable)
        assert table.variables == ("momentum", "theta")
        assert table.first_edges == (0.5, 1.0, 5.0)
        assert table.second_edges == pytest.approx(tuple(math.radians(angle) for angle in (17.0, 90.0, 150.0)))
        assert table.values == ((0.8, 0.7), (0.9, 0.85))
        assert table.uncertainties == ((0.01, 0.02), (0.01, 0.01))
        EXPERIMENT.write_text(EXPERIMENT.read_text(encoding="utf-8").replace(COLUMNS, ONE_NUMBER), encoding="utf-8")


def test_a_table_in_place() -> None:
    """By hand: other variables, no uncertainties."""
    binned = TableEfficiency.model_validate({"table": TABLE, "source": "assumption"}).binned()
    assert binned.variables == ("transverse_momentum", "cos_theta")
    assert (binned.first_edges, binned.second_edges) == ((0.0, 1.0, 9.0), (-1.0, 1.0))
    assert (binned.values, binned.uncertainties) == (((0.5,), (0.9,)), ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": [0.5, 1.2]}, r"found 1.2; it must be at most 1 \(100 %\)"),
        ({"value": [0.5]}, "found lists of different lengths; each bin needs one entry in every column"),
        ({"cos_theta_high": None}, "expected transverse_momentum_low, transverse_momentum_high, cos_theta_low, cos_"),
        ({"weights": [1, 1]}, "found the columns .*weights; expected"),
        ({"transverse_momentum_low": ["0 GeV", "0.5 GeV"]}, "bins in transverse_momentum that overlap or are empty"),
        ({"transverse_momentum_high": ["0 GeV", "9 GeV"]}, "bins in transverse_momentum that overlap or are empty"),
        ({"cos_theta_high": [1, 0]}, "bins in cos_theta that overlap or are empty"),
        ({"transverse_momentum_low": ["0 cm", "1 GeV"]}, "'cm' is not the unit of an energy"),
    ],
)
def test_tables_that_are_none(change: dict[str, list[object] | None], message: str) -> None:
    """Catches holes and overlaps, in which a particle would get a number that nobody wrote."""
    table = {key: value for key, value in {**TABLE, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        TableEfficiency.model_validate({"table": table, "source": "assumption"})


def test_a_hole_in_a_file_is_found(experiment: With) -> None:
    """Catches a missing row; the place is that of the table in the experiment file."""
    with pytest.raises(
        SpecError, match=r"belle2.yaml:46:5: tracks.efficiency.table: found 3 bins, 3 of them different"
    ):
        experiment(COLUMNS, "".join(CSV.splitlines(keepends=True)[:-1]))


def test_the_surface_of_the_calorimeter(experiment: With) -> None:
    """Catches a calorimeter that does not reach the detector, and one that leaves out the collision."""
    text = EXPERIMENT.read_text(encoding="utf-8")
    surface = "  surface: {radius: 125 cm, z_low: -102 cm, z_high: 196 cm, source: assumption}\n"
    EXPERIMENT.write_text(text.replace("\ntracks:", f"{surface}\ntracks:"), encoding="utf-8")
    calorimeter = detector_of(experiment(ONE_NUMBER)).photons.calorimeter
    assert calorimeter is not None
    assert (calorimeter.radius, calorimeter.z_low, calorimeter.z_high) == (125.0, -102.0, 196.0)
    changed = EXPERIMENT.read_text(encoding="utf-8").replace("z_low: -102 cm", "z_low: 10 cm")
    EXPERIMENT.write_text(changed, encoding="utf-8")
    with pytest.raises(SpecError, match="found ends at 10 and 196 cm; the collision lies between them, at 0"):
        load_experiment(EXPERIMENT)


def test_the_tracking_volume(specs: Path) -> None:
    """Catches an experiment that says nothing of where tracks can begin, and a volume without the collision in it."""
    text = EXPERIMENT.read_text(encoding="utf-8")
    volume = "  volume: {rho: 60 cm, z: [-31 cm, 100 cm], source: assumption}\n"
    for new, message in (
        ("", "tracks.volume: missing"),
        (
            volume.replace("-31", "31"),
            r"tracks.volume.z: found 31 to 100 cm; the collision lies between the ends, at 0",
        ),
        (volume.replace("60 cm", "0 cm"), "tracks.volume.rho: found '0 cm'; it must be above 0 cm"),
    ):
        assert volume in text
        EXPERIMENT.write_text(text.replace(volume, new), encoding="utf-8")
        with pytest.raises(SpecError, match=message):
            load_experiment(EXPERIMENT)


def test_one_probability_for_each_pair(specs: Path) -> None:
    """Catches a second entry that would be passed over in silence."""
    text = EXPERIMENT.read_text(encoding="utf-8")
    EXPERIMENT.write_text(text.replace("particle: pion, taken_for", "particle: muon, taken_for"), encoding="utf-8")
    with pytest.raises(SpecError, match=r"tracks.identification\[1\]: found muon taken for muon a second time"):
        load_experiment(EXPERIMENT)


@pytest.mark.parametrize(
    ("vary", "fits"),
    [("tracks.efficiency_table", True), ("photons.efficiency_table", False), ("tracks.identification_table", False)],
)
def test_variations_of_tables_need_uncertainties(experiment: With, vary: str, fits: bool) -> None:
    """Catches a variation that would change nothing, without a word; the efficiency of tracks has them here."""
    experiment(COLUMNS)
    search = Path("specs/belle2/zprime.yaml")
    text = search.read_text(encoding="utf-8")
    row = f"  own: {{kind: shape, vary: {vary}, size: 100 %, on: [signal], source: assumption}}\n"
    search.write_text(text.replace("systematics:\n", f"systematics:\n{row}"), encoding="utf-8")
    found = [problem.message for problem in check_file(search).problems]
    what = vary.removesuffix("_table")
    message = f"found {vary!r}, but no table of {what} in the experiment has the column `uncertainty`; add it, or write {what}"
    assert found == ([] if fits else [message])
