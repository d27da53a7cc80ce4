"""Any folder of images beside a folder of masks of the same names, sub-folders included.

Images are PNG, JPEG, BMP, GIF, WebP, GeoTIFF or files of microscopes, masks any of these that keeps
values. The splits come from one of

    images = "{split}/images"                     folders, one a split
    (nothing)                                     sub-folders of `images` named train, val and test
    lists = { train = "train.txt", … }            text files, one name a line
    split = { train = 0.8, val = 0.1, test = 0.1 } a draw, the same for a seed on every machine

Where sub-folders or lists name two of the splits, a draw may take the third from one of them: a
share of 0 keeps the split as it is named, ``split = { train = 0.9, val = 0, test = 0.1 }``.
Images and masks may lie in any number of folders: ``images = "{folder}/images"`` beside ``masks =
"{folder}/masks"``; names then begin with that folder.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

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
    MaskKind,
    NamedBy,
    PairedFiles,
    PlaneChoice,
    at_planes,
    band_names_of,
    named_by,
)
from terrazzo.data.datasets._pairing import Pair, list_names, pair_up, pair_up_below
from terrazzo.data.datasets._split_draw import Draw, SplitName
from terrazzo.io import images
from terrazzo.io.pixels import NodataRule, ReadingRules
from terrazzo.io.raster_formats import RASTER_SUFFIXES

LABELS = None

_SUFFIXES = (*images.IMAGE_SUFFIXES, *RASTER_SUFFIXES)


class Options(Frozen):
    """Where things lie below ``data.root``, and how they are divided."""

    images: str = "images"
    """Folder of the images; may hold ``{split}``, or ``{folder}`` for any number of folders."""
    masks: str = "masks"
    """Folder of the masks; may hold the same."""
    image_suffix: str = ""
    """What the stems of images have beyond the name, e.g. ``_sat``."""
    mask_suffix: str = ""
    """What the stems of masks have beyond the name, e.g. ``_mask``."""
    mask_kind: MaskKind = "index"
    """What masks hold: class numbers (grey or palette), colours, or numbers of objects as Cellpose
    and StarDist write them (``instance``), whose raw values are 0 and, for any object, 1."""
    instance_border: Annotated[int, Field(ge=0, le=100)] = 0
    """Instance masks: pixels on either side of the border of two touching objects that get the raw
    value 255, for the label map to ignore."""
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
    plane: PlaneChoice = Field(default={})
    """Stacks of microscopes and DICOM: which plane is read, ``{ z = 3, t = 0 }``, counted from 0.
    Axes: ``z``, ``t``, ``frame`` of DICOM, and ``series``, the image of a file of several."""
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
        if self.lists and self.split is not None and not self.by_folder:
            if self.split_file is None and not self.kept_lists:
                msg = "give one way to split, or a draw with a share of 0 for each list it keeps"
                raise ValueError(msg)
        elif len(chosen) != 1:
            msg = f"give one way to split, not {' and '.join(chosen) or 'none'}"
            raise ValueError(msg)
        return self

    @pydantic.model_validator(mode="after")
    def _border_of_instances(self) -> Options:
        if self.instance_border and self.mask_kind != "instance":
            msg = 'instance_border goes with mask_kind = "instance"'
            raise ValueError(msg)
        return self

    @pydantic.model_validator(mode="after")
    def _folder_in_both(self) -> Options:
        if "{folder}" not in self.images + self.masks:
            return self
        for each in (self.images, self.masks):
            if each.split("/").count("{folder}") != 1 or each.count("{folder}") != 1:
                msg = "{folder} stands for folders and must be in both, as in {folder}/images"
                raise ValueError(msg)
        if self.by_folder or self.lists:
            msg = "{folder} goes with a draw, not with {split} or lists"
            raise ValueError(msg)
        return self

    @property
    def kept_lists(self) -> tuple[SplitName, ...]:
        """Splits that are as their lists say although there is a draw."""
        return tuple(name for name in self.lists if getattr(self.split, name, None) == 0)

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
    listed = _listed(root, options)
    pairs, notes = _pairs(root, split, options, listed)
    pairs = at_planes(pairs, options.plane)
    first_named = named_by([pair.image for pair in pairs], options.alpha)
    notes += _alpha_notes(first_named)
    band_names = options.bands or band_names_of([pair.image for pair in pairs], options.alpha)
    if options.split is not None:
        pairs, told = _divided(pairs, root, split, options, listed)
        notes += told
    notes += folder_notes.of_tiff(pairs)
    return PairedFiles(
        pairs,
        band_names,
        options.mask_kind,
        notes,
        ReadingRules(options.nodata_rule, options.apply_scale, options.alpha),
        named_by=first_named,
        guards_alpha=options.alpha is None,
        instance_border=options.instance_border,
    )


_Lists = dict[SplitName, tuple[str, ...]]


def _pairs(
    root: Path, split: SplitName, options: Options, listed: _Lists
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Return the pairs that the split is taken from, and what to say of their folders."""
    endings: dict[str, Any] = {
        "image_ending": options.image_suffix,
        "mask_ending": options.mask_suffix,
        "has_endings": True,
    }
    if "{folder}" in options.images:
        folders = _folders(root, options)
        notes = tuple(
            note
            for each in folders.values()
            for note in folder_notes.of_folders(*each, root, _SUFFIXES)
        )
        return pair_up_below(root, folders, suffixes=_SUFFIXES, **endings), notes
    only = None
    if options.lists:
        # A draw takes its splits out of the lists of the others.
        drawn = options.split is not None and split not in options.kept_lists
        drawn |= options.split_file is not None
        only = [n for names in listed.values() for n in names] if drawn else listed.get(split, ())
    image_folder = root / options.images.replace("{split}", split)
    mask_folder = root / options.masks.replace("{split}", split)
    pairs = pair_up(image_folder, mask_folder, suffixes=_SUFFIXES, only=only, root=root, **endings)
    return pairs, folder_notes.of_folders(image_folder, mask_folder, root, _SUFFIXES)


