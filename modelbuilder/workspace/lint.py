"""What is worth a second look in a workspace, before a fit sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Severity = Literal["error", "warning", "note"]

EMPTY_SIGNAL = 1e-9
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
    messages = [m for c in workspace["channels"] for m in _finite_and_positive(c["name"], c["samples"], signal)]
    if messages:
        return messages  # no other rule can be asked
    messages = [*_duplicate_channels(workspace), *_degenerate(workspace, signal)]
    for channel in workspace["channels"]:
        for rule in _CHANNEL_RULES:
            messages.extend(rule(channel["name"], channel["samples"], signal))
    messages.extend(_signal_is_somewhere(workspace, signal))
    return messages


def _duplicate_channels(workspace: Mapping[str, Any]) -> Iterator[LintMessage]:
    names = [channel["name"] for channel in workspace["channels"]]
    for name in sorted({name for name in names if names.count(name) > 1}):
        text = f"the channel stands {names.count(name)} times"
        yield LintMessage(severity="error", rule="duplicate-name", channel=name, sample="all", message=text)


def _finite_and_positive(channel: str, samples: Sequence[Mapping[str, Any]], signal: str) -> Iterator[LintMessage]:
    """Templates that no Poisson likelihood can use. A sample that is empty at nominal has additive variations only."""
    for sample in samples:
        for index, value in enumerate(sample["data"]):
            if not np.isfinite(value) or value < 0.0:
                text = f"found {value:g} expected events; the number must be finite and not negative"
                yield LintMessage(
                    severity="error",
                    rule="not-a-yield",
                    channel=channel,
                    sample=sample["name"],
                    bin=index,
                    message=text,
                )


def _modifiers_act(channel: str, samples: Sequence[Mapping[str, Any]], signal: str) -> Iterator[LintMessage]:
    """Constrained modifiers that change nothing: a nuisance parameter for show."""
    for sample in samples:
        for modifier in sample["modifiers"]:
            data = modifier["data"]
            idle = modifier["type"] == "normsys" and data["hi"] == data["lo"] == 1.0
            if modifier["type"] == "histosys":
                idle = data["hi_data"] == data["lo_data"] == sample["data"]
            if idle:
                text = f"{modifier['name']} acts on nothing: both variations are the nominal template"
                yield LintMessage(
                    severity="warning", rule="no-effect", channel=channel, sample=sample["name"], message=text
                )


def _duplicate_names(channel: str, samples: Sequence[Mapping[str, Any]], signal: str) -> Iterator[LintMessage]:
    names = [sample["name"] for sample in samples]
    for name in sorted({name for name in names if names.count(name) > 1}):
        text = f"stands {names.count(name)} times; pyhf keeps the last one silently"
        yield LintMessage(severity="error", rule="duplicate-name", channel=channel, sample=name, message=text)


def _signal_is_somewhere(workspace: Mapping[str, Any], signal: str) -> Iterator[LintMessage]:
    found = [s for channel in workspace["channels"] for s in channel["samples"] if s["name"] == signal]
    if sum(sum(sample["data"]) for sample in found) < EMPTY_SIGNAL:
        text = "no signal in any bin: no limit exists"
        yield LintMessage(severity="error", rule="signal-outside", channel="all", sample=signal, message=text)


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
    """The total, with or without the signal, with all additive variations at their worst and every rate nominal."""
    total, with_signal = _at_worst(samples)
    _, without = _at_worst([sample for sample in samples if sample["name"] != signal])
    lowest = np.minimum(with_signal, without)
    for index in np.flatnonzero((lowest <= 0.0) & (_nominal(samples, signal) > 0.0)).tolist():
        text = (
            f"{total[index]:.3g} expected events can fall to {lowest[index]:.3g} "
            f"with the shape systematics at {LARGEST_PULL:g} standard deviations"
        )
        yield LintMessage(
            severity="warning", rule="not-positive", channel=channel, sample="all", bin=index, message=text
        )


def _at_worst(samples: Sequence[Mapping[str, Any]]) -> tuple[FloatArray, FloatArray]:
    """Expected events per bin, at nominal and with each additive variation at its lower bound."""
    total = np.array([sample["data"] for sample in samples], dtype=np.float64).sum(axis=0)
    lowest: FloatArray = np.array(total)
    for sample in samples:
        nominal = np.array(sample["data"])
        for modifier in sample["modifiers"]:
            if modifier["type"] == "histosys":
                up = np.array(modifier["data"]["hi_data"]) - nominal
                down = np.array(modifier["data"]["lo_data"]) - nominal
                lowest += LARGEST_PULL * np.minimum(0.0, np.minimum(up, down))
    return total, lowest


def _degenerate(workspace: Mapping[str, Any], signal: str) -> Iterator[LintMessage]:
    """Free rates whose templates, over all channels, are combinations of each other: no data could tell them apart."""
    columns: dict[str, list[Any]] = {}
    channels = workspace["channels"]
    for number, channel in enumerate(channels):
        weight = 1.0 / np.sqrt(np.maximum(_nominal(channel["samples"], signal), 1e-3))
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                if modifier["type"] == "normfactor":
                    empty = [np.zeros(len(other["samples"][0]["data"])) for other in channels]
                    parts = columns.setdefault(modifier["name"], empty)
                    parts[number] = parts[number] + np.array(sample["data"]) * weight
    shapes = {name: np.concatenate(parts) for name, parts in columns.items()}
    shapes = {name: shape / np.linalg.norm(shape) for name, shape in shapes.items() if np.any(shape > 0.0)}
    if len(shapes) < 2:
        return
    matrix = np.array(list(shapes.values()))
    smallest = float(np.linalg.svd(matrix, compute_uv=False)[-1]) if len(shapes) <= matrix.shape[1] else 0.0
    if smallest < DEGENERATE:
        text = f"the rates {', '.join(shapes)} cannot be told apart in these bins; fix or remove one"
        yield LintMessage(severity="error", rule="degenerate", channel="all", sample="all", message=text)


def _nominal(samples: Sequence[Mapping[str, Any]], signal: str) -> FloatArray:
    shape = len(samples[0]["data"])
    found = np.zeros(shape)
    for sample in samples:
        if sample["name"] != signal:
            found += np.array(sample["data"])
    return found


_CHANNEL_RULES = (_duplicate_names, _modifiers_act, _background_under_signal, _bins_stay_positive)
