"""Profiles against the libraries themselves, or against their definition written out on pixels.

Each of 200 random cases holds images of several sizes, with absent classes, ignored pixels,
images ignored altogether, single classes and 1×1 images. torchmetrics and SMP and MONAI are
asked where they are installed; they are in no environment by necessity (requirements-bench.txt).
What cannot be installed beside the others (mmsegmentation), has its metric on a hub (evaluate) or
reads files (nnU-Net) is written out below as plainly as can be.
"""

import math

import numpy as np
import pytest

from terrazzo.metrics import ConfusionMatrix, iou_definitions
from terrazzo.metrics.image_counts import ImageCounts
from terrazzo.metrics.iou_definitions import libraries as library

IGNORE = 255
NUM_CASES = 200
FLOAT32 = 2e-6
SIZES = ((1, 1), (1, 5), (4, 3), (7, 9), (12, 8))


def case(seed):
    """Return K and a list of (label, prediction) of H×W uint8."""
    random = np.random.default_rng(seed)
    num_classes = int(random.integers(1, 7))
    used = random.choice(num_classes, int(random.integers(1, num_classes + 1)), replace=False)
    ignored_share = random.choice([0.0, 0.1, 0.6, 1.0], p=[0.4, 0.3, 0.25, 0.05])
    pairs = []
    for _ in range(int(random.integers(1, 6))):
        size = SIZES[random.integers(len(SIZES))]
        label = random.choice(used, size).astype(np.uint8)
        guess = random.choice(used if random.random() < 0.5 else num_classes, size)
        prediction = np.where(random.random(size) < 0.6, label, guess).astype(np.uint8)
        share = 1.0 if random.random() < 0.1 else ignored_share
        label[random.random(size) < share] = IGNORE
        pairs.append((label, prediction))
    return num_classes, pairs


CASES = [case(seed) for seed in range(NUM_CASES)]


def counts_of(num_classes, pairs):
    matrices = [ConfusionMatrix(num_classes, IGNORE) for _ in pairs]
    for matrix, (label, prediction) in zip(matrices, pairs, strict=True):
        matrix.update(label, prediction)
    return ImageCounts(
        np.stack([matrix.counts for matrix in matrices]),
        np.array([matrix.ignored for matrix in matrices]),
        tuple(map(str, range(num_classes))),
    )


def compare(profile, definition, accuracy=1e-12, cases=CASES):
    """Compare on all cases; NaN equals NaN only. Most cases must have a number."""
    numbers = 0
    for number, (num_classes, pairs) in enumerate(cases):
        ours, theirs = profile(counts_of(num_classes, pairs)), definition(num_classes, pairs)
        assert ours == pytest.approx(theirs, abs=accuracy, rel=accuracy, nan_ok=True), number
        numbers += not math.isnan(ours)
    assert numbers > len(cases) / 3


def test_the_cases_hold_what_they_should():
    assert any(num_classes == 1 for num_classes, _ in CASES)
    assert any(label.size == 1 for _, pairs in CASES for label, _ in pairs)
    assert any(all((label == IGNORE).all() for label, _ in pairs) for _, pairs in CASES)
    assert any(
        (label == IGNORE).mean() not in {0.0, 1.0} for _, pairs in CASES for label, _ in pairs
    )
    totals = [counts_of(*each).total for each in CASES]
    assert sum((total.sum(0) + total.sum(1) == 0).any() for total in totals) > 50


def kept(label, prediction):
    return label[label != IGNORE], prediction[label != IGNORE]


def pixel_sets(num_classes, pairs):
    """Yield (image, class, in both, in truth, in prediction), counted pixel by pixel."""
    for image, pair in enumerate(pairs):
        truth, predicted = kept(*pair)
        for k in range(num_classes):
            in_truth, in_prediction = truth == k, predicted == k
            both = int((in_truth & in_prediction).sum())
            yield image, k, both, int(in_truth.sum()), int(in_prediction.sum())


def summed_iou(num_classes, pairs):
    sums = {k: [0, 0] for k in range(num_classes)}
    for _, k, both, in_truth, in_prediction in pixel_sets(num_classes, pairs):
        sums[k][0] += both
        sums[k][1] += in_truth + in_prediction - both
    return [both / either if either else math.nan for both, either in sums.values()]


def mean(values):
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def evaluate_mean_iou(num_classes, pairs):
    """Histograms of each image added up in float64, nanmean of the quotients."""
    intersect, union = np.zeros(num_classes), np.zeros(num_classes)
    bins = {"bins": num_classes, "range": (0, num_classes - 1)}
    for pair in pairs:
        truth, predicted = kept(*pair)
        both = np.histogram(predicted[predicted == truth], **bins)[0]
        intersect += both
        union += np.histogram(predicted, **bins)[0] + np.histogram(truth, **bins)[0] - both
    with np.errstate(invalid="ignore"):
        return mean(list(intersect / union))


def torchvision_reference(num_classes, pairs):
    """n·truth + prediction by bincount; the mean over the diagonal without care for NaN."""
    matrix = np.zeros((num_classes, num_classes))
    for label, prediction in pairs:
        valid = label < num_classes
        codes = num_classes * label[valid].astype(int) + prediction[valid]
        matrix += np.bincount(codes, minlength=num_classes**2).reshape(matrix.shape)
    diagonal = np.diag(matrix)
    with np.errstate(invalid="ignore"):
        return float((diagonal / (matrix.sum(1) + matrix.sum(0) - diagonal)).mean())


