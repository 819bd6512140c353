"""Background-only workspaces and patches, against pyhf and against the workspaces that they were made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyhf
import pytest

from modelbuilder.errors import BundleError, WorkspaceError
from modelbuilder.publish.finished_run import finished_run
from modelbuilder.publish.likelihoods import (
    BACKGROUND,
    EMPTY_SAMPLE,
    PATCHSET,
    digests,
    in_order,
    regions_of,
    rounded,
    split,
    write_region,
)
from modelbuilder.publish.verify import verify_likelihoods

from .conftest import SHARED, WINDOWS, MakeRun, histosys, window


def written(run_path: Path, folder: Path) -> tuple[Any, tuple[Any, ...]]:
    """The run, and its regions after they were written into the folder."""
    run = finished_run(run_path)
    regions = regions_of(run)
    for region in regions:
        write_region(run, region, folder, about={}, inspire="ins0000000")
    return run, regions


def pyhf_twice_nll(workspace: pyhf.Workspace, shift: float) -> float:
    """-2 ln L off the nominal parameters, by pyhf."""
    model = workspace.model()
    pars = [
        init + (0.0 if fixed else shift * 0.02 * (1 + index))
        for index, (init, fixed) in enumerate(
            zip(model.config.suggested_init(), model.config.suggested_fixed(), strict=True)
        )
    ]
    return -2.0 * float(model.logpdf(pars, workspace.data(model))[0])


@pytest.mark.parametrize("kind", ["windows_run", "shared_run"])
def test_patched_by_pyhf_the_likelihood_is_that_of_the_run(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Reference: catches a patch that puts the signal into another channel, loses a modifier, or moves a number."""
    run, regions = written(request.getfixturevalue(kind), tmp_path)
    compared = 0
    for region in regions:
        background = pyhf.Workspace(json.loads((tmp_path / region.file(BACKGROUND)).read_text()))
        patchset = pyhf.PatchSet(json.loads((tmp_path / region.file(PATCHSET)).read_text()))
        patchset.verify(background)
        for patch in patchset:
            patched = patchset.apply(background, patch.name)
            for shift in (0.0, 0.7, -0.7):
                direct = pyhf_twice_nll(pyhf.Workspace(run.workspace(patch.name)), shift)
                assert pyhf_twice_nll(patched, shift) == pytest.approx(direct, rel=1e-10, abs=1e-10)
            compared += 1
    assert compared == len(run.points) == 3


def test_one_background_for_one_fit_region(shared_run: Path, tmp_path: Path) -> None:
    """Catches points of one fit region that get a background-only workspace each."""
    _, regions = written(shared_run, tmp_path)
    assert [region.folder for region in regions] == [""]
    patchset = pyhf.PatchSet(json.loads((tmp_path / PATCHSET).read_text()))
    assert [patch.name for patch in patchset] == ["m_a_1p0000", "m_a_2p0000", "m_a_3p0000"]
    assert patchset[(2.0,)].name == "m_a_2p0000"  # by its value, as pyhf looks it up
    background = json.loads((tmp_path / BACKGROUND).read_text())
    assert [sample["name"] for sample in background["channels"][0]["samples"]] == ["background"]
    model = pyhf.Workspace(background).model(poi_name=None)
    assert model.expected_actualdata(model.config.suggested_init()) == pytest.approx([10.0 / 3.0, 4.0, 5.0])


def test_each_window_is_a_region_of_its_own(windows_run: Path, tmp_path: Path) -> None:
    """Catches a background-only workspace that stands for the data of another window."""
    _, regions = written(windows_run, tmp_path)
    assert [region.folder for region in regions] == [f"regions/m_a_{mass}p0000" for mass in (1, 2, 3)]
    for region, workspace in zip(regions, WINDOWS, strict=True):
        background = json.loads((tmp_path / region.file(BACKGROUND)).read_text())
        assert background["observations"][0]["data"] == workspace["observations"][0]["data"]


def test_the_same_numbers_in_another_window_are_another_region(make_run: MakeRun) -> None:
    """Catches regions told apart by their numbers alone: two windows in which nothing was seen are two."""
    edges = [(0.0, 1.0, 2.0, 3.0), (1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.0)]
    regions = regions_of(finished_run(make_run(SHARED, edges=edges)))
    assert [(region.folder, len(region.points)) for region in regions] == [
        ("regions/m_a_1p0000", 1),
        ("regions/m_a_2p0000", 2),
    ]


def test_a_spurious_signal_belongs_to_the_signal() -> None:
    """Catches a spurious signal, which has the shape of one mass, in the background of all."""
    spurious = {
        "name": "zz_spurious",
        "data": [0.0, 0.0, 0.0],
        "modifiers": [histosys("zz_spurious", [0.1, 0.2, 0.1], [-0.1, -0.2, -0.1])],
    }
    parts = split(window([1.0, 2.0, 1.0], [3.0, 4.0, 5.0], [3, 4, 6], spurious), frozenset({"zz_spurious"}))
    assert [sample["name"] for sample in parts.background["channels"][0]["samples"]] == ["background"]
    assert [operation["path"] for operation in parts.patch] == ["/channels/0/samples/1", "/channels/0/samples/2"]


