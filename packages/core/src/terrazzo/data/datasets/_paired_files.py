"""Images and masks that belong together by name: the part that most formats share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base.errors import DataError
from terrazzo.data import instance_masks
from terrazzo.data.band_names import contradict
from terrazzo.data.datasets import _pair_hints as pair_hints
from terrazzo.data.datasets._faults import is_noting, refuse
from terrazzo.data.datasets._guessed_alpha import refuse_guessed_alpha
from terrazzo.data.sample import RawSample
from terrazzo.io import images
from terrazzo.io.folders import walk_files
from terrazzo.io.pixels import AS_STORED, ImagePixels, ReadingRules
from terrazzo.io.raster_formats import at_plane, is_raster

if TYPE_CHECKING:
    from terrazzo.io.rasters import Part

RGB = ("red", "green", "blue")

MaskKind = Literal["index", "colour", "instance"]
"""What the pixels of masks hold: class indices, colours, or numbers of objects of one class."""

_SHOWN = 100  # names a kind of fault; beyond it a message helps nobody
_LISTED = 8  # folders whose other files are counted in one message
_NO_MASK, _NO_IMAGE = "images without a mask", "masks without an image"
_BAND_NAMES = {1: ("grey",), 3: RGB}


PlaneChoice = dict[Literal["z", "t", "frame", "series"], Annotated[int, Field(ge=0)]]
"""Positions on the axes of `raster_formats.PLANE_AXES`, from 0."""

Faults = dict[str, list[str]]
"""Names that do not pair up, by what is wrong with them."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One image: its name, its image file and its mask file."""

    name: str
    image: Path
    mask: Path


def at_planes(pairs: Sequence[Pair], plane: PlaneChoice) -> tuple[Pair, ...]:
    """Return pairs whose images mean one plane of their stacks; masks have one."""
    if not plane:
        return tuple(pairs)
    return tuple(replace(pair, image=at_plane(pair.image, plane.items())) for pair in pairs)


@dataclass(frozen=True)
class PairedFiles:
    """A `Source` over pairs of files.

    Attributes:
        pairs: sorted by name.
        band_names: C band names; an image with another number of bands is refused.
        mask_kind: see `MaskKind`.
        notes: what was left out, for the person who runs it.
        rules: of GeoTIFF images.
        named_by: the GeoTIFF whose bands every other one must have in the same order; None: none.
        guards_alpha: refuse a band that is taken for alpha without a word if it takes away many
            pixels.
        drops_alpha: leave alpha bands of PNG images out, whatever they hold.
        instance_border: pixels on either side of the border of touching objects that are ignored.
    """

    pairs: tuple[Pair, ...]
    band_names: tuple[str, ...]
    mask_kind: MaskKind = "index"
    notes: tuple[str, ...] = ()
    rules: ReadingRules = AS_STORED
    named_by: NamedBy | None = None
    guards_alpha: bool = False
    drops_alpha: bool = False
    instance_border: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """N names, sorted."""
        return tuple(pair.name for pair in self.pairs)

    def files(self, index: int) -> tuple[Path, Path]:
        """Return the image file and the mask file of one image."""
        return self.pairs[index].image, self.pairs[index].mask

    def read(self, index: int) -> RawSample:
        """Decode one image and its mask.

        Raises:
            DataError: as `read_image` and `read_label`.
        """
        pair = self.pairs[index]
        image_HWC, valid_HW, present_HWC = self.read_image(index)
        raw_label = self.read_label(index)
        return RawSample(
            pair.name,
            image_HWC,
            raw_label,
            valid_HW,
            str(pair.image),
            str(pair.mask),
            present_HWC,
        )

    def parts(self, index: int) -> tuple[Part, ...]:
        """Return the raster that holds an image; nothing for other files."""
        from terrazzo.io.rasters import Part  # GDAL is loaded by those who read GeoTIFF

        image = self.pairs[index].image
        return (Part(image),) if is_raster(image) else ()

    @property
    def is_cut_from_scenes(self) -> bool:
        """An image is a file."""
        return False

    def read_image(self, index: int, *, coarse: bool = False) -> ImagePixels:
        """Decode the image alone; see `read_image_file`."""
        path = self.pairs[index].image
        if is_raster(path):
            if self.named_by is not None:
                refuse_other_order(path, self.named_by)
            if self.guards_alpha:
                _refuse_alpha_losses(path)
        return read_image_file(
            path, self.band_names, self.rules, coarse=coarse, drop_alpha=self.drops_alpha
        )

    def read_label(self, index: int) -> NDArray[Any]:
        """Decode the mask alone: H×W integers, or H×W×3 colours.

        Raises:
            DataError: as `images.read_label`, `rasters.read_label` and `instance_masks.foreground`.
        """
        mask = self.pairs[index].mask
        if self.mask_kind != "instance":
            return _read_mask(mask, self.mask_kind)
        ids_HW = _read_mask(mask, "index")
        return instance_masks.foreground(ids_HW, self.instance_border, mask)


