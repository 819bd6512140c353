"""pyhf with our fits: `pyhf.set_backend("numpy", custom_optimizer=CompiledOptimizer())`.

`pyhf.infer` is then used as always. A fit that the compiled likelihood cannot do goes to pyhf's own minimiser, with a
warning that says why. cabinetry chooses pyhf's Minuit by itself; `with cabinetry_fits():` it takes this optimizer instead.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbuilder.errors import FitFailure, WorkspaceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
    from modelbuilder.inference.results import FitResult

    Array = NDArray[np.float64]

_KEPT = 16  # compiled models


class CompiledOptimizerWarning(UserWarning):
    """A fit that was left to pyhf's own minimiser."""


@dataclass(frozen=True, kw_only=True)
class _Minuit:
    """What cabinetry reads of a Minuit object; it has no MINOS."""

    fmin: str
    fixed: list[bool]


@contextmanager
def cabinetry_fits() -> Iterator[None]:
    """Within this, fits, rankings, scans and limits of cabinetry are done by the compiled likelihood.

    Its fits without `minos` and without `custom_fit`, that is: those need Minuit itself.
    """
    import pyhf

    theirs: Any = pyhf.optimize.minuit_optimizer
    models: dict[Any, tuple[Any, CompiledLikelihood]] = {}

    class Optimizer(CompiledOptimizer):
        def __init__(self, **options: Any) -> None:
            super().__init__(theirs(**options))
            self._models = models  # cabinetry makes an optimizer for each fit

    pyhf.optimize.minuit_optimizer = Optimizer
    try:
        yield
    finally:
        pyhf.optimize.minuit_optimizer = theirs


class CompiledOptimizer:
    """An optimizer for pyhf that recognises the model it is given.

    fallback: pyhf's optimizer for what cannot be compiled; scipy's by default. Options of `minimize` that this class does
    not know are those of the fallback, and make it be used.
    """

    name = "modelbuilder"

    def __init__(self, fallback: Any = None) -> None:
        self._fallback = fallback
        self._models: dict[Any, tuple[Any, CompiledLikelihood]] = {}

    def minimize(
        self,
        objective: Callable[..., Any],
        data: ArrayLike,
        pdf: Any,
        init_pars: Sequence[float],
        par_bounds: Sequence[tuple[float, float]],
        fixed_vals: Sequence[tuple[int, float]] | None = None,
        *,
        return_fitted_val: bool = False,
        return_result_obj: bool = False,
        return_uncertainties: bool = False,
        return_correlations: bool = False,
        do_grad: bool | None = None,
        do_stitch: bool = False,
        **options: Any,
    ) -> Any:
        """What pyhf's optimizers return: best-fit values, and what else is asked for."""
        wanted = {
            "return_fitted_val": return_fitted_val,
            "return_result_obj": return_result_obj,
            "return_uncertainties": return_uncertainties,
            "return_correlations": return_correlations,
        }
        fixed = {int(index): float(value) for index, value in fixed_vals or ()}
        options = {name: value for name, value in options.items() if value is not None}
        try:
            self._require_known(objective, pdf, options)
            likelihood = self._likelihood(pdf, data, init_pars, par_bounds, fixed)
            fit = _fit(likelihood, np.asarray(data, dtype=float), par_bounds, fixed)
        except (FitFailure, WorkspaceError) as error:
            message = f"left to pyhf's own minimiser: {error}"
            warnings.warn(message, CompiledOptimizerWarning, stacklevel=2)
            return self._own().minimize(
                objective,
                data,
                pdf,
                init_pars,
                par_bounds,
                fixed_vals,
                do_grad=do_grad,
                do_stitch=do_stitch,
                **wanted,
                **options,
            )
        return _returned(likelihood, fit, np.asarray(data, dtype=float), fixed, wanted)

    def _own(self) -> Any:
        if self._fallback is None:
            import pyhf

            self._fallback = pyhf.optimize.scipy_optimizer()
        return self._fallback

    def _require_known(self, objective: Callable[..., Any], pdf: Any, options: dict[str, Any]) -> None:
        import pyhf
        from pyhf.infer import mle

        why = ""
        if objective is not mle.twice_nll:
            why = "the objective is not twice_nll"
        elif not isinstance(pdf, pyhf.pdf.Model):
            why = "this is not a pyhf.Model"
        elif pdf.config.poi_name is None:
            why = "the model has no parameter of interest"
        elif options:
            why = f"options {', '.join(sorted(options))}"
        if why:
            raise WorkspaceError(why)

    def _likelihood(
        self,
        pdf: Any,
        data: ArrayLike,
        init_pars: Sequence[float],
        par_bounds: Sequence[tuple[float, float]],
        fixed: dict[int, float],
    ) -> CompiledLikelihood:
        """The model with these bounds, and these parameters fixed; the POI is fixed by the fit."""
        from modelbuilder.inference.compiled_likelihood import CompiledLikelihood

        bounds = tuple((float(low), float(high)) for low, high in par_bounds)
        others = tuple(sorted((index, value) for index, value in fixed.items() if index != pdf.config.poi_index))
        key = (id(pdf), bounds, others)
        known = self._models.get(key)
        if known is not None:
            return known[1]
        given = {entry["name"]: entry for entry in pdf.spec.get("parameters", [])}
        parameters = []
        for name in pdf.config.par_order:
            where = pdf.config.par_slice(name)
            indices = range(where.start, where.stop)
            inits = [float(fixed.get(index, init_pars[index])) for index in indices]
            parameters.append(
                {
                    **given.get(name, {}),
                    "name": name,
                    "inits": inits,
                    "bounds": [list(bounds[index]) for index in indices],
                    "fixed": [index in fixed and index != pdf.config.poi_index for index in indices],
                }
            )
        settings = pdf.config.modifier_settings
        likelihood = CompiledLikelihood.from_spec(
            {**pdf.spec, "parameters": parameters},
            pdf.config.poi_name,
            np.asarray(data, dtype=float),
            normsys_code=settings.get("normsys", {}).get("interpcode", "code1"),
            histosys_code=settings.get("histosys", {}).get("interpcode", "code0"),
        )
        if likelihood.parameter_names != tuple(pdf.config.par_names):
            names = [name.replace("[", "").replace("]", "") for name in likelihood.parameter_names]
            if names != [name.replace("[", "").replace("]", "") for name in pdf.config.par_names]:
                msg = "the parameters are in another order than those of the compiled likelihood"
                raise WorkspaceError(msg)
        while len(self._models) >= _KEPT:
            self._models.pop(next(iter(self._models)))
        self._models[key] = pdf, likelihood  # keeping the model keeps its id
        return likelihood


