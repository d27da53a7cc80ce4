"""Label maps: from what the files hold to train ids, by one table look-up, in one place.

A map is a TOML file (``label_maps/*.toml`` or the user's own):

    name = "camvid"
    source = "where the ids come from"
    ignored = [11]                    # raw values that become IGNORE
    [[classes]]
    name = "sky"
    colour = "#808080"
    raw = [0]                         # raw values of this class; integers, or "#RRGGBB" colours

A class table ``name;r;g;b`` will do as well, see `class_csv`.

The train id of a class is its position. A raw value that is in no class and not ignored is an
error, never class 0.
"""

from __future__ import annotations

import html
import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base import config_parsing, printable
from terrazzo.base.config_parsing import Frozen, StrPath, read_toml, resolve_path
from terrazzo.base.errors import ConfigError, DataError, unknown_name
from terrazzo.data import class_csv
from terrazzo.data.sample import IGNORE
from terrazzo.data.scene_placement import pixel_text

MAX_NAME = 200
"""Characters of the longest name of a class or a label map."""
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class: its name, its ``#RRGGBB`` colour in images, the raw values that mean it."""

    name: str
    colour: str
    raw: tuple[int, ...]


@dataclass(frozen=True)
class LabelMap:
    """The classes of a task and the raw values behind them.

    Attributes:
        name: of the map.
        classes: in the order of their train ids.
        ignored: raw values that become `ignore_index`.
        colour_coded: raw values are colours 0xRRGGBB, for masks of three bands.
        source: paper, data-set page or file the ids come from.
    """

    name: str
    classes: tuple[LabelClass, ...]
    ignored: tuple[int, ...] = ()
    colour_coded: bool = False
    source: str = ""

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """K class names."""
        return tuple(c.name for c in self.classes)

    @property
    def ignore_index(self) -> int:
        """Train id of ignored pixels: 255, or 65535 where there are more than 254 classes."""
        return IGNORE if self.dtype == np.uint8 else int(np.iinfo(np.uint16).max)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the train ids: uint8, or uint16 where 254 classes are not enough."""
        return np.dtype(np.uint8 if len(self.classes) <= IGNORE - 1 else np.uint16)

    @cached_property
    def colours(self) -> NDArray[np.uint8]:
        """K×3 red, green, blue."""
        values = [int(c.colour[1:], 16) for c in self.classes]
        return np.array([[v >> 16, v >> 8 & 255, v & 255] for v in values], dtype=np.uint8)

    @cached_property
    def _table(self) -> NDArray[np.generic]:
        """Train id by raw value; `_unmapped` where there is none."""
        size = 1 << 24 if self.colour_coded else 1 << 16
        table = np.full(size, self._unmapped, dtype=self.dtype)
        for train_id, label_class in enumerate(self.classes):
            table[list(label_class.raw)] = train_id
        table[list(self.ignored)] = self.ignore_index
        return table

    @property
    def _unmapped(self) -> int:
        return self.ignore_index - 1

    def remap(
        self,
        raw: NDArray[np.generic],
        *,
        file: str,
        valid_HW: NDArray[np.bool_] | None = None,
        name: str = "",
        corner: tuple[int, int] | None = None,
    ) -> NDArray[np.generic]:
        """Turn raw values into train ids.

        Args:
            raw: H×W integers, or H×W×3 uint8 where the map is colour-coded.
            file: the label file, for the message.
            valid_HW: False where there is no data, and anything may lie in the label: these pixels
                become `ignore_index`. None: all are valid.
            name: of the image, for the message.
            corner: first row and column in the scene it was cut from; None: it is a whole file.

        Returns:
            H×W of `dtype`, new memory; values 0…K-1 and `ignore_index` only.

        Raises:
            DataError: SEG-D001 a value is not in the map; SEG-D007 the mask has the wrong shape or
                type for this map.
        """
        codes = self._codes(raw, file)
        if valid_HW is not None:
            codes = np.where(valid_HW, codes, np.zeros((), codes.dtype))
        if codes.size and (int(codes.min()) < 0 or int(codes.max()) >= self._table.size):
            beyond = (codes < 0) | (codes >= self._table.size)
            raise self._stray(codes, beyond, file, name, corner)
        if codes.dtype == np.uint8:  # the usual masks, in a third of the time of np.take
            import cv2  # here, so that reading a map does not load it

            train_ids: NDArray[np.generic] = cv2.LUT(codes, self._table[:256])
        else:
            train_ids = np.take(self._table, codes)
        if valid_HW is not None:
            train_ids[~valid_HW] = np.asarray(self.ignore_index, train_ids.dtype)
        stray = train_ids == self._unmapped
        if stray.any():
            raise self._stray(codes, stray, file, name, corner)
        return train_ids

    def _codes(self, raw: NDArray[np.generic], file: str) -> NDArray[Any]:
        if self.colour_coded:
            if raw.ndim == 3 and raw.shape[2] == 3 and raw.dtype == np.uint8:
                wide: NDArray[Any] = raw.astype(np.int32)
                codes: NDArray[Any] = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
                return codes
            wanted = "H×W×3 uint8 (colours)"
        else:
            if raw.ndim == 2 and raw.dtype.kind in "ui":
                return raw
            wanted = "H×W integers (class indices)"
        raise DataError(
            "SEG-D007",
            f"the mask does not fit the label map {self.name!r}",
            file=file,
            observed=f"shape {raw.shape}, {raw.dtype}",
            allowed=wanted,
            next_step="choose a label map of the other kind: raw = [0, 1] for index masks, "
            'raw = ["#RRGGBB"] for colour masks',
        )

    def _stray(
        self,
        codes: NDArray[Any],
        where_HW: NDArray[np.bool_],
        file: str,
        name: str,
        corner: tuple[int, int] | None,
    ) -> DataError:
        values, counts = np.unique(codes[where_HW], return_counts=True)
        commonest = int(counts.argmax())
        value = int(values[commonest])
        row, column = (int(axis[0]) for axis in np.nonzero(where_HW & (codes == value)))
        shown = ", ".join(
            f"{self.raw_text(int(v))} ({n} px)" for v, n in zip(values[:8], counts[:8], strict=True)
        )
        if len(values) > 8:
            shown += f" and {len(values) - 8} more values"
        allowed = sorted({code for c in self.classes for code in c.raw} | set(self.ignored))
        return DataError(
            "SEG-D001",
            f"label value not in the label map {self.name!r}",
            file=file,
            observed=f"{shown}; {self.raw_text(value)} first at "
            + pixel_text(row, column, name, corner),
            allowed=", ".join(self.raw_text(code) for code in allowed[:40]),
            next_step="add the value to a class or to `ignored` in the label map",
        )

    def raw_text(self, code: int) -> str:
        """Return a raw value as its file's owner knows it: a number or ``#RRGGBB``."""
        return f"#{code:06X}" if self.colour_coded else str(code)

    def require_raw_values(self) -> None:
        """Refuse a map that has a class without a raw value.

        Raises:
            ConfigError: SEG-X010.
        """
        lacking = [each.name for each in self.classes if not each.raw]
        if lacking:
            raise _refused(self.name, "a class has no raw value", lacking[0])

    def raw_values(self, labels_HW: NDArray[np.generic]) -> NDArray[np.generic]:
        """Turn train ids into what masks of this map hold: the first raw value of each class.

        Args:
            labels_HW: 0…K-1 and `ignore_index`, which becomes the first of `ignored`; where there
                is none, the largest number (black where colours are the raw values).

        Returns:
            H×W uint8, or uint16 where a raw value needs it; H×W×3 uint8 of a colour-coded map.

        Raises:
            ConfigError: SEG-X010, a class has no raw value.
        """
        self.require_raw_values()
        raw_K = [each.raw[0] for each in self.classes]
        largest = max([*raw_K, *self.ignored])
        dtype = np.uint32 if self.colour_coded else np.uint8 if largest < 256 else np.uint16
        beyond = 0 if self.colour_coded else np.iinfo(dtype).max
        table = np.full(int(self.ignore_index) + 1, beyond, dtype)
        table[: len(raw_K)] = raw_K
        if self.ignored:
            table[self.ignore_index] = self.ignored[0]
        raw_HW: NDArray[Any] = table[labels_HW]
        if not self.colour_coded:
            return raw_HW
        return np.stack([raw_HW >> 16, raw_HW >> 8 & 255, raw_HW & 255], axis=2).astype(np.uint8)

    def colourise(self, labels_HW: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Return H×W×3 uint8 for people to look at; ignored pixels are black."""
        palette = np.zeros((int(self.ignore_index) + 1, 3), dtype=np.uint8)
        palette[: len(self.classes)] = self.colours
        coloured_HWC: NDArray[np.uint8] = palette[labels_HW]
        return coloured_HWC

    def as_toml(self) -> dict[str, Any]:
        """Return the map as the table its TOML file holds."""
        return {
            "name": self.name,
            "source": self.source,
            "ignored": [self._value(code) for code in self.ignored],
            "classes": [
                {"name": c.name, "colour": c.colour, "raw": [self._value(code) for code in c.raw]}
                for c in self.classes
            ],
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td>{k}</td><td style="background:{html.escape(c.colour)}">&emsp;</td>'
            f"<td>{html.escape(c.name)}</td><td>{', '.join(map(self.raw_text, c.raw))}</td></tr>"
            for k, c in enumerate(self.classes)
        )
        head = "<tr><th>id</th><th></th><th>class</th><th>raw values</th></tr>"
        return f"<table><caption>{html.escape(self.name)}</caption>{head}{rows}</table>"

    def _value(self, code: int) -> int | str:
        return self.raw_text(code) if self.colour_coded else code


class _ClassTable(Frozen):
    name: str
    colour: str
    raw: tuple[int | str, ...]


class _MapTable(Frozen):
    name: str
    source: str = ""
    ignored: tuple[int | str, ...] = ()
    classes: tuple[_ClassTable, ...]


def names() -> tuple[str, ...]:
    """Return the names of the label maps that come with Terrazzo."""
    folder = resources.files("terrazzo.data") / "label_maps"
    return tuple(sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".toml")))


def load_label_map(name: StrPath) -> LabelMap:
    """Read a label map by its name, or by its path where `name` ends in ``.toml`` or ``.csv``.

    Args:
        name: see ``terrazzo list labels``, or a path.

    Raises:
        ConfigError: unknown name, a map that contradicts itself, a wrong class table, or (SEG-X010)
            a name of more than `MAX_NAME` characters or with control characters.
    """
    name = os.fspath(name)
    if name.endswith(".csv"):
        path = resolve_path(name, where="data.labels")
        return _with_fit_names(from_toml(class_csv.read(path), where=path), path)
    if name.endswith(".toml"):
        path = resolve_path(name, where="data.labels")
    elif name in names():
        path = Path(str(resources.files("terrazzo.data") / "label_maps" / f"{name}.toml"))
    else:
        raise unknown_name("label map", name, names())
    return _with_fit_names(from_toml(read_toml(path), where=path), path)


def from_toml(values: dict[str, Any], *, where: str | Path) -> LabelMap:
    """Make a label map of the table a TOML file holds.

    Raises:
        ConfigError: unknown keys, wrong types, or (SEG-X010) a raw value that is used twice,
            colours mixed with indices, no classes, two classes of one name.
    """
    table = config_parsing.parse(_MapTable, values, where=where)
    raw_values = [raw for c in table.classes for raw in c.raw] + list(table.ignored)
    kinds = {type(raw) for raw in raw_values}
    if len(kinds) > 1:
        raise _refused(where, "index and colour values are mixed", raw_values)
    if not table.classes:
        raise _refused(where, "there are no classes", 0)
    class_names = [c.name for c in table.classes]
    if len(set(class_names)) < len(class_names):
        raise _refused(where, "two classes have one name", class_names)
    for colour in [c.colour for c in table.classes] + [r for r in raw_values if isinstance(r, str)]:
        if not _COLOUR.fullmatch(colour):
            raise _refused(where, "not a colour of the form #RRGGBB", colour)
    codes = [_code(raw) for raw in raw_values]
    times = Counter(codes)
    twice = {raw for raw, code in zip(raw_values, codes, strict=True) if times[code] > 1}
    if twice:
        raise _refused(where, "a raw value is mapped twice", sorted(twice, key=str))
    out_of_range = [r for r in raw_values if isinstance(r, int) and not 0 <= r < 1 << 16]
    if out_of_range:
        raise _refused(where, "raw values must lie in 0…65535", out_of_range)
    return LabelMap(
        name=table.name,
        classes=tuple(
            LabelClass(c.name, c.colour, tuple(map(_code, c.raw))) for c in table.classes
        ),
        ignored=tuple(map(_code, table.ignored)),
        colour_coded=kinds == {str},
        source=table.source,
    )


def _with_fit_names(label_map: LabelMap, path: Path) -> LabelMap:
    """Return a map that a user wrote, whose names every page, table and terminal can show.

    Raises:
        ConfigError: SEG-X010.
    """
    keys = ("name", *(f"classes[{number}].name" for number in range(len(label_map))))
    for key, name in zip(keys, (label_map.name, *label_map.names), strict=True):
        if printable.has_control_characters(name):
            raise _refused(path, f"{key} has control characters", repr(name))
        if len(name) > MAX_NAME:
            raise _refused(
                path,
                f"{key} has more than {MAX_NAME} characters",
                f"{len(name)}: {printable.shortened(name, 60)}",
            )
    return label_map


def _code(raw: int | str) -> int:
    return int(raw[1:], 16) if isinstance(raw, str) else raw


def _refused(where: str | Path, problem: str, observed: object) -> ConfigError:
    return ConfigError(
        "SEG-X010",
        f"label map: {problem}",
        file=where,
        observed=observed,
        next_step="see the head of terrazzo/data/labels.py for the form of a label map",
    )