def _read_mask(path: Path, kind: Literal["index", "colour"]) -> NDArray[Any]:
    if is_raster(path):
        from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

        return rasters.read_label(path, kind)
    return images.read_label(path, kind)


def _refuse_alpha_losses(path: Path) -> None:
    """Refuse one image whose fourth band is guessed to be alpha; its mask labels all its pixels."""
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    size = rasters.info(path)
    if size.alpha_bands:
        shown_HW = rasters.read_mask_window(path, 0, 0, size.rows, size.columns)
        refuse_guessed_alpha(path, 1 - float(shown_HW.mean()))


def read_image_file(
    path: Path,
    band_names: tuple[str, ...],
    rules: ReadingRules = AS_STORED,
    *,
    coarse: bool = False,
    drop_alpha: bool = False,
    turned_by: int | None = None,
) -> ImagePixels:
    """Decode one image.

    Args:
        path: PNG, JPEG, or a raster, such as GeoTIFF or a microscope's file.
        band_names: C names of the data set.
        rules: of a GeoTIFF.
        coarse: see `images.read_image`.
        drop_alpha: see `images.read_image`.
        turned_by: see `images.read_image`.

    Raises:
        DataError: as `images.read_image` and `rasters.read`; SEG-D020 the image has another
            number of bands than the data set.
    """
    if is_raster(path):
        from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

        pixels = rasters.read(path, rules)
    else:
        image_HWC = images.read_image(
            path, coarse=coarse, drop_alpha=drop_alpha, turned_by=turned_by
        )
        pixels = ImagePixels(image_HWC)
    if pixels.image_HWC.shape[2] != len(band_names):
        raise DataError(
            "SEG-D020",
            "the image has another number of bands than the data set",
            file=path,
            observed=f"{pixels.image_HWC.shape[2]} bands",
            allowed=f"{len(band_names)} ({', '.join(band_names)})",
            next_step="convert the image, or move it out of the folder",
        )
    return pixels


@dataclass(frozen=True, slots=True)
class NamedBy:
    """A GeoTIFF and what its bands are called."""

    path: Path
    band_names: tuple[str, ...]
    alpha: str | None = None


def named_by(files: Sequence[Path], alpha: str | None = None) -> NamedBy | None:
    """Return the first GeoTIFF that can be read, and the names of its bands; None: there is none.

    Args:
        files: of the images.
        alpha: see `rasters.info`.

    Raises:
        DataError: as `rasters.info`, where faults are not collected.
    """
    for file in filter(is_raster, files):
        try:
            return NamedBy(file, _band_names(file, alpha), alpha)
        except DataError:
            if not is_noting():
                raise
    return None


def refuse_other_order(path: Path, first: NamedBy) -> None:
    """Refuse a GeoTIFF whose bands have other names than those of the first, or another order.

    Raises:
        DataError: SEG-D020; as `rasters.info`.
    """
    names = _band_names(path, first.alpha)
    # Another number of bands has a message of its own.
    if len(names) == len(first.band_names) and contradict(names, first.band_names):
        raise DataError(
            "SEG-D020",
            "the bands of the images have other names, or another order",
            file=path,
            observed=", ".join(names),
            allowed=f"{', '.join(first.band_names)}, as in {first.path}",
            next_step="write the bands in one order, e.g. `gdal_translate -b 3 -b 2 -b 1`, or "
            "correct their names",
        )


def band_names_of(
    files: Sequence[Path], alpha: str | None = None, *, any_orientation: bool = False
) -> tuple[str, ...]:
    """Name the bands of a data set after its first image; ``()`` where there is none.

    Args:
        files: of the images.
        alpha: see `rasters.info`.
        any_orientation: see `images.image_info`.

    Raises:
        DataError: as `images.image_info` and `rasters.info`.
    """
    for file in files:
        try:
            return _band_names(file, alpha, any_orientation=any_orientation)
        except DataError:
            if not is_noting():  # one who looks at every image will find it again
                raise
    return ()


def _band_names(
    file: Path, alpha: str | None = None, *, any_orientation: bool = False
) -> tuple[str, ...]:
    if is_raster(file):
        from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

        return rasters.info(file, alpha=alpha).band_names
    return _BAND_NAMES[images.image_info(file, any_orientation=any_orientation).bands]


