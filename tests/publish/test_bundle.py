"""Whole bundles: what is in them, that they are the same twice, and that they say the same as the run."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from modelbuilder.errors import BundleError, InputFileError, RunDirectoryError, UserError
from modelbuilder.inference.choice import LimitRequest
from modelbuilder.publish.bundle import Options, publish_run
from modelbuilder.publish.unpack import unpack
from modelbuilder.scan.target import confidence_level_of, limits_at, targets_at

from .conftest import METHODS, MakeRun, window


def limits_of(path: Path, method: str, **where: Path) -> dict[str, list[float]]:
    """Observed and expected limits by name, as `modelbuilder limit` finds them at the level that the place states."""
    request = LimitRequest(method=method, confidence_level=confidence_level_of(path))
    found = limits_at(targets_at(path, **where), request, jobs=1)
    return {result["patch"]: [result["observed"], *result["expected"]] for result in found}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["windows_run", "shared_run"])
def test_limits_from_the_archive_alone_are_those_of_the_run(
    kind: str, method: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Catches a bundle that needs the run: level, masses, and numbers must all be in it."""
    run = request.getfixturevalue(kind)
    publish_run(run, tmp_path / "out")
    found = unpack(tmp_path / "out" / "submission.tar.gz", tmp_path / "back")
    assert found.problem is None
    again = limits_of(tmp_path / "back", method)
    rows = {
        row["point"]: row for row in json.loads((run / "limits.json").read_text())["rows"] if row["method"] == method
    }
    assert list(again) == list(rows)
    for name, values in again.items():
        bands = ("observed", "expected_m2", "expected_m1", "expected", "expected_p1", "expected_p2")
        assert values == pytest.approx([rows[name][f"mu_{band}"] for band in bands], rel=1e-6, abs=1e-9)


def test_of_a_real_run(small_run: Path, tmp_path: Path) -> None:
    """The same for windows on Bernstein polynomials with spurious signals; and the figures are there."""
    published = publish_run(small_run, tmp_path / "out")
    assert published.regions == 4
    assert published.verified.largest_difference < 1e-11
    unpack(published.archive, tmp_path / "back")
    again = limits_of(tmp_path / "back", "cls")
    for name, values in limits_of(small_run, "cls").items():
        assert again[name] == pytest.approx(values, rel=1e-6)
    background = tmp_path / "back" / "likelihoods" / "regions" / next(iter(again)) / "BkgOnly.json"
    names = [sample["name"] for sample in json.loads(background.read_text())["channels"][0]["samples"]]
    assert names
    assert not {"signal", "background_shape"} & set(names)


def test_the_archive_is_the_same_twice(windows_run: Path, tmp_path: Path) -> None:
    """Catches times, owners, modes and the order of the file system in the bytes of the archive."""
    one = publish_run(windows_run, tmp_path / "one")
    copy = tmp_path / "copy of the run"
    shutil.copytree(windows_run, copy)
    for path in sorted(copy.rglob("*"), reverse=True):
        os.utime(path, (1e9, 1e9))
        if path.is_file():
            path.chmod(0o600)
    two = publish_run(copy, tmp_path / "elsewhere" / "two")
    assert one.archive.read_bytes() == two.archive.read_bytes()
    with tarfile.open(one.archive) as archive:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in archive} == {(0, 0, 0, "", 0o644)}


