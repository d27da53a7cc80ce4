"""Images, ground truth and the prediction of every run side by side, as papers print them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from terrazzo.comparison.compare import Comparison
from terrazzo.evaluation.stored import ExampleFiles
from terrazzo.io import images
from terrazzo.report import figure_files
from terrazzo.report.palettes import FILE_PALETTE

MAX_EXAMPLES = 6
"""Rows of the grid: the images that differ most between runs come first."""
_LONGEST_SIDE = 600
"""Pixels of an image in the figure."""
_COLUMN_INCHES = 1.5
_GAP = 0.04


def draw(comparison: Comparison) -> Figure | None:
    """Draw the grid, an image a row; None where the runs have stored no image in common."""
    rows = chosen(comparison)
    if not rows:
        return None
    titles = ["Image", "Ground truth", *(run.name for run in comparison.competitors)]
    pictures = [_pictures(row) for row in rows]
    heights = [picture[1].shape[0] / picture[1].shape[1] for picture in pictures]
    figure = Figure(figsize=(_COLUMN_INCHES * len(titles), _COLUMN_INCHES * sum(heights) + 0.3))
    figure.subplots_adjust(left=0, right=1, bottom=0, top=0.95, wspace=_GAP, hspace=_GAP)
    axes_grid = figure.subplots(
        len(rows), len(titles), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for line, picture in zip(axes_grid, pictures, strict=True):
        for axes, pixels_HWC in zip(line, picture, strict=True):
            axes.imshow(pixels_HWC, interpolation="none", aspect="auto")
            axes.set_axis_off()
    for axes, title in zip(axes_grid[0], titles, strict=True):
        axes.set_title(figure_files.plain(title), size=8, color=FILE_PALETTE.text, pad=3)
    return figure


def chosen(comparison: Comparison) -> list[tuple[ExampleFiles, ...]]:
    """Return the stored files of the images of the grid, in all runs, largest differences first."""
    stored = [{each.name: each for each in run.scored.examples} for run in comparison.competitors]
    spread = {
        name: float(np.ptp(iou_R)) if np.isfinite(iou_R).all() else -1.0
        for name, iou_R in zip(comparison.images, comparison.image_iou_NR, strict=True)
    }
    shared = [name for name in stored[0] if all(name in each for each in stored)]
    shared.sort(key=lambda name: (-spread.get(name, -1.0), name))
    return [tuple(each[name] for each in stored) for name in shared[:MAX_EXAMPLES]]


def _pictures(files: Sequence[ExampleFiles]) -> list[NDArray[np.uint8]]:
    truth = Image.fromarray(images.read_image(files[0].truth))
    factor = min(1.0, _LONGEST_SIDE / max(truth.size))
    size = (max(1, round(truth.width * factor)), max(1, round(truth.height * factor)))
    image = Image.fromarray(images.read_image(files[0].image))
    # Mixed class colours would be colours of no class, or of another one.
    labels = [truth, *(Image.fromarray(images.read_image(each.prediction)) for each in files)]
    return [
        np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX)),
        *(
            np.asarray(label.convert("RGB").resize(size, Image.Resampling.NEAREST))
            for label in labels
        ),
    ]
