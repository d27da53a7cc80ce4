"""Images whose labels are shapes in the files of a labelling tool: the part such formats share.

Raw label values: 0 where no shape is, 1, 2, 3 … for ``classes`` in their order, and 255 for what is
ignored (65535 where there are more than 254 classes). Nothing is converted on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import pydantic
from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base.config_parsing import Frozen
from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.datasets import _split_draw
from terrazzo.data.datasets import _split_folders as split_folders
from terrazzo.data.datasets._faults import is_noting, refuse
from terrazzo.data.datasets._paired_files import (
    Pair,
    band_names_of,
    files_by_name,
    list_names,
    read_image_file,
)
from terrazzo.data.datasets._split_draw import Draw
from terrazzo.data.sample import IGNORE, RawSample
from terrazzo.io import images
from terrazzo.io.annotations import draw
from terrazzo.io.annotations.draw import Account, DrawingRules
from terrazzo.io.annotations.shapes import AnnotatedImage
from terrazzo.io.pixels import ImagePixels
from terrazzo.io.raster_formats import RASTER_SUFFIXES, is_raster

SUFFIXES = (*images.IMAGE_SUFFIXES, *RASTER_SUFFIXES)
MOST_CLASSES = 65534

_TURNED = (5, 6, 7, 8)  # Exif orientations that swap rows and columns

Load = Callable[[tuple[int, int]], AnnotatedImage]
"""Reads the shapes of one image; is given its rows and columns."""

ClassName = Annotated[str, Field(min_length=1)]


class ShapeOptions(Frozen):
    """Which classes there are and how shapes become pixels."""

    images: str = "images"
    """Folder of the images; may hold ``{split}``."""
    annotations: str = "annotations"
    """File or folder of the annotations; may hold ``{split}``."""
    classes: Annotated[tuple[ClassName, ...], Field(max_length=MOST_CLASSES)] = ()
    """Names as the tool has them: raw values 1, 2, 3 … in this order; 0 is where no shape is.
    Empty: `terrazzo check` finds them, and everything else asks for them."""
    undrawn: tuple[ClassName, ...] = ()
    """Names whose shapes are counted and not drawn."""
    fill: Literal["centre", "inclusive"] = "centre"
    """Which pixels are inside: ``centre``, those whose centre is, as GDAL; ``inclusive``, as the
    masks that labelme and Cityscapes' scripts write, whose borders both objects claim."""
    line_width: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Lines and points: their width in pixels. None: they are refused."""
    split: Draw | None = Field(default_factory=lambda given: _default_draw(given))
    """A draw; a share of 0 keeps the sub-folder of that name as the split. None: by ``{split}`` in
    a path. By default, where no path has it: the sub-folders train, val and test of the images if
    there are any, else 0.8, 0.1 and 0.1."""
    split_file: str | None = None
    """``splits.json`` of a run: its draw takes the place of a new one."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> ShapeOptions:
        if len(set(self.classes)) < len(self.classes):
            msg = "classes names a class twice"
            raise ValueError(msg)
        if set(self.classes) & set(self.undrawn):
            msg = "a class is either in classes or in undrawn"
            raise ValueError(msg)
        if self.by_split == (self.split is not None):
            msg = "give one way to split: {split} in a path, or split"
            raise ValueError(msg)
        return self

    @property
    def by_split(self) -> bool:
        """Whether each split has paths of its own."""
        return "{split}" in self.images + self.annotations


def _default_draw(given: dict[str, Any]) -> Draw | None:
    by_split = "{split}" in given.get("images", "") + given.get("annotations", "")
    return None if by_split else Draw(train=0.8, val=0.1, test=0.1)


@runtime_checkable
class OfShapes(Protocol):
    """A source whose labels are drawn from shapes of named classes."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of raw values 1, 2, 3 …"""
        ...

    @property
    def ignored(self) -> int:
        """Raw value of what is ignored."""
        ...

    def account(self, index: int, fill: draw.FillRule | None = None) -> Account:
        """Say what becomes of the shapes of one image, under another rule if one is given."""
        ...


