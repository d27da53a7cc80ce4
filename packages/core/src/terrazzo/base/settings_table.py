"""What settings there are: key, type, default and meaning of each, read from their classes.

The meaning is the text below a field in its class, so that code, command line and docs say the
same.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo

_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}
_ANY_NUMBER = 2**31  # a bound that is there for the storage alone
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        key: dotted, such as ``training.batch_size``.
        kind: its type, in words.
        default: as TOML spells it; ``required``, or ``none`` where leaving it out means something
            of its own.
        meaning: one paragraph; empty where the name says it all.
    """

    key: str
    kind: str
    default: str
    meaning: str


def of_class(settings: type[pydantic.BaseModel], prefix: str = "") -> list[Setting]:
    """Return the settings of a class, those of the classes in it after it.

    Args:
        settings: the class.
        prefix: of its keys, such as ``training.``.
    """
    told = _meanings(settings)
    found = []
    for name, field in settings.model_fields.items():
        key = f"{prefix}{name}"
        inner = _table_of(field.annotation)
        if inner is None:
            found.append(
                Setting(key, _kind(_annotation(field)), _default(field), told.get(name, ""))
            )
        else:
            found += of_class(inner, f"{key}.")
    return found


def text(settings: list[Setting], width: int) -> Iterator[str]:
    """Yield lines: one for a setting, and its meaning below."""
    for each in settings:
        yield f"{each.key}: {each.kind}; {each.default}"
        yield from textwrap.wrap(
            each.meaning,
            max(width, 40),
            initial_indent="    ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _annotation(field: FieldInfo) -> Any:
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _table_of(annotation: Any) -> type[pydantic.BaseModel] | None:
    """Return the class of a table of its own; lists of tables and tables by name are values."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [_table_of(each) for each in get_args(annotation) if each is not type(None)]
        return inner[0] if len(inner) == 1 else None
    return None


def _kind(annotation: Any) -> str:
    """Say a type in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return f"{_kind(parts[0])}{_bounds(parts[1:])}"
    if origin is Literal:
        return " | ".join("true" if p is True else "false" if p is False else str(p) for p in parts)
    if origin in (Union, types.UnionType):
        return " | ".join(_kind(each) for each in parts if each is not type(None))
    if origin is tuple:
        if parts[-1] is Ellipsis:
            return f"list of {_kind(parts[0])}"
        return f"[{', '.join(map(_kind, parts))}]"
    if origin is dict:
        return f"table of {_kind(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return f"{{{', '.join(annotation.model_fields)}}}"
    return _PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(metadata: tuple[Any, ...]) -> str:
    found = []
    for each in metadata:
        within = [each, *getattr(each, "metadata", ())]
        found += [
            f"{sign} {getattr(one, name):g}"
            for one in within
            for name, sign in _BOUNDS.items()
            if isinstance(getattr(one, name, None), int | float)
            and abs(getattr(one, name)) < _ANY_NUMBER
        ]
    bounds = ", ".join(dict.fromkeys(found))
    return f" {bounds}" if bounds else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "default depends on the others"
    if field.default is None:
        return "none"
    return f"default {_toml(field.default)}"


def _toml(value: Any) -> str:
    """Spell a value as TOML does."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, pydantic.BaseModel):
        return _toml(value.model_dump(exclude_defaults=False))
    if isinstance(value, dict):
        pairs = ", ".join(f"{key} = {_toml(each)}" for key, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return str(value)


def _meanings(settings: type[pydantic.BaseModel]) -> dict[str, str]:
    """Return the text below each field, of the class and of those it extends."""
    found: dict[str, str] = {}
    for each in reversed(settings.__mro__):
        if issubclass(each, pydantic.BaseModel) and each is not pydantic.BaseModel:
            found |= _texts_below(each)
    return found


def _texts_below(settings: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for one, other in zip(definition.body, definition.body[1:], strict=False):
        match one, other:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                found[name] = " ".join(words.replace("``", "`").split())
    return found
