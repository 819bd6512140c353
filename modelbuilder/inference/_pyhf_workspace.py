"""A plain HistFactory workspace, checked, and turned into a pyhf model; every fault becomes a WorkspaceError."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from modelbuilder.errors import WorkspaceError
from modelbuilder.inference.structure import Key, read
from modelbuilder.inference.workspace_schema import is_plainly_valid, validated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema import ValidationError

SCHEMA_VERSION = "1.0.0"
MAX_DEPTH = 40
_N_KEPT = 64  # structures whose names have been checked
_LARGEST = sys.float_info.max
_MAX_SHOWN = 160


@dataclass(frozen=True, kw_only=True)
class CheckedWorkspace:
    """One measurement of a workspace: the specification that `pyhf.Model` takes, its POI and the observations.

    observations: counts per channel, by channel name.
    key, numbers: the specification, taken apart by `structure.read`.
    """

    model_spec: dict[str, Any]
    measurement_name: str
    poi_name: str
    observations: dict[str, list[float]]
    key: Key
    numbers: list[float]

    @property
    def counts(self) -> list[float]:
        """Of all bins, channels sorted by name."""
        return [n for channel in sorted(self.observations) for n in self.observations[channel]]


def check_workspace(
    workspace: object,
    *,
    measurement_name: str | None = None,
    patches: Sequence[Sequence[Mapping[str, Any]]] = (),
) -> CheckedWorkspace:
    """Apply the patches (each a list of RFC 6902 operations on the whole workspace), then check all that pyhf does not."""
    if not isinstance(workspace, Mapping):
        msg = f"workspace: found {type(workspace).__name__}; a workspace is a JSON object (a dict)"
        raise WorkspaceError(msg)
    plain = validated(_simply_patched(workspace, patches))
    if plain is None:
        plain = _plain_json(workspace, "workspace", 0)
        for number, patch in enumerate(patches):
            plain = _patched(plain, patch, f"patch {number}")
        _check_schema(plain)
    measurement = _measurement(plain, measurement_name)
    model_spec = {"channels": plain["channels"], "parameters": measurement["config"]["parameters"]}
    key, numbers = read(model_spec)
    poi_name = measurement["config"]["poi"]
    observed = {observation["name"]: observation["data"] for observation in plain["observations"]}
    _check_names(
        key,
        tuple([(observation["name"], len(observation["data"])) for observation in plain["observations"]]),
        tuple([one["name"] for one in plain["measurements"]]),
        measurement["name"],
        poi_name,
    )
    _check_numbers(observed, measurement)
    return CheckedWorkspace(
        model_spec=model_spec,
        measurement_name=measurement["name"],
        poi_name=poi_name,
        observations=observed,
        key=key,
        numbers=numbers,
    )


def pyhf_model(checked: CheckedWorkspace, *, batch_size: int | None = None) -> Any:
    """The `pyhf.Model`; to be called, and its result used, inside `numpy_backend()`."""
    import pyhf

    try:
        with _pyhf_log_silenced():
            # what Workspace.model does, less a second validation of the schema
            return pyhf.Model(checked.model_spec, poi_name=checked.poi_name, batch_size=batch_size, validate=False)
    except (
        pyhf.exceptions.InvalidModel,
        pyhf.exceptions.InvalidModifier,
        pyhf.exceptions.InvalidNameReuse,
        pyhf.exceptions.Unsupported,
        # pyhf does not check all that it reads: the lengths of inits and bounds, and more, fail wherever they are used
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        text = f"{error}".strip() or type(error).__name__
        msg = f"workspace: measurement {checked.measurement_name!r}: pyhf cannot build the model: {_short(text)}"
        raise WorkspaceError(msg) from error


@contextmanager
def _pyhf_log_silenced() -> Iterator[None]:
    """pyhf logs what it is about to raise; the error says it already."""
    log = logging.getLogger("pyhf")
    was = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = was


def _plain_json(value: Any, where: str, depth: int) -> Any:
    """A deep copy in dict, list, str, bool, int, float; rejects all else, and numbers that are not finite."""
    if depth > MAX_DEPTH:
        msg = f"{where[:_MAX_SHOWN]}...: nested more than {MAX_DEPTH} levels deep; a workspace needs at most 12"
        raise WorkspaceError(msg)
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        value = value.tolist()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                msg = f"{where}: found the key {key!r}; keys are strings"
                raise WorkspaceError(msg)
        return {key: _plain_json(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_json(item, f"{where}[{_label(item, index)}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        msg = f"{where}: found {value}; every number must be finite"
        raise WorkspaceError(msg)
    if isinstance(value, int) and abs(value) > _LARGEST:
        msg = f"{where}: found a whole number of {len(str(value))} digits; the largest number is {_LARGEST:.3g}"
        raise WorkspaceError(msg)
    if value is None or isinstance(value, str | int | float):
        return value
    msg = f"{where}: found {type(value).__name__}; only JSON values are allowed"
    raise WorkspaceError(msg)


def _label(item: Any, index: int) -> str:
    """How to name an entry of a list: by its `name` where it has one."""
    if isinstance(item, Mapping) and isinstance(item.get("name"), str):
        return str(item["name"])
    return str(index)


def _simply_patched(workspace: Any, patches: Sequence[Sequence[Mapping[str, Any]]]) -> Any:
    """The patched workspace, which shares with the given one all that is not on the way to a change.

    None where a patch does more than to add, replace and remove, or fails: jsonpatch, which copies all, then knows why.
    """
    try:
        for patch in patches:
            for operation in patch:
                workspace = dict(workspace)
                _change(workspace, **operation)
    except (LookupError, TypeError, ValueError):
        return None
    return workspace


_NOTHING = object()


def _change(workspace: dict[str, Any], *, op: str, path: str, value: Any = _NOTHING) -> None:
    if op not in ("add", "replace", "remove") or (op == "remove") != (value is _NOTHING) or path[:1] != "/":
        raise ValueError
    node: Any = workspace
    *way, last = [token.replace("~1", "/").replace("~0", "~") for token in path[1:].split("/")]
    for token in way:
        key = _key(node, token)
        node[key] = dict(node[key]) if isinstance(node[key], dict) else list(node[key])
        node = node[key]
    if isinstance(node, list) and op == "add":
        place = len(node) if last == "-" else _key([*node, None], last)
        node.insert(place, value)
        return
    key = _key(node, last)
    if op != "add":
        del node[key]
        if op == "remove":
            return
        if isinstance(node, list):
            node.insert(key, value)
            return
    node[key] = value


def _key(node: Any, token: str) -> Any:
    """The key or index that a token of a JSON pointer stands for."""
    if isinstance(node, dict):
        return token
    index = int(token)
    if not isinstance(node, list) or str(index) != token or not 0 <= index < len(node):
        raise LookupError
    return index


def _patched(workspace: Any, patch: Sequence[Mapping[str, Any]], where: str) -> Any:
    import jsonpatch
    import jsonpointer

    operations = _plain_json(list(patch), where, 0)
    try:
        return jsonpatch.JsonPatch(operations).apply(workspace)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, LookupError) as error:
        msg = f"{where}: cannot be applied to the workspace: {_short(str(error))}; is it made for this workspace?"
        raise WorkspaceError(msg) from error


def _check_schema(workspace: Any) -> None:
    version = workspace.get("version") if isinstance(workspace, dict) else None
    if version != SCHEMA_VERSION:
        found = "no version" if version is None else f"version {version!r}"
        msg = f"workspace: found {found}; the key 'version' must be {SCHEMA_VERSION!r}"
        raise WorkspaceError(msg)
    if is_plainly_valid(workspace):
        return
    import jsonschema
    import pyhf
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT6

    definitions = pyhf.schema.load_schema(f"{SCHEMA_VERSION}/defs.json")
    address = definitions["$id"]
    registry: Registry[Any] = Registry().with_resource(
        address, Resource.from_contents(definitions, default_specification=DRAFT6)
    )
    # pyhf.schema.validate goes through jsonschema's deprecated RefResolver, and names only the outermost fault
    validator = jsonschema.Draft6Validator({"$ref": f"{address}#/definitions/workspace"}, registry=registry)
    for error in validator.iter_errors(workspace):
        deepest = _deepest(error)
        msg = f"{_place(workspace, list(deepest.absolute_path))}: {_short(deepest.message)}"
        raise WorkspaceError(msg) from error


def _deepest(error: ValidationError) -> ValidationError:
    """The fault itself. Of the alternatives (the modifier types) take the one that the `type` key asks for."""
    while error.context:
        alternatives: dict[Any, list[ValidationError]] = {}
        for inner in error.context:
            alternatives.setdefault(inner.schema_path[0], []).append(inner)
        fitting = [
            faults for faults in alternatives.values() if not any("type" in list(fault.path)[:1] for fault in faults)
        ]
        if not fitting:
            types = sorted({str(inner.validator_value) for inner in error.context if list(inner.path)[:1] == ["type"]})
            found = error.instance.get("type") if isinstance(error.instance, dict) else error.instance
            error.message = f"found the type {found!r}; known: {', '.join(types)}"
            return error
        error = fitting[0][0]
    return error


def _place(workspace: Any, path: Sequence[str | int]) -> str:
    where, value = "workspace", workspace
    for key in path:
        value = value[key]
        where += f"[{_label(value, key)}]" if isinstance(key, int) else f".{key}"
    return where


@lru_cache(maxsize=_N_KEPT)
def _check_names(
    key: Key, observations: tuple[tuple[str, int], ...], measurements: tuple[str, ...], measurement: str, poi: str
) -> None:
    """What the schema cannot say and pyhf takes silently (it lets the last of two samples of one name win).

    observations: name and number of bins of each.
    """
    channels, parameters = key
    _check_unique([name for name, *_ in channels], "workspace.channels")
    _check_unique([name for name, _ in observations], "workspace.observations")
    _check_unique(measurements, "workspace.measurements")
    observed = dict(observations)
    for channel, *samples in channels:
        where = f"workspace.channels[{channel}]"
        if channel not in observed:
            found = ", ".join(sorted(observed)) or "none"
            msg = f"{where}: no observation has this name (found: {found}); every channel needs its observed counts"
            raise WorkspaceError(msg)
        n_bins = observed[channel]
        _check_unique([name for name, *_ in samples], f"{where}.samples")
        for sample, n, *modifiers in samples:
            place = f"{where}.samples[{sample}]"
            _check_length(n, n_bins, f"{place}.data")
            _check_unique([f"{kind} {name}" for kind, name, *_ in modifiers], f"{place}.modifiers")
            for _, name, *lengths in modifiers:
                keys = (".hi_data", ".lo_data") if len(lengths) == 2 else ("",)
                for suffix, length in zip(keys, lengths, strict=False):
                    _check_length(length, n_bins, f"{place}.modifiers[{name}].data{suffix}")
    types: dict[str, set[str]] = {}
    for _, *samples in channels:
        for _, _, *modifiers in samples:
            for kind, name, *_ in modifiers:
                types.setdefault(name, set()).add(kind)
    candidates = ", ".join(sorted(name for name, kinds in types.items() if "normfactor" in kinds)) or "none"
    where = f"workspace.measurements[{measurement}].config"
    if not poi:
        msg = f"{where}.poi: empty; a limit needs a parameter of interest, one of the normfactors: {candidates}"
        raise WorkspaceError(msg)
    if poi not in types:
        msg = f"{where}.poi: found {poi!r}, which no sample has as a modifier; normfactors: {candidates}"
        raise WorkspaceError(msg)
    _check_unique([name for name, *_ in parameters], f"{where}.parameters")
    if any(name == poi and ("fixed", True) in settings for name, *settings in parameters):
        msg = f"{where}.parameters[{poi}].fixed: the parameter of interest is fixed; a limit needs it free"
        raise WorkspaceError(msg)


def _check_numbers(observed: dict[str, list[float]], measurement: dict[str, Any]) -> None:
    for channel, counts in observed.items():
        if min(counts) < 0:
            index = next(index for index, count in enumerate(counts) if count < 0)
            msg = f"workspace.observations[{channel}].data[{index}]: found {counts[index]}; counts are 0 or more"
            raise WorkspaceError(msg)
    for parameter in measurement["config"]["parameters"]:
        place = f"workspace.measurements[{measurement['name']}].config.parameters[{parameter['name']}]"
        for lower, upper in parameter.get("bounds", ()):
            if lower > upper:
                msg = f"{place}.bounds: found {[lower, upper]}; each entry is [lower, upper]"
                raise WorkspaceError(msg)
        for sigma in parameter.get("sigmas", ()):
            if sigma <= 0:
                msg = f"{place}.sigmas: found {sigma}; a width is above 0"
                raise WorkspaceError(msg)


def _check_unique(names: Sequence[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            msg = f"{where}: found {name!r} twice; names must be unique"
            raise WorkspaceError(msg)
        seen.add(name)


def _check_length(length: int, n_bins: int, where: str) -> None:
    if length != n_bins:
        msg = f"{where}: found {length} values; the observation of this channel has {n_bins} bins"
        raise WorkspaceError(msg)


def _measurement(workspace: dict[str, Any], name: str | None) -> dict[str, Any]:
    measurements: list[dict[str, Any]] = workspace["measurements"]
    if name is None:
        return measurements[0]
    for measurement in measurements:
        if measurement["name"] == name:
            return measurement
    known = ", ".join(measurement["name"] for measurement in measurements)
    msg = f"workspace.measurements: found no measurement {name!r}; known: {known}"
    raise WorkspaceError(msg)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
