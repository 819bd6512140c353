"""Checks that look at several parts of a search at once.

Each check names the parts that it needs as its arguments, and runs as soon as these parts are sound, so that a fault
in one part of a file does not hide those in others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from modelbuilder.errors import KinematicsError, Problem
from modelbuilder.spec import input_checks, photon_reach, plane_checks
from modelbuilder.spec.base import SpecModel
from modelbuilder.spec.comparisons import Comparison, faults_of_comparisons
from modelbuilder.spec.conditions import Condition
from modelbuilder.spec.cuts import Cut
from modelbuilder.spec.experiment import EfficiencyOfParticle, Experiment
from modelbuilder.spec.functions import Bounded
from modelbuilder.spec.grid import GridError, GridPoint, expand_grid, spread
from modelbuilder.spec.interpretations import Interpretation, default_law, faults_of_names
from modelbuilder.spec.observables import arguments_of, has_flight_of, parse_observable
from modelbuilder.spec.plane import EventsInPlane, PlaneChannel
from modelbuilder.spec.problems import nearest
from modelbuilder.spec.process import (
    FinalState,
    PhotonLaw,
    Simulated,
    brings_cross_section,
    candidates_of,
    chain_of,
    check_law_numbers,
    default_final_state,
    hypotheses,
    needs_photon_cuts,
    seen_kinds,
)
from modelbuilder.spec.search import (
    MASS_LIKE,
    SIGNAL,
    AnyBackground,
    AnyChannel,
    Background,
    BernsteinShape,
    Channel,
    GridAxis,
    LuminositySystematic,
    ProducedSystematic,
    Radiation,
    RateSystematic,
    SearchSpec,
    ShapeSystematic,
    Signal,
    Spectrum,
    SpuriousSignal,
    StatedBackground,
    Systematic,
    has_luminosity,
    rate_of,
)
from modelbuilder.spec.sideband import TransferSystematic
from modelbuilder.spec.topology import INITIAL, Topology
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
    return [placed(tree, path, message) for path, message in findings]


def _sound_parts(tree: Mapping) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for name, field in SearchSpec.model_fields.items():
        node = tree.get(field.alias or name)
        if node is None:
            if not field.is_required():
                parts[name] = field.get_default(call_default_factory=True)
            continue
        try:
            annotation: Any = field.annotation
            for item in field.metadata:
                annotation = Annotated[annotation, item]
            parts[name] = TypeAdapter(annotation).validate_python(plain(node))
        except ValidationError:
            continue
    return parts


_WITH_VARIABLES = ("signal", "grid_where", "selection", "channels", "backgrounds", "systematics")


def _on_the_grid(parts: dict[str, Any]) -> Iterator[Finding]:
    """The name of the grid, the variables of all conditions and functions, the points; adds `points` if they are sound."""
    if "grid" not in parts:
        return
    variables: tuple[str, ...] = tuple(parts["grid"])
    if "signal" in parts:
        named = [f"m_{name}" for name in hypotheses(parts["signal"].process) if name not in parts["signal"].masses]
        wrong = [variable for variable in variables if variable not in named]
        for variable in wrong:
            yield ("grid", variable), f"found {variable!r}; {_names_of_masses(named)}"
        if wrong:
            return  # under a wrong name nothing else would fit either
    unknown = {
        name: list(_unknown_variables(parts[name], name, variables)) for name in _WITH_VARIABLES if name in parts
    }
    for findings in unknown.values():
        yield from findings
    if "channels" not in parts or unknown["channels"] or unknown.get("grid_where"):
        return
    where = parts.get("grid_where")
    if where is not None and len(where.alternatives) > 1:
        yield ("grid_where",), f"found {str(where)!r}; the grid is one piece, without `or`: leave out ranges with gaps"
        return
    planes = list(plane_checks.grid_fits(variables, parts["channels"]))
    if planes:
        yield from planes
        return
    try:
        lifetimes = parts["signal"].lifetime if "signal" in parts else None
        parts["points"] = expand_grid(parts["grid"], parts["channels"], where, lifetimes)
    except GridError as error:
        yield error.at, str(error)
        return
    for name in _WITH_VARIABLES:
        if name in parts and not unknown[name]:
            yield from _missing_values(parts[name], name, parts["points"])


def _names_of_masses(names: list[str]) -> str:
    if not names:
        return "the signal process has no particle whose mass is not known"
    if len(names) == 1:
        return f"the mass of the signal process is named {names[0]!r}"
    return f"the masses of the signal process are named {', '.join(names)}"


def _unknown_variables(part: object, name: str, known: tuple[str, ...]) -> Iterator[Finding]:
    for path, value in _leaves(part, (name,)):
        if isinstance(value, Condition | Bounded):
            for variable in sorted(value.variables - set(known)):
                yield path, f"found the variable {variable!r}{nearest(variable, known)}"


def missing_values(spec: SearchSpec, tree: Mapping, points: list[GridPoint]) -> list[Problem]:
    """The functions of a sound search that have no value at points that are not those of its grid."""
    found = [
        finding for name in _WITH_VARIABLES for finding in _missing_values(getattr(spec, name), name, tuple(points))
    ]
    return [placed(tree, path, message) for path, message in found]


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


def placed(tree: Mapping, path: Path, message: str) -> Problem:
    """A finding at the place of the key that its path leads to, or as far as there is anything on the way."""
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
        for variable, mass in point.coordinates:
            if mass >= largest:
                reason = (
                    f"found a grid point at {mass:g} GeV; it must lie below the collision energy, {largest:.4g} GeV"
                )
                yield ("grid", variable), reason
                return


def _orders_are_whole(points: tuple[GridPoint, ...], backgrounds: dict[str, AnyBackground]) -> Iterator[Finding]:
    for name, background in backgrounds.items():
        if not isinstance(background.shape, BernsteinShape):
            continue
        if not background.shape.bernstein.variables <= set(points[0].values):
            continue  # reported already
        for point in points:
            try:
                order = background.shape.bernstein.at(point.values)
            except ValueError:
                break
            if order != round(order) or not 0 <= order <= MAX_ORDER:
                where = point.text if len(point.masses) > 1 else f"{point.mass:g} GeV"
                reason = f"found the order {order:g} at {where}; expected a whole number from 0 to {MAX_ORDER}"
                yield ("backgrounds", name, "shape", "bernstein"), reason
                break


def _expectations_fit(backgrounds: dict[str, AnyBackground], channels: dict[str, AnyChannel]) -> Iterator[Finding]:
    """The stated spectra: one for each channel, in the unit of its observable."""
    for name, background in backgrounds.items():
        if not isinstance(background, StatedBackground):
            continue
        path: Path = ("backgrounds", name, "expected")
        for channel, spectrum in background.expected.items():
            if channel not in channels:
                yield (*path, channel), f"found {channel!r}, which is not a channel{nearest(channel, channels)}"
                continue
            asked = channels[channel]
            try:
                if isinstance(asked, PlaneChannel) and isinstance(spectrum, EventsInPlane):
                    spectrum.area(asked.observables)
                elif isinstance(asked, PlaneChannel) or isinstance(spectrum, EventsInPlane):
                    yield (*path, channel), plane_checks.wrong_expectation(asked)
                else:
                    spectrum.density(asked.observable)
            except PydanticCustomError as error:
                context = error.context or {}
                yield (*path, channel, *context["at"]), str(context["reason"])
            if isinstance(asked, Channel) and isinstance(spectrum, Spectrum):
                yield from _shares_fit(spectrum, asked, (*path, channel))
        for channel in channels:
            if channel not in background.expected:
                yield path, f"missing: {channel}; say what is expected in each channel"


def _shares_fit(spectrum: Spectrum, channel: Channel, path: Path) -> Iterator[Finding]:
    """How a stated spectrum is shared among the bins of a second observable."""
    if channel.second is None and spectrum.second is not None:
        yield (*path, "second"), "the channel has no second observable; remove the key"
    elif channel.second is not None and spectrum.second is None:
        yield (
            path,
            f"missing: second; say how the events are shared among the {channel.second.bins} bins of the channel",
        )
    elif channel.second is not None and spectrum.second is not None and len(spectrum.second) != channel.second.bins:
        reason = f"found {len(spectrum.second)} shares; the second observable has {channel.second.bins} bins"
        yield (*path, "second"), reason


def _rates_can_be_told(backgrounds: dict[str, AnyBackground], channels: dict[str, AnyChannel]) -> Iterator[Finding]:
    """One count does not know a free rate, and a polynomial has one axis."""
    for name, background in backgrounds.items():
        for channel_name, channel in channels.items():
            if isinstance(channel, PlaneChannel):
                continue  # has checks of its own
            if channel.count and channel.sideband is None and background.rate == "free":
                reason = (
                    f"found free, but {channel_name} counts events, and one number cannot tell a background from a signal;"
                    " write `rate: fixed`, and its uncertainty as a systematic, or give the channel a `sideband`"
                )
                yield ("backgrounds", name, "rate"), reason
                break
            if channel.second is not None and isinstance(background.shape, BernsteinShape):
                reason = f"found a polynomial, but {channel_name} has two observables; write `simulated` or `stated`"
                yield ("backgrounds", name, "shape"), reason
                break


def _sidebands_measure(
    backgrounds: dict[str, AnyBackground], channels: dict[str, AnyChannel], systematics: dict[str, Systematic]
) -> Iterator[Finding]:
    """A sideband measures one rate, and a transfer factor is that of its background."""
    with_sideband = [
        name for name, channel in channels.items() if isinstance(channel, Channel) and channel.sideband is not None
    ]
    free = [name for name, background in backgrounds.items() if background.rate == "free"]
    for channel in with_sideband:
        if not free:
            reason = "found a sideband, but no background with a free rate, which it would measure; write `rate: free`"
            yield ("channels", channel, "sideband"), reason
        for name in free[1:]:
            reason = f"found free, as that of {free[0]}; the sideband of {channel} can tell one rate only"
            yield ("backgrounds", name, "rate"), reason
        for name in free[:1]:
            if isinstance(backgrounds[name].shape, BernsteinShape):
                reason = f"found a polynomial, but {channel} counts events; write `simulated` or `stated`"
                yield ("backgrounds", name, "shape"), reason
    for name, systematic in systematics.items():
        if not isinstance(systematic, TransferSystematic):
            continue
        if not with_sideband:
            yield ("systematics", name, "kind"), "found transfer, but no channel has a sideband; write `kind: rate`"
        for index, sample in enumerate(systematic.on):
            if with_sideband and (sample == SIGNAL or (sample in backgrounds and sample not in free)):
                reason = f"found {sample!r}, which no sideband measures; name the background with `rate: free`"
                yield ("systematics", name, "on", index), reason


def _samples_exist(
    signal: Signal, backgrounds: dict[str, AnyBackground], systematics: dict[str, Systematic]
) -> Iterator[Finding]:
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
                reason = f"found {systematic.of!r}, whose shape is the {background.shape} one; it needs a free shape"
                yield ("systematics", name, "of"), reason
            elif isinstance(background, StatedBackground):
                reason = (
                    f"nothing of {systematic.of!r} is simulated, so there is no shape in which to look for a signal"
                )
                yield ("systematics", name, "of"), reason
            continue
        if isinstance(systematic, LuminositySystematic):
            for index, sample in enumerate(systematic.also):
                reason = _not_stated(sample, backgrounds)
                if reason:
                    yield ("systematics", name, "also", index), reason
        for index, sample in enumerate(getattr(systematic, "on", ())):
            path = ("systematics", name, "on", index)
            if sample not in known:
                yield path, f"found {sample!r}, which is not a sample{nearest(sample, known)}"
            elif sample != SIGNAL and isinstance(backgrounds[sample].shape, BernsteinShape):
                yield path, f"acts on nothing: rate and shape of {sample!r} are free; remove it from the list"
            elif isinstance(systematic, ShapeSystematic) and not _is_simulated(signal, backgrounds, sample):
                yield path, f"nothing of {sample!r} is simulated, so it has no shape to vary; remove it from the list"
            elif sample != SIGNAL and backgrounds[sample].rate == "free" and isinstance(systematic, RateSystematic):
                yield path, f"acts on nothing: the rate of {sample!r} is free; remove it from the list"


def _tables_have_uncertainties(systematics: dict[str, Systematic], experiment: Experiment) -> Iterator[Finding]:
    """Variations within the uncertainties of tables need some."""
    tracks = experiment.tracks
    known: dict[str, list[EfficiencyOfParticle]] = {
        "photons.efficiency_table": [experiment.photons.efficiency],
        "tracks.efficiency_table": [tracks.efficiency],
        "tracks.identification_table": [e.efficiency for e in tracks.identification if e.particle == e.taken_for],
        "tracks.misidentification_table": [e.efficiency for e in tracks.identification if e.particle != e.taken_for],
    }
    for name, systematic in systematics.items():
        vary = getattr(systematic, "vary", "")
        if vary in known and not any("uncertainty" in getattr(one, "table", ()) for one in known[vary]):
            what = vary.removesuffix("_table")
            reason = (
                f"found {vary!r}, but no table of {what} in the experiment has the column `uncertainty`; add it, or"
                f" write {what}"
            )
            yield ("systematics", name, "vary"), reason


def _is_simulated(signal: Signal, backgrounds: dict[str, AnyBackground], sample: str) -> bool:
    return signal.files is None if sample == SIGNAL else isinstance(backgrounds[sample], Background)


def _not_stated(sample: str, backgrounds: dict[str, AnyBackground]) -> str:
    """Why the uncertainty of the luminosity cannot be put on a sample by name; nothing if it can."""
    background = backgrounds.get(sample)
    if background is None:
        return f"found {sample!r}, which is not a background{nearest(sample, backgrounds)}"
    if has_luminosity(background):
        return f"{sample!r} is simulated: it has this uncertainty anyway; remove it from the list"
    return (
        f"acts on nothing: the rate of {sample!r} is free; remove it from the list" if background.rate == "free" else ""
    )


def _interpretations_fit(
    interpretations: dict[str, Interpretation], signal: Signal, grid: dict[str, GridAxis]
) -> Iterator[Finding]:
    """The names of the columns, the masses of the models, and cuts that the cross section has in both places."""
    for name, reason in faults_of_names(interpretations):
        yield ("interpretations", name), reason
    kind = rate_of(signal).kind
    for name, interpretation in interpretations.items():
        if interpretation.theory.limits != kind:
            reason = f"{interpretation.model} needs a limit on a {interpretation.theory.limits}; that of this search is on a {kind}"
            yield ("interpretations", name, "model"), reason
        if interpretation.theory.power == 0 and signal.lifetime is None:
            reason = (
                f"{interpretation.theory.coupling} of {interpretation.model} only says how far a particle flies; it needs a"
                " search at several lifetimes, `signal.lifetime`"
            )
            yield ("interpretations", name, "model"), reason
    law = signal.laws.get(INITIAL)
    for name, interpretation in interpretations.items():
        missing = [mass for mass in interpretation.theory.masses if mass not in grid]
        if missing:
            reason = f"{interpretation.model} needs {' and '.join(missing)} in the grid, which has {', '.join(grid)}"
            yield ("interpretations", name, "model"), reason
        within = interpretation.parameters.get("max_cos")
        if isinstance(law, PhotonLaw) and within is not None and within != law.max_cos:
            reason = (
                f"found {within:g}, but the signal is simulated, and its limit found, within max_cos {law.max_cos:g}; "
                f"give the same number as in signal.laws"
            )
            yield ("interpretations", name, "max_cos"), reason


def _comparisons_fit(
    comparisons: dict[str, list[Comparison]],
    interpretations: dict[str, Interpretation],
    signal: Signal,
    grid: dict[str, GridAxis],
) -> Iterator[Finding]:
    """Curves belong to a quantity with a limit, against the mass of the grid."""
    yield from faults_of_comparisons(comparisons, [*interpretations, rate_of(signal).column], grid)


def _lifetimes_are_possible(
    signal: Signal, grid: dict[str, GridAxis], interpretations: dict[str, Interpretation]
) -> Iterator[Finding]:
    """A lifetime that is scanned: of a hypothesis that decays, in a grid of one mass; that of a model is of the grid."""
    lifetime = signal.lifetime
    if lifetime is None:
        return
    path: Path = (SIGNAL, "lifetime")
    for name, one in interpretations.items():
        if one.theory.lifetime is not None and f"m_{lifetime.of}" not in grid:
            reason = f"the lifetime of {one.model} is that of the particle whose mass is scanned, not of {lifetime.of}"
            yield ("interpretations", name, "model"), reason
    decaying = [step.split()[0] for step in signal.process.split(",")[1:] if "->" in step]
    flying = [name for name in hypotheses(signal.process) if name in decaying]
    if lifetime.of not in flying:
        reason = (
            f"found {lifetime.of!r}, which is no hypothesis that decays in the process{nearest(lifetime.of, flying)}"
        )
        yield (*path, "of"), reason
    if len(grid) > 1:
        yield path, "found lifetimes and two masses; lifetimes go with a grid of one mass"
    if lifetime.shape_at is not None and not signal.events:
        yield (
            (*path, "shape_at"),
            "nothing is simulated that has a shape, or an efficiency at a lifetime; give `events`",
        )


def _rate_is_known(
    signal: Signal, backgrounds: dict[str, AnyBackground], systematics: dict[str, Systematic]
) -> Iterator[Finding]:
    """Particles that decay in the process, a background to compare with, and uncertainties of what there is."""
    decays = [" ".join(step.split()) for step in signal.process.split(",")[1:]]
    if signal.produced is not None and sum(step.split()[0] == signal.produced.of for step in decays) != 1:
        reason = f"found {signal.produced.of!r}; name the particle of the process whose decay the limit is on"
        yield (SIGNAL, "produced", "of"), f"{reason}{nearest(signal.produced.of, [step.split()[0] for step in decays])}"
    for decay in signal.branching_fractions:
        if decay not in decays:
            reason = f"found {decay!r}, which is no decay of the process: {', '.join(decays) or 'it has none'}"
            yield (SIGNAL, "branching_fractions", decay), reason
    if signal.ratio_to is not None:
        background = backgrounds.get(signal.ratio_to)
        path: Path = (SIGNAL, "ratio_to")
        if background is None:
            yield path, f"found {signal.ratio_to!r}, which is not a background{nearest(signal.ratio_to, backgrounds)}"
        elif not isinstance(background, Background) or background.cross_section is None:
            yield path, f"{signal.ratio_to!r} needs a `process` and a `cross_section` that the signal is compared with"
        elif background.rate != "free" or isinstance(background.shape, BernsteinShape):
            reason = f"the ratio is to a rate that the fit finds; write `shape: simulated` and `rate: free` in {signal.ratio_to}"
            yield path, reason
    for name, systematic in systematics.items():
        if isinstance(systematic, ProducedSystematic):
            if signal.produced is None:
                yield ("systematics", name), "acts on nothing: signal.produced is missing; remove it"
            for index, sample in enumerate(systematic.also):
                at: Path = ("systematics", name, "also", index)
                if sample not in backgrounds:
                    yield at, f"found {sample!r}, which is not a background{nearest(sample, backgrounds)}"
                elif backgrounds[sample].rate == "free":
                    yield at, f"acts on nothing: the rate of {sample!r} is free; remove it from the list"


def _processes_are_possible(
    signal: Signal,
    interpretations: dict[str, Interpretation],
    backgrounds: dict[str, AnyBackground],
    experiment: Experiment,
    final_state: FinalState | None,
    radiation: Radiation,
    selection: list[Cut],
    channels: dict[str, AnyChannel],
    points: tuple[GridPoint, ...],
) -> Iterator[Finding]:
    """Every chain, its particles in the final state, and the observables of them; nothing is simulated for it."""
    sqrt_s = experiment.beams.sqrt_s
    if any(max(point.masses) >= sqrt_s for point in points):
        return  # reported already
    simulated = {name: one for name, one in backgrounds.items() if isinstance(one, Background)}
    law = default_law(interpretations)
    chains: dict[str, Topology] = {}
    for point in _some(points):
        try:
            chains[SIGNAL] = chain_of(signal, point.values, sqrt_s=sqrt_s, law=law, lifetimes=signal.lifetime)
        except KinematicsError as error:
            chains.pop(SIGNAL, None)
            text = f"at {point.text}: {error}"
            if law is not None and INITIAL not in signal.laws and repr(law) in text:
                text += "; it is the law of the first of `interpretations`, `laws` of the signal may name another"
            yield ("signal", "process"), text
            break
        except ValueError:
            return  # a function without a value there, reported already
        try:
            check_law_numbers(chains[SIGNAL], sqrt_s=sqrt_s, isr=radiation.acts_on(signal, chains[SIGNAL]))
        except KinematicsError as error:
            yield (SIGNAL, "laws"), f"at {point.text}: {error}"
            break
    for name, background in simulated.items():
        path: Path = ("backgrounds", name)
        if _depends_on_the_grid(background):
            yield path, "found a mass, lifetime or law that depends on the grid; a background does not"
            continue
        try:
            chains[name] = chain_of(background, {}, sqrt_s=sqrt_s)
        except KinematicsError as error:
            yield (*path, "process"), str(error)
            continue
        if brings_cross_section(chains[name]) and background.cross_section is not None:
            yield (*path, "cross_section"), "this process brings its own cross section at lowest order; remove the key"
        if not brings_cross_section(chains[name]) and background.cross_section is None:
            reason = "missing; this process does not bring one of its own, so give `cross_section: {value: ..., source: ...}`"
            yield (*path, "cross_section"), reason
    for sample, chain in chains.items():
        if sample == SIGNAL:
            continue
        try:
            check_law_numbers(chain, sqrt_s=sqrt_s, isr=radiation.acts_on(simulated[sample], chain))
        except KinematicsError as error:
            yield ("backgrounds", sample, "laws"), str(error)
    if final_state is None and SIGNAL in chains:
        final_state = default_final_state(chains[SIGNAL], signal.taken_for)
    faulty: set[Path] = set()
    for sample, chain in chains.items():
        process = signal if sample == SIGNAL else simulated[sample]
        for path, message in _final_state(sample, process, chain, final_state, experiment, selection, channels):
            if path not in faulty:  # what is wrong with the signal is not said again of every background
                yield path, message
            if sample == SIGNAL:
                faulty.add(path)
    for sample, chain in chains.items():
        process = signal if sample == SIGNAL else simulated[sample]
        own = (SIGNAL,) if sample == SIGNAL else ("backgrounds", sample)
        key = "process" if needs_photon_cuts(process) else "laws"
        isr = radiation.acts_on(process, chain)
        for message in _photons_are_covered(process, chain, final_state, experiment, selection, points, isr):
            yield (*own, key), message
    if len(chains) < 1 + len(simulated):
        return
    for index, cut in enumerate(selection):
        if not any(has_flight_of(cut.quantity, chain) for chain in chains.values()):
            name = arguments_of(cut.quantity)[1]
            known = {chain.nodes[vertex.parent].name for chain in chains.values() for vertex in chain.vertices[1:]}
            reason = f"{cut.quantity}: no particle {name} decays in any sample{nearest(name, known) if known else ''}"
            yield ("selection", index, "quantity"), reason
    vertices = final_state.vertices if final_state else {}
    for name in vertices:
        lifetimes = [ctau for chain in chains.values() for ctau in _lifetimes_of(chain, name)]
        if not lifetimes:
            yield ("final_state", "vertices", name), f"found {name!r}; no particle of this name decays in any sample"
        elif not any(lifetimes):
            reason = f"{name} decays promptly, at the collision point; give its c tau in `lifetimes` of the sample"
            yield ("final_state", "vertices", name), reason
        for sample, chain in chains.items():
            twins = [node for vertex in chain.vertices[1:] if (node := chain.nodes[vertex.parent]).species == name]
            missing = [node.name for node in twins if node.name not in vertices]
            if missing:
                reason = f"{len(twins)} {name} decay in {sample}, and a vertex binds one; give one for {missing[0]} too"
                yield ("final_state", "vertices", name), reason


def _photons_are_covered(
    process: Simulated,
    chain: Topology,
    final_state: FinalState | None,
    experiment: Experiment,
    selection: list[Cut],
    points: tuple[GridPoint, ...],
    radiates: bool,
) -> Iterator[str]:
    """The first thing that is wrong with the cuts on the simulated photons, for any of the sets of cuts."""
    try:
        candidates = candidates_of(chain, final_state, process.taken_for)
        sets = dict.fromkeys(
            tuple(i for i, cut in enumerate(selection) if cut.where is None or cut.where.holds(point.values))
            for point in points
        )
    except (KinematicsError, KeyError):
        return  # reported already
    for holding in sets:
        cuts = [selection[index] for index in holding]
        follows = needs_photon_cuts(process)
        found = photon_reach.refusals(
            chain, candidates, cuts, experiment, radiates=radiates, follows_from_selection=follows
        )
        for message in found:
            yield message
            return


def _some(points: tuple[GridPoint, ...]) -> tuple[GridPoint, ...]:
    """The ends of the grid, and some points between: what is possible changes at thresholds only."""
    heaviest = max(points, key=lambda point: sum(point.masses))
    return tuple(dict.fromkeys((*spread(points, 200), heaviest)))


def _depends_on_the_grid(background: Background) -> bool:
    parts = (background.masses, background.lifetimes, background.laws)
    return any(isinstance(value, Bounded) and value.variables for part in parts for _, value in _leaves(part, ()))


def _lifetimes_of(chain: Topology, name: str) -> list[float]:
    """c tau, cm, of a particle that decays in a chain; none if it does not."""
    return [node.ctau for v in chain.vertices[1:] if (node := chain.nodes[v.parent]).name == name]


def _windows_have_a_resolution(
    channels: dict[str, AnyChannel], points: tuple[GridPoint, ...], experiment: Experiment
) -> Iterator[Finding]:
    """Windows reach beyond the grid, and bins are made for all masses that the observable may have."""
    for name, channel in channels.items():
        if isinstance(channel, PlaneChannel):
            continue
        key = "resolution" if channel.resolution is not None else "resolution2"
        function = channel.resolution or channel.resolution2
        own = [point for point in points if point.channel == name]
        if (
            channel.window is None
            or channel.range is not None
            or function is None
            or not own
            or not function.variables <= set(own[0].values)
        ):
            continue
        try:
            for step in range(101):
                function.at(dict.fromkeys(own[0].values, 0.01 * step * experiment.beams.sqrt_s))
        except ValueError as error:
            yield ("channels", name, key), f"windows reach further than the grid: {error}"


def _masses_are_in_range(channels: dict[str, AnyChannel], points: tuple[GridPoint, ...]) -> Iterator[Finding]:
    """Windows in equal bins of a range have the mass within it."""
    for name, channel in channels.items():
        if isinstance(channel, PlaneChannel) or channel.window is None or channel.range is None:
            continue
        low, high = channel.limits
        for point in points:
            kind = MASS_LIKE[arguments_of(channel.observable)[0]]
            if point.channel == name and not low <= point.mass ** (2 if kind == "mass2" else 1) <= high:
                yield ("channels", name, "range"), f"the grid point at {point.mass:g} GeV lies outside of it"
                break


def _final_state(
    sample: str,
    process: Simulated,
    chain: Topology,
    final_state: FinalState | None,
    experiment: Experiment,
    selection: list[Cut],
    channels: dict[str, AnyChannel],
) -> Iterator[Finding]:
    """What can be wrong with the final state, the cuts and the observables of one sample."""
    own: Path = (SIGNAL,) if sample == SIGNAL else ("backgrounds", sample)
    try:
        kinds = seen_kinds(chain, process.taken_for)
    except KinematicsError as error:
        yield (*own, "taken_for"), str(error)
        return
    for name, kind in kinds.items():
        true = chain.nodes[chain.place(name)].kind
        known = [(entry.particle, entry.taken_for) for entry in experiment.tracks.identification]
        if (true, kind) not in known:
            there = ", ".join(f"{one} as {two}" for one, two in known) or "none"
            reason = (
                f"the experiment has no probability to take a {true} for a {kind}; tracks.identification has {there}"
            )
            yield (*own, "taken_for"), reason
    try:
        candidates = candidates_of(chain, final_state, process.taken_for)
    except KinematicsError as error:
        yield (("final_state", "found") if sample == SIGNAL else (*own, "process")), str(error)
        return
    where = "" if sample == SIGNAL else f"in {sample}: "
    wanted: list[tuple[Path, str, Cut | None]] = [
        (("selection", index, "quantity"), cut.quantity, cut) for index, cut in enumerate(selection)
    ]
    single: set[Path] = set()
    for name, channel in channels.items():
        if isinstance(channel, PlaneChannel):
            wanted += [(("channels", name, "plane", variable), text, None) for variable, text in channel.plane.items()]
            continue
        wanted.append((("channels", name, "observable"), channel.observable, None))
        if channel.count:
            single.add(wanted[-1][0])
        if channel.second is not None:
            wanted.append((("channels", name, "second", "observable"), channel.second.observable, None))
            single.add(wanted[-1][0])
    for path, text, cut in wanted:
        if cut is not None and not has_flight_of(text, chain):
            continue
        try:
            entries = len(parse_observable(text, chain, candidates[0].seen).entries)
        except KinematicsError as error:
            yield path, f"{where}{error}"
            continue
        if path in single and entries != 1:
            what = "a second observable" if "second" in path else "a count"
            yield path, f"{where}{text} has {entries} values in an event; {what} needs one, as in {_one_of(text)}"
        if "plane" in path and entries != 1 and getattr(process, "events", False):
            yield path, f"{where}{text} has {entries} values in an event; a plane needs one, as in {_one_of(text)}"
        if cut is not None and cut.turn_on is not None and entries != 1:
            yield path, f"{where}{text} has {entries} values in an event; a turn-on needs one, as in {_one_of(text)}"
        if cut is not None and cut.at_least is not None and cut.at_least > entries:
            yield (*path[:-1], "at_least"), f"{where}found {cut.at_least}; {text} has {entries} values in an event"


def _one_of(text: str) -> str:
    function, arguments = arguments_of(text)
    return f"{function}({arguments.split()[0]}[1])" if arguments else text


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
    _expectations_fit,
    *input_checks.CHECKS,
    _rates_can_be_told,
    _sidebands_measure,
    _interpretations_fit,
    _comparisons_fit,
    _processes_are_possible,
    _windows_have_a_resolution,
    _masses_are_in_range,
    _samples_exist,
    _tables_have_uncertainties,
    _rate_is_known,
    _lifetimes_are_possible,
    *plane_checks.CHECKS,
)
