"""Any folder of pictures beside a folder of masks of the same names, sub-folders included.

Pictures are PNG, JPEG or GeoTIFF, masks PNG or GeoTIFF. The splits come from one of

    images = "{split}/images"                     folders, one a split
    lists = { train = "train.txt", … }            text files, one name a line
    fractions = { train = 0.8, val = 0.1, … }     a draw, the same for a seed on every machine
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pydantic
from pydantic import Field

from terrazzo import config, images
from terrazzo.datasets._pairs import (
    RASTER_SUFFIXES,
    Pair,
    PairedFiles,
    is_raster,
    list_names,
    pair_up,
)
from terrazzo.errors import ConfigError, DataError

LABELS = None

SplitName = Literal["train", "val", "test"]

_SUFFIXES = (*images.IMAGE_SUFFIXES, *RASTER_SUFFIXES)
_BAND_NAMES = {1: ("grey",), 3: ("red", "green", "blue")}


class Options(config.Frozen):
    """Where things lie below ``data.root``, and how they are divided."""

    images: str = "images"
    """Folder of the pictures; may hold ``{split}``."""
    masks: str = "masks"
    """Folder of the masks; may hold ``{split}``."""
    image_suffix: str = ""
    """What the stems of pictures have beyond the name, e.g. ``_sat``."""
    mask_suffix: str = ""
    """What the stems of masks have beyond the name, e.g. ``_mask``."""
    mask_kind: Literal["index", "colour"] = "index"
    """Whether masks hold class numbers (grey or palette) or colours."""
    bands: tuple[str, ...] | None = None
    """Band names. None: taken from the first picture."""
    lists: dict[SplitName, str] = Field(default={})
    """Text file of each split, one name a line: a path below `images`; the suffix may be given."""
    fractions: dict[SplitName, config.Fraction] = Field(
        default={"train": 0.8, "val": 0.1, "test": 0.1}
    )
    """Share of each split, counted in groups; they add up to 1."""
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the draw."""
    group: str | None = None
    """Regular expression, searched in each name: pictures whose first group is equal stay in one
    split. Use it for pictures of one scene, patient or flight. None: each picture by itself."""

    @pydantic.model_validator(mode="after")
    def _one_way_to_split(self) -> Options:
        ways = {
            "{split} in images or masks": self.by_folder,
            "lists": bool(self.lists),
            "fractions": "fractions" in self.model_fields_set,
        }
        chosen = [way for way, is_chosen in ways.items() if is_chosen]
        if len(chosen) > 1:
            msg = f"give one way to split, not {' and '.join(chosen)}"
            raise ValueError(msg)
        if abs(sum(self.fractions.values()) - 1) > 1e-6:
            msg = f"fractions add up to {sum(self.fractions.values()):g}, not 1"
            raise ValueError(msg)
        return self

    @pydantic.field_validator("group")
    @classmethod
    def _has_a_group(cls, group: str | None) -> str | None:
        try:
            if group is not None and re.compile(group).groups == 0:
                raise ValueError("needs a group in parentheses")
        except re.error as error:
            msg = f"not a regular expression: {error}"
            raise ValueError(msg) from None
        return group

    @property
    def by_folder(self) -> bool:
        """Whether each split has folders of its own."""
        return "{split}" in self.images + self.masks


def open_split(root: Path, split: SplitName, options: Options) -> PairedFiles:
    """Find the pictures of one split below `root`.

    Raises:
        ConfigError: SEG-X011, the group expression does not fit a name.
        DataError: see `pair_up`; SEG-D013 a list cannot be read; SEG-D014 a name is listed twice;
            SEG-D015 a name is in the lists of two splits.
    """
    only = _listed(root, options).get(split, ()) if options.lists else None
    pairs = pair_up(
        root / options.images.replace("{split}", split),
        root / options.masks.replace("{split}", split),
        suffixes=_SUFFIXES,
        image_ending=options.image_suffix,
        mask_ending=options.mask_suffix,
        only=only,
    )
    if not options.by_folder and only is None:
        chosen = draw(tuple(pair.name for pair in pairs), options)[split]
        pairs = tuple(pair for pair in pairs if pair.name in chosen)
    return PairedFiles(pairs, options.bands or _band_names(pairs), options.mask_kind)


