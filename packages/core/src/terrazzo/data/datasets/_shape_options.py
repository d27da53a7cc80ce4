"""Options of formats whose labels are shapes in the files of labelling tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from terrazzo.base.config_parsing import Frozen
from terrazzo.data.datasets._paired_files import PlaneChoice
from terrazzo.data.datasets._split_draw import SPLITS, Draw, SplitName

MOST_CLASSES = 65534

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
    """Lines and points: their width in pixels. None: that of the file, as ImageJ's lines have;
    those without one are refused."""
    plane: PlaneChoice = Field(default={})
    """Stacks of microscopes and DICOM: which plane is read, ``{ z = 3, t = 0 }``, counted from 0.
    Axes: ``z``, ``t``, ``frame`` of DICOM, and ``series``, the image of a file of several."""
    split_words: dict[SplitName, Annotated[str, Field(min_length=1)]] = Field(default={})
    """What ``{split}`` is in the paths of each split, where it is not train, val and test:
    ``{ train = "train", val = "valid" }``. A split that is left out is drawn: `split`."""
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
        if self.split_words:
            self._check_words()
        elif self.by_split == (self.split is not None):
            msg = "give one way to split: {split} in a path, or split"
            raise ValueError(msg)
        return self

    def _check_words(self) -> None:
        if not self.by_split:
            msg = "split_words say what {split} is in a path, and no path holds it"
            raise ValueError(msg)
        if "train" not in self.split_words:
            msg = "split_words name no train split"
            raise ValueError(msg)
        if self.split is None and len(self.split_words) < len(SPLITS):
            msg = "split_words name fewer than three splits: split says what the others are, as in "
            msg += (
                "split = { train = 0.9, val = 0, test = 0.1 }, where 0 keeps the one that is named"
            )
            raise ValueError(msg)

    @property
    def by_split(self) -> bool:
        """Whether each split has paths of its own."""
        return "{split}" in self.images + self.annotations


def _default_draw(given: dict[str, Any]) -> Draw | None:
    by_split = "{split}" in given.get("images", "") + given.get("annotations", "")
    return None if by_split else Draw(train=0.8, val=0.1, test=0.1)


class PerImageOptions(ShapeOptions):
    """Options of formats with one file of shapes an image."""

    annotation_suffix: str = ""
    """What the stems of annotation files have beyond the name of the image."""
    image_suffix: str = ""
    """What the stems of images have beyond the name."""
    unannotated: Literal["refuse", "leave_out"] = "refuse"
    """Images without a file of shapes: refused, or left out and counted."""


def as_toml(names: Sequence[str]) -> str:
    """Return the option `classes` as a recipe holds it."""
    quoted = ('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)
    return f"classes = [{', '.join(quoted)}]"
