"""Read pairs of an image file and a mask file: the part that most formats share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base.errors import DataError
from terrazzo.data import instance_masks
from terrazzo.data.band_names import contradict
from terrazzo.data.datasets._faults import is_noting
from terrazzo.data.datasets._guessed_alpha import refuse_guessed_alpha
from terrazzo.data.datasets._pairing import Pair
from terrazzo.data.sample import RawSample
from terrazzo.io import images
from terrazzo.io.pixels import AS_STORED, ImagePixels, ReadingRules
from terrazzo.io.raster_formats import at_plane, is_raster

if TYPE_CHECKING:
    from terrazzo.io.rasters import Part

RGB = ("red", "green", "blue")

MaskKind = Literal["index", "colour", "instance"]
"""What the pixels of masks hold: class indices, colours, or numbers of objects of one class."""

_BAND_NAMES = {1: ("grey",), 3: RGB}


PlaneChoice = dict[Literal["z", "t", "frame", "series"], Annotated[int, Field(ge=0)]]
"""Positions on the axes of `raster_formats.PLANE_AXES`, from 0."""


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
