"""What ``terrazzo list models`` tells of a model, read without importing its framework.

A model's file says it in a literal named ``FACTS``. The tests of its package compare the numbers
with the networks that the file builds.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Literal

from terrazzo.base import config_parsing
from terrazzo.base.config_parsing import Count, Frozen
from terrazzo.models import backends


class Variant(Frozen):
    """One of the sizes or encoders that a model comes with."""

    parameters: Count
    """Weights that are trained, with 3 bands, 21 classes and an auxiliary head where there is
    one."""
    strides: tuple[Count, ...]
    """Pixels of a cell, in rows and in columns, of the maps the encoder computes."""


class Facts(Frozen):
    """What there is to know of a model before it is built."""

    option: str | None = None
    """The option that chooses the variant; None where there is one alone."""
    variants: dict[str, Variant]
    bands: Literal["any"] = "any"
    pretrained: tuple[Literal["encoder", "full"], ...] = ()
    """Choices beside ``false`` and a path."""


def read(backend: str, model: str) -> Facts | None:
    """Return the facts in the file of a model, or None where it has none.

    Raises:
        ConfigError: SEG-X001 or SEG-X002, they are not of this form.
    """
    package = importlib.util.find_spec(f"{backends.require(backend)}.models")
    assert package is not None
    assert package.submodule_search_locations is not None
    return read_file(Path(package.submodule_search_locations[0]) / f"{model}.py")


def read_file(file: Path) -> Facts | None:
    """Return the facts in a Python file, without running it; see `read`."""
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="FACTS")], value=value):
                return config_parsing.parse(Facts, ast.literal_eval(value), where=file)
    return None
