"""Files for labelling programs and the function for CVAT, read by the programs' own libraries.

Each library runs in a Python of its own, which an environment variable names, or in this one where
it is installed; for CVAT, Terrazzo must be there, too. Skipped where there is neither.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from terrazzo.inference import predict
from terrazzo.inference.model import load_model
from terrazzo.inference.outputs import Settings
from terrazzo.io import images
from terrazzo.testing.scenes import make_model

pytestmark = pytest.mark.slow

SOURCES = os.pathsep.join(str(p) for p in Path(__file__).parents[1].glob("packages/*/src"))


def python_with(module: str, variable: str) -> str:
    """Return a Python that has a module, or skip."""
    if os.environ.get(variable):
        return os.environ[variable]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed, and {variable} names no Python that has it")
    return sys.executable


def answer_of(python: str, program: str, *arguments: object) -> dict:
    """Return the JSON that a program of an own Python prints last."""
    done = subprocess.run(
        [python, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, images, and what was predicted for both programs."""
    place = tmp_path_factory.mktemp("labels")
    make_model(place / "model")
    rng = np.random.default_rng(3)
    for name, shape in (("a & b.png", (97, 101)), ("sub/c.jpg", (300, 260)), ("one.png", (1, 1))):
        path = place / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse_HWC = rng.integers(0, 256, (-(-shape[0] // 9), -(-shape[1] // 9), 3), np.uint8)
        image_HWC = coarse_HWC.repeat(9, axis=0).repeat(9, axis=1)[: shape[0], : shape[1]]
        Image.fromarray(image_HWC).save(path)
    for program in ("cvat", "labelstudio"):
        predict.predict(
            place / "model", place / "photos", place / program, Settings(labels_for=program)
        )
    return place


def maps(folder: Path) -> dict[str, np.ndarray]:
    return {
        str(path.relative_to(folder).with_suffix("")): images.read_label(path, "index")
        for path in folder.rglob("*.png")
        if not path.stem.endswith("_overlay")
    }


LABEL_STUDIO = """
import json, sys
from pathlib import Path
import numpy as np
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface

folder = Path(sys.argv[1])
interface = LabelInterface((folder / "labelstudio_config.xml").read_text("utf-8"))
interface.validate()
tasks = json.loads((folder / "labelstudio_tasks.json").read_text("utf-8"))
answer = {}
for task in tasks:
    (prediction,) = task["predictions"]
    assert interface.validate_prediction(prediction, return_errors=True) == []
    assert interface.validate_prediction(prediction)
    broken = json.loads(json.dumps(prediction))
    broken["result"][0]["value"]["brushlabels"] = ["no such class"]
    assert not interface.validate_prediction(broken)
    for region in prediction["result"]:
        rows, columns = region["original_height"], region["original_width"]
        bands = decode_rle(region["value"]["rle"]).reshape(rows, columns, 4)
        assert set(np.unique(bands)) <= {0, 255} and (bands == bands[..., :1]).all()
        name = task["data"]["image"].partition("photos/")[2]
        (label,) = region["value"]["brushlabels"]
        answer.setdefault(name, {})[label] = np.packbits(bands[..., 3] == 255).tolist()
print(json.dumps(answer))
"""


def test_label_studio_finds_the_predictions_valid_and_reads_the_masks_of_the_maps(
    place: Path,
) -> None:
    python = python_with("label_studio_sdk", "TERRAZZO_LABELSTUDIO_PYTHON")
    found = answer_of(python, LABEL_STUDIO, place / "labelstudio")
    expected = maps(place / "labelstudio")
    names = load_model(place / "model").card.label_map.names
    assert sorted(found) == ["a%20%26%20b.png", "one.png", "sub/c.jpg"]
    for name, masks in found.items():
        labels_HW = expected[name.replace("%20", " ").replace("%26", "&").rpartition(".")[0]]
        packed = {names[k]: np.packbits(labels_HW == k).tolist() for k in np.unique(labels_HW)}
        assert masks == packed


CVAT_FILES = """
import json, sys
from pathlib import Path
from xml.etree import ElementTree
import numpy as np
from cvat_sdk import models
from cvat_sdk.masks import decode_mask, encode_mask

folder = Path(sys.argv[1])
labels = json.loads((folder / "cvat_labels.json").read_text("utf-8"))
for label in labels:
    models.PatchedLabelRequest(**label)
answer = {}
for image in ElementTree.parse(folder / "cvat_annotations.xml").getroot().iter("image"):
    size = {"image_width": int(image.get("width")), "image_height": int(image.get("height"))}
    for mask in image:
        left, top, width, height = (int(mask.get(n)) for n in ("left", "top", "width", "height"))
        lengths = [int(text) for text in mask.get("rle").split(",")]
        points = [*lengths, left, top, left + width - 1, top + height - 1]
        mask_HW = decode_mask(points, **size)
        assert encode_mask(mask_HW) == points
        packed = np.packbits(mask_HW).tolist()
        answer.setdefault(image.get("name"), {})[mask.get("label")] = packed
print(json.dumps(answer))
"""

DATUMARO = """
import json, shutil, sys, tempfile
import datumaro, numpy

with tempfile.TemporaryDirectory() as folder:
    shutil.copy(sys.argv[1] + "/cvat_annotations.xml", folder)
    shutil.copytree(sys.argv[2], folder + "/images")
    found = datumaro.Dataset.import_from(folder, "cvat")
labels = found.categories()[datumaro.AnnotationType.label]
answer = {}
for item in found:
    answer[item.id] = {
        labels[each.label].name: numpy.packbits(each.image.astype(bool)).tolist()
        for each in item.annotations
    }
print(json.dumps(answer))
"""


@pytest.mark.parametrize(
    ("module", "variable", "program"),
    [
        ("cvat_sdk", "TERRAZZO_CVAT_PYTHON", CVAT_FILES),
        ("datumaro", "TERRAZZO_DATUMARO_PYTHON", DATUMARO),
    ],
)
def test_readers_of_cvats_files_find_the_masks_of_the_maps(
    place: Path, module: str, variable: str, program: str
) -> None:
    python = python_with(module, variable)
    found = answer_of(python, program, place / "cvat", place / "photos")
    expected = maps(place / "cvat")
    names = load_model(place / "model").card.label_map.names
    without_suffix = {name.removesuffix(".png").removesuffix(".jpg"): found[name] for name in found}
    assert without_suffix.keys() == expected.keys()
    for name, masks in without_suffix.items():
        labels_HW = expected[name]
        packed = {names[k]: np.packbits(labels_HW == k).tolist() for k in np.unique(labels_HW)}
        assert masks == packed


FUNCTION = """
import json, logging, sys
from pathlib import Path
from types import SimpleNamespace as Simple
import numpy as np
from PIL import Image
from cvat_cli._internal.common import FunctionLoader
from cvat_sdk import auto_annotation, models
from cvat_sdk.auto_annotation import driver
from cvat_sdk.masks import decode_mask

run, photos, polygons, threshold = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "1", sys.argv[4]
loader = FunctionLoader("terrazzo.inference.cvat_function", None, {"run": run, "tolerance": 0.0})
function = loader.load()
paths = sorted(path for path in photos.rglob("*") if path.is_file())
kind = "polygon" if polygons else "mask"
labels = [
    Simple(id=100 + label.id, name=label.name, type=kind, attributes=[], sublabels=[])
    for label in function.spec.labels
]
samples = [
    Simple(frame_name=str(path), frame_index=number,
           media=Simple(load_image=lambda path=path: Image.open(path)))
    for number, path in enumerate(paths)
]
# What the server would give and take; everything between is the library's.
driver.TaskDataset = lambda *a, **k: Simple(labels=labels, samples=samples)
taken = []
api = Simple(partial_update_annotations=lambda action, task, patched_labeled_data_request:
             taken.append(patched_labeled_data_request))
client = Simple(logger=logging.getLogger(), tasks=Simple(api=api))
auto_annotation.annotate_task(
    client, 7, function, conv_mask_to_poly=polygons,
    conf_threshold=float(threshold) if threshold else None,
)
answer = {}
for shape in taken[0].shapes:
    path = paths[shape.frame]
    columns, rows = Image.open(path).size
    if polygons:
        value = [shape.points, shape.z_order]
    else:
        mask_HW = decode_mask(shape.points, image_width=columns, image_height=rows)
        value = np.packbits(mask_HW).tolist()
    name = str(path.relative_to(photos).with_suffix(""))
    score = shape.score if hasattr(shape, "score") else None
    answer.setdefault(name, []).append([shape.label_id - 100, value, score])
print(json.dumps(answer))
"""


def test_cvats_command_line_gets_the_masks_of_the_maps(place: Path) -> None:
    python = python_with("cvat_sdk", "TERRAZZO_CVAT_PYTHON")
    found = answer_of(python, FUNCTION, place / "model", place / "photos", 0, "")
    expected = maps(place / "cvat")
    assert found.keys() == expected.keys()
    for name, shapes in found.items():
        labels_HW = expected[name]
        masks = {k: np.packbits(labels_HW == k).tolist() for k in np.unique(labels_HW).tolist()}
        assert {k: packed for k, packed, _ in shapes} == masks
        assert len(shapes) == len(masks)


def test_cvats_command_line_gets_polygons_where_it_asks_for_them(place: Path) -> None:
    from rasterio import features

    python = python_with("cvat_sdk", "TERRAZZO_CVAT_PYTHON")
    found = answer_of(python, FUNCTION, place / "model", place / "photos", 1, "")
    for name, labels_HW in maps(place / "cvat").items():
        drawn_HW = np.full(labels_HW.shape, 255, np.uint8)
        # By length within a depth, an order of chance.
        for k, (points, _), _ in sorted(found[name], key=lambda s: (s[1][1], len(s[1][0]))):
            ring = [*zip(points[::2], points[1::2], strict=True), tuple(points[:2])]
            polygon = {"type": "Polygon", "coordinates": [ring]}
            drawn_HW[features.rasterize([(polygon, 1)], labels_HW.shape) == 1] = k
        np.testing.assert_array_equal(drawn_HW, labels_HW)


def test_classes_below_cvats_threshold_are_left_out(place: Path) -> None:
    python = python_with("cvat_sdk", "TERRAZZO_CVAT_PYTHON")
    everything = answer_of(python, FUNCTION, place / "model", place / "photos", 0, "0")
    scores = sorted(score for shapes in everything.values() for _, _, score in shapes)
    middle = (scores[len(scores) // 2 - 1] + scores[len(scores) // 2]) / 2
    some = answer_of(python, FUNCTION, place / "model", place / "photos", 0, middle)
    expected = [s for shapes in everything.values() for s in shapes if s[2] >= middle]
    assert [shape for shapes in some.values() for shape in shapes] == expected
    assert 0 < len(expected) < len(scores)
