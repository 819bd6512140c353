"""Limits with ROOT, in a process of their own: ROOT crashes when Python takes it down, so this leaves by os._exit.

    python benchmarks/root_limits.py < problem.json

problem.json: `workspace` (pyhf's JSON), `confidence_level`, `scan` (points and upper end of a fixed scan, or null).
Prints one JSON object on its last line: `version`; `profile`, `seconds` and `limits` (observed, then expected at -2 ... +2 sigma)
of limits found with RooFit; `scan`, the same of RooStats' HypoTestInverter, or null.

The model is built with HistFactory's Measurement, Channel and Sample, with its default interpolation (code4, code4p as
in pyhf). `profile`: Minuit2 fits of one likelihood with vectorised evaluation (`EvalBackend("cpu")`) and warm starts;
the asymptotic formulas of arXiv:1007.1727 for qmu-tilde, of which the expected limits need one fit per value of mu;
roots by Brent's method to 1e-4. `scan`: AsymptoticCalculator and HypoTestInverter, both out of the box.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

N_SIGMA = (-2, -1, 0, 1, 2)
TOLERANCE = 1e-4  # of a root, relative
ROUNDS = 3


KEPT: list[Any] = []  # what Python must not take down before this process leaves


class Histograms:
    """Makes ROOT's one-dimensional histograms; HistFactory takes them over."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._made = 0

    def make(self, values: list[float]) -> Any:
        histogram = self._root.TH1D(f"h{self._made}", "", len(values), 0.0, float(len(values)))
        histogram.SetDirectory(self._root.nullptr)
        for index, value in enumerate(values):
            histogram.SetBinContent(index + 1, value)
            histogram.SetBinError(index + 1, 0.0)
        self._made += 1
        self._root.SetOwnership(histogram, False)
        return histogram


def combined_workspace(root: Any, spec: dict[str, Any], histograms: Histograms) -> Any:
    """The RooWorkspace of a pyhf workspace; knows every modifier but shapefactor."""
    factory = root.RooStats.HistFactory
    config = spec["measurements"][0]["config"]
    settings = {parameter["name"]: parameter for parameter in config["parameters"]}
    measurement = factory.Measurement("limit", "limit")
    measurement.SetPOI(config["poi"])
    measurement.SetLumi(1.0)
    measurement.SetLumiRelErr(settings.get("lumi", {}).get("sigmas", [0.1])[0])
    counts = {observation["name"]: observation["data"] for observation in spec["observations"]}
    has_lumi = False
    for channel_spec in spec["channels"]:
        channel = factory.Channel(channel_spec["name"])
        channel.SetData(histograms.make(counts[channel_spec["name"]]))
        channel.SetStatErrorConfig(0.0, "Gaussian")
        for sample_spec in channel_spec["samples"]:
            sample = factory.Sample(sample_spec["name"])
            sample.SetHisto(histograms.make(sample_spec["data"]))
            by_theory = any(modifier["type"] == "lumi" for modifier in sample_spec["modifiers"])
            has_lumi = has_lumi or by_theory
            sample.SetNormalizeByTheory(by_theory)
            for modifier in sample_spec["modifiers"]:
                if modifier["type"] != "lumi":
                    MODIFIERS[modifier["type"]](factory, sample, sample_spec["data"], modifier, settings, histograms)
            channel.AddSample(sample)
        measurement.AddChannel(channel)
    if not has_lumi:
        measurement.AddConstantParam("Lumi")
    for name, setting in settings.items():
        if setting.get("fixed"):
            measurement.AddConstantParam("Lumi" if name == "lumi" else name)
    KEPT.append(measurement)
    workspace = factory.HistoToWorkspaceFactoryFast.MakeCombinedModel(measurement)
    make_equal(root, workspace, spec)
    return workspace


