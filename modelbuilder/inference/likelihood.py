"""What the asymptotic formulas, toys and diagnostics need from a likelihood, whatever computes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modelbuilder.errors import WorkspaceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference.results import FitResult


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of the model.

    centre, width: of its constraint term, both None for a free one.
    """

    name: str
    init: float
    lower: float
    upper: float
    fixed: bool
    centre: float | None = None
    width: float | None = None


@dataclass(kw_only=True)
class Counters:
    """Work done so far: fits, calls of the model, and parameter points in those calls (one call may hold many)."""

    fits: int = 0
    evaluations: int = 0
    points: int = 0


@dataclass(frozen=True, kw_only=True)
class Derivatives:
    """-2 ln L at a point, its gradient (shape (n_parameters,)) and Hessian (shape (n_parameters, n_parameters)).

    Derivatives in a fixed parameter are 0, that in the POI is always given.
    """

    twice_nll: float
    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]


class Likelihood(Protocol):
    """A binned likelihood with one parameter of interest (POI).

    `data` is always in pyhf order: the bins of all channels (sorted by name), then the auxiliary data. None stands for
    the observed data. `start` is a point to begin at, such as the best fit of a neighbouring problem.
    A fit that does not converge raises `FitFailure`.
    """

    @property
    def parameters(self) -> tuple[Parameter, ...]: ...

    @property
    def parameter_names(self) -> tuple[str, ...]: ...

    @property
    def poi_name(self) -> str: ...

    @property
    def poi_index(self) -> int: ...

    @property
    def observed_data(self) -> NDArray[np.float64]: ...

    @property
    def counters(self) -> Counters: ...

    def fit(
        self,
        data: ArrayLike | None = None,
        *,
        start: Sequence[float] | None = None,
        poi_lower: float | None = None,
    ) -> FitResult:
        """Fit all free parameters; the POI from `poi_lower` (default: its own lower bound) without upper bound."""

    def fit_fixed_poi(
        self, poi: float, data: ArrayLike | None = None, *, start: Sequence[float] | None = None
    ) -> FitResult:
        """Fit all free parameters but the POI, which may have any value."""

    def fit_fixed(
        self, fixed: Mapping[str, float], data: ArrayLike | None = None, *, start: Sequence[float] | None = None
    ) -> FitResult:
        """Fit all free parameters but those named in `fixed`, which may have any value."""

    def saturated_twice_nll(self, data: ArrayLike | None = None) -> float:
        """-2 ln L of the saturated model: each bin expects its count, each parameter is where it was measured.

        A fixed parameter stays where it is.
        """

    def twice_nll(self, parameters: Sequence[float], data: ArrayLike | None = None) -> float:
        """-2 ln L; infinite where the data are impossible."""

    def derivatives(self, parameters: Sequence[float], data: ArrayLike | None = None) -> Derivatives:
        """-2 ln L with its gradient and Hessian."""

    def expected_yields(self, parameters: Sequence[float]) -> NDArray[np.float64]:
        """Expected events in each bin of all channels; shape (n_bins,)."""

    def asimov_data(self, parameters: Sequence[float]) -> NDArray[np.float64]:
        """The data, auxiliary data included, whose best fit is `parameters`."""


def checked_fixed(fixed: Mapping[str, float], parameters: Sequence[Parameter]) -> dict[int, float]:
    """The values by the index of their parameter. Raises ValueError for a parameter that is not free, or not there."""
    free = {parameter.name: index for index, parameter in enumerate(parameters) if not parameter.fixed}
    for name, value in fixed.items():
        if name not in free:
            state = "fixed by the model" if any(name == parameter.name for parameter in parameters) else "not there"
            msg = f"fixed: {name!r} is {state}; the free parameters are {', '.join(sorted(free)[:10])}"
            raise ValueError(msg)
        if not math.isfinite(value):
            msg = f"fixed: found {name} = {value}; values are finite"
            raise ValueError(msg)
    return {free[name]: float(value) for name, value in fixed.items()}


def checked_point(parameters: Sequence[float], number: int) -> NDArray[np.float64]:
    """The parameters as an array of their own, shape (number,). Raises ValueError unless they are that many and finite."""
    import numpy as np

    point = np.array(parameters, dtype=float)
    if point.shape != (number,) or not np.isfinite(point).all():
        msg = f"parameters: expected {number} finite numbers, in the order of parameter_names"
        raise ValueError(msg)
    return point


def checked_data(
    data: ArrayLike, n_bins: int, n_auxiliary: int, poisson: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts and auxiliary data, shapes (n_bins,) and (n_auxiliary,). Raises WorkspaceError for what cannot be data.

    poisson: places of the auxiliary data that are counts.
    """
    import numpy as np

    values = np.asarray(data, dtype=float)
    if values.shape != (n_bins + n_auxiliary,):
        msg = (
            f"data: found shape {values.shape}; expected ({n_bins + n_auxiliary},):"
            f" {n_bins} bins and {n_auxiliary} auxiliary values, in pyhf order"
        )
        raise WorkspaceError(msg)
    counts, auxiliary = values[:n_bins], values[n_bins:]
    if not np.isfinite(values).all() or (counts < 0.0).any() or (auxiliary[poisson] < 0.0).any():
        index = int(np.flatnonzero(~np.isfinite(values) | (values < 0.0))[0])
        msg = f"data[{index}]: found {values[index]}; counts are finite and 0 or more, auxiliary data finite"
        raise WorkspaceError(msg)
    return counts, auxiliary
