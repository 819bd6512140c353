"""Checks that look at several parts of a search at once.

Each check names the parts that it needs as its arguments, and runs as soon as these parts are sound, so that a fault
in one part of a file does not hide those in others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from modelbuilder.errors import Problem
from modelbuilder.spec.base import SpecModel
from modelbuilder.spec.conditions import Condition
from modelbuilder.spec.experiment import Experiment
from modelbuilder.spec.functions import Bounded
from modelbuilder.spec.grid import GridError, GridPoint, expand_grid
from modelbuilder.spec.problems import nearest
from modelbuilder.spec.search import (
    SIGNAL,
    Background,
    BernsteinShape,
    Cut,
    EnergyCut,
    SearchSpec,
    ShapeSystematic,
    Signal,
    SpuriousSignal,
    Systematic,
)
from modelbuilder.spec.tree import Mapping, Node, child, path_text, plain

MAX_ORDER = 8
Path = tuple[str | int, ...]
Finding = tuple[Path, str]


def cross_check(tree: Mapping) -> list[Problem]:
    """All problems between the parts of a search."""
    parts = _sound_parts(tree)
    findings = [*_on_the_grid(parts)]
    for check in _CHECKS:
        names = list(inspect.signature(check).parameters)
        if all(name in parts for name in names):
            findings.extend(check(**{name: parts[name] for name in names}))
    return [_placed(tree, path, message) for path, message in findings]


def _sound_parts(tree: Mapping) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for name, field in SearchSpec.model_fields.items():
        node = tree.get(field.alias or name)
        if node is None:
            continue
        try:
            annotation: Any = field.annotation
            for item in field.metadata:
                annotation = Annotated[annotation, item]
            parts[name] = TypeAdapter(annotation).validate_python(plain(node))
        except ValidationError:
            continue
    return parts


_WITH_VARIABLES = ("signal", "selection", "channels", "backgrounds", "systematics")


def _on_the_grid(parts: dict[str, Any]) -> Iterator[Finding]:
    """The name of the grid, the variables of all conditions and functions, the points; adds `points` if they are sound."""
    if "grid" not in parts:
        return
    variable: str = next(iter(parts["grid"]))
    if "signal" in parts and (wanted := _mass_of(parts["signal"])) != variable:
        yield ("grid", variable), f"found {variable!r}; the mass of the signal process is named {wanted!r}"
        return  # under a wrong name nothing else would fit either
    unknown = {name: list(_unknown_variables(parts[name], name, variable)) for name in _WITH_VARIABLES if name in parts}
    for findings in unknown.values():
        yield from findings
    if "channels" not in parts or unknown["channels"]:
        return
    try:
        parts["points"] = expand_grid(variable, parts["grid"][variable], parts["channels"])
    except GridError as error:
        yield error.at, str(error)
        return
    for name in _WITH_VARIABLES:
        if name in parts and not unknown[name]:
            yield from _missing_values(parts[name], name, parts["points"])


def _mass_of(signal: Signal) -> str:
    """`m_a` for a process in which `a` is looked for."""
    return f"m_{signal.process.split('->')[1].split(',')[0].split()[-1]}"


def _unknown_variables(part: object, name: str, known: str) -> Iterator[Finding]:
    for path, value in _leaves(part, (name,)):
        if isinstance(value, Condition | Bounded):
            for variable in sorted(value.variables - {known}):
                yield path, f"found the variable {variable!r}{nearest(variable, {known})}"


def _missing_values(part: object, name: str, points: tuple[GridPoint, ...]) -> Iterator[Finding]:
    """The functions that have no value, or none that is allowed, at some point; those of a channel, at its own points."""
    for path, function in _leaves(part, (name,)):
        if isinstance(function, Bounded):
            own = [point for point in points if name != "channels" or point.channel == path[1]]
            yield from _first_failure(function, own, path)


def _first_failure(function: Bounded, points: list[GridPoint], path: Path) -> Iterator[Finding]:
    for point in points:
        try:
            function.at(point.values)
        except ValueError as error:
            yield path, str(error)
            return


def _placed(tree: Mapping, path: Path, message: str) -> Problem:
    node: Node = tree
    place = tree.place
    for step in path:
        below = child(node, step)
        if below is None:
            break
        place = node.entries[str(step)][0] if isinstance(node, Mapping) else below.place
        node = below
    if place.file != node.place.file:
        place = node.place
    return place.problem(path_text(path), message)


def _masses_are_possible(points: tuple[GridPoint, ...], experiment: Experiment) -> Iterator[Finding]:
    largest = experiment.beams.sqrt_s
    for point in points:
        if point.mass >= largest:
            reason = (
                f"found a grid point at {point.mass:g} GeV; it must lie below the collision energy, {largest:.4g} GeV"
            )
            yield ("grid", point.variable), reason
            return


def _orders_are_whole(points: tuple[GridPoint, ...], backgrounds: dict[str, Background]) -> Iterator[Finding]:
    for name, background in backgrounds.items():
        if not isinstance(background.shape, BernsteinShape):
            continue
        if not background.shape.bernstein.variables <= {points[0].variable}:
            continue  # reported already
        for point in points:
            try:
                order = background.shape.bernstein.at(point.values)
            except ValueError:
                break
            if order != round(order) or not 0 <= order <= MAX_ORDER:
                reason = (
                    f"found the order {order:g} at {point.mass:g} GeV; expected a whole number from 0 to {MAX_ORDER}"
                )
                yield ("backgrounds", name, "shape", "bernstein"), reason
                break


def _cuts_are_ordered(selection: list[Cut]) -> Iterator[Finding]:
    for index, cut in enumerate(selection):
        if not isinstance(cut, EnergyCut) and cut.between[0] >= cut.between[1]:
            yield ("selection", index, "between"), "found the lower end at or above the upper end; write [low, high]"


def _samples_exist(backgrounds: dict[str, Background], systematics: dict[str, Systematic]) -> Iterator[Finding]:
    if SIGNAL in backgrounds:
        yield ("backgrounds", SIGNAL), f"a background cannot be named {SIGNAL!r}"
    known = {SIGNAL, *backgrounds}
    for name, systematic in systematics.items():
        if isinstance(systematic, SpuriousSignal):
            background = backgrounds.get(systematic.of)
            if background is None:
                reason = f"found {systematic.of!r}, which is not a background{nearest(systematic.of, backgrounds)}"
                yield ("systematics", name, "of"), reason
            elif not isinstance(background.shape, BernsteinShape):
                reason = f"found {systematic.of!r}, whose shape is the simulated one; it needs a free shape"
                yield ("systematics", name, "of"), reason
            continue
        for index, sample in enumerate(getattr(systematic, "on", ())):
            path = ("systematics", name, "on", index)
            if sample not in known:
                yield path, f"found {sample!r}, which is not a sample{nearest(sample, known)}"
            elif sample != SIGNAL and isinstance(backgrounds[sample].shape, BernsteinShape):
                yield path, f"acts on nothing: rate and shape of {sample!r} are free; remove it from the list"
            elif (
                sample != SIGNAL and backgrounds[sample].rate == "free" and not isinstance(systematic, ShapeSystematic)
            ):
                yield path, f"acts on nothing: the rate of {sample!r} is free; remove it from the list"


def _leaves(part: object, path: Path) -> Iterator[tuple[Path, object]]:
    """Every value below a part of a spec, with its path in the words of the spec."""
    if isinstance(part, SpecModel):
        for name, field in type(part).model_fields.items():
            yield from _leaves(getattr(part, name), (*path, field.alias or name))
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(part, list | tuple):
        for index, value in enumerate(part):
            yield from _leaves(value, (*path, index))
    else:
        yield path, part


_CHECKS: tuple[Callable[..., Iterator[Finding]], ...] = (
    _masses_are_possible,
    _orders_are_whole,
    _cuts_are_ordered,
    _samples_exist,
)
