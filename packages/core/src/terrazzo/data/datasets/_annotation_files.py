"""JSON and XML of labelling tools, with what is wrong in them named."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.base.json_files import json_value
from terrazzo.base.reading import now_reading
from terrazzo.io.annotations.draw import undrawable
from terrazzo.io.special_files import refuse_special

Parsed = TypeVar("Parsed")

_FURTHEST = 1e12
"""Beyond any place in any image, and far from where floats end."""

_SIGNS: tuple[tuple[str, Callable[[Any], bool]], ...] = (
    ("coco", lambda v: isinstance(v, dict) and {"images", "annotations"} <= v.keys()),
    ("darwin", lambda v: isinstance(v, dict) and {"item", "annotations"} <= v.keys()),
    ("labelme", lambda v: isinstance(v, dict) and {"shapes", "imagePath"} <= v.keys()),
    ("cityscapes_polygons", lambda v: isinstance(v, dict) and {"imgHeight", "objects"} <= v.keys()),
    ("supervisely", lambda v: isinstance(v, dict) and {"size", "objects"} <= v.keys()),
    (
        "label_studio",
        lambda v: (
            isinstance(v, list)
            and bool(v)
            and isinstance(v[0], dict)
            and {"data"} <= v[0].keys()
            and bool({"annotations", "predictions"} & v[0].keys())
        ),
    ),
    (
        "qupath",
        lambda v: (
            (isinstance(v, dict) and v.get("type") == "FeatureCollection")
            or (isinstance(v, list) and all(isinstance(e, dict) and "geometry" in e for e in v))
        ),
    ),
)


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        DataError: SEG-D013.
    """
    now_reading(path)
    try:
        refuse_special(path, path.stat().st_mode)
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            "SEG-D013",
            "cannot read the annotation file",
            file=path,
            observed=error.strerror,
            next_step="check data.root and data.options",
        ) from None


def read_json(path: Path, tool: str) -> Any:
    """Read a JSON file and see that it is of the tool it is said to be.

    Args:
        path: the file.
        tool: name of the format.

    Raises:
        DataError: SEG-D013 it cannot be read; SEG-D111 it is no JSON, with the line, or of another
            tool.
    """
    content = read_bytes(path)
    try:
        value = json_value(content)
    except json.JSONDecodeError as error:
        raise not_readable(path, f"{error.msg} in line {error.lineno}, column {error.colno}") from (
            None
        )
    except ValueError as error:
        raise not_readable(path, str(error)) from None
    looks_like = next((name for name, is_like in _SIGNS if is_like(value)), None)
    if looks_like != tool:
        raise DataError(
            "SEG-D111",
            f"the file is not what {tool} writes",
            file=path,
            observed=f"looks like {looks_like}" if looks_like else _keys(value),
            next_step=f'set data.format = "{looks_like}", or name the right file'
            if looks_like
            else "name the right file, or export again",
        )
    return value


def _keys(value: Any) -> str:
    if isinstance(value, dict):
        return "an object with the keys " + (", ".join(map(repr, list(value)[:8])) or "(none)")
    return f"a {type(value).__name__}"


def kind_not_read(each: Fields, kind: str, allowed: str) -> DataError:
    """Compose the error for a kind of shape that no rule makes an area of."""
    return DataError(
        "SEG-D116",
        "this kind of shape is not read, and none is skipped without a word",
        file=each.path,
        observed=f"{kind!r} at {each.place}",
        allowed=allowed,
        next_step="draw the object as one of these, or delete the shape",
    )


def not_readable(path: Path, observed: str) -> DataError:
    """Compose the error for a file that is damaged, or not of its format."""
    return DataError(
        "SEG-D111",
        "the annotation file cannot be read",
        file=path,
        observed=observed,
        next_step="export the file again",
    )


class Fields:
    """The fields of a table in a file, read with messages that say where they stand.

    Args:
        values: the table.
        path: the file.
        place: where it stands there.
    """

    def __init__(self, values: Any, path: Path, place: str) -> None:
        self.path, self.place = path, place
        if not isinstance(values, Mapping):
            raise not_readable(path, f"{place}: a {type(values).__name__} in place of a table")
        self.values = values

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def wrong(self, key: str, wanted: str) -> DataError:
        """Compose the error for a field that is missing or of another kind."""
        told = repr(self.values[key])[:80] if key in self.values else "missing"
        return not_readable(self.path, f"{self.place}: {key!r} is {told}, not {wanted}")

    def text(self, key: str) -> str:
        """Return a text that is not empty."""
        value = self.values.get(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "a text")
        return value

    def whole(self, key: str, least: int = 0) -> int:
        """Return a whole number; 3.0 and "3" will do."""
        told = self.values.get(key)
        if type(told) is int and told >= least:
            return told  # ids may have more digits than a float keeps
        value = self.number(key)
        if value != int(value) or value < least:
            raise self.wrong(key, f"a whole number from {least} on")
        return int(value)

    def number(self, key: str) -> float:
        """Return a number that can be reckoned with; in XML it is written as a text."""
        value = self.values.get(key)
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise TypeError  # noqa: TRY301
            number = float(value)
            if not abs(number) < _FURTHEST:  # NaN is not either
                raise TypeError  # noqa: TRY301
        except (TypeError, ValueError, OverflowError):
            raise self.wrong(key, "a number") from None
        return number

    def list_of(self, key: str) -> list[Any]:
        """Return a list."""
        value = self.values.get(key)
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def tables(self, key: str) -> list[Fields]:
        """Return a list of tables."""
        return [
            Fields(each, self.path, f"{self.place}{'.' if self.place else ''}{key}[{number}]")
            for number, each in enumerate(self.list_of(key))
        ]

    def table(self, key: str) -> Fields:
        """Return a table."""
        if not isinstance(self.values.get(key), Mapping):
            raise self.wrong(key, "a table")
        return Fields(self.values[key], self.path, f"{self.place}{'.' if self.place else ''}{key}")

    def size(self, rows: str, columns: str) -> tuple[int, int]:
        """Return rows and columns."""
        return self.whole(rows, 1), self.whole(columns, 1)

    def points(self, key: str) -> NDArray[np.float64]:
        """Return N×2 points, x and y."""
        return points_of(self.list_of(key), self.path, f"{self.place}.{key}")


def points_of(values: Sequence[Any], path: Path, place: str) -> NDArray[np.float64]:
    """Return N×2 points of a list of pairs of numbers.

    Raises:
        DataError: SEG-D113.
    """
    try:
        points_N2 = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        points_N2 = np.zeros(0)
    if len(values) == 0 or points_N2.ndim != 2 or points_N2.shape[1] != 2:
        raise undrawable(
            "points are pairs of numbers",
            f"{str(values)[:80]} at {place}",
            "[[x, y], …]",
            str(path),
        )
    if not (np.abs(points_N2) < _FURTHEST).all():
        raise undrawable(
            "a coordinate is no place in an image",
            f"{str(values)[:80]} at {place}",
            "numbers of pixels",
            str(path),
        )
    return points_N2


def parsed_once(parse: Callable[[Path], Parsed]) -> Callable[[Path], Parsed]:
    """Keep what was parsed of the last files: each split opens the same one."""

    @functools.lru_cache(maxsize=3)
    def parse_state(path: Path, size: int, changed_ns: int) -> Parsed:  # noqa: ARG001
        return parse(path)

    def parse_path(path: Path) -> Parsed:
        try:
            state = os.stat(path)  # noqa: PTH116
        except OSError:
            return parse(path)  # which says what is wrong
        return parse_state(path, state.st_size, state.st_mtime_ns)

    return parse_path
