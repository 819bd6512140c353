"""Each command: exit code, what it prints, and where."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyhf
import pytest

import modelbuilder
from modelbuilder.histograms.events_file import read_events
from modelbuilder.histograms.templates import from_uhi_json

from .conftest import Result

Cli = Callable[..., Result]

SETTINGS = ("--set", "signal.events=5000", "--set", "backgrounds.three_photon.events=50000", "--jobs", "1")
ZPRIME = Path(__file__).parents[2] / "specs" / "belle2" / "zprime_invisible_2018.yaml"
COMMANDS = ("validate", "show", "simulate", "build", "run", "limit", "fit", "significance", "inject", "plot", "schema",
            "check", "lock", "diff", "plan", "fmt")  # fmt: skip


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelbuilder", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL, **options
    )


# ------------------------------------------------------------------------------------------------ the whole program


def test_version(cli: Cli) -> None:
    """Catches a version that is not that of the package."""
    found = cli("--version")
    assert (found.code, found.output) == (0, f"modelbuilder {modelbuilder.__version__}\n")


def test_help_names_every_command(cli: Cli) -> None:
    """Catches a command without a line of help, and one that has gone."""
    found = cli("--help")
    assert found.code == 0
    for command in COMMANDS:
        assert re.search(rf"^ *{command} +[A-Z]", found.output, flags=re.MULTILINE), command
        own = cli(command, "--help")
        assert own.code == 0
        assert "Usage: modelbuilder" in own.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--no-such-option",),
        ("run", "--no-such-option"),
        ("no-such-command",),
        ("validate",),
        ("run", "spec.yaml"),
        ("run", "spec.yaml", "-o", "x", "--points", "0"),
        ("run", "spec.yaml", "-o", "x", "--points", "many"),
        ("run", "spec.yaml", "-o", "x", "--cl", "95"),
        ("limit", "x.json", "--method", "bayes"),
        ("fit", "x.json", "--toys", "0"),
    ],
)
def test_wrong_usage(cli: Cli, arguments: tuple[str, ...]) -> None:
    """Catches a usage error that is not the user's (exit code 2), or that is printed among the results."""
    found = cli(*arguments)
    assert found.code == 2
    assert found.output == ""
    assert found.errors


def test_no_arguments_show_the_help(cli: Cli) -> None:
    """Catches a bare command that prints nothing, or a traceback."""
    found = cli()
    assert found.code == 2
    assert "Usage: modelbuilder" in found.output + found.errors


ESCAPES = re.compile(r"\x1b|[\u2500-\u257f\u2580-\u259f]")


@pytest.mark.parametrize(
    "arguments", [("--help",), ("run", "--help"), ("run", "--nonsense"), ("show", "{spec}"), ("validate", "x.yaml")]
)
def test_plain_text_in_a_pipe(specs: Path, arguments: tuple[str, ...]) -> None:
    """Catches colours and boxes where nobody can see them: in a log file, or before grep."""
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("FORCE_COLOR", None)
    done = process(*(argument.format(spec=specs) for argument in arguments), env=environment)
    assert not ESCAPES.search(done.stdout + done.stderr), done.stdout + done.stderr


def test_a_reader_that_leaves(specs: Path) -> None:
    """Catches a traceback in `modelbuilder show ... | head`."""
    command = f"{sys.executable} -m modelbuilder show {specs} --grid | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_debug_gives_the_traceback() -> None:
    """Catches a traceback without --debug, and none with it, wherever the option stands."""
    plain = process("show", "none.yaml")
    assert plain.returncode == 2
    assert "Traceback" not in plain.stderr
    assert "none.yaml: no such file" in plain.stderr
    for arguments in (("--debug", "show", "none.yaml"), ("show", "none.yaml", "--debug")):
        debug = process(*arguments)
        assert debug.returncode != 0
        assert "Traceback" in debug.stderr
        assert "InputFileError" in debug.stderr


