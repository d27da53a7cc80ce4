"""A tiny valid tree for each format of labelling tools, as `dataset_trees` has of the others.

Labels hold every class, a shape for each pixel or a mask for each class, in arbitrary patterns.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from terrazzo.base.recipe import DataConfig
from terrazzo.data.labels import LabelMap, load_label_map
from terrazzo.inference.labelling.run_lengths import boxed_runs, label_studio_bytes
from terrazzo.testing.dataset_trees import SIZE, Tree, Written, save

CLASSES = ("road", "car", "sky")
_NAMES = tuple(f"{folder}image_{n}" for n in range(5) for folder in ("", "deep/"))
_MAP = """name = "shapes"
ignored = [255]
classes = [
    { name = "background", colour = "#BAB0AC", raw = [0] },
    { name = "road", colour = "#4E79A7", raw = [1] },
    { name = "car", colour = "#F28E2B", raw = [2] },
    { name = "sky", colour = "#E15759", raw = [3] },
]
"""
_ROWS, _COLUMNS = SIZE
_LABELLED = 24
"""Pixels of an image that are in a shape."""
_Label = NDArray[np.uint8]


def _written(root: Path, name: str, image: str, mask: Path) -> Written:
    """Write one image and draw its label; its file of shapes is for the caller to write."""
    rng = np.random.default_rng(list(name.encode()))
    image_HWC = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    values = np.zeros(SIZE[0] * SIZE[1], np.uint8)
    values[:_LABELLED] = np.resize(np.arange(1, 4), _LABELLED)
    raw_label = rng.permutation(values).reshape(SIZE)
    save(root / image, image_HWC)
    return Written(root / image, (mask,), image_HWC, raw_label)


def _tree(root: Path, tool: str, written: Mapping[str, Written], **options: Any) -> Tree:
    (root / "shapes.toml").write_text(_MAP)
    label_map: LabelMap = load_label_map(str(root / "shapes.toml"))
    options = {"classes": CLASSES, **options}
    data = DataConfig(
        format=tool, root=str(root), labels=str(root / "shapes.toml"), options=options
    )
    return Tree(data, label_map, written, drawn=True)


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def _squares(raw_label: _Label) -> list[tuple[str, list[list[float]]]]:
    """Return class and corners of a shape for each pixel that is in one."""
    return [
        (
            CLASSES[raw_label[row, column] - 1],
            [[column, row], [column + 1, row], [column + 1, row + 1], [column, row + 1]],
        )
        for row, column in zip(*(at.tolist() for at in np.nonzero(raw_label)), strict=True)
    ]


def _masks(raw_label: _Label) -> list[tuple[str, NDArray[np.bool_]]]:
    return [(name, raw_label == value) for value, name in enumerate(CLASSES, 1)]


def coco(root: Path) -> Tree:
    """Half of the images with polygons, half with runs down the columns."""
    file = root / "annotations.json"
    written = {n: _written(root, n, f"images/{n}.png", file) for n in _NAMES}
    annotations: list[dict[str, Any]] = []
    for number, each in enumerate(written.values()):
        found: list[tuple[str, Any]] = [
            (name, [np.ravel(corners).tolist()]) for name, corners in _squares(each.raw_label)
        ]
        if number % 2:
            found = [
                (name, {"size": list(SIZE), "counts": _runs(mask_HW.T)})
                for name, mask_HW in _masks(each.raw_label)
            ]
        annotations += [
            {"image_id": number, "category_id": 5 - CLASSES.index(name), "segmentation": shape}
            for name, shape in found
        ]
    _write_json(
        file,
        {
            "images": [
                {"id": i, "file_name": f"{n}.png", "height": _ROWS, "width": _COLUMNS}
                for i, n in enumerate(written)
            ],
            "annotations": [{"id": i, **each} for i, each in enumerate(annotations)],
            "categories": [{"id": 5 - i, "name": name} for i, name in enumerate(CLASSES)],
        },
    )
    return _tree(root, "coco", written)


def _runs(mask_HW: NDArray[np.bool_]) -> list[int]:
    flat = np.concatenate([[False], mask_HW.ravel(), [not mask_HW.ravel()[-1]]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    lengths: list[int] = np.diff(edges, prepend=0).tolist()
    return lengths


def cvat(root: Path) -> Tree:
    """Masks in boxes, and polygons."""
    file = root / "annotations.xml"
    written = {n: _written(root, n, f"images/{n}.png", file) for n in _NAMES}
    told = []
    for number, (name, each) in enumerate(written.items()):
        shapes = ""
        for label, corners in _squares(each.raw_label) if number % 2 else ():
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners)
            shapes += f'<polygon label="{label}" points="{points}" z_order="0"/>\n'
        for label, mask_HW in () if number % 2 else _masks(each.raw_label):
            runs = boxed_runs(mask_HW)
            shapes += (
                f'<mask label="{label}" rle="{", ".join(map(str, runs.lengths))}" '
                f'left="{runs.left}" top="{runs.top}" width="{runs.width}" '
                f'height="{runs.height}" z_order="0"/>\n'
            )
        told.append(
            f'<image id="{number}" name="{name}.png" width="{_COLUMNS}" height="{_ROWS}">'
            f"{shapes}</image>\n"
        )
    file.write_text(f"<annotations><version>1.1</version>\n{''.join(told)}</annotations>\n")
    return _tree(root, "cvat", written)


def label_studio(root: Path) -> Tree:
    """Brushes, and polygons in per cent."""
    file = root / "project.json"
    written = {n: _written(root, n, f"images/{n}.png", file) for n in _NAMES}
    tasks = []
    for number, (name, each) in enumerate(written.items()):
        values: list[dict[str, Any]] = [
            {"format": "rle", "rle": label_studio_bytes(mask_HW), "brushlabels": [label]}
            for label, mask_HW in _masks(each.raw_label)
        ]
        if number % 2:
            values = [
                {
                    "points": [[100 * x / _COLUMNS, 100 * y / _ROWS] for x, y in corners],
                    "polygonlabels": [label],
                }
                for label, corners in _squares(each.raw_label)
            ]
        result = [
            {
                "id": str(place),
                "type": "polygonlabels" if "points" in value else "brushlabels",
                "original_width": _COLUMNS,
                "original_height": _ROWS,
                "value": value,
            }
            for place, value in enumerate(values)
        ]
        tasks.append(
            {
                "data": {"image": f"/data/local-files/?d=photos/images/{name}.png"},
                "annotations": [{"completed_by": 1, "result": result}],
            }
        )
    _write_json(file, tasks)
    return _tree(root, "label_studio", written)


def labelme(root: Path) -> Tree:
    """Files beside the images."""
    written = {n: _written(root, n, f"{n}.png", root / f"{n}.json") for n in _NAMES}
    for each in written.values():
        shapes = [
            {"label": name, "points": corners, "shape_type": "polygon"}
            for name, corners in _squares(each.raw_label)
        ]
        file = {"shapes": shapes, "imagePath": each.image.name, "imageData": None}
        size = {"imageHeight": _ROWS, "imageWidth": _COLUMNS}
        _write_json(each.masks[0], {**file, **size})
    return _tree(root, "labelme", written)


def cityscapes_polygons(root: Path) -> Tree:
    """Cities as the official packages have them, drawn by pixels' centres here."""
    written = {
        name: _written(
            root,
            name,
            f"leftImg8bit/train/{name}_leftImg8bit.png",
            root / f"gtFine/train/{name}_gtFine_polygons.json",
        )
        for name in _NAMES
    }
    for each in written.values():
        objects = [
            {"label": name, "polygon": corners} for name, corners in _squares(each.raw_label)
        ]
        size = {"imgHeight": _ROWS, "imgWidth": _COLUMNS}
        _write_json(each.masks[0], {**size, "objects": objects})
    return _tree(
        root,
        "cityscapes_polygons",
        written,
        images="leftImg8bit/train",
        annotations="gtFine/train",
        fill="centre",
    )


