"""Channels of several searches as one workspace with one signal strength.

Nuisance parameters of the same name are one parameter. What belongs to one search has its name in front: the channel,
free rates, spurious signals, and the systematics that are to be separate. The luminosity is one parameter per experiment,
with the size that each search gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from modelbuilder.spec.combination import CombinationSpec, is_own, luminosity_name
from modelbuilder.spec.search import LuminositySystematic
from modelbuilder.workspace.build import POI, ChannelModel, Json, normsys, workspace_of
from modelbuilder.workspace.lint import LintMessage, lint


@dataclass(frozen=True, kw_only=True)
class CombinedWorkspace:
    """A workspace of several channels, and what there is to say about it. background_yield: expected entries."""

    workspace: Json
    background_yield: float
    lint: tuple[LintMessage, ...]


def combine(spec: CombinationSpec, channels: Mapping[str, ChannelModel], measurement: str) -> CombinedWorkspace:
    """The workspace of a grid point. channels: by search, normalised to the same coupling at a signal strength of 1."""
    renamed = {name: _renamed(spec, name, channel) for name, channel in channels.items()}
    (strength, *_), *_ = (channel.parameters for channel in renamed.values())
    parameters = [strength, *(own for channel in renamed.values() for own in channel.parameters[1:])]
    notes = (note for channel in renamed.values() for one in channel.with_sideband for note in one.notes)
    workspace = workspace_of(list(renamed.values()), parameters, measurement)
    return CombinedWorkspace(
        workspace=workspace,
        background_yield=sum(channel.background_yield for channel in renamed.values()),
        lint=(*notes, *lint(workspace)),
    )


def _renamed(spec: CombinationSpec, name: str, channel: ChannelModel) -> ChannelModel:
    """The channel of one search with the names that it has in the combination."""
    own_channel = f"{name}_{channel.name}"
    samples = [
        {
            **sample,
            "modifiers": [new for old in sample["modifiers"] if (new := _modifier(spec, name, own_channel, old))],
        }
        for sample in channel.samples
    ]
    parameters = [
        parameter if parameter["name"] == POI else {**parameter, "name": f"{name}_{parameter['name']}"}
        for parameter in channel.parameters
    ]
    notes = tuple(replace(note, channel=own_channel) for note in channel.notes)
    sideband = None if channel.sideband is None else _renamed(spec, name, channel.sideband)
    return replace(channel, name=own_channel, samples=samples, parameters=parameters, notes=notes, sideband=sideband)


def _modifier(spec: CombinationSpec, name: str, channel: str, modifier: Json) -> Json | None:
    search = spec.searches[name]
    kind, old = modifier["type"], modifier["name"]
    if kind == "lumi":
        row = next(key for key, one in search.systematics.items() if isinstance(one, LuminositySystematic))
        new = luminosity_name(search)
        size = search.luminosity.uncertainty
        return normsys(f"{name}_{new}" if row in spec.separate else new, size) if size > 0.0 else None
    if kind == "normfactor":
        return modifier if old == POI else {**modifier, "name": f"{name}_{old}"}
    if kind == "staterror":  # pyhf and cabinetry know these by how their name begins
        return {**modifier, "name": f"staterror_{channel}"}
    return {**modifier, "name": f"{name}_{old}"} if is_own(spec, search.systematics[old], old) else modifier
