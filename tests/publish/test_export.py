"""Files for other programs, read by those programs where they are installed, and by what reads them here."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pyhf
import pytest

from modelbuilder.errors import BundleError, UserError, WorkspaceError
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.publish import hs3
from modelbuilder.publish.darkcast import read_limits
from modelbuilder.publish.export import export_darkcast, export_targets
from modelbuilder.publish.hs3 import DIALECTS, from_hs3, to_hs3
from modelbuilder.publish.verify import difference
from modelbuilder.scan.target import Target, targets_at

from .conftest import SHARED, MakeRun, normsys


def everything(*, staterror: bool = True, shapesys: bool = True) -> Any:
    """Two channels with every modifier but shapefactor, parameters shared between them, and one that is fixed."""
    lumi = {"name": "lumi", "type": "lumi", "data": None}

    def factor(name: str) -> Any:
        return {"name": name, "type": "normfactor", "data": None}

    def shape(name: str, high: list[float], low: list[float]) -> Any:
        return {"name": name, "type": "histosys", "data": {"hi_data": high, "lo_data": low}}

    def binwise(kind: str, name: str, data: list[float], wanted: bool) -> list[Any]:
        return [{"name": name, "type": kind, "data": data}] if wanted else []

    control = [
        {"name": "background", "data": [100.0, 50.0, 20.0], "modifiers": [factor("scale"), normsys("theory", 0.1)]},
        {"name": "other", "data": [5.0, 4.0, 3.0], "modifiers": [lumi]},
    ]
    signal_region = [
        {
            "name": "background",
            "data": [50.0, 40.0],
            "modifiers": [
                factor("scale"),
                normsys("theory", 0.2),
                shape("tilt", [55.0, 42.0], [46.0, 37.0]),
                *binwise("staterror", "staterror_SR", [3.0, 2.0], staterror),
            ],
        },
        {
            "name": "other",
            "data": [10.0, 12.0],
            "modifiers": [
                lumi,
                *binwise("staterror", "staterror_SR", [1.0, 1.5], staterror),
                *binwise("shapesys", "uncorrelated", [2.0, 3.0], shapesys),
            ],
        },
        {
            "name": "signal",
            "data": [5.0, 10.0],
            "modifiers": [
                factor("mu"),
                lumi,
                normsys("trigger", 0.05),
                normsys("held", 0.3),
                shape("tilt", [5.5, 9.7], [4.6, 10.4]),
            ],
        },
    ]
    parameters = [
        {"name": "mu", "inits": [1.0], "bounds": [[0.0, 20.0]]},
        {"name": "scale", "inits": [1.1], "bounds": [[0.0, 5.0]]},
        {"name": "held", "inits": [0.5], "fixed": True},
        {"name": "lumi", "inits": [1.0], "bounds": [[0.9, 1.1]], "auxdata": [1.0], "sigmas": [0.02]},
    ]
    return {
        "channels": [{"name": "CR", "samples": control}, {"name": "SR", "samples": signal_region}],
        "measurements": [{"name": "meas", "config": {"poi": "mu", "parameters": parameters}}],
        "observations": [{"name": "CR", "data": [105.0, 48.0, 22.0]}, {"name": "SR", "data": [62.0, 55.0]}],
        "version": "1.0.0",
    }


def points_of(likelihood: CompiledLikelihood) -> list[dict[str, float]]:
    """Parameter values off their centres; fixed ones stay."""
    found = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        found.append(
            {
                p.name: p.init if p.fixed else p.init + (p.width or 0.2) * rng.uniform(-0.9, 0.9)
                for p in likelihood.parameters
            }
        )
    return found


def rises(values: list[float]) -> list[float]:
    """-2 ln L without its constant, which every program counts in its own way."""
    return [value - values[0] for value in values]


def wanted(workspace: Any) -> tuple[list[dict[str, float]], list[float]]:
    likelihood = CompiledLikelihood(workspace)
    points = points_of(likelihood)
    return points, rises([likelihood.twice_nll([point[n] for n in likelihood.parameter_names]) for point in points])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_hs3_reads_back(dialect: hs3.Dialect) -> None:
    """Catches a number or a setting that is lost on the way; programs of others are asked below."""
    workspace = everything()
    again = from_hs3(json.loads(json.dumps(to_hs3(workspace, dialect))), dialect)
    pyhf.schema.validate(again, "workspace.json")
    assert difference(CompiledLikelihood(workspace), CompiledLikelihood(again), where="x") < 1e-13


def test_dialects_of_hs3() -> None:
    """Facts about the two readers, each found by trying: what they take from where."""
    root, pyhs3 = (to_hs3(everything(), dialect) for dialect in DIALECTS)

    def modifier(document: Any, kind: str) -> Any:
        channel = next(item for item in document["distributions"] if item["name"] == "model_SR")
        return next(m for sample in channel["samples"] for m in sample["modifiers"] if m["type"] == kind)

    assert modifier(root, "shapesys")["data"]["vals"] == [2.0 / 10.0, 3.0 / 12.0]  # relative
    assert modifier(pyhs3, "shapesys")["data"]["vals"] == [2.0, 3.0]
    assert [item.get("staterror") for item in root["distributions"][:2]] == [None, {"constraint_type": "Gauss"}]
    for document in (root, pyhs3):
        assert document["likelihoods"][0]["aux_distributions"] == ["LumiConstraint"]
        assert document["analyses"][0]["domains"] == ["default_domain"]
        held = {item["name"]: item for item in document["parameter_points"][0]["parameters"]}["alpha_held"]
        assert (held["value"], held["const"]) == (0.5, True)


@pytest.mark.skipif(find_spec("pyhs3") is None, reason="pyhs3 is not installed")
@pytest.mark.parametrize("shapesys", [False, True])
def test_hs3_in_pyhs3(shapesys: bool, tmp_path: Path) -> None:
    """Reference: -2 ln L by pyhs3, without staterror, which its release 0.4.2 does not read."""
    import pyhs3
    import pytensor
    from pytensor.graph.traversal import explicit_graph_inputs

    workspace = everything(staterror=False, shapesys=shapesys)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(to_hs3(workspace, "pyhs3")))
    model = pyhs3.Workspace.load(path).model("meas", progress=False)
    inputs = list(explicit_graph_inputs([model.log_prob]))
    function = pytensor.function(inputs, model.log_prob, on_unused_input="ignore")
    points, expected = wanted(workspace)
    found = []
    for point in points:
        values = hs3_names(point)
        found.append(-2.0 * float(np.squeeze(function(*(np.float64(values[str(x.name)]) for x in inputs)))))
    assert rises(found) == pytest.approx(expected, abs=1e-9)


ROOT_SCRIPT = """
import json, os, sys
import ROOT
ROOT.RooMsgService.instance().setGlobalKillBelow(ROOT.RooFit.ERROR)
document, points = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
ws = ROOT.RooWorkspace("w")
ROOT.RooJSONFactoryWSTool(ws).importJSON(sys.argv[1])
config = ws.obj("meas")
category, weight, columns = config.GetPdf().indexCat(), ROOT.RooRealVar("weight", "", 1.0), ROOT.RooArgSet()
for data in document["data"]:
    columns.add(ws.var(data["axes"][0]["name"]))