def _folders(root: Path, options: Options) -> dict[str, tuple[Path, Path]]:
    """Return image folder and mask folder by what ``{folder}`` stands for.

    Raises:
        DataError: SEG-D013, there is none.
    """
    before, after = options.images.split("{folder}")
    found: dict[str, tuple[Path, Path]] = {}
    top = root / before
    for image_folder in sorted(top.rglob(after.strip("/"))) if top.is_dir() else ():
        lead = f"/{image_folder.relative_to(top).as_posix()}".removesuffix(after).strip("/")
        if image_folder.is_dir() and not any(part[0] == "." for part in lead.split("/") if part):
            masks = root / options.masks.replace("{folder}", lead or ".")
            found[lead] = (image_folder, masks)
    if not found:
        raise DataError(
            "SEG-D013",
            "no folder of images",
            file=root,
            observed=f"nothing called {options.images}",
            next_step="check data.root, data.options.images and data.options.masks",
        )
    return found


def _divided(
    pairs: tuple[Pair, ...], root: Path, split: SplitName, options: Options, listed: _Lists
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Return the pairs of one split, and what to say of the draw."""
    assert options.split is not None
    names = [pair.name for pair in pairs]
    if options.split_file is None:
        if "split" not in options.model_fields_set:
            if split_folders.are_splits(names, root / options.images.replace("/{folder}", "")):
                own = tuple(pair for pair in pairs if split_folders.split_of(pair.name) == split)
                return own, (split_folders.note(names),)
        else:
            kept = _kept(pairs, options, listed)
            if split in kept and (split != "test" or options.split.folds is None):
                return kept[split], ()
            taken = {pair.name for several in kept.values() for pair in several}
            pairs = tuple(pair for pair in pairs if pair.name not in taken)
            names = [pair.name for pair in pairs]
    notes = folder_notes.of_draw(names, options.split)
    found = pairs
    chosen, left_out = _split_draw.divide(
        split, options.split, options.split_file, training=lambda: found
    )
    return chosen, notes + left_out


def _kept(
    pairs: tuple[Pair, ...], options: Options, listed: _Lists
) -> dict[SplitName, tuple[Pair, ...]]:
    """Return the splits of share 0 that lists or sub-folders name: a draw leaves them alone."""
    kept: dict[SplitName, tuple[Pair, ...]] = {}
    for split in _split_draw.SPLITS:
        if getattr(options.split, split) == 0:
            own = set(listed.get(split, ()))
            of_split = tuple(
                pair
                for pair in pairs
                if pair.name in own or (not listed and split_folders.split_of(pair.name) == split)
            )
            if of_split:
                kept[split] = of_split
    return kept


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


def _listed(root: Path, options: Options) -> _Lists:
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
