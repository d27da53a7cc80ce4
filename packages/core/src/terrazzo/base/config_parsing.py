"""TOML files as typed, frozen values: unknown keys, wrong types, impossible numbers are refused.

TOML only, so ``1e-3`` is a number and ``no`` is a string.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import pydantic
from pydantic import Field

from terrazzo.base.errors import ConfigError, did_you_mean

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Size = tuple[Count, Count]
"""Rows, columns."""
StrPath = str | os.PathLike[str]
"""A path; a finished run stands for its folder as well."""


_WINDOWS_PATH = re.compile(rb'"[A-Za-z]:\\[^\\]|"\\\\[^\\"]')
_WITH_SPECIAL_CHARACTER = re.compile(r"[A-Za-z]:[\t\n\r\f\b]|[A-Za-z]:[\\/][^\n]*[\t\f\b\r]")
_SINGLE_QUOTES = (
    "in double quotes a backslash begins a special character: put Windows paths into single "
    r"quotes, as in root = 'C:\Users\me\images', or write them with /"
)


class Frozen(pydantic.BaseModel):
    """A group of settings: immutable, and nothing but the fields it declares.

    Strict: ``true`` and ``"3"`` are no numbers. A whole number may stand for a float, as in TOML.
    """

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        arbitrary_types_allowed=False,
        strict=True,
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _lists_as_tuples(cls, values: object) -> object:
        """Take TOML's arrays for tuples, which strictness would not; fields hold no lists."""
        return _with_tuples(values) if isinstance(values, dict) else values


def json_table(value: dict[str, Any] | str, name: str) -> str:
    """Return a table as JSON text: an option that is kept so, since JSON has a null, and TOML not.

    Args:
        value: a table, or the text of a JSON object.
        name: of the option, for the message.

    Raises:
        ValueError: the text is no JSON object; inside a validator, pydantic's kind of error.
    """
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"{name} is no JSON: {error}"
        raise ValueError(msg) from None
    if not isinstance(found, dict):
        msg = f"{name} is no table of settings"
        raise ValueError(msg)  # noqa: TRY004 - pydantic's kind
    return text


