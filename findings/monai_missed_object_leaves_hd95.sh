#!/usr/bin/env bash
# One would guess: where the object is missed altogether, the 95th percentile of the Hausdorff distance
#   is infinite as the distance itself is, and so is the mean over the images.
# What happens: it is NaN for every percentile (100 too), and the metric leaves NaN out of the mean: of
#   one image that is segmented perfectly and one in which nothing is found, the mean is 0.0.
# Version: MONAI 1.6.1, PyTorch 2.13.0.
# Why it matters: HD95 is the usual second score beside Dice. A model that finds nothing in the hard
#   images gets a better HD95 than one that finds something there. Only get_not_nans=True tells how
#   many images were counted.
# Source: seen by running.
# Output as seen:
#   expected: mean inf of 2 images in each line
#   percentile None: missed object alone inf; mean inf of 2 images
#   percentile 100: missed object alone nan; mean 0.0 of 1 images
#   percentile 95: missed object alone nan; mean 0.0 of 1 images
#   prediction one pixel off in the second image instead: HD95 mean 0.5 of 2 images
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile numpy==2.4.6 scipy==1.17.1 torch==2.13.0 monai==1.6.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import warnings

warnings.simplefilter("ignore")
import torch
from monai.metrics import HausdorffDistanceMetric, compute_hausdorff_distance

truth_BCHW = torch.zeros(1, 1, 16, 16)
truth_BCHW[..., 4:10, 4:10] = 1
nothing_BCHW = torch.zeros_like(truth_BCHW)
def mean(second_BCHW, percentile):
    metric = HausdorffDistanceMetric(percentile=percentile, get_not_nans=True)
    metric(torch.cat([truth_BCHW, second_BCHW]), torch.cat([truth_BCHW, truth_BCHW]))
    value, counted = metric.aggregate()
    return float(value), int(counted)
print("expected: mean inf of 2 images in each line")
seen = []
for percentile in (None, 100, 95):
    alone = float(compute_hausdorff_distance(nothing_BCHW, truth_BCHW, percentile=percentile))
    seen.append((str(alone), *mean(nothing_BCHW, percentile)))
    print(f"percentile {percentile}: missed object alone {alone}; mean {seen[-1][1]} of {seen[-1][2]} images")
shifted = mean(truth_BCHW.roll(1, 3), 95)
print(f"prediction one pixel off in the second image instead: HD95 mean {shifted[0]} of {shifted[1]} images")
left_out = ("nan", 0.0, 1)
sys.exit(not (seen == [("inf", float("inf"), 2), left_out, left_out] and shifted == (0.5, 2)))
PYTHON