def draw(names: tuple[str, ...], options: Options) -> dict[SplitName, frozenset[str]]:
    """Divide names by ``fractions``: every name lands in exactly one split.

    The draw depends on the set of groups, the fractions and the seed, and on no order of files.
    A split with a fraction above 0 gets at least one group, as long as there are enough.

    Raises:
        ConfigError: SEG-X011, the group expression does not fit a name.
    """
    group_of = {name: _group(name, options.group) for name in names}
    groups = sorted(set(group_of.values()))
    shuffled = np.random.Generator(np.random.Philox(options.split_seed)).permutation(groups)
    split_of: dict[str, SplitName] = {}
    start = 0
    for split, size in _sizes(len(groups), options.fractions).items():
        split_of.update(dict.fromkeys(shuffled[start : start + size].tolist(), split))
        start += size
    splits: tuple[SplitName, ...] = ("train", "val", "test")
    return {
        split: frozenset(name for name in names if split_of[group_of[name]] == split)
        for split in splits
    }


def _sizes(total: int, fractions: dict[SplitName, float]) -> dict[SplitName, int]:
    """Round by largest remainder, then give empty splits one from the largest."""
    exact = {split: total * share for split, share in fractions.items() if share > 0}
    sizes = {split: int(size) for split, size in exact.items()}
    by_remainder = sorted(exact, key=lambda split: sizes[split] - exact[split])
    for split in by_remainder[: total - sum(sizes.values())]:
        sizes[split] += 1
    for split in sizes:
        largest = max(sizes, key=lambda other: sizes[other])
        if sizes[split] == 0 and sizes[largest] > 1:
            sizes[split], sizes[largest] = 1, sizes[largest] - 1
    return sizes


def _group(name: str, pattern: str | None) -> str:
    if pattern is None:
        return name
    match = re.search(pattern, name)
    if match is None or match[1] is None:
        raise ConfigError(
            "SEG-X011",
            "data.options.group does not fit a name",
            observed=f"{pattern!r} in {name!r}",
            next_step="write the expression so that its first group is found in every name",
        )
    return match[1]


def _listed(root: Path, options: Options) -> dict[SplitName, tuple[str, ...]]:
    listed = {split: _read_list(root / file) for split, file in options.lists.items()}
    owner: dict[str, str] = {}
    leaks = []
    for split, names in listed.items():
        leaks += [f"{n} ({owner[n]} and {split})" for n in names if n in owner]
        owner.update(dict.fromkeys(names, split))
    if leaks:
        raise DataError(
            "SEG-D015",
            "the same picture is in two splits",
            file=root,
            observed=list_names("names", leaks),
            allowed="each name in one list",
            next_step="remove the names from one of the lists; a score on pictures that were "
            "trained on says nothing",
        )
    return listed


def _read_list(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "SEG-D013",
            "cannot read the list of a split",
            file=path,
            observed=error.strerror if isinstance(error, OSError) else error,
            next_step="check data.options.lists; a list is UTF-8 text, one name a line",
        ) from None
    names = [_without_suffix(line.strip()) for line in lines if line.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            "SEG-D014",
            "names are listed twice",
            file=path,
            observed=list_names("names", twice),
            next_step="remove the repeated lines",
        )
    return tuple(names)


def _without_suffix(name: str) -> str:
    path = Path(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in _SUFFIXES else name


def _band_names(pairs: tuple[Pair, ...]) -> tuple[str, ...]:
    if not pairs:
        return ()
    first = pairs[0].image
    if is_raster(first):
        from terrazzo import rasters  # GDAL is loaded by those who read GeoTIFF

        return rasters.info(first).band_names
    return _BAND_NAMES[images.image_info(first).bands]