def pair_up(
    image_folder: Path,
    mask_folder: Path,
    *,
    suffixes: Sequence[str] = images.IMAGE_SUFFIXES,
    image_ending: str = "",
    mask_ending: str = "",
    only: Collection[str] | None = None,
    root: Path | None = None,
    has_endings: bool = False,
) -> tuple[Pair, ...]:
    """Match the files of two folders, sub-folders included, by relative path without suffix.

    Args:
        image_folder: holds the images.
        mask_folder: holds the masks; may be the same folder if there is a `mask_ending`.
        suffixes: of images and masks, lower case; other files are passed over.
        image_ending: what an image's stem has beyond its name, e.g. ``_sat``.
        mask_ending: what a mask's stem has beyond its name, e.g. ``_mask``.
        only: names to look at. None: all there are.
        root: of the data set, which links to folders must not leave. None: each folder.
        has_endings: whether the endings are options of the format, so that a message may name them.

    Returns:
        Pairs sorted by name; a name is a relative path such as ``berlin/000019``.

    Raises:
        DataError: SEG-D013 a folder is missing; SEG-D014 missing images, missing masks, masks
            without an image and names that occur twice, all in one message; SEG-D042 a link leads
            out of the data set; SEG-D142 nothing tells images and masks of one folder apart.
    """
    if has_endings and image_folder == mask_folder and not image_ending + mask_ending:
        raise _one_folder(image_folder, suffixes, root)
    pairs, faults = _match(
        image_folder,
        mask_folder,
        suffixes=suffixes,
        image_ending=image_ending,
        mask_ending=mask_ending,
        only=only,
        root=root,
    )
    if any(faults.values()):
        others = _Others.of((image_folder, mask_folder), suffixes, root)
        _refuse(faults, image_folder, f"in {mask_folder}", others, has_endings=has_endings)
    return pairs


def _one_folder(folder: Path, suffixes: Sequence[str], root: Path | None) -> DataError:
    names = list(files_by_name(folder, suffixes, root=root))
    longer = [name for name in names if _begins_with_another(name, names)]
    hint = pair_hints.of_endings(names, longer)
    return DataError(
        "SEG-D142",
        "images and masks lie in one folder, and nothing tells them apart",
        file=folder,
        observed=list_names("files", names),
        allowed="an ending of the masks' names, or of the images'",
        next_step=hint
        or 'set data.options.mask_suffix, such as "_mask", or move the masks to a '
        "folder of their own and name it in data.options.masks",
    )


def _begins_with_another(name: str, names: Sequence[str]) -> bool:
    known = set(names)
    return any(name[:cut] in known for cut in range(1, len(name)))


@dataclass(frozen=True, slots=True)
class _Others:
    """Files in folders of images and masks that are passed over: in words, and their names."""

    told: str = ""
    hint: str = ""

    @staticmethod
    def of(folders: Iterable[Path], suffixes: Sequence[str], root: Path | None) -> _Others:
        """Look at each folder once."""
        told, names = [], []
        for folder in dict.fromkeys(folders):
            text = passed_over(folder, suffixes, root)
            told += [f"in {folder} {text}"] if text else []
            names += [name for _, several in walk_files(folder, root) for name in several]
        return _Others("; ".join(told), pair_hints.of_unread(names, suffixes))


def pair_up_below(
    root: Path,
    folders: Mapping[str, tuple[Path, Path]],
    *,
    suffixes: Sequence[str] = images.IMAGE_SUFFIXES,
    image_ending: str = "",
    mask_ending: str = "",
    has_endings: bool = False,
) -> tuple[Pair, ...]:
    """Match the files of several pairs of folders; the names begin with the keys and a slash.

    Args:
        root: of the data set, for the message.
        folders: image folder and mask folder by what comes before the names; may be empty.
        suffixes: of images and masks, lower case; other files are passed over.
        image_ending: as for `pair_up`.
        mask_ending: likewise.
        has_endings: likewise.

    Returns:
        Pairs sorted by name.

    Raises:
        DataError: as `pair_up`, the faults of all folders in one message.
    """
    pairs: list[Pair] = []
    faults: Faults = {}
    for prefix, (image_folder, mask_folder) in folders.items():
        lead = f"{prefix}/" if prefix else ""
        found, wrong = _match(
            image_folder,
            mask_folder,
            suffixes=suffixes,
            image_ending=image_ending,
            mask_ending=mask_ending,
            root=root,
        )
        pairs += [Pair(lead + pair.name, pair.image, pair.mask) for pair in found]
        for title, names in wrong.items():
            faults.setdefault(title, []).extend(lead + name for name in names)
    if any(faults.values()):
        places = [each for both in folders.values() for each in both]
        others = _Others.of(places[:_LISTED], suffixes, root)
        _refuse(faults, root, "in the folder beside it", others, has_endings=has_endings)
    return tuple(sorted(pairs, key=lambda pair: pair.name))


