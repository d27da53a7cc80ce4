"""Labels that are probably wrong: regions where a trained model is sure of another class.

A region labelled i is doubted where the model prefers j ≠ i with a mean probability that comes
close to the one it gives to j where j is the label: the threshold of confident learning (Northcutt,
Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021,
section 3.1), applied to connected pixels instead of images. Single pixels are borders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.base.progress import Progress
from terrazzo.check import proposed_labels
from terrazzo.check.finding import Finding, Level
from terrazzo.check.proposed_labels import Correction
from terrazzo.check.scan import ScannedImage, Survey
from terrazzo.data import datasets
from terrazzo.data.datasets import Split
from terrazzo.data.labels import LabelMap
from terrazzo.data.model_input import as_seen
from terrazzo.data.sample import Sample
from terrazzo.data.scene_placement import pixel_text
from terrazzo.io.pixels import ImagePixels
from terrazzo.models import compatibility, radiometry
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Trainer
from terrazzo.models.probabilities import planes_at_size
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder

_MOST = 50  # regions reported: what a person may look at
_BEHIND_THRESHOLDS = 200  # images, evenly spaced
_LEAST_AREA = 64  # pixels, or a thousandth of the image: less is a border
_LEAST_CONFIDENCE = 0.5
_CLOSE = 0.9  # of the threshold, which is a mean: half of all right regions lie below it


@dataclass(frozen=True, slots=True)
class _Region:
    """Pixels side by side that are labelled `given` and predicted `predicted`."""

    scanned: ScannedImage
    area: int
    row: int
    column: int
    given: int
    predicted: int
    confidence: float

    @property
    def weight(self) -> float:
        return self.area * self.confidence

    @property
    def key(self) -> tuple[int, ...]:
        """What tells it from the other regions of its image."""
        return self.area, self.row, self.column, self.given, self.predicted


@dataclass(frozen=True)
class _Model:
    """A trained model and the data it is asked about."""

    trainer: Trainer
    card: ModelCard
    splits: dict[str, Split]

    def read(self, scanned: ScannedImage) -> tuple[Sample, NDArray[np.float32]] | None:
        """Return a sample and its probabilities H×W×K; None where it cannot be read."""
        try:
            sample = self.splits[scanned.split].read(scanned.index)
        except DataError:  # in the report already
            return None
        pixels = ImagePixels(sample.image_HWC, None, sample.present_HWC)
        image_HWC = as_seen(pixels, self.card.image_size, self.card.bands)
        probabilities_HWK = self.trainer.predict(image_HWC[None])[0]
        planes = planes_at_size(probabilities_HWK, sample.label_HW.shape)
        return sample, np.stack(list(planes), axis=2)


def find(
    survey: Survey, run: Path, progress: Progress, corrections: Path | None = None
) -> list[Finding]:
    """Return what the model of a run doubts: images unlike its own, then regions, surest first.

    Args:
        survey: of the data.
        run: a finished run.
        progress: told after every image.
        corrections: an empty folder for masks of what the model proposes, see `proposed_labels`;
            None: none are written.

    Raises:
        CheckpointError: `run` is no finished run; SEG-D036 it has other classes.
        DataError: the images are not of the kind its model was trained on.
    """
    folder = RunFolder(run).model
    card = saved_model.read_card(folder, progress.say)
    if survey.label_map is None:
        return []
    compatibility.require_same_labels(card.label_map, survey.label_map, folder)
    splits = {
        name: Split(name, source, survey.label_map, len(source.names))
        for name, source in survey.sources.items()
    }
    for split in splits.values():
        compatibility.require_known_pixels(
            card,
            compatibility.pixels_of_split(split, datasets.reading_rules(survey.data, split.source)),
        )
    unlike = [each for split in splits.values() if (each := _unlike_training(card, split))]
    _, trainer = saved_model.load(folder)
    model = _Model(trainer, card, splits)
    readable = [p for p in survey.scanned_images if p.image is not None and p.label is not None]
    if not readable:
        return unlike
    step = -(-len(readable) // _BEHIND_THRESHOLDS)
    threshold_K = _thresholds(model, readable[::step], len(survey.label_map))
    regions: list[_Region] = []
    for done, scanned in enumerate(readable, start=1):
        regions += (region for region, _ in _doubted(model, scanned, threshold_K))
        progress.advance(done, len(readable), "doubt labels")
    regions.sort(key=lambda region: -region.weight)
    kept = regions[:_MOST]
    if corrections is not None:
        _write_corrections(corrections, model, kept, threshold_K, survey.label_map)
    return unlike + [_finding(region, survey.label_map) for region in kept]


def _write_corrections(
    folder: Path,
    model: _Model,
    kept: Sequence[_Region],
    threshold_K: NDArray[np.float64],
    label_map: LabelMap,
) -> None:
    """Write masks of the regions; they are found again, for those of all images are too many."""
    for scanned in {id(region.scanned): region.scanned for region in kept}.values():
        wanted = {region.key for region in kept if region.scanned is scanned}
        answer = model.read(scanned)
        if answer is None:
            continue
        regions = [
            (mask_HW, region.predicted)
            for region, mask_HW in _doubted(model, scanned, threshold_K)
            if region.key in wanted
        ]
        label_HW = answer[0].label_HW.astype(label_map.dtype)
        proposed_labels.write_image(
            folder, scanned.split, scanned.name, label_HW, regions, label_map
        )
    listed = [
        Correction(
            each.scanned.split,
            each.scanned.name,
            str(each.scanned.label_file),
            each.row,
            each.column,
            each.area,
            each.given,
            each.predicted,
            each.confidence,
        )
        for each in kept
    ]
    proposed_labels.write_table(folder, listed, label_map)


def _unlike_training(card: ModelCard, split: Split) -> Finding | None:
    """Return a finding where the values of a split are far from those the model was trained on."""
    try:
        observed = radiometry.split_unlike_training(card.bands, split)
    except DataError:  # the other findings name the file
        return None
    if observed is None:
        return None
    return Finding(
        Level.WARNING,
        radiometry.CODE,
        "the values of the images are not like those the model was trained on",
        f"split {split.name}",
        observed,
        "means and deviations like those of training",
        "write the images in the unit and number of bits of training, or train on these",
    )


def _thresholds(
    model: _Model, scanned_images: list[ScannedImage], num_classes: int
) -> NDArray[np.float64]:
    """Mean probability of each class where it is the label; 1 for classes that never are."""
    total_K, pixels_K = np.zeros(num_classes), np.zeros(num_classes)
    for scanned in scanned_images:
        answer = model.read(scanned)
        if answer is None:
            continue
        sample, probabilities_HWK = answer
        for k in np.unique(sample.label_HW):
            if k < num_classes:
                own = probabilities_HWK[..., k][sample.label_HW == k]
                total_K[k] += float(own.sum(dtype=np.float64))
                pixels_K[k] += own.size
    means_K: NDArray[np.float64] = np.divide(
        total_K, pixels_K, where=pixels_K > 0, out=np.ones(num_classes)
    )
    return np.maximum(means_K, _LEAST_CONFIDENCE)


def _doubted(
    model: _Model, scanned: ScannedImage, threshold_K: NDArray[np.float64]
) -> Iterator[tuple[_Region, NDArray[np.bool_]]]:
    """Yield the regions of an image that the model is sure are of another class, with masks."""
    answer = model.read(scanned)
    if answer is None:
        return
    sample, probabilities_HWK = answer
    predicted_HW = probabilities_HWK.argmax(axis=2)
    confidence_HW = probabilities_HWK.max(axis=2)
    valid_HW = np.isin(sample.label_HW, np.arange(len(threshold_K)))
    doubted_HW = valid_HW & (predicted_HW != sample.label_HW)
    doubted_HW &= confidence_HW >= _LEAST_CONFIDENCE
    least = max(_LEAST_AREA, doubted_HW.size // 1000)
    pairs = np.unique(
        np.stack([sample.label_HW[doubted_HW], predicted_HW[doubted_HW]]).astype(int), axis=1
    )
    for given, predicted in pairs.T.tolist():
        mask_HW = doubted_HW & (sample.label_HW == given) & (predicted_HW == predicted)
        count, numbers_HW, stats, centres = cv2.connectedComponentsWithStats(
            mask_HW.astype(np.uint8), connectivity=4
        )
        for number in range(1, count):
            area = int(stats[number, cv2.CC_STAT_AREA])
            if area < least:
                continue
            column, row = (round(float(value)) for value in centres[number])
            region_HW = numbers_HW == number
            confidence = float(confidence_HW[region_HW].mean())
            if confidence >= _CLOSE * threshold_K[predicted]:
                region = _Region(scanned, area, row, column, given, predicted, confidence)
                yield region, region_HW


def _finding(region: _Region, label_map: LabelMap) -> Finding:
    given, predicted = label_map.names[region.given], label_map.names[region.predicted]
    scanned = region.scanned
    place = pixel_text(region.row, region.column, scanned.name, scanned.corner)
    return Finding(
        Level.WARNING,
        "SEG-D040",
        "a trained model doubts the label",
        region.scanned.label_file,
        f"{region.area} px around {place} are labelled {given!r}; "
        f"the model says {predicted!r} with probability {region.confidence:.2f}",
        "a label that people would agree on",
        "look at the place; correct the label, or leave it where the model is wrong",
    )
