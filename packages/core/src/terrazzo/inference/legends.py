"""What the colours of a map mean, drawn for people and written down for programs."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from terrazzo.base import printable
from terrazzo.base.atomic_write import replacing
from terrazzo.base.disk_errors import unreadable, writing
from terrazzo.base.errors import CheckpointError
from terrazzo.data.labels import LabelMap
from terrazzo.io import images

IMAGE, TABLE = "legend.png", "classes.json"
"""Names of the files, once in a folder of maps."""

_LEGEND_WIDTH = 480
_FILL = 0.5  # share of the class colours in an overlay
_PIXELS_PER_LINE = 700  # of the longer side of an image, for each pixel of a contour's width


def overlay(
    image_HWC: NDArray[np.uint8],
    labels_HW: NDArray[np.integer],
    label_map: LabelMap,
    *,
    contours: bool = False,
) -> NDArray[np.uint8]:
    """Draw a map on its image, with a legend of the classes that occur below it.

    Args:
        image_HWC: red, green, blue.
        labels_HW: train ids.
        label_map: K classes.
        contours: draw the borders of the areas alone, in the colours at both sides, so that the
            image can be seen.

    Returns:
        H'×W'×3 uint8: the image is its upper left part.
    """
    colours_HWC = label_map.colourise(labels_HW)
    if contours:
        drawn_HWC = image_HWC.copy()
        border_HW = borders(labels_HW)
        drawn_HWC[border_HW] = colours_HWC[border_HW]
    else:
        drawn_HWC = cv2.addWeighted(image_HWC, 1 - _FILL, colours_HWC, _FILL, 0)
    height, width = labels_HW.shape
    present = [k for k in np.unique(labels_HW).tolist() if k < len(label_map)]
    below_HWC = panel(label_map, present, width)
    canvas_HWC = np.full((height + len(below_HWC), below_HWC.shape[1], 3), 255, np.uint8)
    canvas_HWC[:height, :width] = drawn_HWC
    canvas_HWC[height:] = below_HWC
    return canvas_HWC


def borders(labels_HW: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return where a pixel of another class is near.

    Args:
        labels_HW: uint8 or uint16, any numbers of classes.
    """
    side = 2 * max(1, round(max(labels_HW.shape) / _PIXELS_PER_LINE)) + 1
    square = np.ones((side, side), np.uint8)
    differs_HW: NDArray[np.bool_] = cv2.dilate(labels_HW, square) != cv2.erode(labels_HW, square)
    return differs_HW


def panel(label_map: LabelMap, train_ids: Sequence[int], width: int) -> NDArray[np.uint8]:
    """Draw colour and name of classes side by side, in as many rows as they need.

    Args:
        label_map: K classes.
        train_ids: of the classes to show.
        width: in pixels; the panel is wider where a name does not fit.

    Returns:
        H×W×3 uint8, black on white.
    """
    size = min(max(11, width // 45), 40)
    font, gap, line = _font(size), size // 2, round(size * 1.6)
    names = [printable.one_line(label_map.names[k]) for k in train_ids]
    widths = [size + gap + round(font.getlength(name)) + 2 * gap for name in names]
    width = max([width, *(each + gap for each in widths)])
    places, x, y = [], gap, gap
    for each in widths:
        if x > gap and x + each > width:
            x, y = gap, y + line
        places.append((x, y))
        x += each
    image = Image.new("RGB", (width, y + line if places else 0), "white")
    draw = ImageDraw.Draw(image)
    for k, name, (left, top) in zip(train_ids, names, places, strict=True):
        box = (left, top, left + size, top + size)
        draw.rectangle(box, fill=label_map.classes[k].colour, outline="black")
        draw.text((left + size + gap, top + size // 2), name, fill="black", font=font, anchor="lm")
    return np.asarray(image)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return DejaVu Sans, which comes with matplotlib and has letters of most alphabets."""
    package = importlib.util.find_spec("matplotlib")
    for folder in () if package is None else package.submodule_search_locations or ():
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(file, size)
    return ImageFont.load_default(size)


def files(folder: Path) -> tuple[Path, Path]:
    """Return the legend as an image and as a table, for the maps in a folder."""
    return folder / IMAGE, folder / TABLE


def table(label_map: LabelMap, *, raw_values: bool = False) -> bytes:
    """Return the classes as JSON: value on the map, name, colour and raw values of each."""
    classes = [
        {
            "value": _value(label_map, k, raw_values=raw_values),
            "name": each.name,
            "colour": each.colour,
            "raw": [label_map.raw_text(code) for code in each.raw],
        }
        for k, each in enumerate(label_map.classes)
    ]
    text = json.dumps({"label_map": label_map.name, "classes": classes}, indent=1)
    return f"{text}\n".encode()


def _value(label_map: LabelMap, train_id: int, *, raw_values: bool) -> int | str:
    """Return what the maps hold for a class: a number, or a colour where these are the values."""
    if not raw_values:
        return train_id
    raw = label_map.classes[train_id].raw[0]
    return label_map.raw_text(raw) if label_map.colour_coded else raw


def prepare(folder: Path, label_map: LabelMap, *, raw_values: bool, overwrite: bool) -> None:
    """Refuse a folder whose maps are of other classes, or have other values for them.

    Where they may be replaced, the files go that tell of them: a killed prediction leaves none that
    are wrong.

    Raises:
        CheckpointError: SEG-C002.
        ResourceError: SEG-R004, the files cannot be deleted; SEG-R030, the table cannot be read.
    """
    if overwrite:
        for path in files(folder):
            with writing(path):
                path.unlink(missing_ok=True)
    path = files(folder)[1]
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(path, error) from error
    if found != table(label_map, raw_values=raw_values):
        raise CheckpointError(
            "SEG-C002",
            "the folder holds maps of other classes, or of other values for them",
            file=path,
            observed="another table of classes than that of this prediction",
            next_step="--out takes another folder, --overwrite replaces what is there",
        )


def write(folder: Path, label_map: LabelMap, *, raw_values: bool = False) -> None:
    """Write `files` of a folder of maps.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    image, classes = files(folder)
    legend_HWC = np.concatenate(list(_lines(label_map)))
    images.write_png(image, legend_HWC)
    with replacing(classes) as temporary:
        temporary.write_bytes(table(label_map, raw_values=raw_values))


def _lines(label_map: LabelMap) -> Iterable[NDArray[np.uint8]]:
    panels = [panel(label_map, [k], _LEGEND_WIDTH) for k in range(len(label_map))]
    widest = max(each.shape[1] for each in panels)
    for each in panels:
        fill = ((0, 0), (0, widest - each.shape[1]), (0, 0))
        yield np.pad(each, fill, constant_values=255)
