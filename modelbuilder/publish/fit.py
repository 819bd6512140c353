"""Figures of one fit: pulls, correlations, ranking. cabinetry draws them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from modelbuilder.inference import diagnostics
from modelbuilder.publish import style
from modelbuilder.publish.figure_numbers import Cell, Numbers
from modelbuilder.publish.figures import pull_numbers
from modelbuilder.scan.fit_report import BARS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from modelbuilder.inference.impacts import Impact
    from modelbuilder.inference.results import FitResult
    from modelbuilder.scan.fit_report import FitReport

MAX_CORRELATED = 30
"""Parameters in the figure of correlations: those with the largest one."""

_SMALLEST = 1e-6  # a correlation below this is none


def draw_fit_figures(report: FitReport, folder: Path) -> list[Path]:
    """PDF and PNG of what there is to draw, and CSV of its numbers; the names of the files end in that of the patch or grid point."""
    assert report.fit is not None
    end = "" if report.name is None else "_" + re.sub(r"[^\w.-]+", "_", report.name)
    written: list[Path] = []
    if report.pulls:
        numbers = pull_numbers(report.pulls)
        written += style.save(diagnostics.draw_pulls(report.pulls), folder / f"pulls{end}", numbers)
    threshold = pruning_threshold(report.fit)
    if threshold is not None:
        figure = diagnostics.draw_correlations(report.fit, pruning_threshold=threshold)
        written += style.save(figure, folder / f"correlation{end}", correlation_numbers(report.fit, threshold))
    if any(impact.size is not None for impact in report.impacts or ()):
        figure = diagnostics.draw_ranking(report.impacts or (), poi_name=report.poi_name)
        written += style.save(figure, folder / f"ranking{end}", ranking_numbers(report.impacts or ()))
    return written


def correlation_numbers(fit: FitResult, threshold: float) -> Numbers:
    """The matrix of the parameters that reach the threshold with some other, row by row."""
    matrix = np.asarray(fit.correlation)
    apart = np.abs(matrix) * (1.0 - np.eye(len(matrix)))
    shown = np.flatnonzero(apart.max(axis=0, initial=0.0) >= threshold)
    names = [fit.parameter_names[index] for index in shown]
    return {"parameter": names, **dict(zip(names, matrix[np.ix_(shown, shown)], strict=True))}


def ranking_numbers(impacts: Sequence[Impact]) -> Numbers:
    """Every parameter, also those that the figure leaves out; empty where there is no impact, as `why` says."""
    found: dict[str, list[Cell]] = {"parameter": [impact.parameter for impact in impacts]}
    for name in ("bestfit", "uncertainty", "pull", "pull_uncertainty", *BARS):
        found[name] = [getattr(impact, name) for impact in impacts]
    found["why"] = ["; ".join(f"{bar}: {why}" for bar, why in impact.failures) for impact in impacts]
    return found


def pruning_threshold(fit: FitResult) -> float | None:
    """The correlation that `MAX_CORRELATED` parameters reach with some other; None where no two are correlated."""
    correlation = np.abs(np.asarray(fit.correlation))
    np.fill_diagonal(correlation, 0.0)
    largest = np.sort(correlation.max(axis=0, initial=0.0))[::-1][:MAX_CORRELATED]
    correlated = largest[largest > _SMALLEST]
    return float(correlated[-1]) if len(correlated) else None