def make_equal(root: Any, workspace: Any, spec: dict[str, Any]) -> None:
    """Undo what ROOT's HistFactory does in another way than pyhf.

    ROOT 6.40 scales each sample by the luminosity, whether normalised by theory or not; pyhf only those with a `lumi`.
    ROOT does not let a histosys make a yield negative; pyhf does. ROOT normalises the normal constraint of a staterror
    over the range of its auxiliary measurement, which begins at 0; pyhf over all numbers. With this the yields and the
    constraints of 2018-04 agree to 1e-12 at any point where no yield is empty. What is left: it has normsys as steep as
    hi 40, lo 0.01, whose polynomial is negative in between; there ROOT takes a tiny number, and pyhf the polynomial. The
    observed limit differs by 1.3 % and that at +2 sigma by 6 %; with less steep ones all six agree to 4e-4.
    """
    one = root.RooConstVar("no_lumi", "", 1.0)
    one.setAttribute("ORIGNAME:Lumi")
    root.SetOwnership(one, False)
    for channel in spec["channels"]:
        for sample in channel["samples"]:
            if all(modifier["type"] != "lumi" for modifier in sample["modifiers"]):
                factors = workspace.function(f"{sample['name']}_{channel['name']}_scaleFactors")
                if factors:
                    factors.redirectServers(root.RooArgSet(one), False, True)
    for function in workspace.allFunctions():
        if function.InheritsFrom("PiecewiseInterpolation"):
            function.setPositiveDefinite(False)
    for variable in workspace.allVars():
        if variable.GetName().startswith("nom_gamma_stat_"):
            variable.removeRange()


def _normfactor(_: Any, sample: Any, __: list[float], modifier: dict[str, Any], settings: Any, ___: Any) -> None:
    setting = settings.get(modifier["name"], {})
    low, high = setting.get("bounds", [[0.0, 10.0]])[0]
    sample.AddNormFactor(modifier["name"], setting.get("inits", [1.0])[0], low, high)


def _normsys(_: Any, sample: Any, __: list[float], modifier: dict[str, Any], ___: Any, ____: Any) -> None:
    sample.AddOverallSys(modifier["name"], modifier["data"]["lo"], modifier["data"]["hi"])


def _histosys(
    factory: Any, sample: Any, _: list[float], modifier: dict[str, Any], __: Any, histograms: Histograms
) -> None:
    shape = factory.HistoSys()
    shape.SetName(modifier["name"])
    shape.SetHistoLow(histograms.make(modifier["data"]["lo_data"]))
    shape.SetHistoHigh(histograms.make(modifier["data"]["hi_data"]))
    sample.AddHistoSys(shape)


def _relative(yields: list[float], errors: list[float]) -> list[float]:
    return [error / value if value > 0.0 else 0.0 for value, error in zip(yields, errors, strict=True)]


def _staterror(
    _: Any, sample: Any, yields: list[float], modifier: dict[str, Any], __: Any, histograms: Histograms
) -> None:
    sample.GetStatError().Activate(True)
    sample.GetStatError().SetErrorHist(histograms.make(_relative(yields, modifier["data"])))


def _shapesys(
    factory: Any, sample: Any, yields: list[float], modifier: dict[str, Any], _: Any, histograms: Histograms
) -> None:
    shape = factory.ShapeSys()
    shape.SetName(modifier["name"])
    shape.SetErrorHist(histograms.make(_relative(yields, modifier["data"])))
    shape.SetConstraintType(factory.Constraint.Poisson)
    sample.AddShapeSys(shape)


MODIFIERS: dict[str, Callable[..., None]] = {
    "normfactor": _normfactor,
    "normsys": _normsys,
    "histosys": _histosys,
    "staterror": _staterror,
    "shapesys": _shapesys,
}


