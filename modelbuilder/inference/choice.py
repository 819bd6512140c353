"""The likelihood that a limit is found with: the compiled one, or pyhf's where a workspace cannot be compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelbuilder.errors import WorkspaceError
from modelbuilder.inference.asymptotic import AsymptoticCalculator
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.compiled_limits import compiled_upper_limit
from modelbuilder.inference.pyhf_likelihood import PyhfLikelihood

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelbuilder.inference.results import LimitMethod, UpperLimit


def open_likelihood(
    workspace: Mapping[str, Any], patches: Sequence[Sequence[Mapping[str, Any]]] | None = None
) -> tuple[CompiledLikelihood | PyhfLikelihood, tuple[str, ...]]:
    """The likelihood of a workspace; and a warning, if it is not the compiled one.

    Raises `WorkspaceError` for what pyhf cannot use either.
    """
    try:
        return CompiledLikelihood(workspace, patches=patches), ()
    except WorkspaceError as error:
        likelihood = PyhfLikelihood(workspace, patches=patches)
        return likelihood, (f"not compiled, but fitted with pyhf, which is slow: {error}",)


def upper_limit_of(
    likelihood: CompiledLikelihood | PyhfLikelihood,
    calculator: AsymptoticCalculator,
    *,
    method: LimitMethod,
    confidence_level: float,
) -> UpperLimit:
    """The limit on the observed data, by the compiled route where there is one; else by the `calculator`."""
    if isinstance(likelihood, CompiledLikelihood):
        return compiled_upper_limit(likelihood, method=method, confidence_level=confidence_level)
    return calculator.upper_limit(method=method, confidence_level=confidence_level)
