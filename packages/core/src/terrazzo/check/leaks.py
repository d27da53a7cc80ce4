"""One picture in two splits: a score on what was trained on says nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from terrazzo.check.facts import THUMBNAIL
from terrazzo.check.finding import Finding, Level
from terrazzo.check.survey import Picture, Survey
from terrazzo.errors import DataError

_ALIKE = 0.995
"""Correlation of two thumbnails above which the pictures are taken for one."""
_BLOCK = 2048  # thumbnails compared at once


def find(survey: Survey) -> Iterator[Finding]:
    """Yield pictures that are equal, or nearly, turned and mirrored ones included.

    Thumbnails find the candidates; that two pictures are equal is decided by their pixels.
    """
    pictures = [p for p in survey.pictures if p.image is not None and p.image.thumbnail]
    if len(pictures) < 2:
        return
    thumbnails_NP = _normalised(pictures)
    split_N = np.array([p.split for p in pictures])
    for one, other, correlation in _candidates(thumbnails_NP, split_N):
        first, second = pictures[one], pictures[other]
        if _equal(survey, first, second):
            yield _same(first, second)
        elif first.split != second.split:
            yield _near(first, second, correlation)


def _normalised(pictures: list[Picture]) -> NDArray[np.float32]:
    """Return N×P thumbnails of mean 0 and length 1."""
    rows = [np.frombuffer(bytes.fromhex(p.image.thumbnail), np.uint8) for p in pictures if p.image]
    values_NP = np.array(rows, np.float32)
    values_NP -= values_NP.mean(axis=1, keepdims=True)
    values_NP /= np.linalg.norm(values_NP, axis=1, keepdims=True)
    return values_NP


def _candidates(
    thumbnails_NP: NDArray[np.float32], split_N: NDArray[np.str_]
) -> Iterator[tuple[int, int, float]]:
    """Yield pairs that are alike in one of the eight positions, with their correlation.

    Within a split only pairs alike as they lie: neighbours in a film are no fault there.
    """
    square_NHW = thumbnails_NP.reshape(-1, THUMBNAIL, THUMBNAIL)
    views = [np.rot90(v, k, (1, 2)) for v in (square_NHW, square_NHW[:, :, ::-1]) for k in range(4)]
    turned_VNP = [np.ascontiguousarray(view).reshape(len(thumbnails_NP), -1) for view in views]
    for top in range(0, len(thumbnails_NP), _BLOCK):
        for left in range(top, len(thumbnails_NP), _BLOCK):
            rows, columns = slice(top, top + _BLOCK), slice(left, left + _BLOCK)
            straight = thumbnails_NP[rows] @ turned_VNP[0][columns].T
            best = straight.copy()
            for turned_NP in turned_VNP[1:]:
                np.maximum(best, thumbnails_NP[rows] @ turned_NP[columns].T, out=best)
            across = split_N[rows][:, None] != split_N[columns][None]
            alike = np.where(across, best > _ALIKE, straight > 1 - 1e-5)
            for row, column in np.argwhere(alike).tolist():
                if top + row < left + column:
                    yield top + row, left + column, float(best[row, column])


def _equal(survey: Survey, first: Picture, second: Picture) -> bool:
    if first.image is None or second.image is None:
        return False
    if first.files[0] == second.files[0] or first.image.thumbnail != second.image.thumbnail:
        return False
    try:
        one_HWC, _ = survey.sources[first.split].read_image(first.index)
        other_HWC, _ = survey.sources[second.split].read_image(second.index)
    except DataError:  # it has changed since
        return False
    return bool(np.array_equal(one_HWC, other_HWC))


def _same(first: Picture, second: Picture) -> Finding:
    within = first.split == second.split
    return Finding(
        Level.NOTE if within else Level.ERROR,
        "SEG-D015",
        "the same picture twice in one split" if within else "the same picture is in two splits",
        second.image_file,
        f"equal, pixel for pixel, to {first.image_file} ({first.split} and {second.split})",
        "each picture once",
        "remove one of them"
        if within
        else "remove it from one of them; a score on pictures that were trained on says nothing",
    )


def _near(first: Picture, second: Picture, correlation: float) -> Finding:
    return Finding(
        Level.WARNING,
        "SEG-D039",
        "nearly the same picture is in two splits",
        second.image_file,
        f"correlation {correlation:.4f} with {first.image_file} ({first.split} and "
        f"{second.split}), turned and mirrored views included",
        f"below {_ALIKE}",
        "look at both: a copy in other quality, an augmented copy or the next frame of a film; "
        "keep them in one split with data.options.split.group",
    )