class Profile:
    """Profiled -2 ln L of observed and of Asimov data, with one compiled likelihood each."""

    def __init__(self, root: Any, workspace: Any) -> None:
        config = workspace.obj("ModelConfig")
        self.poi = config.GetParametersOfInterest().first()
        self.poi.setRange(0.0, 10.0 * self.poi.getMax())  # a bracket may reach beyond
        self.pdf, observed = config.GetPdf(), workspace.data("obsData")
        self.globals_ = config.GetGlobalObservables()
        self.fits = 0
        self.observed_globals = self.globals_.snapshot()
        self.observed = self._likelihood(root, observed)
        # Asimov data of the best fit without signal, made by RooStats with the auxiliary data that belong to it
        self.parameters = self.pdf.getParameters(observed)
        self.start = self.parameters.snapshot()
        self.poi.setVal(0.0)
        self.poi.setConstant(True)
        asimov_globals = root.RooArgSet()
        root.RooStats.AsymptoticCalculator.SetPrintLevel(-1)
        none = root.RooArgSet(self.poi).snapshot()
        asimov = root.RooStats.AsymptoticCalculator.MakeAsimovData(observed, config, none, asimov_globals)
        self.asimov_globals = asimov_globals.snapshot()
        self.asimov = self._likelihood(root, asimov)
        KEPT.extend((asimov, none, asimov_globals, self))

    def _likelihood(self, root: Any, data: Any) -> Any:
        nll = self.pdf.createNLL(
            data, root.RooFit.GlobalObservables(self.globals_), root.RooFit.EvalBackend("cpu"), root.RooFit.Offset(True)
        )
        minimizer = root.RooMinimizer(nll)
        minimizer.setPrintLevel(-1)
        minimizer.setStrategy(0)
        minimizer.setEps(0.01)
        return nll, minimizer

    def minimum(self, likelihood: Any, globals_: Any, mu: float | None) -> float:
        """-2 ln L, up to a constant, at the best fit, with mu fixed or free."""
        nll, minimizer = likelihood
        self.globals_.assign(globals_)
        self.poi.setConstant(mu is not None)
        if mu is not None:
            self.poi.setVal(mu)
        minimizer.minimize("Minuit2", "Migrad")
        self.fits += 1
        return 2.0 * float(nll.getVal())

    def limits(self, confidence_level: float) -> list[float]:
        """Observed and five expected limits, from scratch."""
        from scipy.special import ndtr, ndtri

        alpha = 1.0 - confidence_level
        self.parameters.assign(self.start)
        free = self.minimum(self.observed, self.observed_globals, None)
        best = float(self.poi.getVal())
        zero = self.minimum(self.observed, self.observed_globals, 0.0) if best > 0.0 else free
        lowest = self.minimum(self.asimov, self.asimov_globals, 0.0)
        del zero
        roots: dict[float, float] = {}

        def root_asimov(mu: float) -> float:
            if mu not in roots:
                above = self.minimum(self.asimov, self.asimov_globals, mu) - lowest
                roots[mu] = math.sqrt(max(above, 0.0))
            return roots[mu]

        expected = []
        guess = 1.0
        for n_sigma in N_SIGMA:
            target = n_sigma - float(ndtri(alpha * ndtr(n_sigma)))
            # sqrt(q) is nearly a straight line in mu
            expected.append(crossing(lambda mu, target=target: root_asimov(mu) - target, guess))
            guess = expected[-1] * (target + 1.0) / target

        def log_cls(mu: float) -> float:
            root_a = root_asimov(mu)
            q = max(self.minimum(self.observed, self.observed_globals, mu) - free, 0.0) if mu > best else 0.0
            if q <= root_a**2:
                signal, background = ndtr(-math.sqrt(q)), ndtr(root_a - math.sqrt(q))
            else:
                signal = ndtr(-(q + root_a**2) / (2.0 * root_a))
                background = ndtr(-(q - root_a**2) / (2.0 * root_a))
            return math.log(alpha) - math.log(signal / background)

        return [crossing(log_cls, expected[2]), *expected]


