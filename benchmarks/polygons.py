"""Polygons of a noisy map against `rasterio.features.shapes`, by the rows of the map.

    python benchmarks/polygons.py
    python benchmarks/polygons.py --rows 512 1024 --columns 1000 --smooth 1 --rounds 5

`shapes` follows the outlines of the whole map at once and hands them out as dictionaries; nothing
is written. Ours takes the map by strips of 256 rows and writes the GeoPackage: outlines, areas on
the ellipsoid, names, spatial index, and the file read back. Both in turn, medians of the rounds.
The map is the largest of four layers of noise that a Gaussian of `--smooth` pixels blurs; one layer
of them is without data.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio import features

from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.inference import polygonize
from terrazzo.io import rasters
from terrazzo.io.rasters import RasterInfo

CLASSES = 3
LABELS = LabelMap("noise", tuple(LabelClass(f"class {k}", "#000000", (k,)) for k in range(CLASSES)))
PLACE = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)


def noisy_map(rows, columns, smooth):
    rng = np.random.default_rng(0)
    layers = (rng.random((rows, columns), np.float32) for _ in range(CLASSES + 1))
    blurred_KHW = np.stack([cv2.GaussianBlur(layer, (0, 0), smooth) for layer in layers])
    labels_HW = blurred_KHW.argmax(axis=0).astype(np.uint8)
    labels_HW[labels_HW == CLASSES] = LABELS.ignore_index
    return labels_HW


def seconds_of_shapes(labels_HW):
    begin = time.perf_counter()
    mask_HW = labels_HW != LABELS.ignore_index
    count = sum(1 for _ in features.shapes(labels_HW, mask_HW, 4, PLACE))
    return time.perf_counter() - begin, count


def seconds_of_ours(labels_HW, path):
    crs = rasterio.crs.CRS.from_epsg(32633)
    size = RasterInfo(*labels_HW.shape, ("class",), "uint8", 255, crs, PLACE, "uint8")
    begin = time.perf_counter()
    block = rasters.BLOCK
    groups = (labels_HW[row : row + block] for row in range(0, len(labels_HW), block))
    polygonize.write(path, groups, size, LABELS)
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--columns", type=int, default=1000)
    parser.add_argument("--smooth", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print("  rows  polygons   shapes     ours  ratio")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "polygons.gpkg"
        seconds_of_ours(noisy_map(64, 64, given.smooth), path)  # what is loaded at first use
        for rows in given.rows:
            labels_HW = noisy_map(rows, given.columns, given.smooth)
            theirs, ours = [], []
            for _ in range(given.rounds):
                seconds, count = seconds_of_shapes(labels_HW)
                theirs.append(seconds)
                ours.append(seconds_of_ours(labels_HW, path))
            one, other = statistics.median(theirs), statistics.median(ours)
            print(
                f"{rows:6d} {count:9d} {one:7.2f} s {other:6.2f} s {other / one:6.2f}", flush=True
            )


if __name__ == "__main__":
    main()
