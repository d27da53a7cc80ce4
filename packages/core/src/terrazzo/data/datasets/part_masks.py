"""One binary mask a part of the image, each kind in a folder of its own.

    images/train/a.jpg          mask/Head-Masks/a.png
    images/test/b.jpg           mask/Midpiece-Masks/a.png      mask/Tail-Masks/a.png

The raw label is 0 where no part is, and 1, 2, 3 … for the parts in the order of ``parts``. A pixel
belongs to a part where its mask is above ``threshold``; where several are, to the one that comes
first in ``precedence``. Masks of train and test lie together, as in SCIAN-SpermSegGS.
Source: the layout of SCIAN-SpermSegGS (Chang and others, "Gold-standard and improved framework for
sperm head segmentation", Computer Methods and Programs in Biomedicine 2014) as segmentation
projects use it; parts and label map are settings, so other sets fit as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base.config_parsing import Frozen
from terrazzo.base.errors import DataError
from terrazzo.data.datasets import _split_draw
from terrazzo.data.datasets._faults import refuse
from terrazzo.data.datasets._paired_files import (
    PlaneChoice,
    at_planes,
    band_names_of,
    read_image_file,
)
from terrazzo.data.datasets._pairing import Pair, files_by_name, list_names
from terrazzo.data.datasets._split_draw import Draw
from terrazzo.data.sample import RawSample
from terrazzo.io import images
from terrazzo.io.pixels import ImagePixels
from terrazzo.io.raster_formats import RASTER_SUFFIXES

LABELS = "sperm_parts_4"

_IMAGES = (*images.IMAGE_SUFFIXES, *RASTER_SUFFIXES)


class Options(Frozen):
    """Which parts there are and how their masks make one label."""

    images: str = "images/{split}"
    """Folder of the images; ``{split}`` becomes train and test. Without it all are drawn."""
    masks: str = "mask/{part}-Masks"
    """Folder of the masks of a part."""
    parts: Annotated[tuple[str, ...], Field(min_length=1, max_length=254)] = (
        "Head",
        "Midpiece",
        "Tail",
    )
    """Raw values 1, 2, 3 … in this order."""
    precedence: tuple[str, ...] | None = None
    """Where masks overlap, the first of these wins. None: the order of `parts`."""
    threshold: Annotated[int, Field(ge=0, le=254)] = 16
    """A part is where its mask is above this; 16 is what users of SCIAN-SpermSegGS take."""
    lossy_masks: bool = False
    """Read JPEG masks as well: the threshold then decides along blurred edges."""
    plane: PlaneChoice = Field(default={})
    """Stacks of microscopes and DICOM: which plane is read, ``{ z = 3, t = 0 }``, counted from 0.
    Axes: ``z``, ``t``, ``frame`` of DICOM, and ``series``, the image of a file of several."""
    split: Draw = Draw(train=0.9, val=0.1, test=0)
    """See `Draw`; each image by itself unless it has a group."""
    split_file: str | None = None
    """``splits.json`` of a run: its draw takes the place of a new one."""

    @pydantic.model_validator(mode="after")
    def _precedence_of_the_parts(self) -> Options:
        if len(set(self.parts)) < len(self.parts):
            msg = "parts names a part twice"
            raise ValueError(msg)
        if self.precedence is not None and sorted(self.precedence) != sorted(self.parts):
            msg = f"precedence must order {', '.join(self.parts)}"
            raise ValueError(msg)
        return self

    def folders(self, root: Path) -> tuple[Path, ...]:
        """Return the mask folder of each part."""
        return tuple(root / self.masks.replace("{part}", part) for part in self.parts)


@dataclass(frozen=True)
class PartMasks:
    """A `Source` over images with one mask a part.

    Attributes:
        pairs: sorted by name; the mask is that of the first part.
        masks: by name, the mask of each part.
        band_names: C band names.
        options: threshold and precedence.
        notes: what was left out, for the person who runs it.
    """

    pairs: tuple[Pair, ...]
    masks: dict[str, tuple[Path, ...]]
    band_names: tuple[str, ...]
    options: Options
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """N names, sorted."""
        return tuple(pair.name for pair in self.pairs)

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the image file and the mask file of each part."""
        pair = self.pairs[index]
        return pair.image, *self.masks[pair.name]

    def read(self, index: int) -> RawSample:
        """Decode one image and make one label of its masks.

        Raises:
            DataError: as `read_image` and `images.read_label`; SEG-D002 a mask of two
                values, both below the threshold; SEG-D009 the masks differ in size.
        """
        pair = self.pairs[index]
        image_HWC, valid_HW, present_HWC = self.read_image(index)
        raw_label_HW = self.read_label(index)
        label_files = ", ".join(map(str, self.masks[pair.name]))
        return RawSample(
            pair.name,
            image_HWC,
            raw_label_HW,
            valid_HW,
            str(pair.image),
            label_files,
            present_HWC,
        )

    @property
    def is_cut_from_scenes(self) -> bool:
        """An image is a file."""
        return False

    def read_image(self, index: int, *, coarse: bool = False) -> ImagePixels:
        """Decode the image alone; see `read_image_file`."""
        return read_image_file(self.pairs[index].image, self.band_names, coarse=coarse)

    def read_label(self, index: int) -> NDArray[np.uint8]:
        """Make one label of the masks alone."""
        paths = self.masks[self.pairs[index].name]
        parts = [self._read_part(path) for path in paths]
        for path, part_HW in zip(paths, parts, strict=True):
            if part_HW.shape != parts[0].shape:
                raise _of_another_size(path, part_HW, paths[0], parts[0])
        raw_label_HW = np.zeros(parts[0].shape, np.uint8)
        for name in reversed(self.options.precedence or self.options.parts):
            number = self.options.parts.index(name)
            raw_label_HW[parts[number]] = number + 1
        return raw_label_HW

    def _read_part(self, path: Path) -> NDArray[np.bool_]:
        threshold = self.options.threshold
        values_HW = _read_mask(path, lossy=self.options.lossy_masks)
        highest = int(values_HW.max())
        if 0 < highest <= threshold and np.isin(values_HW, (0, highest)).all():
            raise DataError(
                "SEG-D002",
                "the part would be empty: no value of its mask is above the threshold",
                file=path,
                observed=f"values 0 and {highest}",
                allowed=f"above {threshold} where the part is",
                next_step=f"set data.options.threshold below {highest}",
            )
        above_HW: NDArray[np.bool_] = values_HW > threshold
        return above_HW