def supervisely(root: Path) -> Tree:
    """Bitmaps of each class."""
    written = {n: _written(root, n, f"img/{n}.png", root / f"ann/{n}.png.json") for n in _NAMES}
    for each in written.values():
        objects = []
        for name, mask_HW in _masks(each.raw_label):
            stream = io.BytesIO()
            Image.fromarray(mask_HW.astype(np.uint8)).save(stream, "PNG")
            data = base64.b64encode(zlib.compress(stream.getvalue())).decode()
            bitmap = {"data": data, "origin": [0, 0]}
            objects.append({"classTitle": name, "geometryType": "bitmap", "bitmap": bitmap})
        size = {"height": _ROWS, "width": _COLUMNS}
        _write_json(each.masks[0], {"size": size, "objects": objects})
    return _tree(root, "supervisely", written)


def darwin(root: Path) -> Tree:
    """A polygon of many paths for each class, or a box for each pixel."""
    written = {
        n: _written(root, n, f"images/{n}.png", root / f"annotations/{n}.json") for n in _NAMES
    }
    for number, each in enumerate(written.values()):
        shapes: list[dict[str, Any]] = [
            {"name": name, "bounding_box": {"x": c[0][0], "y": c[0][1], "w": 1, "h": 1}}
            for name, c in _squares(each.raw_label)
        ]
        if number % 2:
            paths: dict[str, list[Any]] = {}
            for name, corners in _squares(each.raw_label):
                paths.setdefault(name, []).append([{"x": x, "y": y} for x, y in corners])
            shapes = [{"name": name, "polygon": {"paths": found}} for name, found in paths.items()]
        slot = {"type": "image", "slot_name": "0", "width": _COLUMNS, "height": _ROWS}
        item = {"name": each.image.name, "path": "/", "slots": [slot]}
        _write_json(each.masks[0], {"version": "2.0", "item": item, "annotations": shapes})
    return _tree(root, "darwin", written)