columns.add(category)
columns.add(weight)
observed = ROOT.RooDataSet("d", "d", columns, ROOT.RooFit.WeightVar("weight"))
for data in document["data"]:
    category.setLabel(data["name"].replace("obsData_", "model_"))
    for index, content in enumerate(data["contents"]):
        ws.var(data["axes"][0]["name"]).setVal(index + 0.5)
        observed.add(columns, content)
nll = config.GetPdf().createNLL(observed, ROOT.RooFit.Constrain(config.GetNuisanceParameters()))
values = []
for point in points:
    for name, value in point.items():
        if ws.var(name):
            ws.var(name).setVal(value)
    values.append(2.0 * nll.getVal())
print("VALUES", json.dumps(values), flush=True)
os._exit(0)  # ROOT crashes when Python takes it down
"""


@pytest.mark.skipif(find_spec("ROOT") is None, reason="ROOT is not installed")
@pytest.mark.parametrize("staterror", [False, True])
@pytest.mark.parametrize("shapesys", [False, True])
def test_hs3_in_root(staterror: bool, shapesys: bool, tmp_path: Path) -> None:
    """Reference: -2 ln L by RooFit, of two channels together."""
    workspace = everything(staterror=staterror, shapesys=shapesys)
    points, expected = wanted(workspace)
    (tmp_path / "x.json").write_text(json.dumps(to_hs3(workspace, "root")))
    (tmp_path / "points.json").write_text(json.dumps([hs3_names(point) for point in points]))
    command = [sys.executable, "-c", ROOT_SCRIPT, str(tmp_path / "x.json"), str(tmp_path / "points.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("VALUES")]
    assert rises(json.loads(line.removeprefix("VALUES"))) == pytest.approx(expected, abs=1e-9)


def hs3_names(point: dict[str, float]) -> dict[str, float]:
    """The values by the names that the parameters have in HS3."""
    found = {}
    for name, value in point.items():
        if name == "lumi":
            found["Lumi"] = value
        elif "[" in name:
            found[f"gamma_{name.replace('[', '_bin_').removesuffix(']')}"] = value
        else:
            found[name] = found[f"alpha_{name}"] = value
    return found


def test_xml_in_pyhf(tmp_path: Path) -> None:
    """Reference: pyhf's reader of XML and ROOT files, from a folder that was moved."""
    from pyhf import readxml

    (path,) = export_targets([Target(name="x", values=(), workspace=everything())], tmp_path / "out", "xml")
    moved = tmp_path / "moved"
    path.rename(moved)
    readxml.clear_filecache()
    read = pyhf.Workspace(readxml.parse(moved / "FitConfig.xml", moved))
    one, two = pyhf.Workspace(everything()).model(), read.model()
    assert one.config.par_names == two.config.par_names
    points, _ = wanted(everything())
    for point in points:
        pars = [point[name] for name in one.config.par_names]
        assert float(two.logpdf(pars, read.data(two))[0]) == pytest.approx(
            float(one.logpdf(pars, pyhf.Workspace(everything()).data(one))[0]), rel=1e-10
        )


