"""The Landsat scene, its labels and a predicted map side by side, as one PNG.

    terrazzo predict runs/landsat_unet_torch SCENE --out landsat_map.tif --tile 128 --overlap 64
    python tools/landsat_map.py landsat_map.tif --out docs/landsat_map.png

SCENE is ``$TERRAZZO_DATA/nc_landsat7/lsat7_2000_b12345.tif``. Blocks of the test split are framed;
white is no data.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from terrazzo.base.recipe import Config, load_recipe
from terrazzo.data import datasets
from terrazzo.data.datasets.geotiff import Chips
from terrazzo.data.labels import LabelMap
from terrazzo.io import rasters

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "landsat" / "unet_torch.toml"
NEAR_INFRARED = (3, 2, 1)
GAP = 6


def stretched(image_HWC: NDArray[Any], valid_HW: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the near-infrared image with 2 % cut off at both ends; white without data."""
    shown = image_HWC[..., NEAR_INFRARED].astype(np.float32)
    low, high = np.percentile(shown[valid_HW], (2, 98), axis=0)
    scaled = np.clip((shown - low) / (high - low), 0, 1)
    image: NDArray[np.uint8] = (scaled * 255).astype(np.uint8)
    image[~valid_HW] = 255
    return image


def coloured(label_map: LabelMap, label_HW: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the classes in their colours; white without data."""
    image = label_map.colourise(label_HW)
    image[label_HW == label_map.ignore_index] = 255
    return image


def framed(image: NDArray[np.uint8], recipe: Config) -> NDArray[np.uint8]:
    """Draw a line around every block of the test split."""
    test, size = datasets.open_source(recipe.data, "test"), recipe.data.options["chip"]
    assert isinstance(test, Chips)
    image = np.ascontiguousarray(image)
    for _, row, column in test.places:
        cv2.rectangle(image, (column, row), (column + size - 1, row + size - 1), (0, 0, 0), 1)
    return image


def main() -> None:
    """Write the image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("map", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = load_recipe(RECIPE)
    label_map = datasets.load_labels(recipe.data)
    root = Path(os.environ["TERRAZZO_DATA"]) / "nc_landsat7"
    image_HWC, valid_HW, _ = rasters.read(root / "lsat7_2000_b12345.tif")
    assert valid_HW is not None
    raw_HW = rasters.read_label(root / "landclass96_strata.tif", "index")
    truth_HW = label_map.remap(raw_HW, file="landclass96_strata.tif")
    truth_HW[~valid_HW] = label_map.ignore_index
    panels = [
        stretched(image_HWC, valid_HW),
        coloured(label_map, truth_HW),
        coloured(label_map, rasters.read_label(arguments.map, "index")),
    ]
    gap = np.full((image_HWC.shape[0], GAP, 3), 255, np.uint8)
    first, second, third = (framed(panel, recipe) for panel in panels)
    image = Image.fromarray(np.concatenate([first, gap, second, gap, third], axis=1))
    image.quantize(40).save(arguments.out, optimize=True)  # a fifth of the bytes


if __name__ == "__main__":
    main()