def crossing(function: Callable[[float], float], guess: float) -> float:
    """Where an increasing function of mu is zero."""
    from scipy.optimize import brentq

    low = high = guess
    at_low = at_high = function(guess)
    while at_low > 0.0:
        high, low = low, low / 1.3
        at_low = function(low)
    while at_high < 0.0:
        low, high = high, high * 1.3
        at_high = function(high)
    return float(brentq(memoised(function), low, high, xtol=1e-12, rtol=TOLERANCE))


def memoised(function: Callable[[float], float]) -> Callable[[float], float]:
    known: dict[float, float] = {}

    def call(mu: float) -> float:
        if mu not in known:
            known[mu] = function(mu)
        return known[mu]

    return call


def scanned(root: Any, workspace: Any, confidence_level: float, n_points: int, end: float) -> list[float]:
    """The six limits with AsymptoticCalculator and HypoTestInverter on a fixed grid, interpolated by RooStats."""
    config, data = workspace.obj("ModelConfig"), workspace.data("obsData")
    poi = config.GetParametersOfInterest().first()
    poi.setConstant(False)
    poi.setVal(1.0)
    config.SetSnapshot(root.RooArgSet(poi))
    background = config.Clone("background")
    poi.setVal(0.0)
    background.SetSnapshot(root.RooArgSet(poi))
    root.RooStats.AsymptoticCalculator.SetPrintLevel(-1)
    calculator = root.RooStats.AsymptoticCalculator(data, background, config)
    calculator.SetOneSided(True)
    calculator.SetQTilde(True)
    inverter = root.RooStats.HypoTestInverter(calculator)
    inverter.SetConfidenceLevel(confidence_level)
    inverter.UseCLs(True)
    inverter.SetVerbose(False)
    KEPT.extend((background, calculator, inverter))
    inverter.SetFixedScan(n_points, end / n_points, end)
    interval = inverter.GetInterval()
    KEPT.append(interval)
    return [
        float(interval.UpperLimit()),
        *(float(interval.GetExpectedUpperLimit(float(n_sigma))) for n_sigma in N_SIGMA),
    ]


def seconds_of(begin: tuple[float, float]) -> float:
    """The smaller one of wall and processor time since `begin`: what others do to the machine is not ROOT's."""
    return min(time.perf_counter() - begin[0], time.process_time() - begin[1])


def main() -> dict[str, Any]:
    problem = json.load(sys.stdin)
    import ROOT

    ROOT.gROOT.SetBatch(True)
    ROOT.gErrorIgnoreLevel = ROOT.kFatal
    ROOT.RooMsgService.instance().setGlobalKillBelow(ROOT.RooFit.FATAL)
    histograms = Histograms(ROOT)
    workspace = combined_workspace(ROOT, problem["workspace"], histograms)
    KEPT.append(workspace)
    profile = Profile(ROOT, workspace)
    best = math.inf
    limits: list[float] = []
    for _ in range(ROUNDS):
        profile.fits = 0
        begin = time.perf_counter(), time.process_time()
        limits = profile.limits(problem["confidence_level"])
        best = min(best, seconds_of(begin))
        if best > 20.0:
            break
    result: dict[str, Any] = {
        "version": str(ROOT.gROOT.GetVersion()),
        "profile": {"seconds": best, "limits": limits, "fits": profile.fits},
        "scan": None,
    }
    if problem["scan"]:
        n_points, end = problem["scan"]
        begin = time.perf_counter(), time.process_time()
        limits = scanned(ROOT, workspace, problem["confidence_level"], n_points, end)
        result["scan"] = {"seconds": seconds_of(begin), "limits": limits}
    return result


if __name__ == "__main__":
    # what ROOT prints goes to standard error; only the result to standard output
    answer = os.dup(1)
    os.dup2(2, 1)
    status = 1
    try:
        text = json.dumps(main())
        with os.fdopen(answer, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
        status = 0
    except ModuleNotFoundError as error:
        sys.stderr.write(f"{Path(__file__).name}: {error}\n")
        status = 3
    except Exception:  # noqa: BLE001 - whatever it is, ROOT must not be taken down by Python
        import traceback

        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)