def open_split(root: Path, split: str, options: Options) -> PartMasks:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: SEG-X011, the group expression does not fit a name.
        DataError: see `_split_draw.divide`; SEG-D013 a folder is missing;
            SEG-D014 missing masks, masks
            without an image and names that occur twice, all in one message.
    """
    masks = [files_by_name(folder, root=root) for folder in options.folders(root)]
    in_parts = "{split}" in options.images
    folders = [root / options.images.replace("{split}", part) for part in ("train", "test")]
    image_files = [
        files_by_name(folder, _IMAGES, root=root)
        for folder in (folders if in_parts else folders[:1])
    ]
    _refuse_faults(root, options, image_files, masks)

    def part(number: int) -> tuple[Pair, ...]:
        found = sorted(image_files[number].items())
        there = tuple(
            Pair(name, paths[0], masks[0][name][0])
            for name, paths in found
            if all(name in by_name for by_name in masks)
        )
        return at_planes(there, options.plane)

    pairs, notes = _split_draw.divide(
        split,
        options.split,
        options.split_file,
        training=lambda: part(0),
        test=(lambda: part(1)) if in_parts else None,
    )
    of_images = {p.name: tuple(by_name[p.name][0] for by_name in masks) for p in pairs}
    band_names = band_names_of([pair.image for pair in pairs])
    return PartMasks(pairs, of_images, band_names, options, notes)


def _refuse_faults(
    root: Path,
    options: Options,
    image_files: list[dict[str, list[Path]]],
    masks: list[dict[str, list[Path]]],
) -> None:
    names = {name for by_name in image_files for name in by_name}
    faults = {
        "images of one name": _twice(root, image_files),
        "masks of one name": [each for by_name in masks for each in _twice(root, [by_name])],
    }
    for part, by_name in zip(options.parts, masks, strict=True):
        faults[f"images without a {part} mask"] = sorted(names - by_name.keys())
        faults[f"{part} masks without an image"] = sorted(by_name.keys() - names)
    if any(faults.values()):
        error = DataError(
            "SEG-D014",
            "images and masks do not pair up",
            file=root,
            observed="; ".join(list_names(title, n) for title, n in faults.items() if n),
            allowed=f"one mask of each part ({', '.join(options.parts)}) for every image, by name",
            next_step="add, rename or remove the files named",
        )
        refuse(error)


def _twice(root: Path, folders: list[dict[str, list[Path]]]) -> list[str]:
    paths: dict[str, list[Path]] = {}
    for by_name in folders:
        for name, found in by_name.items():
            paths.setdefault(name, []).extend(found)
    return [
        " and ".join(path.relative_to(root).as_posix() for path in found)
        for _, found in sorted(paths.items())
        if len(found) > 1
    ]


def _read_mask(path: Path, *, lossy: bool) -> NDArray[Any]:
    """Return H×W values of a mask."""
    if not lossy:
        return images.read_label(path, "index")
    values_HWC = images.read_image(path)
    if values_HWC.shape[2] != 1 and np.ptp(values_HWC, axis=2).any():
        raise DataError(
            "SEG-D007",
            "the mask of a part must be grey",
            file=path,
            observed="colours",
            allowed="one band, or three alike",
            next_step="export the mask with one band",
        )
    return values_HWC[..., 0]


def _of_another_size(
    path: Path, mask_HW: NDArray[Any], first: Path, first_HW: NDArray[Any]
) -> DataError:
    size, wanted = mask_HW.shape, first_HW.shape
    return DataError(
        "SEG-D009",
        "the masks of one image differ in size",
        file=path,
        observed=f"{size[0]}×{size[1]} (rows×columns), {wanted[0]}×{wanted[1]} in {first}",
        allowed="the same rows and columns",
        next_step="export the mask again at the size of its image",
    )