def _with_tuples(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_tuples(each) for key, each in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


Settings = TypeVar("Settings", bound=pydantic.BaseModel)


def parse(kind: type[Settings], values: dict[str, Any], *, where: str | Path) -> Settings:
    """Make a settings object of `values`, or say what is wrong with every wrong key at once.

    Args:
        kind: the settings class.
        values: as read from TOML.
        where: the file they came from, for the message.

    Raises:
        ConfigError: code SEG-X001 (unknown key) or SEG-X002 (wrong type or value).
    """
    if (key := _key_of_text(values, _has_nul)) is not None:
        raise ConfigError(
            "SEG-X002",
            "a setting has a wrong type or value",
            file=where,
            observed=f"{key} holds the character NUL",
            allowed="text without it; no path has one",
            next_step="remove \\u0000 from the text",
        )
    if (key := _key_of_text(values, _is_mistaken_windows_path)) is not None:
        raise ConfigError(
            "SEG-X002",
            "a setting has a wrong type or value",
            file=where,
            observed=f"{key} is a path with a tab, a new line or the like",
            allowed="a path without such characters",
            next_step=_SINGLE_QUOTES,
        )
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as error:
        raise _explain(kind, error, where) from None


def _key_of_text(value: object, meets: Callable[[str], bool], key: str = "") -> str | None:
    """Return the dotted key of the first text that meets a condition."""
    if isinstance(value, str):
        return (key or "a value") if meets(value) else None
    within: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        within = value.items()
    elif isinstance(value, list | tuple):
        within = enumerate(value)
    found = (
        _key_of_text(each, meets, f"{key}.{name}" if key else str(name)) for name, each in within
    )
    return next(filter(None, found), None)


def _has_nul(text: str) -> bool:
    """Tell whether the system would cut a path."""
    return "\0" in text


def _is_mistaken_windows_path(text: str) -> bool:
    """Tell of a path on Windows whose backslash and next letter TOML took for a tab or the like."""
    return bool(_WITH_SPECIAL_CHARACTER.match(text))


def _explain(
    kind: type[pydantic.BaseModel], error: pydantic.ValidationError, where: str | Path
) -> ConfigError:
    problems = error.errors(include_url=False)
    unknown = [p for p in problems if p["type"] == "extra_forbidden"]
    if unknown:
        *parents, key = (str(part) for part in unknown[0]["loc"])
        known = _fields(kind, parents)
        dotted = ".".join([*parents, key])
        return ConfigError(
            "SEG-X001",
            f"unknown key {dotted!r}",
            file=where,
            observed=", ".join(".".join(map(str, p["loc"])) for p in unknown),
            allowed=", ".join(known),
            next_step=f"{did_you_mean(key, known)}remove or rename the key",
        )
    lines = [
        f"{'.'.join(map(str, p['loc'])) or '(table)'} = {p['input']!r}: {p['msg']}"
        if p["type"] != "missing"
        else f"{'.'.join(map(str, p['loc']))} is missing"
        for p in problems
    ]
    return ConfigError(
        "SEG-X002",
        "a setting has a wrong type or value",
        file=where,
        observed="; ".join(lines),
        next_step="correct the value; `terrazzo list settings` shows every setting",
    )


def _fields(kind: type[pydantic.BaseModel], path: list[str]) -> list[str]:
    """Return the keys that are known at `path`, which may lead through lists and tables."""
    found: type[pydantic.BaseModel] | None = kind
    container = False
    for name in path:
        if found is None or container:  # an index into a list, or a key of a table
            container = False
            continue
        field = found.model_fields.get(name)
        annotation = None if field is None else field.annotation
        found = _model_in(annotation)
        container = get_origin(annotation) in (tuple, dict)
    return [] if found is None else sorted(found.model_fields)


def _model_in(annotation: Any) -> type[pydantic.BaseModel] | None:
    """Return the settings class of a key: itself, or what its list, table or option holds."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def read_toml(path: Path) -> dict[str, Any]:
    """Read one TOML file.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML (with line and column).
    """
    try:
        return parse_toml(path.read_bytes(), where=path)
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=1)
        raise ConfigError(
            "SEG-X005",
            "no such file",
            file=path,
            allowed=", ".join(sorted(siblings)) or None,
            next_step=f"did you mean {close[0]!r}?" if close else "check the path",
        ) from None
    except OSError as error:
        raise ConfigError(
            "SEG-X005", "cannot read the file", file=path, observed=error.strerror
        ) from None


def parse_toml(content: bytes, *, where: str | Path) -> dict[str, Any]:
    """Return the tables in the content of a TOML file.

    Args:
        content: UTF-8.
        where: the file, for the message.

    Raises:
        ConfigError: SEG-X006, it is not TOML (with line and column).
    """
    try:
        # As text files are read: a line may end with carriage return and line feed.
        return tomllib.loads(content.decode("utf-8").replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            "SEG-X006",
            "not valid TOML",
            file=where,
            observed=error,
            next_step=_SINGLE_QUOTES if _WINDOWS_PATH.search(content) else None,
        ) from None


def flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested tables by dotted key, such as ``training.epochs``."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def assign(values: dict[str, Any], assignment: str) -> None:
    """Set one dotted key in place; the value is TOML, or a bare string where it is not.

    Raises:
        ConfigError: code SEG-X007, no ``=`` or a key below something that is not a table.
    """
    key, equals, text = assignment.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(
            "SEG-X007",
            "--set needs key=value",
            observed=assignment,
            allowed="e.g. training.batch_size=4",
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = values
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError("SEG-X007", f"{part!r} is a value, not a table", observed=assignment)
    table[parts[-1]] = value


def resolve_path(text: str, *, where: str) -> Path:
    """Expand ``~`` and environment variables in a path of a recipe.

    Raises:
        ConfigError: code SEG-X008, a variable is not set.
    """
    expanded = os.path.expandvars(text)
    if "$" in expanded:
        raise ConfigError(
            "SEG-X008",
            f"{where} names an environment variable that is not set",
            observed=text,
            next_step=f"export the variable, or give the path with --set {where}=/path/to/the/data",
        )
    return Path(expanded).expanduser()


def anchored(text: str, folder: Path, *, where: str, note: Callable[[str], None]) -> str:
    """Return a path of a recipe in a form that means the same from any working directory.

    A relative path is looked for from the recipe's folder, and then from the current one. What
    begins with ``~`` or a variable such as ``$TERRAZZO_DATA`` stays as it is, so that a run folder
    can move to another machine; so does what is nowhere yet, see `absolute`.

    Args:
        text: as the recipe has it.
        folder: of the recipe.
        where: the key, for the note.
        note: told where a path was found from the current folder alone.
    """
    expanded = Path(os.path.expandvars(text)).expanduser()
    if "$" in str(expanded) or expanded.is_absolute():
        return text
    here, beside = Path.cwd() / expanded, folder.absolute() / expanded
    if beside.exists():
        return os.path.normpath(beside)
    if here.exists():
        note(
            f"{where} = {text!r} is not in the recipe's folder; taken from the current one: {here}"
        )
        return os.path.normpath(here)
    return text


def absolute(text: str) -> str:
    """Return a path from the current folder as one from anywhere; variables and ``~`` stay."""
    expanded = Path(os.path.expandvars(text)).expanduser()
    if "$" in str(expanded) or expanded.is_absolute():
        return text
    return os.path.normpath(Path.cwd() / expanded)


def cache_folder() -> Path:
    """Return where what can be made again is kept: ``XDG_CACHE_HOME``, ``~/.cache``.

    In the folder of temporary files where the user has no home.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "terrazzo"
    except RuntimeError:  # HOME is not set, and no account has this user's number
        return Path(tempfile.gettempdir()) / f"terrazzo_{os.getuid()}"