def _fit(
    likelihood: CompiledLikelihood, data: Array, par_bounds: Sequence[tuple[float, float]], fixed: dict[int, float]
) -> FitResult:
    """Our fits have no upper bound on the POI; where they pass that of pyhf the best fit is on it."""
    poi = likelihood.poi_index
    if poi in fixed:
        return likelihood.fit_fixed_poi(fixed[poi], data)
    lower, upper = par_bounds[poi]
    fit = likelihood.fit(data, poi_lower=float(lower))
    return likelihood.fit_fixed_poi(float(upper), data, start=fit.bestfit) if fit.poi_value > upper else fit


def _returned(
    likelihood: CompiledLikelihood, fit: FitResult, data: Array, fixed: dict[int, float], wanted: dict[str, bool]
) -> Any:
    import pyhf
    from scipy.optimize import OptimizeResult

    tensorlib, _ = pyhf.get_backend()
    make: Any = OptimizeResult  # takes what it is given; its stubs know of less
    x = np.array(fit.bestfit)
    n = len(x)
    uncertainties = correlations = None
    if wanted["return_uncertainties"] or wanted["return_correlations"]:
        free = np.array([i for i in range(n) if i not in fixed and not likelihood.parameters[i].fixed], dtype=np.int64)
        hessian = likelihood.derivatives(fit.bestfit, data).hessian[np.ix_(free, free)]
        covariance = np.zeros((n, n))
        covariance[np.ix_(free, free)] = 2.0 * np.linalg.pinv(hessian)
        uncertainties = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        scale = np.divide(1.0, uncertainties, out=np.zeros(n), where=uncertainties > 0.0)
        correlations = covariance * np.outer(scale, scale)
    values = np.stack([x, uncertainties], axis=1) if wanted["return_uncertainties"] and uncertainties is not None else x
    fun = tensorlib.astensor(fit.twice_nll)
    returned: list[Any] = [tensorlib.astensor(values)]
    if wanted["return_correlations"]:
        returned.append(tensorlib.astensor(correlations))
    if wanted["return_fitted_val"]:
        returned.append(fun)
    if wanted["return_result_obj"]:
        returned.append(
            make(
                x=returned[0],
                fun=fun,
                success=True,
                message="Optimization terminated successfully.",
                nfev=fit.evaluations,
                unc=uncertainties,
                corr=correlations,
                minuit=_Minuit(fmin=f"-2 ln L = {fit.twice_nll}", fixed=[index in fixed for index in range(n)]),
            )
        )
    return tuple(returned) if len(returned) > 1 else returned[0]
