"""Conditions on the mass hypothesis: `m_a < 6.85 GeV`, `0.2 GeV <= m_a < 0.5 GeV`, joined by `and`.

A closed grammar that is parsed, never evaluated as code.
"""

from __future__ import annotations

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
_VARIABLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,30}")
EXAMPLE = "m_a <= 4 GeV"
_MAX_LENGTH = 200


@dataclass(frozen=True)
class Comparison:
    left: str | float
    symbol: str
    right: str | float


@dataclass(frozen=True)
class Condition:
    """True where every comparison holds. Variables are axes of the grid, in GeV."""

    text: str
    comparisons: tuple[Comparison, ...]

    @property
    def variables(self) -> frozenset[str]:
        sides = (side for comparison in self.comparisons for side in (comparison.left, comparison.right))
        return frozenset(side for side in sides if isinstance(side, str))

    def holds(self, point: Mapping[str, float]) -> bool:
        def value(side: str | float) -> float:
            return point[side] if isinstance(side, str) else side

        return all(_OPERATORS[c.symbol](value(c.left), value(c.right)) for c in self.comparisons)

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: object) -> Condition:
        """Raises PydanticCustomError with what was found and what would be right."""
        shape = f"found {shown(text)}; a condition reads like {EXAMPLE!r} or '0.2 GeV <= m_a < 0.5 GeV'"
        if not isinstance(text, str) or len(text) > _MAX_LENGTH:
            raise refusal(shape)
        comparisons: list[Comparison] = []
        for part in re.split(r"\band\b", text):
            tokens = _SPLIT.split(part)
            if len(tokens) not in (3, 5) or not all(token.strip() for token in tokens):
                raise refusal(shape)
            sides = [_side(token.strip(), text) for token in tokens[::2]]
            for left, symbol, right in zip(sides, tokens[1::2], sides[1:], strict=False):
                if isinstance(left, str) == isinstance(right, str):
                    reason = f"found {shown(text)}; compare a grid variable with an energy, as in {EXAMPLE!r}"
                    raise refusal(reason)
                comparisons.append(Comparison(left, symbol, right))
        return cls(text, tuple(comparisons))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "description": f"a condition on the mass, such as {EXAMPLE!r}", "examples": [EXAMPLE]}


def _side(token: str, text: str) -> str | float:
    if _VARIABLE.fullmatch(token):
        return token
    try:
        return parse_quantity(token, ENERGY)
    except ValueError as error:
        reason = f"found {shown(text)}: {error}"
        raise refusal(reason) from None
