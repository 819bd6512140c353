"""Observables, from the line that a user writes to particles of a chain.

    mass(mu+ mu-)                       recoil2(gamma)              mass(gamma gamma gamma) / sqrt_s
    reduced_mass(mu+ mu-)               mbc(B+)                     theta_cm(mu- mu+)
    opening_angle(gamma[2], gamma[3])   cos_helicity(K+, K*0, B0)   tau_x(mu-, pi+ pi+ pi-)
    constrained_mass(gamma gamma, B+)

A function, and the particles of its groups; groups are separated by commas. A name that several particles of the chain
have stands for any of them: `mass2(gamma gamma)` with three photons has three entries per event. One of them is
`gamma[1]`, `gamma[2]` and so on. A particle that decays stands for all that it decays into, which must be visible.

The reduced mass is sqrt(M^2 - 4 m^2), with the mass that the particles are taken for. The constrained mass is that of
photons whose energies are multiplied by the one factor that gives what they come from its nominal mass. Energies and momenta in GeV, angles in rad, distances in cm. `_cm` is the e+e- frame, whose axis is the electron;
without it the laboratory. What recoils does so against the nominal beams. `sqrt_s` is their energy. A mass has the sign
of its square.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from modelbuilder.errors import KinematicsError
from modelbuilder.spec.topology import Topology, known_particle, visible_places

MOST_LETTERS = 200
MOST_ENTRIES = 64


@dataclass(frozen=True, kw_only=True)
class Function:
    """What a function of the grammar needs and gives.

    code: of its kernel.    unit: of the result.    groups: least and largest number of groups.
    centre, recoil: whether the sums are taken to the e+e- frame, and whether what recoils against them is meant.
    """

    code: str
    unit: str
    groups: tuple[int, int] = (1, 1)
    centre: bool = False
    recoil: bool = False


def _functions() -> dict[str, Function]:
    functions = {
        "mass": Function(code="MASS", unit="GeV"),
        "mass2": Function(code="MASS2", unit="GeV^2"),
        "recoil": Function(code="MASS", unit="GeV", recoil=True),
        "recoil2": Function(code="MASS2", unit="GeV^2", recoil=True),
        "reduced_mass": Function(code="REDUCED_MASS", unit="GeV"),
        "constrained_mass": Function(code="CONSTRAINED_MASS", unit="GeV", groups=(2, 2)),
        "mbc": Function(code="MBC", unit="GeV", centre=True),
        "delta_e": Function(code="DELTA_E", unit="GeV", centre=True),
        "cos_helicity": Function(code="COS_HELICITY", unit="", groups=(2, 3)),
        "tau_x": Function(code="TAU_X", unit="", groups=(2, 2), centre=True),
        "flight_distance": Function(code="FLIGHT 0", unit="cm"),
        "flight_distance_xy": Function(code="FLIGHT 1", unit="cm"),
        "pointing_angle": Function(code="FLIGHT 2", unit="rad"),
    }
    for frame in (False, True):
        end = "_cm" if frame else ""
        for name, code, unit in (
            ("energy", "ENERGY", "GeV"),
            ("momentum", "MOMENTUM", "GeV"),
            ("pt", "PT", "GeV"),
            ("theta", "THETA", "rad"),
            ("phi", "PHI", "rad"),
        ):
            functions[name + end] = Function(code=code, unit=unit, centre=frame)
            functions[f"recoil_{name}{end}"] = Function(code=code, unit=unit, centre=frame, recoil=True)
        for name in ("energy", "momentum", "pt"):
            functions[f"missing_{name}{end}"] = functions[f"recoil_{name}{end}"]
        for name in ("opening_angle", "transverse_opening_angle"):
            functions[name + end] = Function(code=name.upper(), unit="rad", groups=(2, 2), centre=frame)
    return {**functions, "missing_mass": functions["recoil"], "missing_mass2": functions["recoil2"]}


FUNCTIONS = _functions()
_SYMMETRIC = ("OPENING_ANGLE", "TRANSVERSE_OPENING_ANGLE")
_CALL = re.compile(r"(?P<function>\w+)(?: ?\( ?(?P<arguments>.*?) ?\))?(?: ?/ ?(?P<divisor>\S+))?\Z")


@dataclass(frozen=True, kw_only=True)
class Observable:
    """An observable of the events of one chain.

    text: as written.    function: a key of FUNCTIONS.    unit: "1" for a pure number.
    entries: for each entry of an event the groups, each of positions among the visible particles.
    node: place of the particle whose decay point is meant, or -1.    per_sqrt_s: whether it is divided by sqrt(s).
    parent_mass: that a constrained mass brings the parent to, GeV.
    """

    text: str
    topology: Topology
    function: str
    unit: str
    entries: tuple[tuple[tuple[int, ...], ...], ...]
    node: int = -1
    per_sqrt_s: bool = False
    parent_mass: float = 0.0


def parse_observable(text: str, topology: Topology, seen: Iterable[tuple[int, str]] | None = None) -> Observable:
    """The observable that is written in `text`; KinematicsError with the reason if it is not possible.

    seen: place in the chain of the particles that are found, and the names they are found under; None for all visible
        ones under their own.
    """
    return _Parser(text, topology, seen).parse()


def unit_of(text: str) -> str:
    """The unit of an observable, "1" for a pure number, whatever the chain; KinematicsError if it is none."""
    return _read(text)[2]


def arguments_of(text: str) -> tuple[str, str]:
    """The function of an observable and what stands in its brackets; KinematicsError if it is none."""
    name, arguments, _ = _read(text)
    return name, arguments


def has_flight_of(text: str, topology: Topology) -> bool:
    """Whether a chain has the particle whose flight an observable is about; True for any other observable.

    Without it there is nothing to cut on: such a cut binds the samples that have the particle.
    """
    name, arguments, _ = _read(text)
    if not FUNCTIONS[name].code.startswith("FLIGHT") or len(arguments.replace(",", " ").split()) != 1:
        return True  # the parser says what is wrong with it
    species = arguments.partition("[")[0]
    return any(topology.nodes[vertex.parent].species == species for vertex in topology.vertices)


def _read(text: str) -> tuple[str, str, str]:
    """Name of the function, arguments, unit."""
    text = " ".join(text.split())
    reason = ""
    match = _CALL.match(text)
    if len(text) > MOST_LETTERS:
        reason = f"more than {MOST_LETTERS} letters"
    elif match is None:
        reason = "an observable is written as function(particles), such as mass(mu+ mu-), or with / sqrt_s"
    elif match["function"] not in FUNCTIONS:
        near = get_close_matches(match["function"], FUNCTIONS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(FUNCTIONS))}"
        reason = f"unknown observable {match['function']!r}; {hint}"
    elif match["divisor"] not in (None, "sqrt_s"):
        reason = f"it is divided by {match['divisor']!r}; only sqrt_s is possible"
    elif match["divisor"] is not None and FUNCTIONS[match["function"]].unit != "GeV":
        unit = FUNCTIONS[match["function"]].unit or "pure numbers"
        reason = f"{match['function']} is in {unit}, so it cannot be divided by sqrt_s"
    if reason or match is None:
        msg = f"{text[:MOST_LETTERS]}: {reason}"
        raise KinematicsError(msg)
    unit = "1" if match["divisor"] is not None else FUNCTIONS[match["function"]].unit or "1"
    return match["function"], match["arguments"] or "", unit


class _Parser:
    def __init__(self, text: str, topology: Topology, seen: Iterable[tuple[int, str]] | None) -> None:
        self.text = " ".join(text.split())
        self.topology = topology
        self.visible = visible_places(topology)
        self.seen = {place: topology.nodes[place].species for place in self.visible} if seen is None else dict(seen)
        self.species: dict[str, list[int]] = {}
        for place, node in enumerate(topology.nodes):
            name = self.seen.get(place, "" if place in self.visible else node.species)
            if name and not (place == 0 and topology.is_collision):
                self.species.setdefault(name, []).append(place)

    def refuse(self, reason: str) -> NoReturn:
        msg = f"{self.text[:MOST_LETTERS]}: {reason}"
        raise KinematicsError(msg)

    def parse(self) -> Observable:
        name, arguments, unit = _read(self.text)
        function = FUNCTIONS[name]
        groups = [part.split() for part in arguments.split(",")] if arguments else [[]]
        if groups == [[]] and name.startswith("missing_"):
            groups = [[f"{name}[{places.index(place) + 1}]" for name, places in self.species.items()
                       for place in places if place in self.seen]]  # fmt: skip
        if function.recoil and not all(groups):
            self.refuse("a recoil against nothing; name the particles that recoil")
        if not all(groups):
            self.refuse("it needs at least one particle")
        if function.code in _SYMMETRIC and len(groups) == 1 and len(groups[0]) == 2:
            groups = [[groups[0][0]], [groups[0][1]]]
        self._check_number(name, function, len(groups))
        node = -1
        entries: tuple[tuple[tuple[int, ...], ...], ...]
        if function.code.startswith("FLIGHT"):
            node = self._vertex(name, groups[0])
            entries = ((self._seen_products(node),),)
        else:
            entries = self._entries(function, groups)
        if function.code == "REDUCED_MASS":
            self._check_pair(entries)
        parent_mass = self._parent_mass(entries, groups[1]) if function.code == "CONSTRAINED_MASS" else 0.0
        return Observable(
            text=self.text,
            topology=self.topology,
            function=name,
            unit=unit,
            entries=entries,
            node=node,
            per_sqrt_s=unit != (function.unit or "1"),
            parent_mass=parent_mass,
        )

    def _check_number(self, name: str, function: Function, number: int) -> None:
        least, most = function.groups
        if least <= number <= most:
            return
        if least == most == 1:
            self.refuse(f"{name} takes one group of particles, without commas")
        forms = {
            "COS_HELICITY": f"{name}(daughter, parent) or {name}(daughter, parent, grandparent)",
            "TAU_X": f"{name}(lepton, particles of the tag)",
            "CONSTRAINED_MASS": f"{name}(photons, what they come from)",
        }
        self.refuse(f"{name} takes {least if least == most else f'{least} or {most}'} groups separated by commas:"
                    f" {forms.get(function.code, f'{name}(one, other)')}")  # fmt: skip

    def _vertex(self, name: str, group: list[str]) -> int:
        if len(group) != 1:
            self.refuse(f"{name} takes one particle that decays")
        places = self._named(group[0])
        if len(places) != 1:
            names = ", ".join(f"{group[0]}[{i}]" for i in range(1, len(places) + 1))
            self.refuse(f"there are {len(places)} {group[0]}; say which: {names}")
        if not self.topology.children(places[0]):
            self.refuse(f"{group[0]} does not decay, so it has no decay point")
        return places[0]

    def _check_pair(self, entries: tuple[tuple[tuple[int, ...], ...], ...]) -> None:
        masses = {tuple(self._mass(self.visible[i]) for i in entry[0]) for entry in entries}
        pair = next(iter(masses))
        if len(masses) != 1 or len(pair) != 2 or pair[0] != pair[1]:
            self.refuse("reduced_mass takes two particles of one mass")

    def _parent_mass(self, entries: tuple[tuple[tuple[int, ...], ...], ...], parent: list[str]) -> float:
        """Nominal mass of the particle that photons come from, GeV."""
        photons = {self.topology.nodes[self.visible[i]].species for entry in entries for i in entry[0]}
        if photons != {"gamma"}:
            self.refuse("constrained_mass scales the energies of photons; name nothing else before the comma")
        masses = {self.topology.nodes[place].mass for name in parent for place in self._named(name)}
        if len(parent) != 1 or len(masses) != 1:
            self.refuse("constrained_mass takes one particle that decays after the comma, such as B+")
        return masses.pop()

    def _mass(self, place: int) -> float:
        """What a particle is taken to weigh, GeV."""
        known = known_particle(self.seen[place])
        return self.topology.nodes[place].mass if known is None else known.mass

    def _named(self, name: str) -> list[int]:
        """Places of the particles that a name may stand for."""
        base, _, number = name.partition("[")
        places = self.species.get(base)
        if places is None:
            near = get_close_matches(name, self.species, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.species)}"
            self.refuse(f"there is no {name} in {self.topology.text}; {hint}")
        if not number:
            return places
        if not re.fullmatch(r"[1-9][0-9]?\]", number) or int(number[:-1]) > len(places):
            self.refuse(f"there is no {name}; there {'is' if len(places) == 1 else 'are'} {len(places)} {base}")
        return [places[int(number[:-1]) - 1]]

    def _leaves(self, place: int) -> tuple[int, ...]:
        """Positions of the visible particles that a particle stands for."""
        node = self.topology.nodes[place]
        children = self.topology.children(place)
        if not children:
            if place in self.seen:
                return (self.visible.index(place),)
            if place in self.visible:
                self.refuse(f"{node.name} is not among the particles of the final state")
            if node.kind == "invisible":
                self.refuse(f"{node.name} is invisible, so nothing of it is measured; use what recoils or is missing")
            self.refuse(f"{node.name} is not seen as a photon or a track, so nothing of it is measured")
        hidden = self._hidden(place)
        if hidden:
            self.refuse(f"{node.name} decays into {hidden}, which is not measured; name the visible particles")
        return tuple(leaf for child in children for leaf in self._leaves(child))

    def _seen_products(self, place: int) -> tuple[int, ...]:
        """Positions of what is visible of a decay, which must be something."""
        found: list[int] = []
        line = [place]
        while line:
            line = [child for parent in line for child in self.topology.children(parent)]
            found.extend(self.visible.index(child) for child in line if child in self.seen)
        if not found:
            self.refuse(f"nothing visible comes from {self.topology.nodes[place].name}, so its decay is not seen")
        return tuple(sorted(found))

    def _hidden(self, place: int) -> str:
        """Name of a product that is not measured, or nothing."""
        for child in self.topology.children(place):
            if self.topology.children(child):
                inner = self._hidden(child)
                if inner:
                    return inner
            elif child not in self.seen:
                return self.topology.nodes[child].name
        return ""

    def _choices(self, group: list[str]) -> list[tuple[int, ...]]:
        """Sets of visible particles that a group may stand for, in the order of the chain."""
        options: list[list[tuple[int, ...]]] = []
        for name, times in Counter(group).items():
            places = self._named(name)
            if times > len(places):
                self.refuse(f"{name} is there {_times(len(places))}, but named {_times(times)}")
            options.append(list(itertools.combinations(places, times)))
        found: dict[tuple[int, ...], None] = {}
        for choice in itertools.islice(itertools.product(*options), 10_000):
            leaves = [leaf for places in choice for place in places for leaf in self._leaves(place)]
            if len(set(leaves)) == len(leaves):
                found[tuple(sorted(leaves))] = None
        if not found:
            self.refuse(f"{' '.join(group)} names a particle twice")
        return list(found)

    def _entries(self, function: Function, groups: list[list[str]]) -> tuple[tuple[tuple[int, ...], ...], ...]:
        entries: list[tuple[tuple[int, ...], ...]] = []
        seen: set[object] = set()
        for choice in itertools.product(*(self._choices(group) for group in groups)):
            key: object = frozenset(choice) if function.code in _SYMMETRIC else choice
            if key in seen or not self._fits(function, choice):
                continue
            seen.add(key)
            entries.append(choice)
        if not entries and function.code == "CONSTRAINED_MASS":
            self.refuse("the photons must be a part of what comes from the particle after the comma")
        if not entries and function.code == "COS_HELICITY":
            self.refuse(
                "each group must be a part of the next: the daughter of the parent, the parent of the grandparent"
            )
        if not entries:
            self.refuse("the groups share a particle")
        if len(entries) > MOST_ENTRIES:
            self.refuse(f"{len(entries)} combinations of particles per event; at most {MOST_ENTRIES} are possible")
        return tuple(entries)

    @staticmethod
    def _fits(function: Function, choice: tuple[tuple[int, ...], ...]) -> bool:
        if function.code in ("COS_HELICITY", "CONSTRAINED_MASS"):
            return all(set(one) < set(two) for one, two in itertools.pairwise(choice))
        return sum(map(len, choice)) == len({member for group in choice for member in group})


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
