"""What is worth a second look in a workspace, before a fit sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Severity = Literal["error", "warning", "note"]

EMPTY_SIGNAL = 1e-9
SIGNAL_IN_WINDOW = 0.5
DEGENERATE = 1e-7
LARGEST_PULL = 5.0
"""Bounds of constrained parameters in pyhf, in standard deviations."""


@dataclass(frozen=True, kw_only=True)
class LintMessage:
    """One finding. `bin` counts from 0 and is None where the finding is about all of them."""

    severity: Severity
    rule: str
    channel: str
    sample: str
    message: str
    bin: int | None = None
    place: str = ""

    def __str__(self) -> str:
        where = f"{self.channel}/{self.sample}" + ("" if self.bin is None else f" bin {self.bin}")
        spec = f" ({self.place})" if self.place else ""
        return f"{self.severity}: {where}: {self.message}{spec} [{self.rule}]"


def lint(workspace: Mapping[str, Any], *, signal: str = "signal") -> list[LintMessage]:
    """Findings in a workspace in which every free rate has its nominal value at normfactor 1."""
    messages: list[LintMessage] = []
    for channel in workspace["channels"]:
        for rule in (_duplicate_names, _signal_is_somewhere, _background_under_signal, _bins_stay_positive, _degenerate):
            messages.extend(rule(channel["name"], channel["samples"], signal))
    return messages


def _duplicate_names(channel: str, samples: Sequence[Mapping[str, Any]], signal: str) -> Iterator[LintMessage]:
    names = [sample["name"] for sample in samples]
    for name in sorted({name for name in names if names.count(name) > 1}):
        text = f"stands {names.count(name)} times; pyhf keeps the last one silently"
        yield LintMessage(severity="error", rule="duplicate-name", channel=channel, sample=name, message=text)


def _signal_is_somewhere(channel: str, samples: Sequence[Mapping[str, Any]], signal: str) -> Iterator[LintMessage]:
    for sample in samples:
        if sample["name"] == signal and sum(sample["data"]) < EMPTY_SIGNAL:
            text = "no signal in any bin: no limit exists"
            yield LintMessage(severity="error", rule="signal-outside", channel=channel, sample=signal, message=text)


def _background_under_signal(channel: str, samples: Sequence[Mapping[str, Any]], signal: str) -> Iterator[LintMessage]:
    total = _nominal(samples, signal)
    for sample in samples:
        if sample["name"] != signal:
            continue
        largest = max(sample["data"])
        for index, value in enumerate(sample["data"]):
            if total[index] <= 0.0 and value > 1e-6 * largest > 0.0:
                text = "no background under the signal: an observed event here would make the background-only model impossible"
                yield LintMessage(
                    severity="warning", rule="empty-background", channel=channel, sample=signal, bin=index, message=text
                )


def _bins_stay_positive(channel: str, samples: Sequence[Mapping[str, Any]], signal: str) -> Iterator[LintMessage]:
    """The total with all additive variations at their worst bound, and every rate at its nominal value."""
    total = _nominal(samples, signal)
    lowest = total.copy()
    for sample in samples:
        if sample["name"] == signal:
            continue
        nominal = np.array(sample["data"])
        for modifier in sample["modifiers"]:
            if modifier["type"] == "histosys":
                up = np.array(modifier["data"]["hi_data"]) - nominal
                down = np.array(modifier["data"]["lo_data"]) - nominal
                lowest += LARGEST_PULL * np.minimum(0.0, np.minimum(up, down))
    for index in np.flatnonzero((lowest <= 0.0) & (total > 0.0)).tolist():
        text = (
            f"{total[index]:.3g} expected events can fall to {lowest[index]:.3g} "
            f"with the shape systematics at {LARGEST_PULL:g} standard deviations"
        )
        yield LintMessage(
            severity="warning", rule="not-positive", channel=channel, sample="all backgrounds", bin=index, message=text
        )


def _degenerate(channel: str, samples: Sequence[Mapping[str, Any]], signal: str) -> Iterator[LintMessage]:
    """Free rates whose templates are combinations of each other: no data could tell them apart."""
    free = [
        sample
        for sample in samples
        if any(m["type"] == "normfactor" for m in sample["modifiers"]) and sum(sample["data"]) > EMPTY_SIGNAL
    ]
    if len(free) < 2:
        return
    weight = 1.0 / np.sqrt(np.maximum(_nominal(samples, signal), 1e-3))
    columns = np.array([np.array(sample["data"]) * weight for sample in free])
    columns /= np.linalg.norm(columns, axis=1, keepdims=True)
    smallest = float(np.linalg.svd(columns, compute_uv=False)[-1]) if len(free) <= columns.shape[1] else 0.0
    if smallest < DEGENERATE:
        text = f"{', '.join(sample['name'] for sample in free)} cannot be told apart in these bins; fix or remove one"
        yield LintMessage(severity="error", rule="degenerate", channel=channel, sample=free[0]["name"], message=text)


def _nominal(samples: Sequence[Mapping[str, Any]], signal: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    shape = len(samples[0]["data"])
    found = np.zeros(shape)
    for sample in samples:
        if sample["name"] != signal:
            found += np.array(sample["data"])
    return found
