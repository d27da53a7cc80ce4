"""Images whose labels are shapes in the files of a labelling tool: the part such formats share.

Raw label values: 0 where no shape is, 1, 2, 3 … for ``classes`` in their order, and 255 for what is
ignored (65535 where there are more than 254 classes). Nothing is converted on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.datasets import _split_draw
from terrazzo.data.datasets import _split_folders as split_folders
from terrazzo.data.datasets._annotation_pairs import pair_annotations
from terrazzo.data.datasets._faults import is_noting
from terrazzo.data.datasets._paired_files import at_planes, band_names_of, read_image_file
from terrazzo.data.datasets._pairing import Pair
from terrazzo.data.datasets._shape_options import (
    MOST_CLASSES,
    PerImageOptions,
    ShapeOptions,
    as_toml,
)
from terrazzo.data.datasets._split_draw import SplitName
from terrazzo.data.datasets._turned_photos import Load, place_shapes
from terrazzo.data.sample import IGNORE, RawSample
from terrazzo.io.annotations import draw
from terrazzo.io.annotations.draw import Account, DrawingRules
from terrazzo.io.annotations.shapes import AnnotatedImage
from terrazzo.io.pixels import ImagePixels


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
        label_HW = self.read_label(index)
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
        """Decode the image alone, turned as its shapes mean it; see `read_image_file`.

        Raises:
            DataError: as `read_image_file` and `place_shapes`.
        """
        pair = self.pairs[index]
        try:
            return read_image_file(pair.image, self.band_names, coarse=coarse)
        except DataError as error:
            if error.code != "SEG-D010":
                raise
        # Rare: only of a photo with an orientation the shapes are looked at as well.
        turned_by = place_shapes(pair, self.load[pair.name]).orientation
        return read_image_file(pair.image, self.band_names, turned_by=turned_by)

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
        placed = place_shapes(pair, self.load[pair.name])
        stated, size = placed.annotated.size, placed.size
        if stated is not None and stated != size:
            raise DataError(
                "SEG-D009",
                "the shapes are of an image of another size",
                file=pair.mask,
                observed=f"{stated[0]}×{stated[1]} (rows×columns), image "
                f"{size[0]}×{size[1]} in {pair.image}",
                allowed="the rows and columns of the image",
                next_step="bring back the image that was labelled, or label this one; shapes are "
                "not stretched",
            )
        return draw.draw(placed.annotated, size, rules, file=str(pair.mask), counts=counts)


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
    pairs = at_planes(pairs, options.plane)
    chosen, told = _divided(root, split, options, pairs)
    notes += told
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
        chosen,
        band_names_of([pair.image for pair in chosen], any_orientation=True),
        load,
        rules,
        notes,
    )


def _divided(
    root: Path, split: str, options: ShapeOptions, pairs: Sequence[Pair]
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Return the pairs of one split, and what to say of the division."""
    if options.split is None:
        return tuple(pairs), ()
    names = [pair.name for pair in pairs]
    is_default = "split" not in options.model_fields_set and options.split_file is None
    if is_default and split_folders.are_splits(names, root / options.images):
        own = tuple(p for p in pairs if split_folders.split_of(p.name) == split)
        return own, (split_folders.note(names),)
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
    return own or drawn.pairs, drawn.notes


def open_by_words(
    open_one: Callable[[Path, str, Any], Any],
    root: Path,
    split: str,
    options: ShapeOptions,
) -> AnnotatedImages:
    """Open one split where the paths have words of their own for the splits, or lack some.

    Args:
        open_one: of the format.
        root: of the data set.
        split: ``train``, ``val`` or ``test``.
        options: with `split_words`. Where there is a draw as well, names begin with the split
            whose paths an image comes from.

    Raises:
        ConfigError: as the format.
        DataError: as the format.
    """

    def opened(of_split: SplitName, classes: Sequence[str]) -> AnnotatedImages:
        word = options.split_words[of_split]
        own: dict[str, Any] = {
            "images": options.images.replace("{split}", word),
            "annotations": options.annotations.replace("{split}", word),
            "classes": tuple(classes),
            "split": None,
            "split_words": {},
            "split_file": None,
        }
        found: AnnotatedImages = open_one(root, of_split, options.model_copy(update=own))
        return found

    if options.split is None:
        return opened(cast("SplitName", split), options.classes)
    sources = {name: opened(name, options.classes) for name in options.split_words}
    if not options.classes:
        found = dict.fromkeys(name for each in sources.values() for name in each.class_names)
        sources = {name: opened(name, tuple(found)) for name in options.split_words}
    pairs: list[Pair] = []
    load: dict[str, Load] = {}
    notes: dict[str, None] = {}
    for name, source in sources.items():
        pairs += [replace(pair, name=f"{name}/{pair.name}") for pair in source.pairs]
        load |= {f"{name}/{inside}": each for inside, each in source.load.items()}
        notes |= dict.fromkeys(source.notes)
    chosen, told = _divided(root, split, options, sorted(pairs, key=lambda pair: pair.name))
    bands = band_names_of([pair.image for pair in chosen], any_orientation=True)
    return AnnotatedImages(chosen, bands, load, sources["train"].rules, (*notes, *told))


def _kept(pairs: Sequence[Pair], options: ShapeOptions) -> dict[str, str]:
    """Return the split, by name, of images in the sub-folder of a split whose share is 0."""
    if options.split_file is not None:
        return {}
    named = {pair.name: split_folders.split_of(pair.name) for pair in pairs}
    return {
        name: split for name, split in named.items() if split and not getattr(options.split, split)
    }


def _refuse_turned(pairs: Sequence[Pair], load: Mapping[str, Load]) -> None:
    """Refuse the first image if it cannot be told how it lies, before others do who know less."""
    for pair in pairs:
        try:
            place_shapes(pair, load[pair.name])
        except DataError as error:
            if error.code == "SEG-D114" and not is_noting():
                raise


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


def open_per_image(
    root: Path,
    split: str,
    options: PerImageOptions,
    load: Callable[[Pair, tuple[int, int]], AnnotatedImage],
    names_in: Callable[[Path], Iterable[str]],
    suffixes: Sequence[str] = (".json",),
    *,
    after_suffix: bool = False,
) -> AnnotatedImages:
    """Find the images of one split of a format with one file of shapes an image.

    Args:
        root: of the data set.
        split: ``train``, ``val`` or ``test``.
        options: as given.
        load: reads the shapes of an image; is given its rows and columns.
        names_in: lists the classes of a file.
        suffixes: as for `pair_annotations`, and so is `after_suffix`.
        after_suffix: see there.

    Raises:
        ConfigError: as `annotated_images`.
        DataError: as `pair_annotations` and `annotated_images`.
    """
    pairs, notes = pair_annotations(root, split, options, suffixes, after_suffix=after_suffix)

    def found() -> list[str]:
        names: dict[str, None] = {}
        for pair in pairs:
            try:
                names.update(dict.fromkeys(names_in(pair.mask)))
            except DataError:  # found again where the file is read
                continue
        return list(names)

    loads = {pair.name: partial(load, pair) for pair in pairs}
    return annotated_images(root, split, options, pairs, loads, found, notes=notes)
