#!/usr/bin/env bash
# One would guess: the accuracy of several classes with reduction="micro" is the share of pixels that
#   are right.
# What happens: each pixel counts once for every class, and a wrong pixel is right for all classes but
#   two. With half of the pixels wrong the accuracy is 0.66 of 3 classes, 0.95 of 21, 0.99 of 150, and
#   the reduction "macro" gives the same. The macro IoU rises too, since a class that neither truth
#   nor prediction has counts 1. The share of right pixels is what recall with "micro" gives.
# Version: segmentation-models-pytorch 0.6.0, PyTorch 2.13.0.
# Why it matters: an accuracy in a paper or a log depends on how many classes the data set declares
#   more than on the model, and cannot be compared with the pixel accuracy of other tools.
# Source: seen by running; only the module of the metrics is loaded, the package itself would load
#   every encoder.
# Output as seen:
#   expected: accuracy 0.492 and one IoU whatever the number of classes
#   classes 3: right pixels 0.492 accuracy micro 0.661 macro 0.661 recall micro 0.492 IoU macro 0.326
#   classes 21: right pixels 0.492 accuracy micro 0.952 macro 0.952 recall micro 0.492 IoU macro 0.904
#   classes 150: right pixels 0.492 accuracy micro 0.993 macro 0.993 recall micro 0.492 IoU macro 0.987
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile numpy==2.4.6 torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile --no-deps segmentation-models-pytorch==0.6.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import importlib.util
import pathlib
import sys
import sysconfig
import warnings

warnings.simplefilter("ignore")
import torch

path = pathlib.Path(sysconfig.get_path("purelib"), "segmentation_models_pytorch/metrics/functional.py")
spec = importlib.util.spec_from_file_location("functional", path)
metrics = importlib.util.module_from_spec(spec)
spec.loader.exec_module(metrics)

rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
truth_BHW = ((rows + columns) % 3)[None]
predicted_BHW = torch.where(torch.arange(4096).reshape(1, 64, 64) % 63 < 31, truth_BHW, (truth_BHW + 1) % 3)
right = float((predicted_BHW == truth_BHW).float().mean())
print(f"expected: accuracy {right:.3f} and one IoU whatever the number of classes")
seen = []
for classes in (3, 21, 150):
    counts = metrics.get_stats(predicted_BHW, truth_BHW, mode="multiclass", num_classes=classes)
    micro, macro, recall, iou = (round(float(metric(*counts, reduction=reduction)), 3) for metric, reduction in (
        (metrics.accuracy, "micro"), (metrics.accuracy, "macro"), (metrics.recall, "micro"),
        (metrics.iou_score, "macro")))
    seen.append((micro, macro, recall, iou))
    print(f"classes {classes}: right pixels {right:.3f} accuracy micro {micro} macro {macro}",
          f"recall micro {recall} IoU macro {iou}")
by_hand = [round(1 - 2 * (1 - right) / classes, 3) for classes in (3, 21, 150)]
sys.exit(not ([line[0] for line in seen] == [line[1] for line in seen] == by_hand
              and all(line[2] == round(right, 3) for line in seen) and seen[0][3] < 0.4 < 0.9 < seen[1][3] < seen[2][3]))
PYTHON