def test_what_is_in_a_bundle(shared_run: Path, tmp_path: Path) -> None:
    """Catches a file that is missing, a resource that HEPData would not take for a likelihood, and unstated data."""
    copy = tmp_path / "run"
    shutil.copytree(shared_run, copy)
    flow = {"cut_flow": [{"step": "found", "efficiency": 0.5, "efficiency_stdev": 0.01}], "sample": "signal"}
    (tmp_path / "flow.json").write_text(json.dumps({**flow, "point": "m_a_1p0000", "events": 100}))
    options = Options(inspire="ins1234567", cut_flows=(tmp_path / "flow.json",))
    published = publish_run(copy, tmp_path / "out", options)
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert {"README.md", "submission.tar.gz", "likelihoods/BkgOnly.json", "likelihoods/README.md"} <= files
    first, *tables = yaml.safe_load_all((tmp_path / "out" / "hepdata" / "submission.yaml").read_text())
    likelihood = first["additional_resources"][0]
    assert (likelihood["location"], likelihood["type"]) == ("likelihoods.tar.gz", "HistFactory")
    assert likelihood["license"]["name"] == "CC0"
    assert "HS3" not in likelihood["description"]  # which would win over the type
    assert "simulated" in first["comment"]
    names = [table["name"] for table in tables]
    assert "Cut flow of signal at m_a_1p0000" in names
    assert "Correlations of the fit" in names
    assert len(names) == published.tables
    patchset = json.loads((tmp_path / "out" / "likelihoods" / "patchset.json").read_text())
    assert patchset["metadata"]["references"] == {"hepdata": "ins1234567"}
    assert patchset["metadata"]["units"] == {"m_a_gev": "GeV"}
    assert "simulated" in patchset["metadata"]["description"]
    provenance = json.loads((tmp_path / "out" / "likelihoods" / "provenance.json").read_text())
    assert provenance["spec_digest"] == json.loads((copy / "run.json").read_text())["digest"]
    assert {"seed", "versions", "rounding"} <= provenance.keys()


def test_correlations_are_a_matrix(shared_run: Path, tmp_path: Path) -> None:
    """Catches rows and columns that are mixed up: symmetric, one on the diagonal, and named after the parameters."""
    publish_run(shared_run, tmp_path / "out")
    read = yaml.safe_load((tmp_path / "out" / "hepdata" / "correlations.yaml").read_text())
    one, two = ([row["value"] for row in variable["values"]] for variable in read["independent_variables"])
    values = [row["value"] for row in read["dependent_variables"][0]["values"]]
    matrix = dict(zip(zip(one, two, strict=True), values, strict=True))
    assert all(matrix[b, a] == pytest.approx(value, abs=1e-5) for (a, b), value in matrix.items())
    assert all(matrix[name, name] == 1.0 for name in one)
    assert -1.0 < matrix["mu", "background_rate"] < 0.0  # more background leaves less room for signal


def test_likelihoods_too_large_for_an_upload(make_run: MakeRun, tmp_path: Path) -> None:
    """Catches parts that lose a point, or an upload that HEPData would refuse."""
    rng = np.random.default_rng(1)  # numbers that cannot be compressed
    many = [window(rng.uniform(1, 2, 30), rng.uniform(8, 9, 30), rng.poisson(8.5, 30).tolist()) for _ in range(9)]
    run = make_run([json.loads(json.dumps(item, default=float)) for item in many], edges=[range(31)] * 9)
    whole = publish_run(run, tmp_path / "whole")
    size = (tmp_path / "whole" / "hepdata" / "likelihoods.tar.gz").stat().st_size
    options = Options(max_upload_bytes=whole.archive_bytes - 1, likelihoods_at="https://doi.org/10.1234/5678")
    beside = publish_run(run, tmp_path / "beside", options)
    assert [part.stat().st_size for part in beside.parts] == [size]  # would fit alone, but not with the tables
    first = next(yaml.safe_load_all((tmp_path / "beside" / "hepdata" / "submission.yaml").read_text()))
    assert first["additional_resources"][0]["location"] == "https://doi.org/10.1234/5678"
    limit = int(0.8 * size)
    split = publish_run(run, tmp_path / "split", Options(max_upload_bytes=limit))
    assert len(split.parts) > 1
    assert split.archive.stat().st_size <= limit
    assert "deposit them elsewhere, and publish again with --likelihoods-at ADDRESS" in split.notes[-1]
    found: dict[str, list[float]] = {}
    for index, part in enumerate(split.parts):
        assert part.stat().st_size <= limit
        unpack(part, tmp_path / f"part {index}")
        found |= limits_of(tmp_path / f"part {index}", "cls")
    assert found == limits_of(tmp_path / "whole", "cls")


