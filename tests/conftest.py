"""What tests of several stages share."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from modelbuilder.kinematics import _compile

REPOSITORY = Path(__file__).parents[1]
ALP = Path("specs/belle2/alp_gammagamma_2018.yaml")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Before workers start: compile the kernels once, those of the simulation and those of the likelihood side by side.

    Else the workers, and the processes that tests start, all compile the same, which takes three times as long. Only for
    the whole suite, and once for each state of the kernels.
    """
    config = session.config
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None) or not is_whole:
        return
    stamp = Path(_compile.__file__).parent / "__pycache__" / f"compiled-{_compile.sources_digest()[:16]}"
    if stamp.exists():
        return
    import pyhf

    config.get_terminal_writer().line("compiling kernels, a minute or two")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace.json"
        model = pyhf.simplemodels.uncorrelated_background([5.0, 1.0], [50.0, 60.0], [5.0, 6.0])
        workspace.write_text(json.dumps(pyhf.Workspace.build(model, model.expected_data([0.0, 1.0, 1.0]))))
        small = [word for setting in SMALL for word in ("--set", setting)]
        others = ("belle/heavy_neutral_lepton", "belle2/zprime_invisible_2018", "belle/b_to_kplus_alp")
        simulation = [
            ["build", str(REPOSITORY / ALP), "-o", f"{folder}/out", "--points", "1", "--jobs", "1", *small],
            *(["simulate", str(REPOSITORY / "specs" / f"{spec}.yaml"), "-n", "2000", "--jobs", "1"] for spec in others),
        ]
        ways = (["--method", "cls"], ["--method", "bayesian"], ["--toys", "100"])
        inference = [["limit", str(workspace), *way] for way in ways] + [["fit", str(workspace)]]
        program = "import json, sys\nfrom modelbuilder.cli import app\n"
        program += "for words in json.loads(sys.argv[1]): app(words, standalone_mode=False)"
        running = [
            subprocess.Popen([sys.executable, "-P", "-c", program, json.dumps(commands)], stdout=subprocess.DEVNULL)
            for commands in (simulation, inference)
        ]
        codes = [process.wait() for process in running]
        if not any(codes):
            stamp.touch()


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


FROM_FILES = """schema: search/1
name: from-files
title: "B+ -> K+ a, a -> gamma gamma"
experiment: experiments/belle2.yaml
luminosity: {{value: 400 fb^-1, uncertainty: 1 %, source: assumption}}
radiation: {{initial_state: none, source: assumption}}
seed: 1
signal:
  process: e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ a, a -> gamma gamma
  events: 5000
  efficiency: {{value: 0.5, source: assumption}}
grid: {{m_a: {{segments: [{{values: [1 GeV, 2 GeV], source: assumption}}]}}}}
final_state: {{found: [K+, gamma, gamma]}}
selection: {selection}
channels:
  diphoton: {channel}
backgrounds:
  combinatorial:
    title: combinatorial
    files: {{diphoton: {background}}}
    shape: {shape}
    rate: {rate}
systematics: {systematics}
statistics: {{methods: [cls], confidence_level: 90 %, source: assumption}}
data: {data}
"""
CHANNEL = "{observable: mass(gamma gamma), range: [0 GeV, 3 GeV], bins: 30, source: assumption}"
BACKGROUND = (
    f"{{table: {{low: {[f'{x / 10} GeV' for x in range(30)]}, high: {[f'{x / 10} GeV' for x in range(1, 31)]},"
    f" events: {[400] * 30}}}, luminosity: 400 fb^-1, source: assumption}}"
)


@pytest.fixture
def from_files(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a search with data and a background from files; returns its path, in a folder `specs`."""
    folder = tmp_path / "specs"
    shutil.copytree(REPOSITORY / "specs" / "experiments", folder / "experiments")

    def write(
        data: str = "{kind: asimov}", background: str = BACKGROUND, name: str = "search.yaml", **parts: str
    ) -> Path:
        text = FROM_FILES.format(
            data=data if data.startswith("{kind") else f"{{kind: observed, files: {{diphoton: {data}}}}}",
            background=background,
            selection=parts.get("selection", "[]"),
            channel=parts.get("channel", CHANNEL),
            shape=parts.get("shape", "simulated"),
            rate=parts.get("rate", "fixed"),
            systematics=parts.get("systematics", "{lumi: {kind: luminosity}}"),
        )
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
