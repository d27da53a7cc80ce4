"""Arithmetic of bands, such as ``(nir - red) / (nir + red)``: read here, never run as Python.

A formula is turned into steps for a stack of arrays by recursive descent. It knows numbers, names
of bands (in quotes where they are not plain words), ``+ - * / **``, parentheses and `FUNCTIONS`;
everything else is refused, and so are long and deeply nested ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError, did_you_mean

LONGEST = 500
"""Characters of a formula."""
DEEPEST = 20
"""Parentheses, calls and signs inside each other."""


class Function(NamedTuple):
    """A function of a formula.

    Attributes:
        compute: takes arrays or numbers.
        fewest: arguments.
        most: arguments.
    """

    compute: Callable[..., Any]
    fewest: int
    most: int


def _least(*values: Any) -> Any:
    return _fold(np.minimum, values)


def _greatest(*values: Any) -> Any:
    return _fold(np.maximum, values)


def _fold(compute: Callable[[Any, Any], Any], values: Sequence[Any]) -> Any:
    found = values[0]
    for each in values[1:]:
        found = compute(found, each)
    return found


def _clip(value: Any, low: Any, high: Any) -> Any:
    return np.minimum(np.maximum(value, low), high)


_MANY = 16
FUNCTIONS = {
    "abs": Function(np.abs, 1, 1),
    "clip": Function(_clip, 3, 3),
    "log": Function(np.log, 1, 1),
    "max": Function(_greatest, 2, _MANY),
    "min": Function(_least, 2, _MANY),
    "sqrt": Function(np.sqrt, 1, 1),
}
"""``log`` is the natural logarithm; ``clip(x, low, high)``."""

_OPERATORS: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
    "negative": np.negative,
}


class Step(NamedTuple):
    """One step: a number or a band goes onto the stack, or arguments become a result.

    Attributes:
        kind: ``number``, ``band``, ``operator`` or ``function``.
        what: the number, or the name.
        arguments: how many are taken from the stack.
    """

    kind: str
    what: str | float
    arguments: int = 0


class Formula(NamedTuple):
    """A formula that has been read.

    Attributes:
        steps: in the order in which they are done.
    """

    steps: tuple[Step, ...]

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands it needs, each once, in the order of the formula."""
        names = (str(step.what) for step in self.steps if step.kind == "band")
        return tuple(dict.fromkeys(names))

    def compute(self, values: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the result for arrays of the bands; NaN or infinite where there is none.

        Args:
            values: float64 of each band, all of one shape.
        """
        stack: list[Any] = []
        with np.errstate(all="ignore"):  # what has no result is not finite, which callers look for
            for step in self.steps:
                if step.kind == "number":
                    stack.append(np.float64(step.what))
                elif step.kind == "band":
                    stack.append(values[str(step.what)])
                else:
                    arguments = stack[len(stack) - step.arguments :]
                    del stack[len(stack) - step.arguments :]
                    name = str(step.what)
                    operator = step.kind == "operator"
                    compute = _OPERATORS[name] if operator else FUNCTIONS[name].compute
                    stack.append(compute(*arguments))
        result: NDArray[np.float64] = stack[0]
        return result


@lru_cache(maxsize=256)
def parse(text: str, name: str = "") -> Formula:
    """Read a formula.

    Args:
        text: such as ``(nir - red) / (nir + red)``.
        name: of the band it gives, for messages.

    Raises:
        ConfigError: SEG-X106, it is too long or too deep, or holds what is no arithmetic of bands.
    """
    if len(text) > LONGEST:
        raise _refused(name, f"{len(text)} characters", f"up to {LONGEST} characters")
    reader = _Reader(name, text, _tokens(name, text))
    reader.sum(0)
    reader.require_end()
    formula = Formula(tuple(reader.steps))
    if not formula.bands:
        raise _refused(name, f"{text!r} names no band", "a formula with a band in it")
    return formula


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<word>[^\W\d]\w*)"
    r"|\"(?P<double>[^\"]+)\"|'(?P<single>[^']+)'"
    r"|(?P<sign>\*\*|[-+*/(),]))"
)


class _Token(NamedTuple):
    kind: str  # number, word, quoted, sign or end
    text: str
    place: int  # from 1


def _tokens(name: str, text: str) -> list[_Token]:
    found, place = [], 0
    end = len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            first = place + len(text[place:]) - len(text[place:].lstrip())
            raise _refused(name, f"{text[first]!r} at character {first + 1} of {text!r}", _WHAT)
        kind = str(match.lastgroup)
        begin = match.start(kind) + 1
        if kind in ("double", "single"):
            kind, begin = "quoted", begin - 1
        found.append(_Token(kind, str(match[str(match.lastgroup)]), begin))
        place = match.end()
    return [*found, _Token("end", "", end + 1)]


_WHAT = (
    "numbers, names of bands (in quotes where they are not plain words), + - * / **, parentheses, "
    + ", ".join(f"{name}()" for name in FUNCTIONS)
)


class _Reader:
    """Recursive descent; binds as Python does: ``-a ** 2`` is ``-(a ** 2)``."""

    def __init__(self, name: str, text: str, tokens: list[_Token]) -> None:
        self.name, self.text, self.tokens = name, text, tokens
        self.at = 0
        self.steps: list[Step] = []

    def sum(self, depth: int) -> None:
        """Read terms that are added."""
        self._left_to_right(("+", "-"), self._product, depth)

    def _product(self, depth: int) -> None:
        self._left_to_right(("*", "/"), self._signed, depth)

    def _left_to_right(
        self, signs: tuple[str, str], operand: Callable[[int], None], depth: int
    ) -> None:
        operand(depth)
        while (sign := self._take(*signs)) is not None:
            operand(depth)
            self.steps.append(Step("operator", sign, 2))

    def _signed(self, depth: int) -> None:
        sign = self._take("-", "+")
        if sign is None:
            self._power(depth)
            return
        self._signed(self._deeper(depth))
        if sign == "-":
            self.steps.append(Step("operator", "negative", 1))

    def _power(self, depth: int) -> None:
        self._operand(depth)
        if self._take("**") is not None:
            self._signed(self._deeper(depth))
            self.steps.append(Step("operator", "**", 2))

    def _operand(self, depth: int) -> None:
        token = self.tokens[self.at]
        self.at += 1
        if token.kind == "number":
            number = float(token.text)
            if not math.isfinite(number):
                raise self._unexpected(token)
            self.steps.append(Step("number", number))
        elif token.kind == "word" and self.tokens[self.at].text == "(":
            self._call(token, depth)
        elif token.kind in ("word", "quoted"):
            self.steps.append(Step("band", token.text))
        elif token.kind == "sign" and token.text == "(":
            self.sum(self._deeper(depth))
            self._require(")")
        else:
            raise self._unexpected(token)

    def _call(self, token: _Token, depth: int) -> None:
        function = FUNCTIONS.get(token.text)
        if function is None:
            raise _refused(
                self.name,
                f"a call of {token.text!r} at character {token.place} of {self.text!r}",
                ", ".join(f"{name}()" for name in FUNCTIONS),
                did_you_mean(token.text, FUNCTIONS),
            )
        self._require("(")
        count = 1
        self.sum(self._deeper(depth))
        while self._take(",") is not None:
            self.sum(self._deeper(depth))
            count += 1
        self._require(")")
        if not function.fewest <= count <= function.most:
            few, many = function.fewest, function.most
            raise _refused(
                self.name,
                f"{token.text} of {count} values at character {token.place} of {self.text!r}",
                f"{few} of them" if few == many else f"{few} to {many}",
            )
        self.steps.append(Step("function", token.text, count))

    def require_end(self) -> None:
        """Refuse what comes after the formula."""
        if self.tokens[self.at].kind != "end":
            raise self._unexpected(self.tokens[self.at])

    def _take(self, *signs: str) -> str | None:
        token = self.tokens[self.at]
        if token.kind != "sign" or token.text not in signs:
            return None
        self.at += 1
        return token.text

    def _require(self, sign: str) -> None:
        if self._take(sign) is None:
            raise self._unexpected(self.tokens[self.at])

    def _deeper(self, depth: int) -> int:
        if depth >= DEEPEST:
            raise _refused(
                self.name,
                f"more than {DEEPEST} parentheses, calls or signs inside each other",
                f"{DEEPEST} at most",
            )
        return depth + 1

    def _unexpected(self, token: _Token) -> ConfigError:
        what = "its end" if token.kind == "end" else repr(token.text)
        return _refused(
            self.name, f"{what} at character {token.place} of {self.text!r}", f"there: {_WHAT}"
        )


def _refused(name: str, observed: str, allowed: str, hint: str = "") -> ConfigError:
    return ConfigError(
        "SEG-X106",
        f"the formula of the derived band {name!r} is not one of arithmetic"
        if name
        else "the formula is not one of arithmetic",
        observed=observed,
        allowed=allowed,
        next_step=f"{hint}write the band as one formula of the bands of the files",
    )