def test_a_limit_that_was_changed_is_not_published(make_run: MakeRun, tmp_path: Path) -> None:
    """Catches tables that do not belong to the likelihoods; and nothing is left behind."""
    run = make_run([window([1.0, 2.0, 1.0], [3.0, 4.0, 5.0], [3, 4, 6])])
    table = json.loads((run / "limits.json").read_text())
    table["rows"][0]["mu_expected"] *= 1.0 + 1e-5
    (run / "limits.json").write_text(json.dumps(table))
    with pytest.raises(
        BundleError, match=r"m_a_1p0000, cls: mu_expected is .* in limits\.json, but .* from the bundle"
    ):
        publish_run(run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_published(make_run: MakeRun, tmp_path: Path) -> None:
    """Catches a bundle of half a run, of another spec, or over something that is there."""
    run = make_run([window([1.0, 2.0, 1.0], [3.0, 4.0, 5.0], [3, 4, 6])])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="exists and is not an empty directory"):
        publish_run(run, tmp_path / "taken")
    with pytest.raises(UserError, match="--inspire 1234567: expected `ins` and seven digits"):
        publish_run(run, tmp_path / "out", Options(inspire="1234567"))
    with pytest.raises(UserError, match="--licence GPL: known are CC0"):
        publish_run(run, tmp_path / "out", Options(licence="GPL"))
    (tmp_path / "flow.json").write_text("{}")
    with pytest.raises(InputFileError, match=r"not a cut flow; `modelbuilder simulate SPEC"):
        publish_run(run, tmp_path / "out", Options(cut_flows=(tmp_path / "flow.json",)))
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "finished": None}))
    with pytest.raises(RunDirectoryError, match="the run was stopped before its end"):
        publish_run(run, tmp_path / "out")
    (run / "run.json").write_text(json.dumps({**about, "digest": "0" * 64}))
    with pytest.raises(RunDirectoryError, match="belong to different specs"):
        publish_run(run, tmp_path / "out")
    (run / "run.json").write_text(json.dumps(about))
    (run / "workspaces" / "m_a_1p0000.json").unlink()
    with pytest.raises(RunDirectoryError, match=r"workspaces/m_a_1p0000\.json is missing"):
        publish_run(run, tmp_path / "out")
    (run / "limits.json").unlink()
    with pytest.raises(RunDirectoryError, match="holds no limits"):
        publish_run(run, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["flow.json", "taken"]


def test_two_masses(shared_run: Path, tmp_path: Path) -> None:
    """Catches labels, tables and an index that know of one mass only: columns are those of limits.json."""
    run = tmp_path / "run"
    shutil.copytree(shared_run, run)
    table = json.loads((run / "limits.json").read_text())
    place = [column["name"] for column in table["columns"]].index("m_a_gev")
    table["columns"].insert(place + 1, {"name": "m_hp_gev", "unit": "GeV", "description": "mass hypothesis"})
    for row in table["rows"]:
        row["m_hp_gev"] = 0.5 * row["m_a_gev"]
    (run / "limits.json").write_text(json.dumps(table))
    publish_run(run, tmp_path / "out")
    patchset = json.loads((tmp_path / "out" / "likelihoods" / "patchset.json").read_text())
    assert patchset["metadata"]["labels"] == ["m_a_gev", "m_hp_gev"]
    assert [patch["metadata"]["values"] for patch in patchset["patches"]] == [[1.0, 0.5], [2.0, 1.0], [3.0, 1.5]]
    read = yaml.safe_load((tmp_path / "out" / "hepdata" / "limit_cross_section_fb_cls.yaml").read_text())
    names = [variable["header"]["name"] for variable in read["independent_variables"]]
    assert names == ["m_a", "m_hp"]
    assert "patch,m_a_gev,m_hp_gev,folder," in (tmp_path / "out" / "likelihoods" / "index.csv").read_text()
