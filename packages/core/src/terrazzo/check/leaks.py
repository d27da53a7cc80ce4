"""One image in two splits: a score on what was trained on says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.check.file_statistics import THUMBNAIL
from terrazzo.check.finding import Finding, Level
from terrazzo.check.scan import ScannedImage, Survey

_ALIKE = 0.995
"""Correlation of two careful thumbnails above which the images are taken for one."""
_EQUAL = 0.9999
"""Correlation of two careful thumbnails above which all pixels are compared."""
_WORTH_A_LOOK = 0.96
"""Correlation of two quick thumbnails above which careful ones are made."""
_CAREFUL = 32  # rows and columns of a careful thumbnail
_BLOCK = 2048  # thumbnails compared at once


def find(survey: Survey) -> Iterator[Finding]:
    """Yield images that are equal, or nearly, turned and mirrored ones included.

    Thumbnails find the candidates; that two images are equal is decided by their pixels.
    """
    scanned_images = [p for p in survey.scanned_images if p.image is not None and p.image.thumbnail]
    if len(scanned_images) < 2:
        return
    thumbnails_NP = _normalised(scanned_images)
    careful = _Careful(survey)
    for one, other in _candidates(scanned_images, thumbnails_NP):
        first, second = scanned_images[one], scanned_images[other]
        correlation = careful.correlation(first, second)
        if correlation > _EQUAL and _equal(survey, first, second):
            yield _same(first, second)
        elif first.split != second.split and correlation > _ALIKE:
            yield _near(first, second, correlation)


def _normalised(scanned_images: list[ScannedImage]) -> NDArray[np.float32]:
    """Return N×P thumbnails of mean 0 and length 1."""
    rows = [
        np.frombuffer(bytes.fromhex(p.image.thumbnail), np.uint8) for p in scanned_images if p.image
    ]
    return _unit(np.array(rows, np.float32))


def _unit(values_NP: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring each row to mean 0 and length 1, so that a product of two is their correlation."""
    values_NP = values_NP - values_NP.mean(axis=1, keepdims=True)
    lengths_N = np.linalg.norm(values_NP, axis=1, keepdims=True)
    return np.asarray(values_NP / np.maximum(lengths_N, 1e-12), np.float32)


def _positions(square_NHW: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return N×P in the eight ways a square may lie; the first is as it is."""
    views = [np.rot90(v, k, (1, 2)) for v in (square_NHW, square_NHW[:, :, ::-1]) for k in range(4)]
    return [np.ascontiguousarray(view).reshape(len(square_NHW), -1) for view in views]


@dataclass
class _Careful:
    """Thumbnails averaged over every pixel, made for images that are worth a second look."""

    survey: Survey
    known: dict[tuple[str, int], NDArray[np.float32]] = field(default_factory=dict)

    def correlation(self, first: ScannedImage, second: ScannedImage) -> float:
        """Return the correlation of two images in the position where they are most alike."""
        one_1P, other_1P = self._of(first), self._of(second)
        square_1HW = other_1P.reshape(1, _CAREFUL, _CAREFUL)
        return max(float((one_1P @ turned_1P.T).item()) for turned_1P in _positions(square_1HW))

    def _of(self, scanned: ScannedImage) -> NDArray[np.float32]:
        if scanned.key not in self.known:
            try:
                image_HWC = self.survey.sources[scanned.split].read_image(scanned.index).image_HWC
            except DataError:  # it has changed since: alike to nothing
                image_HWC = np.zeros((_CAREFUL, _CAREFUL, 1), np.uint8)
            grey_HW = image_HWC[..., :3].astype(np.float32).mean(axis=2)
            small_HW = cv2.resize(grey_HW, (_CAREFUL, _CAREFUL), interpolation=cv2.INTER_AREA)
            self.known[scanned.key] = _unit(small_HW.reshape(1, -1))
        return self.known[scanned.key]


def _candidates(
    scanned_images: list[ScannedImage], thumbnails_NP: NDArray[np.float32]
) -> Iterator[tuple[int, int]]:
    """Yield pairs of one thumbnail in one split, and pairs alike in any position across splits.

    Neighbours in a film are no fault within a split.
    """
    by_split: dict[str, list[int]] = {}
    by_thumbnail: dict[tuple[str, bytes], list[int]] = {}
    for number, scanned in enumerate(scanned_images):
        by_split.setdefault(scanned.split, []).append(number)
        same = by_thumbnail.setdefault((scanned.split, thumbnails_NP[number].tobytes()), [])
        if same:
            yield same[0], number
        same.append(number)
    for some, others in combinations(by_split.values(), 2):
        turned_VNP = _positions(thumbnails_NP[others].reshape(-1, THUMBNAIL, THUMBNAIL))
        for top in range(0, len(some), _BLOCK):
            block_NP = thumbnails_NP[some[top : top + _BLOCK]]
            for left in range(0, len(others), _BLOCK):
                best = block_NP @ turned_VNP[0][left : left + _BLOCK].T
                for turned_NP in turned_VNP[1:]:
                    np.maximum(best, block_NP @ turned_NP[left : left + _BLOCK].T, out=best)
                for row, column in np.argwhere(best > _WORTH_A_LOOK).tolist():
                    yield some[top + row], others[left + column]


def _equal(survey: Survey, first: ScannedImage, second: ScannedImage) -> bool:
    if first.files[0] == second.files[0]:
        return False
    try:
        one_HWC = survey.sources[first.split].read_image(first.index).image_HWC
        other_HWC = survey.sources[second.split].read_image(second.index).image_HWC
    except DataError:  # it has changed since
        return False
    return bool(np.array_equal(one_HWC, other_HWC))


def _same(first: ScannedImage, second: ScannedImage) -> Finding:
    within = first.split == second.split
    return Finding(
        Level.NOTE if within else Level.ERROR,
        "SEG-D015",
        "the same image twice in one split" if within else "the same image is in two splits",
        second.image_file,
        f"equal, pixel for pixel, to {first.image_file} ({first.split} and {second.split})"
        f"{_places(first, second)}",
        "each image once",
        "remove one of them"
        if within
        else "remove it from one of them; a score on images that were trained on says nothing",
    )


def _places(first: ScannedImage, second: ScannedImage) -> str:
    """Say where both lie in their scenes, the one the finding is about first."""
    return f"{second.place}{first.place.replace('; chip', '; the other is chip', 1)}"


def _near(first: ScannedImage, second: ScannedImage, correlation: float) -> Finding:
    return Finding(
        Level.WARNING,
        "SEG-D039",
        "nearly the same image is in two splits",
        second.image_file,
        f"correlation {correlation:.4f} with {first.image_file} ({first.split} and "
        f"{second.split}), turned and mirrored views included{_places(first, second)}",
        f"below {_ALIKE}",
        "look at both: a copy in other quality, an augmented copy or the next frame of a film; "
        "keep them in one split with data.options.split.group",
    )
