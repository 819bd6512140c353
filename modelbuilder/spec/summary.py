"""A search or a combination in a few lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from modelbuilder.spec.base import SOURCE_LABELS, source_label
from modelbuilder.spec.combination import shared_systematics
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import Loaded, LoadedCombination, LoadedSearch
from modelbuilder.spec.plane import PlaneChannel
from modelbuilder.spec.search import Background, BackgroundFromFiles, BernsteinShape, Channel, PseudoData, Signal
from modelbuilder.spec.sideband import AnySideband, SidebandElsewhere
from modelbuilder.spec.tree import Scalar, walk


def count_sources(search: Loaded) -> dict[str, int]:
    """How many inputs of the spec carry each source label."""
    labels = [
        source_label(str(node.value))
        for path, node in walk(search.tree)
        if path and path[-1] == "source" and isinstance(node, Scalar)
    ]
    return {label: labels.count(label) for label in SOURCE_LABELS}


def counted_sources(search: Loaded) -> str:
    """`7 read, 3 review, ...`"""
    return ", ".join(f"{number} {label}" for label, number in count_sources(search).items() if number)


def grid_lines(search: Loaded) -> list[str]:
    """One line per grid point: index, name, mass, and the channel, or the searches that take part with theirs."""

    def last(point: GridPoint) -> str:
        if isinstance(search, LoadedSearch):
            return point.channel
        return ", ".join(f"{name} {own.channel}" for name, own in search.searches_at(point).items())

    return [
        f"{point.index:5d}  {point.name:16}  {'  '.join(f'{mass:9.4f} GeV' for mass in point.masses)}  {last(point)}"
        for point in search.points
    ]


def summary_lines(search: Loaded) -> list[str]:
    """What the search or combination is, in the order of the analysis."""
    return list(_summary(search) if isinstance(search, LoadedSearch) else _summary_of_combination(search))


def _summary_of_combination(combination: LoadedCombination) -> Iterator[str]:
    spec, points = combination.spec, combination.points
    yield f"{spec.name}: {spec.title}"
    yield f"papers       {', '.join(spec.papers) or 'none'}"
    for name, search in combination.searches.items():
        number = sum(name in combination.searches_at(point) for point in points)
        beams, luminosity = search.spec.experiment.beams, search.spec.luminosity
        yield (
            f"search       {name}: {search.spec.name}, {search.spec.experiment.title}, sqrt(s) = {beams.sqrt_s:.4f} GeV, "
            f"{luminosity.value:g} fb^-1, {number} points"
        )
    for name in spec.shared_interpretations:
        models = dict.fromkeys(search.interpretations[name].text for search in spec.searches.values())
        what = "coupling" if name == spec.parameter else "also"
        yield f"{what:12} {name}: {' and '.join(models)}"
    yield f"grid         {len(points)} points, {points[0].mass:g} to {points[-1].mass:g} GeV"
    for low, high in combination.grid.gaps:
        yield f"gap          {low:g} to {high:g} GeV"
    for name, owners in shared_systematics(spec).items():
        yield f"shared       {name}: {', '.join(owners)}"
    yield from _last_lines(combination)


def _summary(search: LoadedSearch) -> Iterator[str]:
    spec = search.spec
    yield f"{spec.name}: {spec.title}"
    yield f"papers       {', '.join(spec.papers) or 'none'}"
    yield f"experiment   {spec.experiment.title}, sqrt(s) = {spec.experiment.beams.sqrt_s:.4f} GeV"
    yield f"luminosity   {spec.luminosity.value:g} fb^-1 +- {100 * spec.luminosity.uncertainty:g} %"
    nodes = spec.signal.nodes
    simulated = "not simulated, efficiency stated"
    if spec.signal.files is not None:
        simulated = "from files"
    if spec.signal.events:
        per = "point" if nodes is None else f"node, {len(nodes.pairs)} nodes"
        simulated = f"{spec.signal.events} events per {per}"
    yield f"signal       {spec.signal.process}; {simulated}"
    yield f"limit on     {spec.rate.text}{_number_of(spec.signal)}"
    for name, interpretation in spec.interpretations.items():
        yield f"coupling     {name}: {interpretation.text}"
    ranges = [(min(axis), max(axis)) for axis in zip(*(point.masses for point in search.points), strict=True)]
    named = zip(spec.grid_variables, ranges, strict=True)
    texts = [f"{f'{name} ' if len(ranges) > 1 else ''}{low:g} to {high:g} GeV" for name, (low, high) in named]
    where = f", where {spec.grid_where}" if spec.grid_where else ""
    yield f"grid         {len(search.points)} points, {', '.join(texts)}{where}"
    lifetime = spec.signal.lifetime
    if lifetime is not None:
        how = "each fitted" if lifetime.shape_at is None else f"the shape at {lifetime.shape_at:g} cm"
        ends = f"{lifetime.values[0]:g} to {lifetime.values[-1]:g} cm"
        yield f"lifetimes    {len(lifetime.values)} c tau of {lifetime.of}, {ends}, {how}"
    for name, channel in spec.channels.items():
        number = sum(point.channel == name for point in search.points)
        if isinstance(channel, PlaneChannel):
            seen = f"{' and '.join(channel.observables)}, in ellipses of {channel.window.ellipse:g} standard deviations"
        else:
            seen = channel.observable
        yield f"channel      {name}: {seen}, {number} points, {channel.where or 'everywhere'}"
        if isinstance(channel, Channel) and channel.sideband is not None:
            yield f"sideband     {name}: {_sideband(channel.sideband)}"
    if spec.final_state is not None:
        vetoed = f"; vetoed {', '.join(spec.final_state.vetoed)}" if spec.final_state.vetoed else ""
        yield f"final state  {' '.join(spec.final_state.found)}{vetoed}"
    for cut in spec.selection:
        where = f" where {cut.where}" if cut.where else ""
        yield f"cut          {cut.text}{where}"
    for name, background in spec.backgrounds.items():
        process = "not simulated, expectation stated"
        if isinstance(background, Background):
            process = background.process
        elif isinstance(background, BackgroundFromFiles):
            process = "from files"
        shape = "Bernstein polynomial" if isinstance(background.shape, BernsteinShape) else background.shape
        yield f"background   {name}: {process}; shape {shape}, rate {background.rate}"
    for name, systematic in spec.systematics.items():
        on = getattr(systematic, "on", None) or [getattr(systematic, "of", "all with a rate from simulation")]
        yield f"systematic   {name}: {systematic.kind} on {', '.join(on)}"
    yield from _last_lines(search)


def _sideband(sideband: AnySideband) -> str:
    if isinstance(sideband, SidebandElsewhere):
        return sideband.title
    if sideband.range is not None:
        return f"{sideband.range[0]} to {sideband.range[1]}, beside the window"
    return f"{sideband.window:g} resolutions of the same observable, beside the window"


def _number_of(signal: Signal) -> str:
    """`, of 1.5e+08 B+`, or the background that a ratio is to."""
    if signal.produced is not None:
        return f", of {signal.produced.number:g} {signal.produced.of}"
    return "" if signal.ratio_to is None else f", {signal.ratio_to}"


def _last_lines(search: Loaded) -> Iterator[str]:
    spec = search.spec
    data = "Asimov data (there is no public event sample)"
    if isinstance(spec.data, PseudoData):
        data = f"pseudo-data, seed {spec.data.seed} (there is no public event sample)"
    elif spec.data.kind == "observed":
        data = "observed, from files"
    level = f"{100 * spec.statistics.confidence_level:g} % CL"
    toys = spec.statistics.toys
    with_toys = "" if toys is None else f", {toys.number} toys {toys.use.replace('-', ' ')}"
    yield f"statistics   {', '.join(spec.statistics.methods)}, {level}{with_toys}"
    yield f"data         {data}"
    yield f"inputs       {counted_sources(search)}"
    yield f"digest       {search.digest}"