def test_a_channel_without_background_keeps_a_sample() -> None:
    """Catches a channel without samples, which the schema forbids."""
    workspace = window([1.0, 2.0, 1.0], [3.0, 4.0, 5.0], [3, 4, 6])
    del workspace["channels"][0]["samples"][1]
    parts = split(workspace, frozenset())
    pyhf.schema.validate(parts.background, "workspace.json")
    (empty,) = parts.background["channels"][0]["samples"]
    assert (empty["name"], empty["data"]) == (EMPTY_SAMPLE, [0.0, 0.0, 0.0])
    assert parts.patch[0]["path"] == "/channels/0/samples/1"


def test_order_and_digests_are_those_of_pyhf() -> None:
    """Reference: catches another order, in which the index of a patch points elsewhere, or another way to hash."""
    mixed = json.loads(json.dumps(WINDOWS[0]))
    mixed["channels"].insert(0, {**mixed["channels"][0], "name": "zz"})
    mixed["observations"].insert(0, {"name": "zz", "data": [1, 2, 3]})
    mixed["channels"][0]["samples"].reverse()
    sorted_by_pyhf = pyhf.Workspace.sorted(pyhf.Workspace(mixed))
    assert in_order(mixed) == dict(sorted_by_pyhf)
    for algorithm, digest in digests(mixed).items():
        assert digest == pyhf.utils.digest(mixed, algorithm=algorithm)


def test_numbers_are_floats_of_twelve_digits() -> None:
    """Catches whole numbers, which change the digest, and the digits that make files large."""
    assert json.dumps(rounded({"a": [1, 1.0 / 3.0, -0.0, 0.1 + 0.2], "b": True, "c": None})) == (
        '{"a": [1.0, 0.333333333333, 0.0, 0.3], "b": true, "c": null}'
    )
    with pytest.raises(WorkspaceError, match="found nan among the numbers"):
        rounded([np.nan])


def tampered(document: Any) -> list[tuple[str, Any]]:
    """The document with one number changed by a millionth, for every number in it."""
    found = []

    def visit(parent: Any, key: Any, path: str) -> None:
        value = parent[key]
        if isinstance(value, dict | list):
            for inner in value if isinstance(value, dict) else range(len(value)):
                visit(value, inner, f"{path}/{inner}")
        elif isinstance(value, float) and value != 0.0:
            parent[key] = value * (1.0 + 1e-6)
            found.append((path, json.loads(json.dumps(document))))
            parent[key] = value

    for key in document:
        visit(document, key, key)
    return found


def test_no_number_of_a_patch_can_be_wrong(shared_run: Path, tmp_path: Path) -> None:
    """Catches a comparison that is blind to a number: to one of the two sides of a variation, or to a modifier."""
    run, regions = written(shared_run, tmp_path)
    path = tmp_path / PATCHSET
    patchset = json.loads(path.read_text())
    changed = tampered(patchset["patches"][0]["patch"][0]["value"])
    assert len(changed) == 11  # yields, normsys, histosys
    for _, value in changed:
        patchset["patches"][0]["patch"][0]["value"] = value
        path.write_text(json.dumps(patchset))
        with pytest.raises(BundleError, match=r"m_a_1p0000: -2 ln L (differs|by pyhf)|mu_\w+ is"):
            verify_likelihoods(run, regions, tmp_path)


def test_no_number_of_a_background_can_be_wrong(shared_run: Path, tmp_path: Path) -> None:
    """The same for the background, its data, and the settings of parameters."""
    run, regions = written(shared_run, tmp_path)
    background = json.loads((tmp_path / BACKGROUND).read_text())
    patchset = json.loads((tmp_path / PATCHSET).read_text())
    for where, value in tampered(background):
        (tmp_path / BACKGROUND).write_text(json.dumps(value))
        patchset["metadata"]["digests"] = digests(value)
        (tmp_path / PATCHSET).write_text(json.dumps(patchset))
        try:
            verify_likelihoods(run, regions, tmp_path)
        except BundleError:
            continue
        pytest.fail(f"{where} may be wrong")


def test_a_patchset_of_another_background_is_found(shared_run: Path, tmp_path: Path) -> None:
    """Catches digests that nobody compares."""
    run, regions = written(shared_run, tmp_path)
    text = (tmp_path / PATCHSET).read_text()
    patchset = json.loads(text)
    patchset["metadata"]["digests"]["sha256"] = "0" * 64
    (tmp_path / PATCHSET).write_text(json.dumps(patchset))
    with pytest.raises(BundleError, match=r"patchset\.json: the digests are not those of BkgOnly\.json"):
        verify_likelihoods(run, regions, tmp_path)
