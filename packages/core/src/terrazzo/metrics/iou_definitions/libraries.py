"""The mean IoU of well-known libraries, as functions of exact counts.

Each function says what its library computes on its documented path, in float64 and from int64
counts. Where the library's own arithmetic is coarser or goes wrong, the docstring says how; the
function returns what it would with exact arithmetic. Pixels that are ignored reach no function:
libraries that know no ignored label are given the remaining pixels.

Sources are the libraries' code: torchmetrics 1.9, segmentation-models-pytorch 0.6, monai 1.6,
nnunetv2 2.8, keras 3.15, torchvision's references/segmentation, mmsegmentation 1.2, and the
mean_iou metric of huggingface/evaluate.
"""

from __future__ import annotations

import numpy as np

from terrazzo.metrics.image_counts import ImageCounts, class_pixels, mean_of_defined, ratio

NAN = float("nan")
_KERAS_EPSILON = 1e-7


def torchmetrics_jaccard(images: ImageCounts) -> float:
    """``classification.MulticlassJaccardIndex(average="macro", ignore_index=255)``.

    The library turns its int64 counts into float32 before dividing: about 7 digits.
    """
    pixels = class_pixels(images.total)
    return mean_of_defined(ratio(pixels.true_positives, pixels.union, NAN))


def torchmetrics_mean_iou(images: ImageCounts) -> float:
    """``segmentation.MeanIoU(input_format="index")``: mean over (image, class) pairs.

    A pair counts where the class is in truth or prediction of that image. The library knows no
    ignored label (torchmetrics#2747), sums in float32, and so depends on the order in the last
    digits.
    """
    pixels = class_pixels(images.counts_NKK)
    return mean_of_defined(ratio(pixels.true_positives, pixels.union, NAN))


def smp_micro(images: ImageCounts) -> float:
    """``iou_score(reduction="micro")``: all classes and images together; NaN without a pixel.

    `smp_macro` says how the library's own counts can be wrong.
    """
    pixels = class_pixels(images.total)
    return float(ratio(pixels.true_positives.sum(), pixels.union.sum(), NAN))


def smp_macro(images: ImageCounts) -> float:
    """``iou_score(reduction="macro", zero_division=1.0)``: an absent class scores a perfect 1.

    The library counts with float32 ``torch.histc``: an image with more than 2^24 pixels of one
    class is miscounted on the CPU, and with a single class the histogram's bounds coincide, so
    that every pixel, ignored or not, is counted as right. Class weights divide the score by their
    number besides. None of this is imitated.
    """
    pixels = class_pixels(images.total)
    return float(ratio(pixels.true_positives, pixels.union, 1.0).mean())


def smp_macro_imagewise(images: ImageCounts) -> float:
    """``iou_score(reduction="macro-imagewise", zero_division=1.0)``.

    Mean over all K classes of all images; a class absent from an image scores 1 there, so
    that many absent classes lift the score. Counts: see `smp_macro`.
    """
    pixels = class_pixels(images.counts_NKK)
    return float(ratio(pixels.true_positives, pixels.union, 1.0).mean())


def torchvision_reference(images: ImageCounts) -> float:
    """``references/segmentation``: the plain mean, NaN as soon as one class is absent.

    The reference divides in float32.
    """
    pixels = class_pixels(images.total)
    return float(ratio(pixels.true_positives, pixels.union, NAN).mean())


def monai_mean_iou(images: ImageCounts) -> float:
    """``MeanIoU(reduction="mean")``: mean over the classes of an image, then over images.

    A class that is not in the truth of an image is left out there, so false alarms for it cost
    it nothing; images without any class are left out; with no image left the score is 0.
    The library computes in float32.
    """
    pixels = class_pixels(images.counts_NKK)
    iou_NK = ratio(pixels.true_positives, pixels.union, NAN)
    iou_NK[pixels.in_truth == 0] = NAN
    mean = mean_of_defined(np.array([mean_of_defined(iou_K) for iou_K in iou_NK]))
    return 0.0 if np.isnan(mean) else mean


def nnunet_foreground_mean(images: ImageCounts) -> float:
    """``foreground_mean`` of IoU in ``summary.json``: mean over images, then over classes 1…K-1.

    Class 0 is taken for background and left out, whatever it is. A class absent from truth and
    prediction of an image is left out there; a class absent everywhere makes the score NaN, and
    so does a map of one class.
    """
    pixels = class_pixels(images.counts_NKK)
    iou_NK = ratio(pixels.true_positives, pixels.union, NAN)
    per_class = [mean_of_defined(iou_N) for iou_N in iou_NK.T[1:]]
    return float(np.mean(per_class)) if per_class else NAN


def mmsegmentation_mean_iou(images: ImageCounts) -> float:
    """``IoUMetric`` mIoU: nanmean over classes of the pixels summed over the data set.

    The library prints per cent with two decimals. It counts with float32 ``torch.histc`` (2^24
    pixels of a class in one image at most), and a label outside the classes that is not the
    ignored one stays in the count of predictions.
    """
    pixels = class_pixels(images.total)
    return mean_of_defined(ratio(pixels.true_positives, pixels.union, NAN))


def keras_mean_iou(images: ImageCounts) -> float:
    """``keras.metrics.MeanIoU(ignore_class=255)``, sparse, classes present only.

    Keras adds 1e-7 to every denominator, so a perfect class of one pixel scores 0.9999999; this
    is imitated. It counts in int32 on its torch and JAX engines (wrong from 2^31 pixels of a
    cell) and divides in float32. Without any pixel its score is 0.
    """
    pixels = class_pixels(images.total)
    present = pixels.union > 0
    iou_K = pixels.true_positives / (pixels.union + _KERAS_EPSILON)
    return float(iou_K[present].mean()) if present.any() else 0.0


def evaluate_mean_iou(images: ImageCounts) -> float:
    """``mean_iou`` of huggingface/evaluate, ``ignore_index=255``: as mmsegmentation, in float64.

    Its example for data sets with ``reduce_labels`` passes ``ignore_index=0`` instead; that is
    another score.
    """
    pixels = class_pixels(images.total)
    return mean_of_defined(ratio(pixels.true_positives, pixels.union, NAN))
