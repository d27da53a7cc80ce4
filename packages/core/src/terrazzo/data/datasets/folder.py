"""Any folder of images beside a folder of masks of the same names, sub-folders included.

Images are PNG, JPEG or GeoTIFF, masks PNG or GeoTIFF. The splits come from one of

    images = "{split}/images"                     folders, one a split
    (nothing)                                     sub-folders of `images` named train, val and test
    lists = { train = "train.txt", … }            text files, one name a line
    split = { train = 0.8, val = 0.1, test = 0.1 } a draw, the same for a seed on every machine
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from terrazzo.base.config_parsing import Frozen
from terrazzo.base.errors import DataError
from terrazzo.data.datasets import _folder_notes as folder_notes
from terrazzo.data.datasets import _split_draw
from terrazzo.data.datasets import _split_folders as split_folders
from terrazzo.data.datasets._faults import refuse
from terrazzo.data.datasets._guessed_alpha import Alpha, alpha_notes
from terrazzo.data.datasets._paired_files import (
    NamedBy,
    PairedFiles,
    band_names_of,
    list_names,
    named_by,
    pair_up,
)
from terrazzo.data.datasets._split_draw import Draw, SplitName
from terrazzo.io import images
from terrazzo.io.pixels import NodataRule, ReadingRules
from terrazzo.io.raster_formats import RASTER_SUFFIXES

LABELS = None

_SUFFIXES = (*images.IMAGE_SUFFIXES, *RASTER_SUFFIXES)


class Options(Frozen):
    """Where things lie below ``data.root``, and how they are divided."""

    images: str = "images"
    """Folder of the images; may hold ``{split}``."""
    masks: str = "masks"
    """Folder of the masks; may hold ``{split}``."""
    image_suffix: str = ""
    """What the stems of images have beyond the name, e.g. ``_sat``."""
    mask_suffix: str = ""
    """What the stems of masks have beyond the name, e.g. ``_mask``."""
    mask_kind: Literal["index", "colour"] = "index"
    """Whether masks hold class numbers (grey or palette) or colours."""
    bands: tuple[str, ...] | None = None
    """Band names. None: taken from the first image."""
    nodata_rule: NodataRule = "auto"
    """GeoTIFF: when a pixel is without data that is marked so in some of its bands: ``any`` or
    ``all`` of them; ``auto``: any where the marker is NaN, negative or of a raster of floats,
    otherwise all."""
    apply_scale: bool = False
    """GeoTIFF: turn numbers into value × scale + offset, as the files declare them."""
    alpha: Alpha | None = None
    """GeoTIFF: which band says which pixels count: ``band 4``, or ``none``. None: one that the file
    marks as alpha and does not name, if that takes away 1 % of the pixels of an image at most."""
    lists: dict[SplitName, str] = Field(default={})
    """Text file of each split, one name a line: a path below `images`; the suffix may be given."""
    split: Draw | None = Field(default_factory=lambda given: _default_draw(given))
    """A draw, each image by itself unless it has a `group`. None: one of the other ways. By
    default, where nothing says how to divide: the sub-folders train, val and test of `images` if
    there are any, else 0.8, 0.1 and 0.1."""
    split_file: str | None = None
    """``splits.json`` of a run: its draw takes the place of a new one."""

    @pydantic.model_validator(mode="after")
    def _one_way_to_split(self) -> Options:
        ways = {
            "{split} in images or masks": self.by_folder,
            "lists": bool(self.lists),
            "split": self.split is not None,
        }
        chosen = [way for way, is_chosen in ways.items() if is_chosen]
        if len(chosen) != 1:
            msg = f"give one way to split, not {' and '.join(chosen) or 'none'}"
            raise ValueError(msg)
        return self

    @property
    def by_folder(self) -> bool:
        """Whether each split has folders of its own."""
        return "{split}" in self.images + self.masks


def open_split(root: Path, split: SplitName, options: Options) -> PairedFiles:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: SEG-X011, the group expression does not fit a name.
        DataError: see `pair_up`; SEG-D013 a list cannot be read; SEG-D014 a name is listed twice,
            or images lie beside the folders of splits; SEG-D015 a name is in the lists of two
            splits.
    """
    only = _listed(root, options).get(split, ()) if options.lists else None
    image_folder = root / options.images.replace("{split}", split)
    mask_folder = root / options.masks.replace("{split}", split)
    pairs = pair_up(
        image_folder,
        mask_folder,
        suffixes=_SUFFIXES,
        image_ending=options.image_suffix,
        mask_ending=options.mask_suffix,
        only=only,
        root=root,
    )
    first_named = named_by([pair.image for pair in pairs], options.alpha)
    notes = folder_notes.of_folders(image_folder, mask_folder, root, _SUFFIXES)
    notes += _alpha_notes(first_named)
    band_names = options.bands or band_names_of([pair.image for pair in pairs], options.alpha)
    if options.split is not None:
        names = [pair.name for pair in pairs]
        drawn_by_default = "split" not in options.model_fields_set and options.split_file is None
        if drawn_by_default and split_folders.are_splits(names, image_folder):
            pairs = tuple(pair for pair in pairs if split_folders.split_of(pair.name) == split)
            notes += (split_folders.note(names),)
        else:
            notes += folder_notes.of_draw(names, options.split)
            found = pairs
            pairs, left_out = _split_draw.divide(
                split, options.split, options.split_file, training=lambda: found
            )
            notes += left_out
    notes += folder_notes.of_tiff(pairs)
    return PairedFiles(
        pairs,
        band_names,
        options.mask_kind,
        notes,
        ReadingRules(options.nodata_rule, options.apply_scale, options.alpha),
        named_by=first_named,
        guards_alpha=options.alpha is None,
    )


def _alpha_notes(first: NamedBy | None) -> tuple[str, ...]:
    """Say of the first GeoTIFF what holds for all of them: they have equal bands."""
    if first is None:
        return ()
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    return tuple(alpha_notes(first.path, rasters.info(first.path, alpha=first.alpha)))


def _default_draw(given: dict[str, Any]) -> Draw | None:
    """Draw unless the settings read so far say how the data are divided."""
    by_folder = "{split}" in given.get("images", "") + given.get("masks", "")
    return None if by_folder or given.get("lists") else Draw(train=0.8, val=0.1, test=0.1)


def _listed(root: Path, options: Options) -> dict[SplitName, tuple[str, ...]]:
    listed = {split: _read_list(root / file) for split, file in options.lists.items()}
    _split_draw.refuse_leaks(root, listed.items())
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
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        repeated = DataError(
            "SEG-D014",
            "names are listed twice",
            file=path,
            observed=list_names("names", twice),
            next_step="remove the repeated lines",
        )
        refuse(repeated)
    return tuple(names)


def _without_suffix(name: str) -> str:
    path = Path(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in _SUFFIXES else name