@pytest.mark.parametrize("name", ["../up", "a/b", "a b", 'x"/>', ""])
def test_names_that_xml_cannot_have(name: str, tmp_path: Path) -> None:
    """Catches a channel of a stranger's workspace that is written as a file elsewhere; nothing is left."""
    workspace = json.loads(json.dumps(SHARED[0]))
    workspace["channels"][0]["name"] = workspace["observations"][0]["name"] = name
    with pytest.raises(WorkspaceError, match="not a name for XML and ROOT files"):
        export_targets([Target(name="x", values=(), workspace=workspace)], tmp_path / "out", "xml")
    assert list((tmp_path / "out").iterdir()) == []


def test_uhi_in_hist(windows_run: Path, tmp_path: Path) -> None:
    """Reference: hist reads the values, the variances and the edges that the run had."""
    from modelbuilder.histograms.templates import from_uhi_json

    paths = export_targets(targets_at(windows_run), tmp_path, "uhi", run=windows_run)
    assert [path.name for path in paths] == [f"m_a_{mass}p0000.uhi.json" for mass in (1, 2, 3)]
    found: dict[str, hist.Hist[Any]] = from_uhi_json(paths[1].read_text())
    background = found["plane/background"]
    assert background.axes[0].edges.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert background.values() == pytest.approx([10.0 / 3.0, 5.0, 5.0])
    assert background.variances() == pytest.approx([(1.0 / 3.0) ** 2, 0.25, 0.25])
    assert found["plane/background/background_rate/up"].values() == pytest.approx([40.0 / 9.0, 20.0 / 3.0, 20.0 / 3.0])
    assert found["plane/signal/tilt/down"].values()[0] == pytest.approx(0.9 * 4.0 / 3.0)
    assert found["plane/observation"].values().tolist() == [3.0, 5.0, 6.0]


