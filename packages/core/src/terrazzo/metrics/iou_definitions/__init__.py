"""One set of predictions, many numbers called mean IoU: each with its definition.

`explain` prints them side by side. A profile is a pure function of the counts of each image; its
texts say how it averages, what an absent class does to it, what becomes of ignored pixels, and in
one line why it differs from ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from terrazzo.metrics.cityscapes import (
    category_counts,
    is_cityscapes,
    mean_category_iiou,
    mean_class_iiou,
)
from terrazzo.metrics.image_counts import ImageCounts, class_pixels, mean_of_defined, ratio
from terrazzo.metrics.iou_definitions import libraries as library
from terrazzo.metrics.iou_definitions import papers as published

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to make one number of label maps.

    Attributes:
        name: what it is called on the command line and in tables.
        averaging: over what, in which order.
        absent: what a class that is neither in truth nor in prediction does.
        ignored: what becomes of ignored pixels.
        why: one line, why it differs from `dataset`.
        score: 0…1; NaN where it is not defined for these images.
        note: what else a reader must know, such as where the library errs.
    """

    name: str
    averaging: str
    absent: str
    ignored: str
    why: str
    score: Callable[[ImageCounts], float]
    note: str = ""


@dataclass(frozen=True, slots=True)
class ProfileScore:
    """A score with all that defines it.

    Attributes:
        profile: how it was made.
        value: 0…1 or NaN.
        classes_present: classes in truth or prediction of all images.
        num_classes: K.
        pixels_counted: scored pixels.
        pixels_ignored: the others.
    """

    profile: Profile
    value: float
    classes_present: int
    num_classes: int
    pixels_counted: int
    pixels_ignored: int

    @property
    def definition(self) -> str:
        """One sentence."""
        profile = self.profile
        return (
            f"{profile.averaging}; absent class: {profile.absent}; ignored pixels: "
            f"{profile.ignored}; {self.classes_present} of {self.num_classes} classes present, "
            f"{self.pixels_counted:,} pixels counted, {self.pixels_ignored:,} ignored"
        )


def dataset(images: ImageCounts) -> float:
    """IoU of the pixels summed over the data set, mean over the classes present."""
    pixels = class_pixels(images.total)
    return mean_of_defined(ratio(pixels.true_positives, pixels.union, NAN))


def micro(images: ImageCounts) -> float:
    """ΣTP / Σ(TP + FP + FN), all classes together (micro)."""
    pixels = class_pixels(images.total)
    return float(ratio(pixels.true_positives.sum(), pixels.union.sum(), NAN))


def per_image(images: ImageCounts) -> float:
    """Mean IoU of each image over the classes present in it; mean over the images."""
    pixels = class_pixels(images.counts_NKK)
    iou_NK = ratio(pixels.true_positives, pixels.union, NAN)
    return mean_of_defined(np.array([mean_of_defined(iou_K) for iou_K in iou_NK]))


def cityscapes_classes(images: ImageCounts) -> float:
    """Average class IoU of cityscapesScripts; NaN where the classes are not its 19."""
    return dataset(images) if is_cityscapes(images.class_names) else NAN


def cityscapes_categories(images: ImageCounts) -> float:
    """Average category IoU of cityscapesScripts; NaN where the classes are not its 19.

    Pixels taken for another class of their own category are right.
    """
    if not is_cityscapes(images.class_names):
        return NAN
    pixels = class_pixels(category_counts(images.total, images.class_names))
    return mean_of_defined(ratio(pixels.true_positives, pixels.union, NAN))


_SUMMED = "pixels summed over the data set, then the mean over classes"
_PAIRS = "each class of each image, then the mean over all pairs"
_SKIPPED = "left out of the mean"
_DROPPED = "counted nowhere"
_SAME = "the same arithmetic as dataset"