def qupath(root: Path) -> Tree:
    """Each class of an image as one object of many parts, or a feature for each pixel."""
    written = {
        n: _written(root, n, f"images/{n}.png", root / f"annotations/{n}.geojson") for n in _NAMES
    }
    for each in written.values():
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
                "properties": {"objectType": "annotation", "classification": {"name": name}},
            }
            for name, corners in _squares(each.raw_label)
        ]
        _write_json(each.masks[0], {"type": "FeatureCollection", "features": features})
    return _tree(root, "qupath", written)


def yolo(root: Path) -> Tree:
    """A line for each pixel, in shares of width and height."""
    written = {n: _written(root, n, f"images/{n}.png", root / f"labels/{n}.txt") for n in _NAMES}
    for each in written.values():
        lines = [
            " ".join(
                [str(CLASSES.index(name)), *(f"{x / _COLUMNS} {y / _ROWS}" for x, y in corners)]
            )
            for name, corners in _squares(each.raw_label)
        ]
        each.masks[0].parent.mkdir(parents=True, exist_ok=True)
        each.masks[0].write_text("\n".join(lines))
    return _tree(root, "yolo", written)


def imagej_roi(root: Path) -> Tree:
    """A set of traced pixels for each image, or one composite ROI."""
    import roifile

    written: dict[str, Written] = {}
    for number, name in enumerate(_NAMES):
        mask = root / f"images/{name}{'.zip' if number % 5 else '.roi'}"
        each = written[name] = _written(root, name, f"images/{name}.png", mask)
        if not number % 5:  # one ROI is of one class
            each.raw_label[each.raw_label > 0] = 1
            path: list[float] = []
            for _, (first, *others) in _squares(each.raw_label):
                path += [0, *first]  # move, lines, and close
                for point in others:
                    path += [1, *point]
                path.append(4)
            composite = np.array(path, np.float32)
            roi = roifile.ImagejRoi(
                roitype=roifile.ROI_TYPE.RECT,
                name=CLASSES[0],
                right=_COLUMNS,
                bottom=_ROWS,
                shape_roi_size=composite.size,
                multi_coordinates=composite,
            )
            roi.tofile(mask)
            continue
        for at, (label, corners) in enumerate(_squares(each.raw_label)):
            roi = roifile.ImagejRoi.frompoints(np.array(corners, np.float32), name=f"{label}-{at}")
            roi.tofile(mask)
    return _tree(root, "imagej_roi", written)


WRITERS: Mapping[str, Callable[[Path], Tree]] = {
    "cityscapes_polygons": cityscapes_polygons,
    "coco": coco,
    "cvat": cvat,
    "darwin": darwin,
    "imagej_roi": imagej_roi,
    "label_studio": label_studio,
    "labelme": labelme,
    "qupath": qupath,
    "supervisely": supervisely,
    "yolo": yolo,
}
"""By the name of the format."""
