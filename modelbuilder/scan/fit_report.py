"""What `modelbuilder fit` finds out about a workspace, as an object, as a JSON-like one, and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelbuilder.errors import FitFailure, WorkspaceError
from modelbuilder.inference.choice import open_likelihood
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.diagnostics import fit_with_uncertainties, pulls
from modelbuilder.inference.goodness import GoodnessOfFit, goodness_of_fit
from modelbuilder.inference.impacts import Impact, impacts
from modelbuilder.inference.profiles import ProfileInterval, profile_interval
from modelbuilder.scan.target import INVALID

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from modelbuilder.inference.likelihood import Likelihood
    from modelbuilder.inference.results import FitResult, Pull
    from modelbuilder.scan.target import Target

BARS = ("postfit_up", "postfit_down", "prefit_up", "prefit_down")


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """The fit of one target, or in `failure` why there is none.

    interval: of the POI, from its profile. Where that or the goodness of fit failed, it is the failure that stands there.
    impacts: None unless asked for.
    """

    name: str | None
    values: tuple[float | str, ...]
    poi_name: str
    data: str
    failure: FitFailure | None = None
    fit: FitResult | None = None
    fixed: tuple[str, ...] = ()
    pulls: tuple[Pull, ...] = ()
    interval: ProfileInterval | FitFailure | None = None
    goodness: GoodnessOfFit | FitFailure | None = None
    impacts: tuple[Impact, ...] | None = None
    fits: int = 0
    evaluations: int = 0
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {} if self.name is None else {"patch": self.name, "values": list(self.values)}
        found |= {"poi": self.poi_name, "data": self.data}
        if self.failure is not None:
            return {**found, **_failed(self.failure)}
        assert self.fit is not None
        assert self.fit.uncertainties is not None
        own = {pull.parameter: pull for pull in self.pulls}
        parameters = []
        for name, value, sigma in zip(self.fit.parameter_names, self.fit.bestfit, self.fit.uncertainties, strict=True):
            row: dict[str, Any] = {"name": name, "bestfit": value, "uncertainty": sigma}
            if name in own:
                row |= {"pull": own[name].pull, "pull_uncertainty": own[name].uncertainty}
            row |= {"at_bound": name in self.fit.at_bounds, "fixed": name in self.fixed}
            parameters.append(row)
        found |= {
            "status": "ok",
            "twice_nll": self.fit.twice_nll,
            "poi_hat": self.fit.poi_value,
            "poi_uncertainty": self.fit.uncertainties[self.fit.parameter_names.index(self.poi_name)],
            "poi_interval": _interval(self.interval),
            "at_bounds": list(self.fit.at_bounds),
            "parameters": parameters,
            "goodness_of_fit": _goodness(self.goodness),
        }
        if self.impacts is not None:
            found["impacts"] = [
                {
                    "parameter": impact.parameter,
                    **{bar: getattr(impact, bar) for bar in BARS},
                    "failures": dict(impact.failures),
                    "cut_short": list(impact.cut_short),
                }
                for impact in self.impacts
            ]
        return {**found, "fits": self.fits, "evaluations": self.evaluations, "warnings": list(self.warnings)}

    def lines(self) -> list[str]:
        """The same for people to read."""
        head = f"{self.name or self.poi_name}: "
        if self.failure is not None:
            return [f"{head}{self.failure}"]
        return [head + f"fit of {self.data}, status ok", *self._result_lines(), *self._impact_lines(), *self._notes()]

    def _result_lines(self) -> Iterator[str]:
        assert self.fit is not None
        assert self.fit.uncertainties is not None
        own = {pull.parameter: pull for pull in self.pulls}
        width = max(9, *(len(name) for name in self.fit.parameter_names))
        yield f"{'parameter':{width}} {'best fit':>12} {'uncertainty':>12} {'pull':>8} {'+-':>7}"
        for name, value, sigma in zip(self.fit.parameter_names, self.fit.bestfit, self.fit.uncertainties, strict=True):
            pull = f"{own[name].pull:8.3f} {own[name].uncertainty:7.3f}" if name in own else " " * 16
            state = "fixed" if name in self.fixed else "at a bound" if name in self.fit.at_bounds else ""
            yield f"{name:{width}} {value:12.5g} {sigma:12.5g} {pull}  {state}".rstrip()
        if isinstance(self.interval, ProfileInterval):
            ends = (
                f"{end:.5g}{' (bound)' if is_bound else ''}"
                for end, is_bound in (
                    (self.interval.lower, self.interval.lower_is_bound),
                    (self.interval.upper, self.interval.upper_is_bound),
                )
            )
            yield f"{self.poi_name}, from its profile: {' to '.join(ends)}"
        yield f"-2 ln L: {self.fit.twice_nll:.8g}"
        if isinstance(self.goodness, GoodnessOfFit):
            good = self.goodness
            chance = "" if good.p_value is None else f", p-value {good.p_value:.4g}"
            yield (
                f"goodness of fit: {good.statistic:.5g} with {good.degrees_of_freedom} degrees of freedom (saturated)"
                f"{chance}"
            )
            if good.toys is not None:
                yield (
                    f"goodness of fit: p-value {good.toys.value:.4g} with {good.toys.n_toys} toys,"
                    f" between {good.toys.lower:.4g} and {good.toys.upper:.4g}"
                )

    def _impact_lines(self) -> Iterator[str]:
        if not self.impacts:
            return
        width = max(9, *(len(impact.parameter) for impact in self.impacts))
        yield f"{f'impact on {self.poi_name}':{width}} " + " ".join(f"{bar.replace('_', ' '):>12}" for bar in BARS)
        for impact in self.impacts:
            reasons = dict(impact.failures)
            cells = (
                f"{reasons.get(bar, '-'):>12}" if (value := getattr(impact, bar)) is None else f"{value:12.4g}"
                for bar in BARS
            )
            yield f"{impact.parameter:{width}} {' '.join(cells)}"

    def _notes(self) -> Iterator[str]:
        for text in self.warnings:
            yield f"warning: {text}"


def fit_report(
    target: Target, *, asimov: bool = False, with_impacts: bool = False, toys: int | None = None, seed: int = 1
) -> FitReport:
    """Fit a target and look at the result from all sides.

    What cannot be used is a WorkspaceError if it is alone, and the failure `invalid-workspace` of one among several.
    asimov: the data are what the model expects with all parameters at their nominal values.
    toys: of the goodness of fit.    seed: of them.
    """
    data_name = "Asimov data" if asimov else "observed data"
    try:
        likelihood, notes = open_likelihood(target.workspace, None if target.patch is None else [target.patch])
    except WorkspaceError as error:
        if target.name is None:
            raise
        failure = FitFailure(INVALID, str(error))
        return FitReport(name=target.name, values=target.values, poi_name="", data=data_name, failure=failure)
    if toys is not None and not isinstance(likelihood, CompiledLikelihood):
        msg = f"toys need the compiled likelihood: {notes[0]}"
        raise WorkspaceError(msg)
    report = FitReport(
        name=target.name,
        values=target.values,
        poi_name=likelihood.poi_name,
        data=data_name,
    )
    data = _nominal_asimov(likelihood) if asimov else None
    try:
        fit = fit_with_uncertainties(likelihood, data)
    except FitFailure as failure:
        return replace(report, failure=failure)
    warnings = list(notes)
    interval: ProfileInterval | FitFailure
    goodness: GoodnessOfFit | FitFailure
    try:
        interval = profile_interval(likelihood, likelihood.poi_name, data=data, fit=fit)
    except FitFailure as failure:
        interval = failure
        warnings.append(f"interval of {likelihood.poi_name} from its profile: {failure}")
    try:
        goodness = goodness_of_fit(likelihood, data, fit=fit, toys=toys, seed=seed)
        warnings += [f"goodness of fit: {text}" for text in goodness.warnings]
    except FitFailure as failure:
        goodness = failure
        warnings.append(f"goodness of fit: {failure}")
    ranked = impacts(likelihood, data, fit=fit) if with_impacts else None
    cut_short = [impact.parameter for impact in ranked or () if impact.cut_short]
    if cut_short:
        names = ", ".join(cut_short[:5]) + (", ..." if len(cut_short) > 5 else "")
        warnings.append(
            f"impacts: {likelihood.poi_name} stops at its bound, which cuts them short for {names};"
            " Asimov data or wider bounds in the workspace show them whole"
        )
    if fit.clipped_bins:
        warnings.append(f"bins that expect less than nothing, counted as empty: {', '.join(fit.clipped_bins)}")
    return replace(
        report,
        fit=fit,
        fixed=tuple(parameter.name for parameter in likelihood.parameters if parameter.fixed),
        pulls=pulls(likelihood, fit),
        interval=interval,
        goodness=goodness,
        impacts=ranked,
        fits=likelihood.counters.fits,
        evaluations=likelihood.counters.evaluations,
        warnings=tuple(warnings),
    )


def _nominal_asimov(likelihood: Likelihood) -> NDArray[Any]:
    return likelihood.asimov_data(
        [
            parameter.init if parameter.fixed or parameter.centre is None else parameter.centre
            for parameter in likelihood.parameters
        ]
    )


def _failed(failure: FitFailure) -> dict[str, Any]:
    return {"status": failure.reason, "detail": failure.detail}


def _interval(interval: ProfileInterval | FitFailure | None) -> dict[str, Any]:
    if not isinstance(interval, ProfileInterval):
        return {} if interval is None else _failed(interval)
    return {
        "status": "ok",
        "confidence_level": interval.confidence_level,
        "lower": interval.lower,
        "upper": interval.upper,
        "lower_is_bound": interval.lower_is_bound,
        "upper_is_bound": interval.upper_is_bound,
    }


def _goodness(goodness: GoodnessOfFit | FitFailure | None) -> dict[str, Any]:
    if not isinstance(goodness, GoodnessOfFit):
        return {} if goodness is None else _failed(goodness)
    found: dict[str, Any] = {
        "status": "ok",
        "statistic": goodness.statistic,
        "degrees_of_freedom": goodness.degrees_of_freedom,
        "p_value": goodness.p_value,
        "approximation_doubtful": goodness.approximation_doubtful,
    }
    if goodness.toys is not None:
        found |= {
            "toys_p_value": goodness.toys.value,
            "toys_p_value_interval": [goodness.toys.lower, goodness.toys.upper],
            "toys": goodness.toys.n_toys,
            "failed_toys": goodness.toys.n_failed,
        }
    return found
