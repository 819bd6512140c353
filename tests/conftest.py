"""What tests of several stages share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ALP = Path("specs/belle2/alp_gammagamma_2018.yaml")


@pytest.fixture
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of our specs in a temporary folder, which becomes the working directory; returns the search."""
    shutil.copytree(REPOSITORY / "specs", tmp_path / "specs")
    monkeypatch.chdir(tmp_path)
    return ALP


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four points, made once."""
    from modelbuilder.scan.run import run_search
    from modelbuilder.spec.load import load_search

    path = tmp_path_factory.mktemp("small") / "out"
    search = load_search(REPOSITORY / ALP, overrides=SMALL)
    run_search(search, path, points=4, jobs=1)
    return path


SMALL = ("signal.events=20000", "backgrounds.three_photon.events=200000")
