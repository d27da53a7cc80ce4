#!/usr/bin/env bash
# One would guess: masks exported with as_coco score 1.0 against themselves in a COCO evaluation.
# What happens: an object in two parts, or with a hole, is written with iscrowd=1, and evaluation
#   leaves crowds out: its class has no score at all (-1). An object in one part is written as a
#   polygon through the centres of its outermost pixels, and read back one row and one column
#   smaller, beside an area that counts them: a square of 20 x 20 comes back as 19 x 19.
# Version: supervision 0.31.2, pycocotools 2.0.11.
# Why it matters: objects behind a post, and rings, vanish from the evaluation, and with them every
#   way to notice that they are missed. A perfect prediction of the others gets 0.9 instead of 1.0,
#   and less the smaller the object is.
# Source: that such masks become crowds stands in the docstring of detections_to_coco_annotations
#   (not in as_coco's); what it does to scores, and the lost row and column, were seen by running.
# Output as seen:
#   expected: iscrowd 0 0 0; 400, 1000 and 336 pixels; average precision 1.0 three times
#   one_part   iscrowd 0 area 400 pixels read back 361 average precision of the true mask 0.9
#   two_parts  iscrowd 1 area 1000 pixels read back 1000 average precision of the true mask -1.0
#   ring       iscrowd 1 area 336 pixels read back 336 average precision of the true mask -1.0
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 supervision==0.31.2 pycocotools==2.0.11
cd "$folder"
venv/bin/python - <<'PYTHON'
import contextlib
import io
import json
import os
import sys
import warnings

warnings.simplefilter("ignore")
import numpy as np
import supervision
from PIL import Image
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

names = ["one_part", "two_parts", "ring"]
masks_NHW = np.zeros((3, 60, 80), bool)
masks_NHW[0, 5:25, 5:25] = True
masks_NHW[1, 30:50, 5:25] = masks_NHW[1, 30:50, 30:60] = True
masks_NHW[2, 5:25, 40:60] = True
masks_NHW[2, 11:19, 46:54] = False
os.mkdir("images")
Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save("images/a.png")
truth = supervision.Detections(xyxy=supervision.mask_to_xyxy(masks_NHW).astype(float), mask=masks_NHW,
                               class_id=np.arange(3))
supervision.DetectionDataset(classes=names, images=["images/a.png"],
                             annotations={"images/a.png": truth}).as_coco(annotations_path="a.json")
with open("a.json") as file:
    written = json.load(file)
print("expected: iscrowd 0 0 0; 400, 1000 and 336 pixels; average precision 1.0 three times")
seen = []
for name, mask_HW, annotation in zip(names, masks_NHW, written["annotations"]):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO("a.json")
        encoded = mask_api.encode(np.asfortranarray(mask_HW.astype(np.uint8)))
        prediction = {"image_id": annotation["image_id"], "category_id": annotation["category_id"],
                      "segmentation": encoded, "score": 0.9}
        evaluation = COCOeval(coco, coco.loadRes([prediction]), "segm")
        evaluation.params.catIds = [annotation["category_id"]]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    pixels = int(coco.annToMask(annotation).sum())
    seen.append((annotation["iscrowd"], pixels, round(float(evaluation.stats[0]), 3)))
    print(f"{name:10} iscrowd {seen[-1][0]} area {annotation['area']:.0f} pixels read back {pixels}",
          "average precision of the true mask", seen[-1][2])
sys.exit(seen != [(0, 361, 0.9), (1, 1000, -1.0), (1, 336, -1.0)])
PYTHON