@dataclass(frozen=True)
class AnnotatedImages:
    """A `Source` over images and shapes.

    Attributes:
        pairs: sorted by name; the mask is the annotation file.
        band_names: C band names.
        load: reads the shapes of an image, by its name.
        rules: how they become pixels.
        notes: what was left out, for the person who runs it.
    """

    pairs: tuple[Pair, ...]
    band_names: tuple[str, ...]
    load: Mapping[str, Load]
    rules: DrawingRules
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(pair.name for pair in self.pairs))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of raw values 1, 2, 3 …"""
        return tuple(self.rules.values)

    @property
    def ignored(self) -> int:
        """Raw value of what is ignored."""
        return self.rules.ignored

    @property
    def is_cut_from_scenes(self) -> bool:
        """An image is a file."""
        return False

    def files(self, index: int) -> tuple[Path, Path]:
        """Return the image file and the annotation file of one image."""
        return self.pairs[index].image, self.pairs[index].mask

    def read(self, index: int) -> RawSample:
        """Decode one image and draw its shapes.

        Raises:
            DataError: as `read_image` and `read_label`.
        """
        pair = self.pairs[index]
        label_HW = self.read_label(index)  # first: it knows more of a turned image
        image_HWC, valid_HW, present_HWC = self.read_image(index)
        return RawSample(
            pair.name,
            image_HWC,
            label_HW,
            valid_HW,
            str(pair.image),
            str(pair.mask),
            present_HWC,
        )

    def read_image(self, index: int, *, coarse: bool = False) -> ImagePixels:
        """Decode the image alone; see `read_image_file`."""
        return read_image_file(self.pairs[index].image, self.band_names, coarse=coarse)

    def read_label(self, index: int) -> NDArray[Any]:
        """Draw the shapes of one image: H×W raw values.

        Raises:
            DataError: as `draw.draw`; SEG-D009 the shapes are of an image of another size; SEG-D111
                the file cannot be read; SEG-D114 the image is to be turned on display.
        """
        return self._draw(index, self.rules, counts=False).label_HW

    def account(self, index: int, fill: draw.FillRule | None = None) -> Account:
        """Say what becomes of the shapes of one image, under another rule if one is given.

        Raises:
            DataError: as `read_label`.
        """
        rules = self.rules
        if fill is not None:
            rules = replace(rules, fill=fill)
        return self._draw(index, rules, counts=True).account

    def _draw(self, index: int, rules: DrawingRules, *, counts: bool) -> draw.Drawn:
        pair = self.pairs[index]
        size, orientation = _size_of(pair.image)
        annotated = self.load[pair.name](size)
        if orientation != 1:
            raise _turned(pair, size, orientation, annotated.size)
        if annotated.size is not None and annotated.size != size:
            raise DataError(
                "SEG-D009",
                "the shapes are of an image of another size",
                file=pair.mask,
                observed=f"{annotated.size[0]}×{annotated.size[1]} (rows×columns), image "
                f"{size[0]}×{size[1]} in {pair.image}",
                allowed="the rows and columns of the image",
                next_step="bring back the image that was labelled, or label this one; shapes are "
                "not stretched",
            )
        return draw.draw(annotated, size, rules, file=str(pair.mask), counts=counts)


def _size_of(path: Path) -> tuple[tuple[int, int], int]:
    """Return rows and columns of an image as they are stored, and its Exif orientation."""
    if is_raster(path):
        from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

        info = rasters.info(path)
        return (info.rows, info.columns), 1
    return images.stored_size(path)


def _turned(
    pair: Pair, size: tuple[int, int], orientation: int, stated: tuple[int, int] | None
) -> DataError:
    """Compose the error for an image that is turned on display, which says what its shapes mean."""
    upright = size[::-1] if orientation in _TURNED else size
    turn = "turn its pixels and drop the tag: `mogrify -auto-orient FILE`"
    keep = "drop the tag and keep the pixels: `exiftool -Orientation= FILE`"
    if stated == upright != size:
        told, next_step = "those of the picture as it is displayed", turn
    elif stated == size != upright:
        told, next_step = "those of the pixels as they are stored", keep
    else:
        told = "no help: they fit the picture as it is stored and as it is displayed"
        if stated is None or stated not in (size, upright):
            told = "those of neither the stored nor the displayed picture"
        next_step = f"look at both: where the shapes lie right on the display, {turn}; else {keep}"
    shown = "no size" if stated is None else f"{stated[0]}×{stated[1]}"
    return DataError(
        "SEG-D114",
        "the image is to be turned on display; which way its shapes mean is told by sizes",
        file=pair.image,
        observed=f"Exif tag Orientation (0x0112) = {orientation}, stored {size[0]}×{size[1]} "
        f"(rows×columns), displayed {upright[0]}×{upright[1]}; {pair.mask.name} states {shown}: "
        f"{told}",
        allowed="orientation 1, or no such tag",
        next_step=next_step,
    )


def annotated_images(
    root: Path,
    split: str,
    options: ShapeOptions,
    pairs: Sequence[Pair],
    load: Mapping[str, Load],
    found: Callable[[], Sequence[str]],
    *,
    crowds: draw.CrowdRule = "keep",
    notes: tuple[str, ...] = (),
) -> AnnotatedImages:
    """Make the source of one split of what a format has found.

    Args:
        root: of the data set.
        split: ``train``, ``val`` or ``test``.
        options: as given.
        pairs: of all images that the split is chosen from, sorted by name.
        load: reads the shapes of each image, by its name.
        found: lists the classes of the files, in the order of the files.
        crowds: see `draw.DrawingRules`.
        notes: of the format.

    Raises:
        ConfigError: SEG-X121 no classes are given; as `_split_draw.divide`.
        DataError: as `_split_draw.divide` and `band_names_of`.
    """
    classes = options.classes
    if not classes:
        classes = tuple(n for n in dict.fromkeys(found()) if n not in options.undrawn)
        _ask_for(classes, root)
        notes += (f"data.options.classes is not set; of the files: {as_toml(classes)}",)
    chosen = tuple(pairs)
    if options.split is not None:
        names = [pair.name for pair in pairs]
        is_default = "split" not in options.model_fields_set and options.split_file is None
        if is_default and split_folders.are_splits(names, root / options.images):
            chosen = tuple(p for p in pairs if split_folders.split_of(p.name) == split)
            notes += (split_folders.note(names),)
        else:
            kept = {} if is_default else _kept(pairs, options)
            drawn = _split_draw.divide(
                split,
                options.split,
                options.split_file,
                training=lambda: tuple(pair for pair in pairs if pair.name not in kept),
            )
            own = tuple(pair for pair in pairs if kept.get(pair.name) == split)
            if split == "test" and options.split.folds is not None:
                own = ()
            chosen, notes = own or drawn.pairs, notes + drawn.notes
    ignored = IGNORE if len(classes) < IGNORE else MOST_CLASSES + 1
    rules = DrawingRules(
        {name: value for value, name in enumerate(classes, 1)},
        options.fill,
        options.line_width,
        crowds,
        ignored,
        frozenset(options.undrawn),
    )
    notes += (f'shapes are drawn by the rule fill = "{options.fill}"',)
    _refuse_turned(chosen[:1], load)
    return AnnotatedImages(
        chosen, band_names_of([pair.image for pair in chosen]), load, rules, notes
    )


def _kept(pairs: Sequence[Pair], options: ShapeOptions) -> dict[str, str]:
    """Return the split, by name, of images in the sub-folder of a split whose share is 0."""
    if options.split_file is not None:
        return {}
    named = {pair.name: split_folders.split_of(pair.name) for pair in pairs}
    return {
        name: split for name, split in named.items() if split and not getattr(options.split, split)
    }


def _refuse_turned(pairs: Sequence[Pair], load: Mapping[str, Load]) -> None:
    """Refuse the first image, whose header names the bands, before others do who know less."""
    for pair in pairs:
        size, orientation = _size_of(pair.image)
        if orientation != 1 and not is_noting():
            raise _turned(pair, size, orientation, load[pair.name](size).size)


def _ask_for(classes: Sequence[str], root: Path) -> None:
    """Refuse to go on without a list of classes, but for a check, which proposes one."""
    if is_noting():
        return
    raise ConfigError(
        "SEG-X121",
        "the format needs the list of classes, whose order gives the raw values 1, 2, 3 …",
        file=root,
        observed=f"{len(classes)} in the files" + (f": {as_toml(classes)}" if classes else ""),
        next_step="set data.options.classes; `terrazzo check` proposes the label map with it",
    )


def as_toml(names: Sequence[str]) -> str:
    """Return the option `classes` as a recipe holds it."""
    quoted = ('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)
    return f"classes = [{', '.join(quoted)}]"


class PerImageOptions(ShapeOptions):
    """Options of formats with one file of shapes an image."""

    annotation_suffix: str = ""
    """What the stems of annotation files have beyond the name of the image."""
    image_suffix: str = ""
    """What the stems of images have beyond the name."""
    unannotated: Literal["refuse", "leave_out"] = "refuse"
    """Images without a file of shapes: refused, or left out and counted."""


def pair_annotations(
    root: Path,
    split: str,
    options: PerImageOptions,
    suffixes: Sequence[str] = (".json",),
    *,
    after_suffix: bool = False,
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Match images and files of shapes by name, and say what is left out.

    Args:
        root: of the data set.
        split: ``train``, ``val`` or ``test``.
        options: where they lie.
        suffixes: of files of shapes.
        after_suffix: they stand behind the image's own suffix, as in ``a.jpg.json``.

    Raises:
        DataError: SEG-D013 a folder is missing; SEG-D014 missing images or files, and names that
            occur twice, all in one message; SEG-D042 a link leads out of the data set.
    """
    folder, shapes = (
        root / text.replace("{split}", split) for text in (options.images, options.annotations)
    )
    found = files_by_name(folder, SUFFIXES, options.image_suffix, root=root)
    files = files_by_name(shapes, suffixes, options.annotation_suffix, root=root)
    if after_suffix:
        name_by_file = {
            PurePosixPath(name).with_name(file.name).as_posix(): name
            for name, several in found.items()
            for file in several
        }
        files = {name_by_file.get(name, name): several for name, several in files.items()}
    bare = sorted(found.keys() - files.keys())
    faults = {
        "images without a file of shapes": bare if options.unannotated == "refuse" else [],
        "files of shapes without an image": sorted(files.keys() - found.keys()),
        "images of one name": [name for name, paths in found.items() if len(paths) > 1],
        "files of shapes of one name": [name for name, paths in files.items() if len(paths) > 1],
    }
    if any(faults.values()):
        error = DataError(
            "SEG-D014",
            "images and files of shapes do not pair up",
            file=folder,
            observed="; ".join(
                list_names(title, names) for title, names in faults.items() if names
            ),
            allowed=f"one file of shapes for every image, by name, in {shapes}",
            next_step="add, rename or remove the files named"
            + (
                '; data.options.unannotated = "leave_out" goes on without these images' * bool(bare)
            ),
        )
        refuse(error)
    notes: tuple[str, ...] = ()
    if bare and options.unannotated == "leave_out":
        notes = (f"left out: {list_names('images without a file of shapes', bare)}",)
    names = sorted(found.keys() & files.keys())
    return tuple(Pair(name, found[name][0], files[name][0]) for name in names), notes


