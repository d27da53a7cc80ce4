"""Writes references.json: masks by the tools' own libraries, each in its file's form.

    pip install pycocotools==2.0.11 label-studio-sdk==2.1.2 cvat-sdk==2.80.0 pillow==13.0.0 \
        cityscapesscripts==2.3.0 && pip install --no-deps labelme==6.3.1
    python make.py
"""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np

NUMBER = 220


def bits(mask):
    return base64.b64encode(np.packbits(np.asarray(mask, bool))).decode()


def masks(rng):
    """Blobs with holes, single pixels, pairs, empty and full masks, in sizes of all proportions."""
    for number in range(NUMBER):
        rows, columns = rng.integers(1, 24, 2).tolist()
        mask = np.zeros((rows, columns), bool)
        if number % 5 == 0:
            mask[rng.integers(rows), rng.integers(columns)] = True
        elif number % 5 == 1:
            row, column = rng.integers(rows), rng.integers(columns)
            mask[row : row + 2, column : column + 1 + number % 2] = True
        elif number % 5 == 2:
            mask = rng.random((rows, columns)) < rng.random()
        else:
            y, x = np.mgrid[:rows, :columns]
            far = np.hypot(y - rng.uniform(0, rows), x - rng.uniform(0, columns))
            outer = rng.uniform(2, 20)
            mask = (far < outer) & (far > outer * rng.uniform(-1, 0.8))
        yield mask


def polygons(rng):
    """Slivers, objects of a pixel or two, and some that reach beyond the image."""
    for number in range(NUMBER):
        rows, columns = rng.integers(4, 32, 2).tolist()
        corners = int(rng.integers(3, 9))
        middle = rng.uniform(0, [columns, rows])
        reach = (1.5, 3, 12, 30)[number % 4]
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        far = rng.uniform(0.3, 1, (corners, 1)) * reach
        points = middle + far * np.stack([np.cos(angles), np.sin(angles)], 1)
        if number % 3 == 0:
            points = np.round(points)
        yield (rows, columns), np.round(points, 4)


def coco():
    from pycocotools import mask as api

    entries = []
    for mask in masks(np.random.default_rng(1)):
        runs = api.encode(np.asfortranarray(mask, np.uint8))
        read = api.decode(runs).astype(bool)
        assert (read == mask).all()
        flat = mask.T.ravel()
        lengths = np.diff(np.flatnonzero(np.diff(flat, prepend=not flat[0], append=not flat[-1])))
        counts = ([0] if flat[0] else []) + lengths.tolist()
        text = runs["counts"].decode()
        again = api.frPyObjects({"size": list(mask.shape), "counts": counts}, *mask.shape)
        assert again["counts"].decode() == text
        entries.append({"size": mask.shape, "text": text, "counts": counts, "bits": bits(mask)})
    return entries


def label_studio():
    from label_studio_sdk.converter import brush

    entries = []
    rng = np.random.default_rng(2)
    for number, mask in enumerate(masks(rng)):
        alpha = mask * 255 if number % 2 else (mask * rng.integers(1, 256, mask.shape))
        rgba = np.repeat(alpha.astype(np.uint8)[..., None], 4, axis=2)
        packed = list(brush.encode_rle(rgba.ravel()))
        read = brush.decode_rle(packed).reshape(*mask.shape, 4)[..., 3]
        entries.append({"size": mask.shape, "rle": packed, "bits": bits(read >= 128)})
    return entries


def cvat():
    from cvat_sdk.masks import decode_mask, encode_mask

    entries = []
    for mask in masks(np.random.default_rng(3)):
        if mask.any():
            rows, columns = mask.shape
            points = [int(p) for p in encode_mask(mask)]
            read = decode_mask(points, image_width=columns, image_height=rows)
            entries.append({"size": mask.shape, "points": points, "bits": bits(read)})
    return entries


def labelme():
    package = types.ModuleType("labelme")  # the rest of it needs Qt
    package.__path__ = []
    files = types.ModuleType("labelme._label_file")
    files.ShapeDict = dict
    sys.modules |= {"labelme": package, "labelme._label_file": files}
    found = next(p for p in map(Path, sys.path) if (p / "labelme/utils/shape.py").is_file())
    spec = importlib.util.spec_from_file_location("shape", found / "labelme/utils/shape.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entries = []
    for number, (size, points) in enumerate(polygons(np.random.default_rng(4))):
        kind = "rectangle" if number % 4 == 3 else "polygon"
        points = points[:2] if kind == "rectangle" else points
        mask = module.shape_to_mask(size, points.tolist(), kind)
        entries.append({"size": size, "kind": kind, "points": points.tolist(), "bits": bits(mask)})
    return entries


def cityscapes():
    from cityscapesscripts.helpers.annotation import Annotation
    from cityscapesscripts.preparation.json2labelImg import createLabelImage

    rng = np.random.default_rng(5)
    names = ["road", "car", "cargroup", "license plate", "sky", "person"]
    entries = []
    shapes = list(polygons(rng))
    for start in range(0, NUMBER, 4):
        size = shapes[start][0]
        objects = [
            {
                "label": names[int(rng.integers(len(names)))],
                "polygon": np.round(points).astype(int).tolist(),
                "deleted": int(rng.random() < 0.1),
            }
            for _, points in shapes[start : start + 4]
        ]
        file = {"imgHeight": size[0], "imgWidth": size[1], "objects": objects}
        annotation = Annotation()
        annotation.fromJsonText(json.dumps(file))
        label = np.array(createLabelImage(annotation, "ids"))
        entries.append({"file": file, "ids": base64.b64encode(label.tobytes()).decode()})
    return entries


if __name__ == "__main__":
    made = {tool.__name__: tool() for tool in (coco, label_studio, cvat, labelme, cityscapes)}
    lines = ",\n".join(
        f'"{tool}": [\n' + ",\n".join(json.dumps(each) for each in entries) + "\n]"
        for tool, entries in made.items()
    )
    Path(__file__).with_name("references.json").write_text("{\n" + lines + "\n}\n")