def nnunet_foreground(num_classes, pairs):
    """By case and label NaN where TP+FP+FN = 0, nanmean over cases, mean over labels but 0."""
    by_class = {k: [] for k in range(num_classes)}
    for _, k, both, in_truth, in_prediction in pixel_sets(num_classes, pairs):
        either = in_truth + in_prediction - both
        by_class[k].append(both / either if either else math.nan)
    means = [mean(values) for k, values in by_class.items() if k != 0]
    return sum(means) / len(means) if means else math.nan


def test_evaluate():
    compare(library.evaluate_mean_iou, evaluate_mean_iou)


def test_mmsegmentation():
    compare(library.mmsegmentation_mean_iou, lambda *each: mean(summed_iou(*each)))


def test_dataset():
    compare(iou_definitions.dataset, lambda *each: mean(summed_iou(*each)))


def test_torchvision_reference():
    all_present = [each for each in CASES if not np.isnan(torchvision_reference(*each))]
    compare(library.torchvision_reference, torchvision_reference, cases=all_present)
    absent = next(each for each in CASES if np.isnan(torchvision_reference(*each)))
    assert math.isnan(library.torchvision_reference(counts_of(*absent)))


def test_nnunet():
    defined = [each for each in CASES if not math.isnan(nnunet_foreground(*each))]
    assert len(defined) > 40
    compare(library.nnunet_foreground_mean, nnunet_foreground, cases=defined)
    for each in CASES:
        if math.isnan(nnunet_foreground(*each)):
            assert math.isnan(library.nnunet_foreground_mean(counts_of(*each)))


def test_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")

    def jaccard(num_classes, pairs):
        truth, predicted = (
            np.concatenate(each) for each in zip(*(kept(*p) for p in pairs), strict=True)
        )
        if not truth.size:
            return math.nan
        present = sorted({*truth.tolist(), *predicted.tolist()})
        return metrics.jaccard_score(truth, predicted, labels=present, average="macro")

    compare(iou_definitions.dataset, jaccard)


def test_torchmetrics_jaccard():
    torch = pytest.importorskip("torch")
    torchmetrics = pytest.importorskip("torchmetrics.classification")

    def jaccard(num_classes, pairs):
        if num_classes == 1:  # refused by the library
            return mean(summed_iou(num_classes, pairs))
        metric = torchmetrics.MulticlassJaccardIndex(num_classes, "macro", ignore_index=IGNORE)
        for label, prediction in pairs:
            metric.update(torch.tensor(prediction)[None], torch.tensor(label.astype(int))[None])
        return metric.compute().item()

    compare(library.torchmetrics_jaccard, jaccard, FLOAT32)


def test_torchmetrics_segmentation_mean_iou():
    torch = pytest.importorskip("torch")
    segmentation = pytest.importorskip("torchmetrics.segmentation")

    def mean_iou(num_classes, pairs):
        metric = segmentation.MeanIoU(num_classes=num_classes, input_format="index")
        for pair in pairs:
            truth, predicted = (torch.tensor(each.astype(int))[None, None] for each in kept(*pair))
            if truth.numel():
                metric.update(predicted, truth)
        return metric.compute().item() if metric.update_called else math.nan

    compare(library.torchmetrics_mean_iou, mean_iou, FLOAT32)


@pytest.mark.parametrize(
    ("reduction", "profile"),
    [
        ("micro", library.smp_micro),
        ("macro", library.smp_macro),
        ("macro-imagewise", library.smp_macro_imagewise),
    ],
)
def test_smp(reduction, profile):
    torch = pytest.importorskip("torch")
    smp = pytest.importorskip("segmentation_models_pytorch.metrics")

    def iou(num_classes, pairs):
        stats = [
            smp.get_stats(
                torch.tensor(prediction.astype(int))[None],
                torch.tensor(label.astype(int))[None],
                mode="multiclass",
                ignore_index=IGNORE,
                num_classes=num_classes,
            )
            for label, prediction in pairs
        ]
        sums = (torch.cat(each) for each in zip(*stats, strict=True))
        return smp.iou_score(*sums, reduction=reduction, zero_division=1.0).item()

    compare(profile, iou, FLOAT32, [each for each in CASES if each[0] > 1])


def test_smp_counts_ignored_pixels_as_right_where_there_is_one_class():
    """The documented fault of the library; if this fails, it has been mended: mend the note."""
    torch = pytest.importorskip("torch")
    smp = pytest.importorskip("segmentation_models_pytorch.metrics")
    label, prediction = torch.tensor([[[0, IGNORE]]]), torch.tensor([[[0, 0]]])
    right, *_ = smp.get_stats(
        prediction, label, mode="multiclass", ignore_index=IGNORE, num_classes=1
    )
    assert right.item() == 2


def test_monai():
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")

    def mean_iou(num_classes, pairs):
        metric = monai.MeanIoU(reduction="mean")
        for pair in pairs:
            one_hot = [
                torch.nn.functional.one_hot(torch.tensor(each.astype(int)), num_classes).T[None]
                for each in kept(*pair)
            ]
            metric(y_pred=one_hot[1], y=one_hot[0])
        return metric.aggregate().item()

    compare(library.monai_mean_iou, mean_iou, FLOAT32)


def test_keras(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("KERAS_BACKEND", "torch")  # one framework a process
    keras = pytest.importorskip("keras")

    def mean_iou(num_classes, pairs):
        metric = keras.metrics.MeanIoU(num_classes, ignore_class=IGNORE)
        for label, prediction in pairs:
            metric.update_state(label.astype("int32"), prediction.astype("int32"))
        return float(metric.result())

    compare(library.keras_mean_iou, mean_iou, FLOAT32)
