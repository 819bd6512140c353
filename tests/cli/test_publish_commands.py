"""`publish`, `unpack` and `export` as a shell calls them; what they write is tested in tests/publish."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_publish_unpack_limit(cli: Callable[..., Any], small_run: Path, tmp_path: Path) -> None:
    """Catches options that do not arrive, and a bundle whose limits are found at another level than the run's."""
    done = cli("publish", small_run, "-o", tmp_path / "out", "--inspire", "ins7654321", "--licence", "CC-BY-4.0")
    assert done.code == 0, done.errors
    assert "4 patches applied; -2 ln L agrees with the workspaces of the run" in done.output
    assert "upload:" in done.output
    patchset = next((tmp_path / "out" / "likelihoods").rglob("patchset.json"))
    metadata = json.loads(patchset.read_text())["metadata"]
    assert (metadata["references"]["hepdata"], metadata["license"]["name"]) == ("ins7654321", "CC-BY-4.0")
    unpacked = cli("unpack", tmp_path / "out" / "submission.tar.gz", "-o", tmp_path / "back", "--json")
    assert unpacked.code == 0, unpacked.errors
    assert len(unpacked.document["likelihoods"]) == 4
    assert unpacked.document["archives"] == ["likelihoods.tar.gz"]
    direct, again = (cli("limit", place, "--json").document for place in (small_run, tmp_path / "back"))
    assert [item["patch"] for item in again] == [item["patch"] for item in direct]
    for one, two in zip(direct, again, strict=True):
        assert two["confidence_level"] == one["confidence_level"]
        assert two["observed"] == pytest.approx(one["observed"], rel=1e-6)
        assert two["values"] == one["values"]


def test_publish_is_refused(cli: Callable[..., Any], small_run: Path, tmp_path: Path) -> None:
    """Catches an exit code of 1, or a traceback, for what the user can mend."""
    (tmp_path / "file").write_text("")
    for arguments, message in (
        ((small_run, "-o", tmp_path), "exists and is not an empty directory"),
        ((small_run, "-o", tmp_path / "file"), "exists and is not an empty directory"),
        ((small_run, "-o", tmp_path / "file" / "x"), "cannot be written"),
        ((tmp_path, "-o", tmp_path / "x"), "not a run directory"),
        ((small_run, "-o", tmp_path / "x", "--likelihoods-at", "zenodo"), "expected an address such as https://"),
    ):
        done = cli("publish", *arguments)
        assert (done.code, done.output) == (2, "")
        assert message in done.errors


def test_unpack_is_refused(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Catches more than one line about a bad archive, or one that exits with 0."""
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, "/"
        archive.addfile(link)
    done = cli("unpack", tmp_path / "x.tar", "-o", tmp_path / "out")
    assert (done.code, done.output) == (2, "")
    assert done.errors == "error: x.tar: 'a' is a link; it is not unpacked\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format_", ["hs3", "xml", "uhi", "darkcast"])
def test_export(format_: str, cli: Callable[..., Any], small_run: Path, tmp_path: Path) -> None:
    """Catches a format that is offered and does not work on a real run."""
    chosen = () if format_ == "darkcast" else ("--patch", "m_a_0*")
    done = cli("export", small_run, "-o", tmp_path / "out", "--format", format_, *chosen)
    assert done.code == 0, done.errors
    assert all(Path(line).exists() for line in done.output.splitlines())
    assert len(done.output.splitlines()) == (4 if format_ == "darkcast" else 1)


def test_export_of_one_workspace(cli: Callable[..., Any], small_run: Path, tmp_path: Path) -> None:
    """Catches an export that needs a run; limits for Darkcast do, and say so."""
    workspace = next((small_run / "workspaces").glob("*.json"))
    done = cli("export", workspace, "-o", tmp_path / "out", "--format", "hs3", "--dialect", "pyhs3")
    assert done.output == f"{tmp_path / 'out' / 'workspace.hs3.json'}\n"
    assert "dialect pyhs3" in (tmp_path / "out" / "workspace.hs3.json").read_text()
    refused = cli("export", workspace, "-o", tmp_path / "out", "--format", "darkcast")
    assert refused.code == 2
    assert "not a run directory" in refused.errors
