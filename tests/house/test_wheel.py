"""The wheel: the package, nothing but the package, and all of it. `.ci/run` installs one elsewhere and uses it."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import modelbuilder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, built by the backend itself: no network, no other environment."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def dist_info(wheel: Path) -> str:
    """The name of the metadata folder in the wheel."""
    project, version = wheel.name.split("-")[:2]
    return f"{project}-{version}.dist-info"


@pytest.fixture(scope="module")
def metadata(wheel: Path, dist_info: str) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"{dist_info}/METADATA"))


def test_nothing_but_the_package(names: set[str], dist_info: str) -> None:
    """Catches tests, specs, schemas or a stray top-level folder that would land in everybody's site-packages."""
    assert {name.split("/")[0] for name in names} == {"modelbuilder", dist_info}


def test_all_of_the_package(names: set[str]) -> None:
    """Catches a module, or the marker of a typed package, that an exclusion or .gitignore keeps out of the wheel."""
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "modelbuilder").rglob("*.py")}
    assert len(sources) > 10
    assert sources | {"modelbuilder/py.typed"} <= names


def test_no_leftovers(names: set[str]) -> None:
    """Catches compiled files and numba's cache, which belong to one machine."""
    assert {Path(name).suffix for name in names} & {".pyc", ".nbi", ".nbc", ".so"} == set()


def test_version_comes_from_the_package(metadata: Message) -> None:
    """Catches a version that is written in two places, and an old installation that is tested by mistake."""
    assert metadata["Version"] == modelbuilder.__version__


def test_licence_travels_along(metadata: Message, names: set[str], dist_info: str) -> None:
    """Catches a wheel that does not say, or does not contain, the terms it is given under."""
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert f"{dist_info}/licenses/LICENSE" in names


def test_command_is_declared(wheel: Path, dist_info: str) -> None:
    """Catches an entry point that points nowhere: the command would be there, and fail."""
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read(f"{dist_info}/entry_points.txt").decode("utf-8")
        plugin = ["[pytest11]", "modelbuilder", "=", "modelbuilder.regression.plugin"]
        assert entry_points.split() == ["[console_scripts]", "modelbuilder", "=", "modelbuilder.cli:main", *plugin]
        assert "\ndef main(" in archive.read("modelbuilder/cli.py").decode("utf-8")
        assert "\ndef pytest_collect_file(" in archive.read("modelbuilder/regression/plugin.py").decode("utf-8")