def test_darkcast(windows_run: Path, tmp_path: Path) -> None:
    """Catches another coupling or order of columns; the .py says nothing that the run does not know."""
    paths = export_darkcast(windows_run, tmp_path)
    assert [path.suffix for path in paths] == [".lmt", ".py"] * 2
    rows = [r for r in json.loads((windows_run / "limits.json").read_text())["rows"] if r["method"] == "cls"]
    assert read_limits(paths[0]) == [
        pytest.approx((row["m_a_gev"], row["g_agammagamma_per_gev_observed"]), rel=1e-8) for row in rows
    ]
    assert paths[0].read_text().startswith("# mass lower [upper]\n")
    text = paths[1].read_text()
    assert text.count("FILL_IN") == 3
    assert f"limits/{paths[0].name}" in text
    assert "simulated" in text


def test_darkcast_is_no_way_to_run_code(make_run: MakeRun, tmp_path: Path) -> None:
    """Catches a title that ends the text it stands in, in a file that Darkcast imports."""
    run = tmp_path / "run"
    shutil.copytree(make_run(SHARED[:1]), run)
    title = '"""\nimport os\nos.system("x")\n# \\\' \u2028'
    lines = (run / "spec.resolved.yaml").read_text().splitlines()
    changed = [f"title: {json.dumps(title)}" if line.startswith("title:") else line for line in lines]
    (run / "spec.resolved.yaml").write_text("\n".join(changed) + "\n")
    digest = _digest(run)
    for name in ("run.json", "limits.json"):
        document = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps({**document, "digest": digest}))
    for path in export_darkcast(run, tmp_path / "out"):
        if path.suffix == ".py":
            tree = ast.parse(path.read_text())
            names = {
                node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "attr")
            }
            assert names == {"Model", "Production", "Dataset", "Efficiency"}
            assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import) and node.names[0].name == "os"]


def _digest(run: Path) -> str:
    from modelbuilder.scan.store import load_run

    return load_run(run)[0].digest


def test_nothing_is_written_over(windows_run: Path, tmp_path: Path) -> None:
    """Catches an export that replaces another."""
    export_targets(targets_at(windows_run, pattern="m_a_1*"), tmp_path, "hs3")
    with pytest.raises(UserError, match=r"m_a_1p0000\.hs3\.json: is there already"):
        export_targets(targets_at(windows_run), tmp_path, "hs3")


def test_what_a_format_cannot_hold(tmp_path: Path) -> None:
    """Catches a file that leaves out a modifier, or half of one that stays."""
    workspace = json.loads(json.dumps(SHARED[0]))
    modifiers = workspace["channels"][0]["samples"][1]["modifiers"]
    modifiers.append({**modifiers[-1], "name": "another"})
    target = Target(name="x", values=(), workspace=workspace)
    for format_, match in (
        ("hs3", "x: plane/background: two staterror"),
        ("xml", "x: plane: staterror modifiers of several"),
    ):
        with pytest.raises(WorkspaceError, match=match):
            export_targets([target], tmp_path, format_)
    assert list(tmp_path.iterdir()) == []


def test_hs3_that_does_not_read_back_is_found() -> None:
    """Catches a comparison that is blind: every number of a document, changed by a millionth."""
    workspace = SHARED[0]
    text = json.dumps(to_hs3(workspace, "root"))
    places = [(i, j) for i, j in _numbers(text) if float(text[i:j]) not in (0.0, 1.0) and "." in text[i:j]]
    assert len(places) > 30
    found = 0
    for i, j in places:
        document = json.loads(f"{text[:i]}{float(text[i:j]) * (1.0 + 1e-6)!r}{text[j:]}")
        try:
            difference(CompiledLikelihood(workspace), CompiledLikelihood(from_hs3(document, "root")), where="x")
        except BundleError:
            found += 1
    assert found == len(places) - 2  # the upper ends of the axis of the observable, in model and data


def _numbers(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"(?<=[ \[])-?[0-9]+\.[0-9e.+-]*", text)]
