"""What a spec expects of itself: the `tests` that `modelbuilder check` and `pytest` compute.

A test names a quantity, where on the grid it is looked at, and one expectation. The grid point nearest to the given
masses is taken.
"""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from modelbuilder.spec.base import Name, SpecModel, refusal
from modelbuilder.spec.functions import RawValue, parsed
from modelbuilder.spec.methods import Method
from modelbuilder.spec.quantities import ENERGY, NUMBER_OF, Quantity, RelativeSize, as_number

_FORMS = r"efficiency\(signal\)|yield\([a-zA-Z][\w/]*\)|(observed|expected)\([a-zA-Z]\w*\)|significance|bias\([0-9.]+\)"
_EXPECTED = ("equals", "between", "above", "below", "monotonic")
QUANTITIES = "efficiency(signal), yield(BACKGROUND), expected(QUANTITY), observed(QUANTITY), significance, bias(STANDARD DEVIATIONS)"


class Expectation(SpecModel):
    """One test of a spec."""

    quantity: Annotated[str, Field(json_schema_extra={"pattern": rf"^({_FORMS})$"})] = Field(
        description=f"what is looked at: {QUANTITIES}; QUANTITY is a column of limits.csv without its band",
        examples=["efficiency(signal)", "yield(three_photon)", "expected(cross_section_fb)"],
    )
    at: dict[Name, RawValue | list[RawValue]] = Field(
        min_length=1, description="masses, such as {m_a: 1 GeV}; lists for several points"
    )
    method: Method | None = Field(None, description="of a limit; default: the first method of the spec")
    equals: RawValue | None = Field(None, description="a number, with its unit where it has one; needs `within`")
    within: RelativeSize | None = Field(None, description="largest relative difference, such as 5 %")
    between: tuple[RawValue, RawValue] | None = Field(None, description="[low, high]")
    above: RawValue | None = Field(None, description="at each point")
    below: RawValue | None = Field(None, description="at each point")
    monotonic: Literal["rising", "falling"] | None = Field(None, description="along the points of `at`, in their order")
    why: str | None = Field(None, description="what a failure would mean")

    @model_validator(mode="after")
    def _complete(self) -> Expectation:
        if not re.fullmatch(_FORMS, self.quantity):
            reason = f"found {self.quantity!r}; a test looks at one of {QUANTITIES}"
            raise refusal(reason, ("quantity",))
        forms = [key for key in _EXPECTED if getattr(self, key) is not None]
        if len(forms) != 1:
            found = f"found {' and '.join(forms)}" if forms else "found none"
            reason = f"{found}; a test has one of {', '.join(_EXPECTED)}"
            raise refusal(reason)
        if (self.equals is None) != (self.within is None):
            reason = (
                "found `within` without `equals`" if self.equals is None else "missing; with `equals` say within what"
            )
            raise refusal(reason, ("within",))
        for key in ("equals", "above", "below"):
            self._number(getattr(self, key), key)
        for index, value in enumerate(self.between or ()):
            self._number(value, "between", index)
        if self.between is not None and not self.bounds[0] < self.bounds[1]:
            reason = "found the lower end at or above the upper end; write [low, high]"
            raise refusal(reason, ("between",))
        lengths = {len(value) for value in self.at.values() if isinstance(value, list)}
        if len(lengths) > 1:
            reason = "found lists of different lengths; each point needs a value of each mass"
            raise refusal(reason, ("at",))
        if self.monotonic is not None and lengths in (set(), {0}, {1}):
            reason = "found one point; monotonic needs several, as in {m_a: [1 GeV, 2 GeV]}"
            raise refusal(reason, ("at",))
        self.points()
        return self

    def _number(self, value: object, *at: str | int) -> float:
        if value is None:
            return 0.0
        number = as_number(value)
        if number is None:
            reason = f"found {value!r}; expected a number, with its unit where it has one"
            raise refusal(reason, at)
        if number[1]:
            reason = f"found {value!r}; write the number in the unit that the name of the quantity ends with"
            raise refusal(reason, at)
        return number[0]

    @property
    def target(self) -> float:
        """What `equals` says."""
        return self._number(self.equals, "equals")

    @property
    def bounds(self) -> tuple[float, float]:
        """Of `between`, `above` and `below`; infinite where there is none."""
        if self.between is not None:
            return self._number(self.between[0], "between", 0), self._number(self.between[1], "between", 1)
        low = float("-inf") if self.above is None else self._number(self.above, "above")
        return low, float("inf") if self.below is None else self._number(self.below, "below")

    def points(self) -> list[dict[str, float]]:
        """The masses, GeV, point by point."""
        quantity = Quantity(ENERGY, low=0.0)
        lists = {}
        for name, value in self.at.items():
            values = value if isinstance(value, list) else [value]
            lists[name] = [
                parsed(quantity, item, ("at", name, index) if isinstance(value, list) else ("at", name))
                for index, item in enumerate(values)
            ]
        number = max(len(values) for values in lists.values())
        full = {name: values if len(values) > 1 else values * number for name, values in lists.items()}
        return [dict(zip(full, values, strict=True)) for values in itertools.zip_longest(*full.values())]

    @property
    def argument(self) -> str:
        """What stands in the parentheses."""
        return self.quantity.partition("(")[2].rstrip(")")

    @property
    def kind(self) -> str:
        """`efficiency`, `yield`, `expected`, `observed`, `significance` or `bias`."""
        return self.quantity.partition("(")[0]

    @property
    def strength(self) -> float:
        """Of `bias`, in standard deviations."""
        return parsed(Quantity(NUMBER_OF, low=0.0), float(self.argument), ("quantity",))