PROFILES: tuple[Profile, ...] = (
    Profile(
        "dataset", _SUMMED, _SKIPPED, _DROPPED,
        "the score of this product and of the Cityscapes and PASCAL VOC benchmarks", dataset,
    ),
    Profile(
        "micro", "all classes and images together (micro)", "no effect", _DROPPED,
        "frequent classes decide it, rare ones hardly count", micro,
        "never to be published as mean IoU",
    ),
    Profile(
        "per-image", "mean over the classes of an image, then over the images",
        "left out of its image's mean", _DROPPED,
        "small images and rare classes weigh as much as large and frequent ones", per_image,
    ),
    Profile(
        "cityscapes", _SUMMED, _SKIPPED, _DROPPED, "dataset, for its 19 classes only",
        cityscapes_classes,
    ),
    Profile(
        "cityscapes categories", "pixels summed over the data set and to 7 categories, then the "
        "mean over categories", _SKIPPED, _DROPPED,
        "errors within a category (car for bus) are no errors", cityscapes_categories,
    ),
    Profile(
        "cityscapes iIoU", "pixels weighted so that every instance counts alike, summed over the "
        "data set, then the mean over the 8 classes of things", _SKIPPED, _DROPPED,
        "a small far car weighs as much as a large near one; stuff has no part in it",
        mean_class_iiou, "false positives are not weighted: predictions have no instances",
    ),
    Profile(
        "cityscapes iIoU categories", "as cityscapes iIoU, for the categories human and vehicle",
        _SKIPPED, _DROPPED, "as cityscapes iIoU, and errors within a category are no errors",
        mean_category_iiou,
    ),
    Profile(
        "torchmetrics JaccardIndex macro", _SUMMED, _SKIPPED, _DROPPED, _SAME,
        library.torchmetrics_jaccard, "divides in float32",
    ),
    Profile(
        "torchmetrics segmentation.MeanIoU", _PAIRS, "left out in its image", _DROPPED,
        "small objects in single images weigh as much as whole streets",
        library.torchmetrics_mean_iou,
        "the library knows no ignored label; here it is given the other pixels",
    ),
    Profile(
        "SMP micro", "all classes and images together (micro)", "no effect", _DROPPED,
        "as micro: frequent classes decide it", library.smp_micro,
    ),
    Profile(
        "SMP macro", _SUMMED, "scores 1", _DROPPED, "absent classes lift the mean",
        library.smp_macro, "float32 histograms: wrong above 2^24 pixels and for one class",
    ),
    Profile(
        "SMP macro-imagewise", _PAIRS, "scores 1 in its image", _DROPPED,
        "every class an image does not show adds a perfect score", library.smp_macro_imagewise,
        "float32 histograms: wrong above 2^24 pixels and for one class",
    ),
    Profile(
        "torchvision reference", _SUMMED, "makes the score NaN", _DROPPED,
        "dataset, as long as no class is absent", library.torchvision_reference,
        "divides in float32",
    ),
    Profile(
        "MONAI MeanIoU", "mean over the classes of an image, then over the images",
        "left out of its image, as is a class only predicted there", _DROPPED,
        "false alarms for a class that is not in the image are free of charge to that class",
        library.monai_mean_iou, "0 where there is nothing to score; float32",
    ),
    Profile(
        "nnU-Net foreground mean", "mean over the images of a class, then over the classes",
        "left out in its image; absent everywhere makes the score NaN", _DROPPED,
        "leaves class 0 out, whatever it is", library.nnunet_foreground_mean,
    ),
    Profile(
        "mmsegmentation IoUMetric", _SUMMED, _SKIPPED, _DROPPED, _SAME,
        library.mmsegmentation_mean_iou,
        "prints per cent with two decimals; float32 histograms: wrong above 2^24 pixels",
    ),
    Profile(
        "Keras MeanIoU", _SUMMED, _SKIPPED, _DROPPED, "1e-7 in every denominator",
        library.keras_mean_iou,
        "0 where there is nothing to score; int32 counts on the torch and JAX engines; float32",
    ),
    Profile(
        "evaluate mean_iou", _SUMMED, _SKIPPED, _DROPPED, _SAME, library.evaluate_mean_iou,
    ),
    Profile(
        "study (a) Mean", "all classes and images together (micro)", "no effect",
        "false positives", "micro, and every prediction on void is wrong",
        published.street_micro_iou, "published as mean IoU",
    ),
    Profile(
        "study (b) Mean IoU", "last image only, counts divided by the pixels of their true "
        "class, then the mean over classes", "gets a row of ones", "counted nowhere (a class "
        "there)", "it is one batch, as if every class were equally frequent",
        published.last_batch_iou, "batches of one image here; (b) does not give its own",
    ),
    Profile(
        "study (b) Dice", _PAIRS, "scores 1 in its image", "counted nowhere (a class there)",
        "Dice instead of IoU, and absent classes lift it", published.dice_of_planes,
    ),
    Profile(
        "study (d) mIoU", _SUMMED, "scores 0", _DROPPED, "absent classes lower the mean",
        published.pets_mean_iou,
    ),
    Profile(
        "study (e) mean IoU", "none", "no effect", "counted nowhere (a class there)",
        "a constant: probabilities were cut to integers before they were compared",
        published.cast_one_hot_iou,
    ),
)  # fmt: skip
"""In the order they are printed."""


def explain(images: ImageCounts) -> tuple[ProfileScore, ...]:
    """Score the same label maps by every profile that is defined for their classes.

    Returns:
        In the order of `PROFILES`; those of Cityscapes only for its classes, and iIoU only where
        instances were counted.
    """
    present = int(np.count_nonzero(class_pixels(images.total).union))
    return tuple(
        ProfileScore(
            profile,
            profile.score(images),
            present,
            len(images.class_names),
            images.pixels_counted,
            images.pixels_ignored,
        )
        for profile in PROFILES
        if _applies(profile, images)
    )


def _applies(profile: Profile, images: ImageCounts) -> bool:
    if not profile.name.startswith("cityscapes"):
        return True
    if "iIoU" in profile.name and images.instances_N3K is None:
        return False
    return is_cityscapes(images.class_names)


def span(scores: tuple[ProfileScore, ...]) -> tuple[float, float]:
    """Return the lowest and the highest value that is defined; NaN if none is."""
    values = [score.value for score in scores if not math.isnan(score.value)]
    return (min(values), max(values)) if values else (NAN, NAN)