def test_our_own_faults_are_ours(cli: Cli, monkeypatch: pytest.MonkeyPatch, specs: Path) -> None:
    """Catches a bug that exits with the user's code, or that shows a traceback nobody has asked for."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("made up")

    monkeypatch.setattr("modelbuilder.spec.load.load_spec", fail)
    found = cli("show", specs)
    assert found.code == 1
    assert "error: ZeroDivisionError: made up" in found.errors
    assert "--debug" in found.errors
    assert "Traceback" not in found.errors


# ----------------------------------------------------------------------------------------------------------- simulate


def test_simulate_prints_the_cut_flow(cli: Cli) -> None:
    """Catches a table without a cut, an efficiency without its error, and a peak without its width."""
    found = cli("simulate", ZPRIME, "--point", "3", "--events", "5000")
    assert found.code == 0
    assert "signal: e+ e- -> mu+ mu- Zp, Zp -> invisible at m_Zp = 3 GeV, 5000 events" in found.output
    for text in ("simulated", "found", "theta(mu+) between 37 deg and 120 deg"):
        assert re.search(rf"^  {re.escape(text)} .* \+- .* %", found.output, flags=re.MULTILINE), text
    assert re.search(r"recoil\(mu\+ mu-\): peak at .* GeV, sigma .* GeV", found.output)


def test_simulate_writes_what_was_asked_for(cli: Cli, tmp_path: Path) -> None:
    """Catches a file of another kind than its suffix says, and a figure that is not drawn."""
    json_file, events = tmp_path / "a.json", tmp_path / "b.parquet"
    arguments = ("simulate", ZPRIME, "--point", "3 GeV", "--events", "5000", "--json")
    found = cli(*arguments, "-o", json_file, "--plot")
    assert found.code == 0
    printed = json.loads(found.output)
    assert printed["files"] == [str(json_file), *(str(tmp_path / name) for name in ("a.pdf", "a.png", "a.csv"))]
    assert all(Path(name).stat().st_size > 1000 for name in printed["files"])
    histograms = from_uhi_json(json_file.read_text(encoding="utf-8"))
    assert set(histograms) >= {"signal", "signal/tracking/up", "signal/tracking/down"}
    assert printed["cut_flow"][0]["efficiency"] == 1.0
    assert cli(*arguments, "-o", events).code == 0
    assert read_events(events).n_events > 500


def test_simulate_is_reproducible(cli: Cli, tmp_path: Path) -> None:
    """Invariant: the same bytes for the same seed, whatever the number of threads; others for another seed."""
    texts = []
    for number, options in enumerate((("--jobs", "1"), ("--jobs", "2"), ("--seed", "9"))):
        path = tmp_path / f"{number}.json"
        assert cli("simulate", ZPRIME, "--events", "70000", "-o", path, *options).code == 0
        texts.append(path.read_bytes())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--point", "30"), "m_Zp = 30 GeV: it must lie between 0 and the collision energy"),
        (("--point", "3 cm"), "--point: found '3 cm'"),
        (("--sample", "tau_tauu"), "there is no sample 'tau_tauu'; did you mean 'tau_tau'?"),
        (("--observable", "recoil()"), "a recoil against nothing"),
        (("--observable", "masss(mu+ mu-)"), "did you mean mass?"),
        (("-o", "x.root"), "the suffix is .root; write .json for histograms, .parquet for events"),
    ],
)
def test_simulate_refuses(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    """Catches a refusal without its reason, or as a fault of ours."""
    found = cli("simulate", ZPRIME, "--events", "1000", *arguments)
    assert (found.code, found.output) == (2, "")
    assert message in found.errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", ZPRIME, "-o", "file/x.json"),
        ("simulate", ZPRIME, "-o", "file/x.parquet"),
        ("simulate", ZPRIME, "-o", "folder.json"),
        ("simulate", ZPRIME, "-o", "x.json", "--plot"),
        ("simulate", ZPRIME, "-o", "/proc/x.json"),
        ("run", ZPRIME, "-o", "file/x"),
        ("build", ZPRIME, "-o", "/proc/x"),
        ("schema", "-o", "file/x"),
    ],
    ids=lambda arguments: " ".join(map(str, (arguments[0], *arguments[2:]))),
)
def test_what_cannot_be_written_is_said_before_anything_runs(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]
) -> None:
    """Catches an output that is found to be unwritable after the whole simulation, or that is called a fault of ours."""
    if "/proc" in str(arguments) and not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("modelbuilder.histograms.look.Looker.look", lambda self: pytest.fail("it was simulated"))
    monkeypatch.setattr("modelbuilder.scan.run.points_of", lambda *_, **__: pytest.fail("it was simulated"))
    (tmp_path / "file").touch()
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "x.png").mkdir()
    found = cli(*arguments)
    assert (found.code, found.output) == (2, "")
    assert re.search(r"cannot be written: .*choose another|is a directory; give the name of a file", found.errors)
    assert "fault of modelbuilder" not in found.errors
    assert not list(tmp_path.glob("**/.*")), "nothing is left behind"


def test_a_full_disk_is_no_fault_of_ours(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches histograms that fail to be written at the end and are reported with a plea for a traceback."""

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("modelbuilder.scan.store.write_atomically", full)
    found = cli("simulate", ZPRIME, "--events", "2000", "-o", tmp_path / "x.json")
    assert found.code == 2
    assert "x.json: cannot be written: No space left on device" in found.errors


# --------------------------------------------------------------------------------------------- other ways to a limit