def match_images(
    folder: Path, stated: Mapping[str, str], file: Path, root: Path
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Find the images that a file names.

    Args:
        folder: of the images.
        stated: path below the folder by a name without suffix, as `pair_names` gives it.
        file: where they are named.
        root: of the data set.

    Returns:
        The image of each name that is there, and a note on images that the file does not name.

    Raises:
        DataError: SEG-D013 the folder is missing; SEG-D014 images are missing.
    """
    if not folder.is_dir():
        raise DataError(
            "SEG-D013",
            "not a folder" if folder.exists() else "no such folder",
            file=folder,
            next_step="check data.root and data.options.images",
        )
    there = {name: folder / path for name, path in stated.items() if (folder / path).is_file()}
    missing = sorted(path for name, path in stated.items() if name not in there)
    if missing:
        error = DataError(
            "SEG-D014",
            "images that the file names are missing",
            file=file,
            observed=list_names("images", missing),
            allowed=f"files below {folder}",
            next_step="bring the images, or set data.options.images to the folder they lie in",
        )
        refuse(error)
    return there, _unnamed(folder, there, root)


def _unnamed(folder: Path, there: Mapping[str, Path], root: Path) -> tuple[str, ...]:
    from terrazzo.io.folders import walk_files

    named = {str(path) for path in there.values()}
    unnamed = [
        f"{lead}/{name}" if lead else name
        for lead, names in walk_files(folder, root)
        for name in names
        if name.lower().endswith(SUFFIXES)
        and str(folder / lead / name) not in named
        and (folder / lead / name).is_file()
    ]
    if not unnamed:
        return ()
    return (f"left out, since the file does not name them: {list_names('images', unnamed)}",)


def name_of(text: str) -> str:
    """Return the name of an image: its path, as a tool wrote it, without the suffix."""
    path = PureWindowsPath(text)
    return path.with_suffix("").as_posix() if path.name else ""


def names_of(paths: Sequence[str], file: Path) -> dict[str, str]:
    """Return the paths of images by name: the path without its suffix.

    Args:
        paths: as the tool wrote them; backslashes and a leading ``./`` are taken for what they are.
        file: where they are written.

    Raises:
        DataError: SEG-D014 two images of one name; SEG-D042 a path that leads out of the folder.
    """
    found: dict[str, str] = {}
    twice: list[str] = []
    for text in paths:
        path = PureWindowsPath(text)
        if path.is_absolute() or path.drive or path.root or ".." in path.parts:
            raise DataError(
                "SEG-D042",
                "the path of an image leads out of its folder",
                file=file,
                observed=repr(text),
                allowed="a path below data.options.images",
                next_step="export again with relative names, or correct the path",
            )
        name = name_of(text)
        if not name or "\0" in text:
            raise DataError(
                "SEG-D111",
                "an image has no file name",
                file=file,
                observed=repr(text),
                next_step="export again",
            )
        if name in found:
            twice.append(f"{found[name]} and {text}")
        found[name] = path.as_posix()
    if twice:
        error = DataError(
            "SEG-D014",
            "two images have one name",
            file=file,
            observed=list_names("images of one name", sorted(twice)),
            next_step="remove one entry; where two people labelled the same images, export the "
            "work of one of them",
        )
        refuse(error)
    return found
