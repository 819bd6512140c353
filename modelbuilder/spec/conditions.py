"""Conditions on the mass hypothesis: `m_a < 6.85 GeV`, `0.2 GeV <= m_a < 0.5 GeV`, joined by `and`, or such by `or`.

Each side is a sum of grid variables, multiples of them and energies: `m_hp < m_Ap`, `m_Ap + m_hp < 10.5 GeV`,
`2 m_Ap < m_hp`. A closed grammar that is parsed, never evaluated as code.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

from modelbuilder.spec.base import refusal, shown
from modelbuilder.spec.quantities import ENERGY, parse_quantity

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SPLIT = re.compile(r"(<=|>=|<|>)")
_PLUS = re.compile(r"(?<![0-9.][eE])\+")  # not the sign of an exponent
_VARIABLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,30}")
_MULTIPLE = re.compile(r"(?P<factor>[0-9]+(\.[0-9]*)?) *(?P<variable>m_[a-zA-Z0-9_]{1,30})")
EXAMPLE = "m_a <= 4 GeV"
_MAX_LENGTH = 400


@dataclass(frozen=True)
class Sum:
    """factor * variable + ... + constant, in GeV."""

    terms: tuple[tuple[float, str], ...]
    constant: float

    def at(self, point: Mapping[str, float]) -> float:
        return sum(factor * point[variable] for factor, variable in self.terms) + self.constant


@dataclass(frozen=True)
class Comparison:
    left: Sum
    symbol: str
    right: Sum


@dataclass(frozen=True)
class Condition:
    """True where every comparison of one of the alternatives holds. Variables are axes of the grid, in GeV."""

    text: str
    alternatives: tuple[tuple[Comparison, ...], ...]

    @property
    def variables(self) -> frozenset[str]:
        comparisons = itertools.chain.from_iterable(self.alternatives)
        sides = (side for comparison in comparisons for side in (comparison.left, comparison.right))
        return frozenset(variable for side in sides for _, variable in side.terms)

    def holds(self, point: Mapping[str, float]) -> bool:
        return any(
            all(_OPERATORS[c.symbol](c.left.at(point), c.right.at(point)) for c in comparisons)
            for comparisons in self.alternatives
        )

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: object) -> Condition:
        """Raises PydanticCustomError with what was found and what would be right."""
        shape = f"found {shown(text)}; a condition reads like {EXAMPLE!r} or '0.2 GeV <= m_a < 0.5 GeV'"
        if not isinstance(text, str) or len(text) > _MAX_LENGTH:
            raise refusal(shape)
        return cls(text, tuple(cls._alternative(part, text, shape) for part in re.split(r"\bor\b", text)))

    @staticmethod
    def _alternative(words: str, text: str, shape: str) -> tuple[Comparison, ...]:
        comparisons: list[Comparison] = []
        for part in re.split(r"\band\b", words):
            tokens = _SPLIT.split(part)
            if len(tokens) not in (3, 5) or not all(token.strip() for token in tokens):
                raise refusal(shape)
            sides = [_side(token.strip(), text) for token in tokens[::2]]
            for left, symbol, right in zip(sides, tokens[1::2], sides[1:], strict=False):
                if not left.terms and not right.terms:
                    reason = f"found {shown(text)}; compare a grid variable with an energy, as in {EXAMPLE!r}"
                    raise refusal(reason)
                comparisons.append(Comparison(left, symbol, right))
        return tuple(comparisons)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "description": f"a condition on the mass, such as {EXAMPLE!r}", "examples": [EXAMPLE]}


def _side(token: str, text: str) -> Sum:
    terms: list[tuple[float, str]] = []
    constant = 0.0
    for part in (part.strip() for part in _PLUS.split(token)):
        multiple = _MULTIPLE.fullmatch(part)
        if multiple is not None:
            terms.append((float(multiple["factor"]), multiple["variable"]))
        elif _VARIABLE.fullmatch(part):
            terms.append((1.0, part))
        else:
            try:
                constant += parse_quantity(part, ENERGY)
            except ValueError as error:
                reason = f"found {shown(text)}: {error}"
                raise refusal(reason) from None
    return Sum(tuple(terms), constant)