COUNTING = {
    "channels": [
        {
            "name": "box",
            "samples": [
                {"name": "signal", "data": [1.0], "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]},
                {"name": "background", "data": [0.5], "modifiers": []},
            ],
        }
    ],
    "observations": [{"name": "box", "data": [0.0]}],
    "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
    "version": "1.0.0",
}


@pytest.mark.parametrize(
    ("options", "exact", "precision"),
    [
        # nothing seen: a flat prior and CLs give -ln 0.1 whatever the background, Feldman and Cousins 1.94 (table IV)
        (("--method", "bayesian"), 2.302585, 1e-6),
        (("--method", "cls", "--toys", "20000"), 2.302585, 0.05),
        (("--method", "feldman-cousins", "--toys", "20000"), 1.94, 0.05),
    ],
)
def test_limits_where_asymptotic_formulas_fail(
    cli: Cli, tmp_path: Path, options: tuple[str, ...], exact: float, precision: float
) -> None:
    """Closed form: a counting experiment that saw nothing. Catches a method, level or number of toys that is ignored."""
    path = tmp_path / "counting.json"
    path.write_text(json.dumps(COUNTING), encoding="utf-8")
    found = cli("limit", path, *options, "--cl", "0.9", "--json")
    assert found.code == 0
    printed = json.loads(found.output)
    assert printed["observed"] == pytest.approx(exact, rel=precision)
    assert printed["method"] == options[1]
    assert cli("limit", path, *options, "--cl", "0.9").code == 0


# ------------------------------------------------------------------------------------------------- validate and show


def test_validate(cli: Cli, specs: Path) -> None:
    """Catches a good spec that is refused, a bad one that passes, and a second file that nobody looks at."""
    good = cli("validate", specs, "specs/experiments/belle2.yaml")
    assert (good.code, good.errors) == (0, "")
    assert len(good.output.splitlines()) == 2
    assert all(": fine: " in line for line in good.output.splitlines())
    bad = Path("specs/belle2/bad.yaml")
    bad.write_text(specs.read_text(encoding="utf-8").replace("luminosity:", "luminsity:"), encoding="utf-8")
    found = cli("validate", specs, bad)
    assert found.code == 2
    first, *rest = found.output.splitlines()
    assert ": fine: " in first
    assert rest
    assert all(re.match(r"specs/belle2/bad\.yaml:\d+:\d+: ", line) for line in rest)
    assert "luminosity" in found.output


def test_validate_as_json(cli: Cli, specs: Path) -> None:
    """Catches a key that editors and scripts rely on, and text beside the one JSON document."""
    assert cli("validate", specs, "--json").document == []
    bad = Path("specs/belle2/bad.yaml")
    text = specs.read_text(encoding="utf-8").replace("luminosity:", "luminsity:").replace("445 pb^-1", "445 kg")
    bad.write_text(text, encoding="utf-8")
    found = cli("validate", specs, bad, "--json")
    assert found.code == 2
    assert found.errors == ""
    assert len(found.document) >= 1
    for problem in found.document:
        assert list(problem) == ["file", "line", "column", "path", "message"]
        assert problem["file"] == "specs/belle2/bad.yaml"
        assert isinstance(problem["line"], int)
        assert isinstance(problem["column"], int)


def test_missing_spec(cli: Cli) -> None:
    """Catches a missing file that is our failure and not the user's."""
    for command in (("show", "none.yaml"), ("run", "none.yaml", "-o", "x"), ("build", "none.yaml", "-o", "x")):
        found = cli(*command)
        assert (found.code, found.output) == (2, "")
        assert "none.yaml: no such file" in found.errors
    assert not Path("x").exists()
    assert cli("validate", "none.yaml").code == 2


def test_show(cli: Cli, specs: Path) -> None:
    """Catches a summary that does not follow --set."""
    found = cli("show", specs)
    assert (found.code, found.errors) == (0, "")
    assert "belle2-alp-gammagamma-2018" in found.output
    assert "0.445 fb^-1" in found.output
    assert "50 fb^-1" in cli("show", specs, "--set", "luminosity.value=50 fb^-1").output
    wrong = cli("show", specs, "--set", "luminosity.valu=50 fb^-1")
    assert wrong.code == 2
    assert "--set luminosity.valu=50 fb^-1" in wrong.errors


def test_show_grid(cli: Cli, specs: Path) -> None:
    """Catches a grid that is not the one that is run: a line for each point, with name, mass and channel."""
    lines = cli("show", specs, "--grid").output.splitlines()
    assert len(lines) > 400
    assert lines[0].split() == ["0", "m_a_0p2000", "0.2000", "GeV", "diphoton"]
    assert lines[-1].split()[-1] == "recoil"


def test_show_resolved(cli: Cli, specs: Path, tmp_path: Path) -> None:
    """Invariant: catches a resolved spec that is not complete: alone in another folder it asks for the same thing."""
    found = cli("show", specs, "--resolved", "--set", "seed=5")
    alone = tmp_path / "elsewhere" / "alone.yaml"
    alone.parent.mkdir()
    alone.write_text(found.output, encoding="utf-8")
    digests = [
        next(line for line in cli("show", *arguments).output.splitlines() if line.startswith("digest"))
        for arguments in ((alone,), (specs, "--set", "seed=5"), (specs,))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_show_origin(cli: Cli, specs: Path) -> None:
    """Catches an origin that points to the wrong line: the value stands there, in the file that it came from."""
    lines = cli("show", specs, "--origin", "--set", "seed=5").output.splitlines()
    (electron,) = [line for line in lines if "electron_energy:" in line]
    place = electron.split("# ")[1]
    name, line = place.rsplit(":", 1)
    assert name.endswith("specs/experiments/belle2.yaml")
    assert "electron_energy: 7.004 GeV" in Path(name).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    (seed,) = [line for line in lines if line.startswith("seed:")]
    assert "--set seed=5" in seed


# --------------------------------------------------------------------------------------------------- build and run


def test_build(cli: Cli, specs: Path) -> None:
    """Catches a build that finds limits, or leaves out the workspaces."""
    found = cli("build", specs, "-o", "out", "--points", "2", *SETTINGS)
    assert (found.code, found.output) == (0, "")
    assert "2 workspaces in out/workspaces" in found.errors
    assert len(list(Path("out/workspaces").iterdir())) == 2
    assert not Path("out/limits.csv").exists()
    plot = cli("plot", "out")
    assert plot.code == 2
    assert "no point has a limit" in plot.errors
    by_name = cli("plot", "out", "--point", "1.0")
    assert by_name.code == 2


def test_run_as_json(cli: Cli, specs: Path) -> None:
    """Catches progress on standard output, and a summary that does not add up; the second time all is there already."""
    command = (
        "run",
        specs,
        "-o",
        "out",
        "--points",
        "2",
        "--method",
        "cls",
        "--cl",
        "0.9",
        "--seed",
        "7",
        *SETTINGS,
        "--json",
    )
    found = cli(*command)
    assert found.code == 0
    document = found.document
    assert {k: document[k] for k in ("run", "points", "resumed", "failed")} == {
        "run": "out", "points": 2, "resumed": 0, "failed": {},
    }  # fmt: skip
    assert len(document["figures"]) == 6
    assert all(Path(figure).is_file() for figure in document["figures"])
    assert "2 of 2 points" in found.errors
    with Path("out/limits.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["method"], row["confidence_level"], row["data"]) for row in rows] == [("cls", "0.9", "pseudo:7")] * 2
    about = json.loads(Path("out/run.json").read_text(encoding="utf-8"))
    assert about["seed"] == 7
    assert about["command"].startswith(f"modelbuilder run {specs} -o out --points 2")
    assert cli(*command).document["resumed"] == 2


def test_failed_points_are_named(cli: Cli, specs: Path) -> None:
    """Catches a run with failures that looks like one without; and one with nothing but failures."""
    cut = "{quantity: mass(gamma gamma gamma) / sqrt_s, between: [0.05, 0.06], source: assumption"
    half = cli(
        "run", specs, "-o", "half", "--points", "2", *SETTINGS, "--set", f"selection.3={cut}, where: m_a > 5 GeV}}"
    )
    assert half.code == 0
    assert re.search(r"^failed: m_a_9p\d{4}: signal-outside$", half.errors, flags=re.MULTILINE)
    assert "2 points, 1 failed" in half.output
    whole = cli("run", specs, "-o", "whole", "--points", "2", *SETTINGS, "--set", f"selection.3={cut}}}", "--json")
    assert set(whole.document["failed"].values()) == {"signal-outside"}
    assert len(whole.document["failed"]) == 2
    assert whole.document["figures"] == []


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c(specs: Path, tmp_path: Path, jobs: str) -> None:
    """Catches an interrupt with tracebacks, with the wrong words, or that costs finished points; the run can go on."""
    out = tmp_path / "out"
    settings = [*SETTINGS[:-1], jobs]
    command = [sys.executable, "-m", "modelbuilder", "run", str(specs), "-o", str(out), "--points", "40", *settings]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    end = time.monotonic() + 400.0  # two processes may compile all kernels first, beside other tests
    journal = out / "points.jsonl"
    while not (journal.exists() and b"\n" in journal.read_bytes()) and time.monotonic() < end:
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the whole group
    output, errors = running.communicate(timeout=120)
    assert running.returncode == 1
    assert output == ""
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "interrupted; finished points are kept, run the same command again to go on"
    kept = journal.read_text(encoding="utf-8").count("\n")
    assert 0 < kept < 40
    again = process("run", specs, "-o", out, "--points", "3", *settings, "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["points"] == 3


# -------------------------------------------------------------------------------------------------- limit and plot


KEYS = [
    "poi",
    "method",
    "confidence_level",
    "status",
    "observed",
    "expected",
    "poi_hat",
    "p_value",
    "fits",
    "evaluations",
]


def workspace(signal: float = 5.0, **changes: Any) -> dict[str, Any]:
    """A counting experiment that a reader can redo: 50 +- 5 expected, 53 observed."""
    samples = [
        {"name": "s", "data": [signal], "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]},
        {
            "name": "b",
            "data": [50.0],
            "modifiers": [{"name": "norm", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}],
        },
    ]
    return {
        "channels": [{"name": "SR", "samples": samples}],
        "observations": [{"name": "SR", "data": [53.0]}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
        **changes,
    }


def written(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_limit_of_a_plain_workspace(cli: Cli, tmp_path: Path) -> None:
    """Reference: the limits of stock pyhf, to the accuracy of its own scan; and the keys that scripts rely on."""
    path = written(tmp_path / "w.json", workspace())
    cli("limit", path)  # says that it compiles, where nothing has
    found = cli("limit", path, "--json")
    assert (found.code, found.errors) == (0, "")
    document = found.document
    assert [key for key in document if key in KEYS] == KEYS
    assert (document["poi"], document["method"], document["confidence_level"]) == ("mu", "cls", 0.95)
    model = pyhf.Workspace(workspace()).model()
    data = pyhf.Workspace(workspace()).data(model)
    observed, expected = pyhf.infer.intervals.upper_limits.toms748_scan(data, model, 0.0, 10.0, rtol=1e-6)
    assert document["observed"] == pytest.approx(float(observed), rel=1e-3)
    assert document["expected"] == pytest.approx([float(value) for value in expected], rel=1e-3)
    assert document["fits"] > 0
    assert document["evaluations"] >= document["fits"]


def test_limit_options(cli: Cli, tmp_path: Path) -> None:
    """Every option must matter: method and confidence level."""
    path = written(tmp_path / "w.json", workspace())
    default = cli("limit", path, "--json").document
    lower = cli("limit", path, "--json", "--cl", "0.9").document
    one_sided = cli("limit", path, "--json", "--method", "profile-likelihood").document
    assert lower["confidence_level"] == 0.9
    assert lower["observed"] < default["observed"]
    assert one_sided["method"] == "profile-likelihood"
    assert one_sided["observed"] < default["observed"]
    text = cli("limit", path)
    assert text.code == 0
    head, line = text.output.splitlines()
    assert head.split()[:3] == ["name", "observed", "expected"]
    assert line.split()[0] == "mu"
    assert line.split()[-1] == "ok"
    assert float(line.split()[1]) == pytest.approx(default["observed"], rel=1e-4)


def test_what_to_keep_in_mind_is_said(cli: Cli, tmp_path: Path) -> None:
    """Catches a table that hides what the JSON tells: warnings, and how well toys know a limit: here ln 20 events."""
    rare = workspace(5.0, observations=[{"name": "SR", "data": [0.0]}])
    rare["channels"][0]["samples"][1]["data"] = [0.5]
    path = written(tmp_path / "w.json", rare)
    assert "warning: mu: 0.497 effective background events, fewer than 5" in cli("limit", path).errors
    toys = cli("limit", path, "--toys", "400")
    note = r"note: mu: with these toys the observed limit is known to lie between (\S+) and (\S+)"
    low, high = (float(edge) for edge in re.search(note, toys.errors).groups())  # type: ignore[union-attr]
    assert low < math.log(20.0) / 5.0 < high
    assert len(toys.output.splitlines()) == 2


def test_the_confidence_level_is_that_of_the_run(cli: Cli, tmp_path: Path, specs: Path) -> None:
    """Catches limits at 95 % from a run at 90 %, and a table that does not say which."""
    run = tmp_path / "out"
    assert cli("run", specs, "-o", run, "--points", "1", "--cl", "0.9", *SETTINGS).code == 0
    with (run / "limits.csv").open(encoding="utf-8", newline="") as stream:
        (row,) = (row for row in csv.DictReader(stream) if row["method"] == "cls")
    (found,) = cli("limit", run, "--json").document
    assert found["confidence_level"] == 0.9
    assert found["observed"] == pytest.approx(float(row["mu_observed"]), rel=1e-6)
    assert "upper limits at 90 % CL, cls" in cli("limit", run).errors
    (other,) = cli("limit", run, "--json", "--cl", "0.99").document
    assert other["observed"] > found["observed"]


def test_bayesian_options(cli: Cli, tmp_path: Path) -> None:
    """Reference: with no events the flat prior gives ln 20 events at 95 %, whatever the background; every option matters."""
    path = written(tmp_path / "w.json", workspace(5.0, observations=[{"name": "SR", "data": [0.0]}]))
    flat = cli("limit", path, "--json", "--method", "bayesian").document
    assert flat["observed"] == pytest.approx(math.log(20.0) / 5.0, rel=1e-6)
    assert (flat["expected"], flat["prior"]) == (None, "flat")
    steep = cli("limit", path, "--json", "--method", "bayesian", "--prior", "inverse-sqrt").document
    assert steep["observed"] < flat["observed"]
    band = cli("limit", path, "--json", "--method", "bayesian", "--toys", "100").document
    assert band["observed"] == flat["observed"]
    assert band["expected"] == sorted(band["expected"])
    assert band["expected"][0] > band["observed"]
    for options, message in (
        (("--prior", "flat"), "only --method bayesian has a prior"),
        (("--cl", "0.5"), "above 0.5"),
    ):
        wrong = cli("limit", path, *options)
        assert wrong.code == 2
        assert message in wrong.errors


def patchset(background: dict[str, Any]) -> dict[str, Any]:
    def patch(name: str, size: float) -> dict[str, Any]:
        operation = {"op": "replace", "path": "/channels/0/samples/0/data/0", "value": size}
        return {"metadata": {"name": name, "values": [size]}, "patch": [operation]}

    metadata = {
        "name": "masses",
        "description": "signals",
        "labels": ["mass"],
        "references": {"hepdata": "ins1234567"},
        "digests": {"sha256": pyhf.utils.digest(background)},
    }
    return {
        "metadata": metadata,
        "patches": [patch("m_5", 5.0), patch("m_10", 10.0), patch("other", 20.0)],
        "version": "1.0.0",
    }


def test_limit_with_a_patchset(cli: Cli, tmp_path: Path) -> None:
    """Catches patches that are lost, that are applied one upon the other, or that cannot be chosen by a pattern."""
    path, patches = written(tmp_path / "b.json", workspace(1.0)), written(tmp_path / "p.json", patchset(workspace(1.0)))
    found = cli("limit", path, "--patchset", patches, "--json").document
    assert [(item["patch"], item["values"]) for item in found] == [("m_5", [5.0]), ("m_10", [10.0]), ("other", [20.0])]
    for item in found:
        assert set(KEYS) <= set(item)
        assert item["observed"] * item["values"][0] == pytest.approx(5.0 * found[0]["observed"], rel=1e-6)
    alone = cli("limit", written(tmp_path / "w.json", workspace(10.0)), "--json").document
    assert found[1]["observed"] == pytest.approx(alone["observed"], rel=1e-9)
    chosen = cli("limit", path, "--patchset", patches, "--patch", "m_*", "--json").document
    assert [item["patch"] for item in chosen] == ["m_5", "m_10"]
    one = cli("limit", path, "--patchset", patches, "--patch", "other", "--json").document
    assert [item["patch"] for item in one] == ["other"]
    none = cli("limit", path, "--patchset", patches, "--patch", "m_7")
    assert none.code == 2
    assert "no patch is called m_7; there is for example m_5" in none.errors


def test_a_patchset_for_another_workspace(cli: Cli, tmp_path: Path) -> None:
    """Catches patches on a workspace that they were not made for."""
    path = written(tmp_path / "b.json", workspace(1.0))
    for json_flag in ((), ("--json",)):
        found = cli("limit", path, "--patchset", written(tmp_path / "p.json", patchset(workspace(2.0))), *json_flag)
        assert found.code == 2
        assert "p.json: does not belong to" in found.errors
        assert "Traceback" not in found.errors
    broken = patchset(workspace(1.0))
    del broken["metadata"]["labels"]
    found = cli("limit", path, "--patchset", written(tmp_path / "p.json", broken))
    assert found.code == 2
    assert "p.json: not a pyhf patchset: " in found.errors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", "w.json:1:2: not valid JSON"),
        ("", "not valid JSON"),
        ("[1, 2]", "a workspace is a JSON object"),
        ("{}", "workspace"),
        (json.dumps(workspace()).replace("53.0", "NaN"), "found NaN; a number must be finite"),
        (json.dumps(workspace()).replace("53.0", "1e999"), "a number must be finite"),
        (json.dumps(workspace()).replace('"version"', '"channels": [], "version"'), "the key 'channels' stands twice"),
        (json.dumps(workspace(observations=[])), "workspace"),
        (json.dumps(workspace()).replace("normsys", "normsis"), "workspace"),
        (json.dumps(workspace()).replace('"poi": "mu"', '"poi": "nu"'), "nu"),
    ],
    ids=["text", "empty", "list", "no keys", "nan", "overflow", "twice", "no data", "modifier", "poi"],
)
def test_limit_of_a_bad_file(cli: Cli, tmp_path: Path, content: str, message: str) -> None:
    """Catches untrusted input that ends in a traceback, in a limit, or in text on standard output."""
    found = cli("limit", written(tmp_path / "w.json", content), "--json")
    assert (found.code, found.output) == (2, "")
    assert message in found.errors
    assert found.errors.startswith("error: ")
    assert "Traceback" not in found.errors


def test_limit_of_nothing(cli: Cli, tmp_path: Path) -> None:
    """Catches a missing file, a folder that is no run, and a pattern that has nothing to choose from."""
    assert "no such file" in cli("limit", tmp_path / "none.json").errors
    assert cli("limit", tmp_path / "none.json").code == 2
    assert "not a run directory" in cli("limit", tmp_path).errors
    assert cli("limit", tmp_path).code == 2
    found = cli("limit", written(tmp_path / "w.json", workspace()), "--patch", "m_*")
    assert found.code == 2
    assert "--patch needs --patchset, or a run directory" in found.errors


def test_one_bad_patch_does_not_cost_the_others(cli: Cli, tmp_path: Path) -> None:
    """Catches a patch that cannot be applied, and takes the results of all others with it; alone it is the user's fault."""
    patches = patchset(workspace(1.0))
    patches["patches"][1]["patch"][0]["path"] = "/channels/7/samples/0/data/0"
    path, bad = written(tmp_path / "b.json", workspace(1.0)), written(tmp_path / "p.json", patches)
    found = cli("limit", path, "--patchset", bad, "--json")
    assert found.code == 0
    assert [item["status"] for item in found.document] == ["ok", "invalid-workspace", "ok"]
    assert "cannot be applied to the workspace" in found.document[1]["detail"]
    text = cli("limit", path, "--patchset", bad)
    assert "failed: m_10: invalid-workspace: " in text.errors
    assert cli("limit", path, "--patchset", bad, "--patch", "m_10").code == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[50.0]", "[1" + 400 * "0" + "]", "too large; a number must be finite"),
        ('"lo": 0.9', '"lo": 0.0', "found hi 1.1, lo 0.0; factors are above 0"),
    ],
)
def test_numbers_that_nobody_can_use(cli: Cli, tmp_path: Path, old: str, new: str, message: str) -> None:
    """Catches a number that is called a fault of ours, or that pyhf turns into NaN and warnings."""
    found = cli("limit", written(tmp_path / "w.json", json.dumps(workspace()).replace(old, new)))
    assert found.code == 2
    assert message in found.errors
    assert len(found.errors.splitlines()) == 1


def test_a_failed_limit_says_so(cli: Cli, tmp_path: Path) -> None:
    """Catches a failure that looks like a limit: exit code 1, a status, and no numbers."""
    found = cli("limit", written(tmp_path / "w.json", workspace(0.0)), "--json")
    assert found.code == 1
    assert found.document["status"] == "no-signal"
    assert "observed" not in found.document
    assert "error: no-signal: mu changes no expected yield" in found.errors
    text = cli("limit", written(tmp_path / "w.json", workspace(0.0)))
    assert text.code == 1
    assert text.output.splitlines()[-1].split() == ["mu", "no-signal"]


def test_limit_of_a_run(cli: Cli, small_run: Path) -> None:
    """Catches a run whose limits cannot be found again by the name of the point."""
    with (small_run / "limits.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["method"] == "cls"]
    found = cli("limit", small_run, "--json").document
    assert [item["patch"] for item in found] == [row["point"] for row in rows]
    for item, row in zip(found, rows, strict=True):
        assert item["observed"] == pytest.approx(float(row["mu_observed"]), rel=1e-6)
        assert item["values"] == [float(row["m_a_gev"])]
    one = cli("limit", small_run, "--patch", "m_a_0*", "--json")
    assert [item["patch"] for item in one.document] == [rows[0]["point"]]
    none = cli("limit", small_run, "--patch", "m_b*")
    assert none.code == 2
    assert "there is for example m_a_0p2000" in none.errors


def test_significance(cli: Cli, small_run: Path, tmp_path: Path) -> None:
    """Catches numbers that are printed and not kept, or differ between the two; and a folder that is no run."""
    run = tmp_path / "out"
    shutil.copytree(small_run, run)
    found = cli("significance", run, "--toys", "200", "--json")
    assert found.code == 0
    assert json.loads((run / "significance.json").read_text()) == found.document
    assert found.document["points"] == 4
    assert 0.0 < found.document["toys"]["p_value"] <= 1.0
    text = cli("significance", run, "--toys", "200").output.splitlines()
    assert text[0].startswith(f"largest of 4 points: m_a = {found.document['masses_gev']['m_a']:g} GeV")
    p_value = found.document["toys"]["p_value"]
    shown = "none: " if p_value >= 0.5 else f"{found.document['toys']['significance']:.2f} ("
    assert text[2].startswith(f"global, toys         {shown}")
    assert cli("significance", tmp_path).code == 2


def test_inject(cli: Cli, small_run: Path, tmp_path: Path) -> None:
    """Catches numbers that are printed and not kept, strengths that are not those asked for, and a folder that is no run."""
    run = tmp_path / "out"
    shutil.copytree(small_run, run)
    found = cli("inject", run, "--points", "2", "--strengths", "0,3", "--toys", "100", "--json")
    assert found.code == 0
    assert json.loads((run / "injection.json").read_text()) == found.document
    assert [one["strength"] for point in found.document for one in point["injections"]] == [0.0, 3.0, 0.0, 3.0]
    text = cli("inject", run, "--points", "2", "--strengths", "3", "--toys", "100").output.splitlines()
    assert text[0].split()[:3] == [found.document[0]["point"], "3", "sigma"]
    alone = cli("inject", run, "--strengths", "0", "--toys", "0", "--json").document
    assert len(alone) > 2
    assert all(point["injections"][0]["pulls"] is None for point in alone)
    assert cli("inject", run, "--toys", "50").code == 2
    wrong = cli("inject", run, "--strengths", "1,x")
    assert (wrong.code, wrong.errors) == (
        2,
        "error: --strengths 1,x: expected numbers of standard deviations, 0 or more, as in 0,2,5\n",
    )
    assert cli("inject", tmp_path).code == 2


# ---------------------------------------------------------------------------------------------------------------- fit


def control_region() -> dict[str, Any]:
    """The counting experiment with a control region of 100 events, 104 observed, so that there is something to pull."""
    background = {"name": "b", "data": [100.0], "modifiers": workspace()["channels"][0]["samples"][1]["modifiers"]}
    control = {"name": "CR", "samples": [background]}
    return workspace(
        channels=[*workspace()["channels"], control],
        observations=[{"name": "CR", "data": [104.0]}, {"name": "SR", "data": [53.0]}],
    )


def saturated(*counts: float) -> float:
    """-2 ln L where each count is expected, and one normal constraint is at its best."""
    terms = [count - count * math.log(count) + math.lgamma(count + 1.0) for count in counts]
    return 2.0 * sum(terms) + math.log(2.0 * math.pi)


def test_fit_of_a_plain_workspace(cli: Cli, tmp_path: Path) -> None:
    """Reference: stock pyhf, and the deviance of the saturated model; and the keys that scripts rely on."""
    found = cli("fit", written(tmp_path / "w.json", control_region()), "--json")
    assert (found.code, found.errors) == (0, "")
    document = found.document
    assert list(document) == [
        "poi", "data", "status", "twice_nll", "poi_hat", "poi_uncertainty", "poi_interval", "at_bounds", "parameters",
        "goodness_of_fit", "fits", "evaluations", "warnings",
    ]  # fmt: skip
    model = pyhf.Workspace(control_region()).model()
    data = pyhf.Workspace(control_region()).data(model)
    best, least = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
    rows = {row["name"]: row for row in document["parameters"]}
    assert [rows[name]["bestfit"] for name in model.config.par_names] == pytest.approx(list(best), abs=1e-3)
    assert document["twice_nll"] == pytest.approx(float(least), abs=1e-5)
    norm, mu = rows["norm"], rows["mu"]
    assert (norm["pull"], norm["pull_uncertainty"]) == (norm["bestfit"], norm["uncertainty"])
    assert "pull" not in mu
    assert (mu["bestfit"], mu["uncertainty"]) == (document["poi_hat"], document["poi_uncertainty"])
    assert document["poi_interval"]["upper"] == pytest.approx(mu["bestfit"] + mu["uncertainty"], rel=0.2)
    assert document["goodness_of_fit"]["degrees_of_freedom"] == 1
    assert document["goodness_of_fit"]["statistic"] == pytest.approx(float(least) - saturated(104.0, 53.0), abs=1e-5)


def test_fit_options(cli: Cli, tmp_path: Path) -> None:
    """Every option must matter: Asimov data, impacts, toys and their seed, and figures that are there."""
    path = written(tmp_path / "w.json", control_region())
    asimov = cli("fit", path, "--json", "--asimov").document
    assert asimov["data"] == "Asimov data"
    assert asimov["poi_hat"] == pytest.approx(1.0, abs=1e-6)
    assert asimov["goodness_of_fit"]["statistic"] == pytest.approx(0.0, abs=1e-6)
    found = cli("fit", path, "--json", "--impacts", "--toys", "200", "--plot", tmp_path / "figures").document
    (impact,) = found["impacts"]
    assert impact["parameter"] == "norm"
    assert impact["postfit_up"] < 0.0 < impact["postfit_down"] <= impact["prefit_down"]
    assert impact["cut_short"] == ["postfit_up", "prefit_up"]
    assert "mu stops at its bound, which cuts them short for norm" in found["warnings"][-1]
    good = found["goodness_of_fit"]
    assert (good["toys"], good["failed_toys"]) == (200, 0)
    assert good["toys_p_value_interval"][0] < good["toys_p_value"] < good["toys_p_value_interval"][1]
    seeds = [cli("fit", path, "--json", "--toys", "200", "--seed", seed).document for seed in range(3)]
    assert len({document["goodness_of_fit"]["toys_p_value"] for document in seeds}) > 1
    names = [f"{name}{suffix}" for name in ("pulls", "correlation", "ranking") for suffix in (".pdf", ".png", ".csv")]
    assert found["figures"] == [str(tmp_path / "figures" / name) for name in names]
    assert all(Path(name).is_file() for name in found["figures"])
    text = cli("fit", path, "--impacts", "--toys", "200", "--plot", tmp_path / "figures").output
    for line in (
        r"mu: fit of observed data, status ok",
        r"norm +0\.\d+ +0\.\d+ +0\.\d+ +0\.\d+",
        r"mu, from its profile: 0 \(bound\) to \d\.\d+",
        r"goodness of fit: .* with 1 degrees of freedom \(saturated\), p-value 0\.\d+",
        r"goodness of fit: p-value 0\.\d+ with 200 toys, between 0\.\d+ and [01]\.?\d*",
        r"norm( +-\d\S*  *\d\S*){2}",
        r"figure: .*ranking\.png",
    ):
        assert re.search(rf"^{line}$", text, flags=re.MULTILINE), (line, text)


def test_fit_with_a_patchset(cli: Cli, tmp_path: Path) -> None:
    """Catches patches that are lost, and figures of one patch that replace those of another."""
    path, patches = written(tmp_path / "b.json", control_region()), patchset(control_region())
    options = ("--patchset", written(tmp_path / "p.json", patches), "--patch", "m_*", "--plot", tmp_path / "figures")
    found = cli("fit", path, *options, "--json").document
    assert [(item["patch"], item["values"]) for item in found] == [("m_5", [5.0]), ("m_10", [10.0])]
    assert found[0]["poi_hat"] == pytest.approx(2.0 * found[1]["poi_hat"], rel=1e-6)
    assert [Path(name).name for name in found[1]["figures"][::3]] == ["pulls_m_10.pdf", "correlation_m_10.pdf"]
    assert all(Path(name).is_file() for item in found for name in item["figures"])


def test_a_failed_fit_says_so(cli: Cli, tmp_path: Path) -> None:
    """Catches a failure that looks like a fit: exit code 1, a status, and no numbers."""
    spec = workspace()
    spec["channels"][0]["samples"][1]["modifiers"] = [
        {"name": name, "type": "normfactor", "data": None} for name in ("k1", "k2")
    ]
    path = written(tmp_path / "w.json", spec)
    found = cli("fit", path, "--json", "--plot", tmp_path / "figures")
    assert found.code == 1
    assert list(found.document) == ["poi", "data", "status", "detail", "figures"]
    assert (found.document["status"], found.document["figures"]) == ("singular-hessian", [])
    assert "error: singular-hessian: the data do not constrain this combination" in found.errors
    text = cli("fit", path)
    assert text.code == 1
    assert text.output.startswith("mu: singular-hessian: ")


def test_fit_of_a_bad_file(cli: Cli, tmp_path: Path) -> None:
    """Catches faults of the user that are not exit code 2, or text on standard output."""
    bad = written(tmp_path / "w.json", json.dumps(workspace()).replace("normsys", "normsis"))
    good = written(tmp_path / "v.json", workspace())
    (tmp_path / "empty").mkdir()
    for arguments in ((bad,), (tmp_path / "none.json",), (tmp_path / "empty",), (good, "--patch", "x")):
        found = cli("fit", *arguments)
        assert (found.code, found.output) == (2, "")
        assert found.errors.startswith("error: ")


def test_fit_of_a_run(cli: Cli, small_run: Path) -> None:
    """Catches a run whose points cannot be fitted by their name."""
    (one,) = cli("fit", small_run, "--patch", "m_a_0p2*", "--json").document
    assert (one["patch"], one["status"]) == ("m_a_0p2000", "ok")
    assert one["goodness_of_fit"]["degrees_of_freedom"] > 30


def test_plot(cli: Cli, small_run: Path, tmp_path: Path) -> None:
    """Catches a point that cannot be chosen by its name or its mass, and figures that are named and not there."""
    run = tmp_path / "out"
    shutil.copytree(small_run, run)
    found = cli("plot", run)
    assert found.code == 0
    paths = [Path(line) for line in found.output.splitlines()]
    assert [path.suffix for path in paths].count(".csv") == 4  # two quantities, two methods, the numbers of each figure
    assert len(paths) == 12
    assert all(path.is_file() for path in paths)
    for name in ("m_a_0p2000", "0.3"):
        with_point = cli("plot", run, "--point", name)
        assert with_point.code == 0
        assert len(with_point.output.splitlines()) == 21  # as well as templates, spectrum after the fit, pulls
        assert "postfit_m_a_0p2000.png" in with_point.output
    wrong = cli("plot", run, "--point", "eta")
    assert wrong.code == 2
    assert "no grid point is called 'eta' in this run; there is for example m_a_0p2000" in wrong.errors
    nowhere = cli("plot", tmp_path)
    assert nowhere.code == 2
    assert "not a run directory" in nowhere.errors


# ---------------------------------------------------------------------------------------------------------- schema


def test_schema(cli: Cli, tmp_path: Path) -> None:
    """Catches files that differ from what is printed, and a check that passes whatever it finds."""
    printed = cli("schema").document
    assert set(printed) == {"search.schema.json", "combination.schema.json", "experiment.schema.json"}
    folder = tmp_path / "schemas"
    out = cli("schema", "-o", folder)
    assert out.code == 0
    assert {Path(line).name for line in out.output.splitlines()} == set(printed)
    for name, content in printed.items():
        assert json.loads((folder / name).read_text(encoding="utf-8")) == content
    assert cli("schema", "--check", folder).code == 0
    (folder / "search.schema.json").write_text("{}", encoding="utf-8")
    changed = cli("schema", "--check", folder)
    assert changed.code == 1
    assert "search.schema.json" in changed.output
    assert cli("schema", "--check", tmp_path / "nowhere").code == 1
