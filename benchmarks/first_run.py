"""Seconds from one's own folder to a report, by `terrazzo run FOLDER`, for seven kinds of folders.

    python benchmarks/first_run.py [--kinds camvid coco …] [--set training.epochs=10 …] [--keep DIR]

Folders are copies of the data sets below TERRAZZO_DATA, without recipe or label map: camvid-like
folders of splits, oxford_pet, dubai_aerial and sperm_parts as they are; 60 pets whose masks became
polygons of labelme or of one COCO file; a Landsat scene with a GeoPackage. Printed are wall seconds
and processor seconds of the one command, mean IoU on its test split, and what init asked. A folder
ends in an error if the command fails. Needs TERRAZZO_DATA, a backend and terrazzo[vector].
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

DATA = Path(os.environ.get("TERRAZZO_DATA", "data"))
PETS = DATA / "oxford_pet" / "oxford-iiit-pet"
NUM_PETS = 60


def _copied(*parts: str) -> Callable[[Path], None]:
    return lambda folder: _copy(DATA.joinpath(*parts), folder)


def _copy(source: Path, folder: Path) -> None:
    """Copy a folder, so that it may be written to even where the original may not."""
    leave_out = shutil.ignore_patterns("*.md", "SOURCE.txt")
    shutil.copytree(source, folder, ignore=leave_out, copy_function=shutil.copyfile)
    for place in (folder, *(each for each in folder.rglob("*") if each.is_dir())):
        place.chmod(0o755)


def _camvid_like(folder: Path) -> None:
    """Copy the folders of splits under other names, so that no published set is recognised."""
    for split in ("train", "val", "test"):
        _copy(DATA / "camvid" / split, folder / "images" / split)
        _copy(DATA / "camvid" / f"{split}annot", folder / "masks" / split)


def _outlines(mask: Path) -> list[list[list[float]]]:
    """Return the outlines of the pet in a trimap, x and y."""
    pet_HW = (np.asarray(Image.open(mask)) == 1).astype(np.uint8)
    found, _ = cv2.findContours(pet_HW, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = [ring[:, 0].astype(float).tolist() for ring in found if cv2.contourArea(ring) > 50]
    return [ring for ring in rings if len(ring) > 2]


def _pets() -> list[tuple[Path, Path]]:
    masks = sorted((PETS / "annotations" / "trimaps").glob("[!.]*.png"))
    pairs = [(PETS / "images" / f"{mask.stem}.jpg", mask) for mask in masks]
    return [pair for pair in pairs if pair[0].is_file()][:NUM_PETS]


def _labelme(folder: Path) -> None:
    folder.mkdir()
    for image, mask in _pets():
        shutil.copy(image, folder)
        rows, columns = np.asarray(Image.open(mask)).shape
        shapes = [
            {"label": "pet", "points": ring, "shape_type": "polygon", "group_id": None, "flags": {}}
            for ring in _outlines(mask)
        ]
        told = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image.name}
        told |= {"imageData": None, "imageHeight": rows, "imageWidth": columns}
        (folder / f"{image.stem}.json").write_text(json.dumps(told), "utf-8")


def _coco(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    images, objects = [], []
    for number, (image, mask) in enumerate(_pets(), 1):
        shutil.copy(image, folder / "images")
        rows, columns = np.asarray(Image.open(mask)).shape
        images.append({"id": number, "file_name": image.name, "height": rows, "width": columns})
        rings = [np.ravel(ring).tolist() for ring in _outlines(mask)]
        told = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0}
        objects += [{**told, "segmentation": rings}] if rings else []
    categories = [{"id": 1, "name": "pet"}]
    whole = {"images": images, "annotations": objects, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(whole), "utf-8")


def _scene(folder: Path) -> None:
    import pyogrio.raw

    folder.mkdir()
    shutil.copy(DATA / "nc_landsat7" / "lsat7_2000_b12345.tif", folder / "scene.tif")
    meta, _, geometry, values = pyogrio.raw.read(DATA / "nc_landsat7" / "landsat96_polygons.shp")
    kind: dict[str, Any] = {"geometry_type": meta["geometry_type"], "crs": meta["crs"]}
    pyogrio.raw.write(
        str(folder / "labels.gpkg"), geometry, values, list(meta["fields"]), driver="GPKG", **kind
    )


KINDS: dict[str, Callable[[Path], None]] = {
    "camvid": _camvid_like,
    "oxford_pet": _copied("oxford_pet", "oxford-iiit-pet"),
    "dubai_aerial": _copied("dubai_aerial"),
    "sperm_parts": _copied("sperm_parts"),
    "labelme": _labelme,
    "coco": _coco,
    "scene": _scene,
}


def first_run(kind: str, place: Path, assignments: list[str]) -> tuple[str, list[str]]:
    """Make a folder, run on it, and return a line of the table and what was asked."""
    KINDS[kind](place / kind)
    command = [sys.executable, "-m", "terrazzo", "run", kind]
    for assignment in assignments:
        command += ["--set", assignment]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        return f"| {kind} | {seconds:.0f} | {used:.0f} | – | – |", done.stderr.splitlines()
    scores = json.loads((place / "runs" / kind / "evaluation" / "test.json").read_text("utf-8"))
    mean_iou = scores["scores"]["mean_iou"]
    asked = done.stdout.partition("not sure:\n")[2].partition("\n\n")[0].splitlines()
    line = f"| {kind} | {seconds:.0f} | {used:.0f} | {mean_iou:.3f} | {len(asked)} |"
    return line, asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    print("| folder | wall, s | processor, s | test mean IoU | questions |")
    print("|---|---|---|---|---|", flush=True)
    told = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = given.keep or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        for kind in given.kinds:
            line, told[kind] = first_run(kind, place, given.assignments)
            print(line, flush=True)
    print(f"load {os.getloadavg()[0]:.1f} after")
    for kind, asked in told.items():
        print("", kind, *asked, sep="\n")


if __name__ == "__main__":
    main()
