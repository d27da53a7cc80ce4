"""How classes are spread over pixels, images and splits, and what that means for training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terrazzo.check.finding import Finding, Level
from terrazzo.check.scan import ScannedImage, Survey
from terrazzo.data import datasets
from terrazzo.data.class_weights import weights_of_counts
from terrazzo.data.labels import LabelMap


@dataclass(frozen=True)
class Coverage:
    """Pixels of each class in each image.

    Attributes:
        splits: N names of splits.
        pixels_NK: int64, raw values mapped to train ids.
        ignored_N: int64, pixels that teach and score nothing.
    """

    splits: tuple[str, ...]
    pixels_NK: NDArray[np.int64]
    ignored_N: NDArray[np.int64]

    def of(self, split: str) -> NDArray[np.int64]:
        """Return pixels N×K of one split."""
        chosen: NDArray[np.int64] = self.pixels_NK[[name == split for name in self.splits]]
        return chosen

    def ignored_share(self, split: str) -> float:
        """Return the share of ignored pixels among those of one split."""
        ignored = int(self.ignored_N[[name == split for name in self.splits]].sum())
        return ignored / max(ignored + int(self.of(split).sum()), 1)


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class in the report.

    Attributes:
        name: of the class.
        pixel_share: of the pixels of all splits that are not ignored.
        image_share: of the images that hold it, by split.
        weight: suggested for the loss: median of the shares / share in the training split; 0 where
            it has none.
    """

    name: str
    pixel_share: float
    image_share: dict[str, float]
    weight: float


def count(survey: Survey) -> Coverage | None:
    """Map the counted raw values to train ids; None where there is no label map or no label."""
    label_map = survey.label_map
    usable = [p for p in survey.scanned_images if p.label is not None and _fits(p, label_map)]
    if label_map is None or not usable:
        return None
    train_id = {code: k for k, each in enumerate(label_map.classes) for code in each.raw}
    pixels_NK = np.zeros((len(usable), len(label_map)), np.int64)
    ignored_N = np.zeros(len(usable), np.int64)
    for row, scanned in enumerate(usable):
        assert scanned.label is not None
        ignored_N[row] = scanned.label.unlabelled
        for value, pixels in scanned.label.counts.items():
            if value in train_id:
                pixels_NK[row, train_id[value]] += pixels
            elif value in label_map.ignored:
                ignored_N[row] += pixels
    return Coverage(tuple(p.split for p in usable), pixels_NK, ignored_N)


def _fits(scanned: ScannedImage, label_map: LabelMap | None) -> bool:
    return (
        label_map is not None
        and scanned.label is not None
        and scanned.label.colours == label_map.colour_coded
    )


def table(coverage: Coverage, label_map: LabelMap) -> tuple[ClassRow, ...]:
    """Return one row a class, with a suggested weight for the loss."""
    total = max(int(coverage.pixels_NK.sum()), 1)
    weights_K = weights_of_counts(coverage.of("train"), "median_frequency")
    shares = {
        split: (coverage.of(split) > 0).mean(axis=0)
        for split in datasets.SPLITS
        if split in coverage.splits
    }
    return tuple(
        ClassRow(
            name,
            float(coverage.pixels_NK[:, k].sum() / total),
            {split: float(share_K[k]) for split, share_K in shares.items()},
            weights_K[k],
        )
        for k, name in enumerate(label_map.names)
    )


def find(survey: Survey, coverage: Coverage | None) -> Iterator[Finding]:
    """Yield masks that teach nothing, and classes that a split does not have."""
    if coverage is None or survey.label_map is None:
        return
    yield from _all_ignored(survey, survey.label_map)
    yield from _nothing_to_score(survey, coverage)
    yield from _one_class(survey, coverage, survey.label_map)
    yield from _absent(survey, coverage, survey.label_map)


def _all_ignored(survey: Survey, label_map: LabelMap) -> Iterator[Finding]:
    ignored = set(label_map.ignored)
    labelled = [p for p in survey.scanned_images if _fits(p, label_map)]
    empty = [p for p in labelled if p.label is not None and p.label.counts.keys() <= ignored]
    level = Level.ERROR if len(empty) == len(labelled) else Level.WARNING
    for scanned in empty:
        assert scanned.label is not None
        values = ", ".join(map(label_map.raw_text, scanned.label.counts)) or "no pixel with data"
        yield Finding(
            level,
            "SEG-D017",
            "every pixel of the mask is ignored: it teaches and scores nothing",
            scanned.label_file,
            f"values {values}{scanned.place}",
            "at least one pixel of a class",
            "leave the image out, or label it",
        )


def _nothing_to_score(survey: Survey, coverage: Coverage) -> Iterator[Finding]:
    """Yield splits that cannot teach, or cannot choose between epochs."""
    if not coverage.pixels_NK.any():
        return  # said of every mask
    for split in ("train", "val"):
        count = coverage.splits.count(split)
        unread = sum(scanned.split == split for scanned in survey.scanned_images) - count
        if count and not unread and not coverage.of(split).any():
            yield Finding(
                Level.ERROR,
                "SEG-D044",
                f"the split {split!r} holds no labelled pixel",
                survey.data.root,
                f"every pixel is ignored in all {count} masks",
                "at least one pixel of a class",
                "draw the splits otherwise, or label some of its images",
            )


def _one_class(survey: Survey, coverage: Coverage, label_map: LabelMap) -> Iterator[Finding]:
    """Yield a task without a choice: whatever the model says, its score is 1."""
    present_K = coverage.pixels_NK.any(axis=0)
    ignored = int(coverage.ignored_N.sum())
    if present_K.sum() == 1 and (ignored or len(label_map) == 1):
        share = ignored / (ignored + int(coverage.pixels_NK.sum()))
        yield Finding(
            Level.ERROR,
            "SEG-D043",
            "one class holds every labelled pixel, so there is nothing to tell it from",
            survey.data.root,
            f"{label_map.names[int(present_K.argmax())]!r} in all labelled pixels; {share:.1%} of "
            "all pixels are ignored",
            "at least two classes with pixels",
            "make the background a class of the label map rather than ignoring it",
        )


def _absent(survey: Survey, coverage: Coverage, label_map: LabelMap) -> Iterator[Finding]:
    """Yield the classes a split does not have, in one finding for each set of splits."""
    names: dict[tuple[str, ...], list[str]] = {}
    splits = tuple(dict.fromkeys(coverage.splits))
    for k, name in enumerate(label_map.names):
        lacking = tuple(split for split in splits if not coverage.of(split)[:, k].any())
        if lacking:
            names.setdefault(lacking, []).append(name)
    for lacking, absent in names.items():
        nowhere = lacking == splits
        # Scored but never taught is the case worth a warning; the others cost a row in a table.
        untaught = "train" in lacking and not nowhere
        yield Finding(
            Level.WARNING if untaught else Level.NOTE,
            "SEG-D037",
            "classes are in no mask" if nowhere else "classes are absent from a split",
            survey.data.root,
            f"0 pixels in {', '.join(lacking)}: {', '.join(absent)}",
            "every class in every split",
            "their IoU will be reported as absent, and means are over the classes present; draw "
            "the splits otherwise or label more images",
        )