def _match(
    image_folder: Path,
    mask_folder: Path,
    *,
    suffixes: Sequence[str] = images.IMAGE_SUFFIXES,
    image_ending: str = "",
    mask_ending: str = "",
    only: Collection[str] | None = None,
    root: Path | None = None,
) -> tuple[tuple[Pair, ...], Faults]:
    """Return the pairs there are, and the names that do not pair up by what is wrong with them."""
    shared = image_folder == mask_folder
    image_files = files_by_name(
        image_folder,
        suffixes,
        image_ending,
        not_ending=mask_ending if shared else "",
        root=root,
    )
    mask_files = files_by_name(
        mask_folder,
        suffixes,
        mask_ending,
        not_ending=image_ending if shared else "",
        root=root,
    )
    if only is not None:
        image_files = {name: image_files[name] for name in image_files.keys() & only}
        mask_files = {name: mask_files[name] for name in mask_files.keys() & only}
    faults = {
        "names without an image": sorted(set(only or ()) - image_files.keys()),
        _NO_MASK: sorted(image_files.keys() - mask_files.keys()),
        _NO_IMAGE: sorted(mask_files.keys() - image_files.keys() - set(only or ())),
        "images of one name": _twice(image_folder, image_files),
        "masks of one name": _twice(mask_folder, mask_files),
    }
    names = sorted(image_files.keys() & mask_files.keys())
    return tuple(Pair(n, image_files[n][0], mask_files[n][0]) for n in names), faults


def _refuse(
    faults: Faults, file: Path, where: str, others: _Others, *, has_endings: bool = False
) -> None:
    told = [list_names(title, names) for title, names in faults.items() if names]
    ending = pair_hints.of_endings(faults.get(_NO_MASK, ()), faults.get(_NO_IMAGE, ()))
    hints = (ending if has_endings else "", others.hint, _case_hint(faults))
    error = DataError(
        "SEG-D014",
        "images and masks do not pair up",
        file=file,
        observed="; ".join([*told, others.told] if others.told else told),
        allowed=f"one mask for every image, by name, {where}",
        next_step=pair_hints.joined("add, rename or remove the files named", hints),
    )
    refuse(error)


def passed_over(folder: Path, suffixes: Sequence[str], root: Path | None = None) -> str:
    """Return ``4 files are passed over: 3 .bmp, 1 .txt`` of a folder; empty where there are none.

    Args:
        folder: where to look.
        suffixes: lower case; files with these are not passed over.
        root: as for `files_by_name`.
    """
    kinds = Counter(
        PurePosixPath(name).suffix.lower() or "no suffix"
        for lead, names in walk_files(folder, root)
        for name in names
        if not name.lower().endswith(tuple(suffixes)) and not (folder / lead / name).is_dir()
    )
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{kinds.total()} files are passed over: {told}" if kinds else ""


def list_names(title: str, names: Sequence[str]) -> str:
    """Return ``3 images without a mask: a, b, c``; beyond 100 names, how many more."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {title}: {', '.join(names[:_SHOWN])}{more}"


def files_by_name(
    folder: Path,
    suffixes: Sequence[str] = images.IMAGE_SUFFIXES,
    ending: str = "",
    *,
    not_ending: str = "",
    root: Path | None = None,
) -> dict[str, list[Path]]:
    """Return the files below a folder by relative path without suffix and `ending`.

    Args:
        folder: where to look, sub-folders included; see `walk_files`.
        suffixes: lower case.
        ending: what a stem must end with; it is no part of the name.
        not_ending: what a stem must not end with. Empty: anything will do.
        root: of the data set, which links to folders must not leave. None: `folder`.

    Raises:
        DataError: SEG-D013 the folder is missing; SEG-D042 a link leads out of the data set.
    """
    if not folder.is_dir():
        raise DataError(
            "SEG-D013",
            "not a folder" if folder.exists() else "no such folder",
            file=folder,
            next_step="check data.root, and data.options where the format has folder settings",
        )
    found: dict[str, list[Path]] = {}
    top = str(folder)
    for lead, names in walk_files(folder, root):
        for file in names:
            stem, _, suffix = file.rpartition(".")
            if f".{suffix.lower()}" not in suffixes:
                continue
            if stem.endswith(ending) and not (not_ending and stem.endswith(not_ending)):
                name = stem.removesuffix(ending)
                path = Path(top, lead, file)
                found.setdefault(f"{lead}/{name}" if lead else name, []).append(path)
    return dict(sorted(found.items()))


def _twice(folder: Path, files: dict[str, list[Path]]) -> list[str]:
    return [
        " and ".join(path.relative_to(folder).as_posix() for path in paths)
        for _, paths in sorted(files.items())
        if len(paths) > 1
    ]


def _case_hint(faults: Faults) -> str:
    lonely = faults.get(_NO_MASK, []) + faults.get(_NO_IMAGE, [])
    if len({name.casefold() for name in lonely}) < len(lonely):
        return "some names differ in upper and lower case only"
    return ""
