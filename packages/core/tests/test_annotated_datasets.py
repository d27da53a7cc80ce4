"""Data sets as labelling tools write them, against masks by the tools' own libraries."""

from __future__ import annotations

import base64
import io
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.recipe import Config, DataConfig, require_inside
from terrazzo.check import check_before_training, check_data
from terrazzo.data import datasets
from terrazzo.data.labels import load_label_map
from terrazzo.inference.labelling import run_lengths
from terrazzo.runs import data_fingerprint
from terrazzo.testing import dataset_checks
from terrazzo.testing.annotation_trees import WRITERS
from terrazzo.testing.dataset_checks import CHECKS, Subject
from terrazzo.testing.dataset_trees import save
from terrazzo.workflows.train import train

REFERENCES = Path(__file__).with_name("annotation_references") / "references.json"
SPLIT = {"train": 1.0, "val": 0.0, "test": 0.0}
TO_FILES_OF_IMAGES = {"truncated_files_are_refused", "mask_of_another_size_is_refused"}
"""They cut and crop the mask as an image; here it is a text."""
TO_ONE_MASK_EACH = {"a_kept_draw_outlives_new_images", "missing_files_are_all_listed"}
STATE_NO_SIZE = {"imagej_roi", "qupath", "yolo"}
TO_VALUES = {"unmapped_values_are_refused"}


@cache
def references(tool):
    return json.loads(REFERENCES.read_text())[tool]


def unpacked(entry):
    rows, columns = entry["size"]
    flat = np.unpackbits(np.frombuffer(base64.b64decode(entry["bits"]), np.uint8))
    return flat[: rows * columns].reshape(rows, columns).astype(bool)


def images(root, sizes):
    for number, size in enumerate(sizes):
        save(root / f"images/{number:04d}.png", np.zeros((*size, 3), np.uint8))


def source(root, tool, split="train", **options):
    if "{split}" not in str(options):
        options = {"split": SPLIT, **options}
    options = {"classes": ["a"], **options}
    return datasets.open_source(DataConfig(format=tool, root=str(root), options=options), split)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def read_all(data):
    for split in datasets.SPLITS:
        opened = datasets.open_split(data, split)
        for index in range(len(opened)):
            opened.read(index)


# Against the tools' own libraries


def assert_reads(found, entries):
    assert len(found.names) == len(entries) >= 200
    for index, entry in enumerate(entries):
        label_HW = found.read_label(index)
        np.testing.assert_array_equal(label_HW == 1, unpacked(entry), f"reference {index}")
        assert label_HW.max(initial=0) <= 1


def coco_file(sizes, annotations, names=("a",), **more):
    return {
        "images": [
            {"id": n, "file_name": f"{n:04d}.png", "height": rows, "width": columns}
            for n, (rows, columns) in enumerate(sizes)
        ],
        "annotations": annotations,
        "categories": [{"id": 7 + 3 * n, "name": name} for n, name in enumerate(names)],
        **more,
    }


@pytest.mark.parametrize("form", ["text", "counts"])
def test_coco_runs_are_those_of_pycocotools(tmp_path, form):
    entries = references("coco")
    sizes = [entry["size"] for entry in entries]
    images(tmp_path, sizes)
    annotations = [
        {
            "id": n,
            "image_id": n,
            "category_id": 7,
            "segmentation": {"size": entry["size"], "counts": entry[form]},
        }
        for n, entry in enumerate(entries)
    ]
    write_json(tmp_path / "annotations.json", coco_file(sizes, annotations))
    assert_reads(source(tmp_path, "coco"), entries)


def label_studio_task(number, size, values, kind="brushlabels", **more):
    return {
        "id": number,
        "data": {"image": f"/data/upload/1/0123abcd-{number:04d}.png"},
        "annotations": [
            {
                "completed_by": 1,
                "result": [
                    {
                        "id": f"r{place}",
                        "type": kind,
                        "original_height": size[0],
                        "original_width": size[1],
                        "image_rotation": 0,
                        "value": value,
                    }
                    for place, value in enumerate(values)
                ],
            }
        ],
        **more,
    }


def test_label_studio_brushes_are_those_of_its_sdk(tmp_path):
    entries = references("label_studio")
    images(tmp_path, [entry["size"] for entry in entries])
    tasks = [
        label_studio_task(
            n, entry["size"], [{"format": "rle", "rle": entry["rle"], "brushlabels": ["a"]}]
        )
        for n, entry in enumerate(entries)
    ]
    write_json(tmp_path / "project.json", tasks)
    assert_reads(source(tmp_path, "label_studio"), entries)


def cvat_image(number, size, shapes):
    return (
        f'<image id="{number}" name="{number:04d}.png" width="{size[1]}" height="{size[0]}">'
        f"{shapes}</image>"
    )


def cvat_file(images, names=("a",)):
    labels = "".join(f"<label><name>{name}</name></label>" for name in names)
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    return f"<annotations><version>1.1</version>{meta}{''.join(images)}</annotations>"


def test_cvat_masks_are_those_of_its_sdk(tmp_path):
    entries = references("cvat")
    images(tmp_path, [entry["size"] for entry in entries])
    told = []
    for n, entry in enumerate(entries):
        *lengths, left, top, right, bottom = entry["points"]
        runs = ", ".join(map(str, lengths))
        mask = f'<mask label="a" rle="{runs}" left="{left}" top="{top}" '
        mask += f'width="{right - left + 1}" height="{bottom - top + 1}" z_order="0"/>'
        told.append(cvat_image(n, entry["size"], mask))
    (tmp_path / "annotations.xml").write_text(cvat_file(told))
    assert_reads(source(tmp_path, "cvat"), entries)


def labelme_file(root, number, size, shapes):
    file = {
        "version": "6.3.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{number:04d}.png",
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }
    write_json(root / f"images/{number:04d}.json", file)


BESIDE = {"images": "images", "annotations": "images"}


def test_labelme_inclusive_is_what_labelme_draws(tmp_path):
    entries = references("labelme")
    images(tmp_path, [entry["size"] for entry in entries])
    for n, entry in enumerate(entries):
        shape = {"label": "a", "points": entry["points"], "shape_type": entry["kind"]}
        labelme_file(tmp_path, n, entry["size"], [shape])
    assert_reads(source(tmp_path, "labelme", fill="inclusive", **BESIDE), entries)


def test_cityscapes_polygons_are_those_of_its_scripts(tmp_path):
    entries = references("cityscapes")
    ids = {0: 0, 7: 1, 26: 2, 23: 3, 24: 4}
    num_shapes = 0
    for n, entry in enumerate(entries):
        file = entry["file"]
        size = file["imgHeight"], file["imgWidth"]
        save(tmp_path / f"leftImg8bit/train/x/{n:04d}_leftImg8bit.png", np.zeros(size, np.uint8))
        write_json(tmp_path / f"gtFine/train/x/{n:04d}_gtFine_polygons.json", file)
        num_shapes += len(file["objects"])
    assert num_shapes >= 200
    classes = ["road", "car", "sky", "person"]
    found = source(tmp_path, "cityscapes_polygons", images="leftImg8bit/{split}", classes=classes)
    for index, entry in enumerate(entries):
        size = entry["file"]["imgHeight"], entry["file"]["imgWidth"]
        expected = np.frombuffer(base64.b64decode(entry["ids"]), np.uint8).reshape(size)
        label_HW = found.read_label(index)
        np.testing.assert_array_equal(label_HW, np.vectorize(ids.get)(expected), str(index))


# What all formats must do


@pytest.mark.parametrize("check", sorted(CHECKS.keys() - TO_FILES_OF_IMAGES - TO_VALUES))
@pytest.mark.parametrize("name", WRITERS)
def test_format_passes(tmp_path, name, check):
    one_mask_each = ("labelme", "cityscapes_polygons", "supervisely", "imagej_roi", "darwin")
    if check in TO_ONE_MASK_EACH and name not in one_mask_each:
        pytest.skip("one file holds all shapes: images come and go with it")
    if check == "a_kept_draw_outlives_new_images" and name in ("labelme", "darwin"):
        pytest.skip("a copy of its file names another image, which is refused")
    CHECKS[check](Subject(WRITERS[name], tmp_path))


def test_every_format_of_shapes_has_a_tree():
    from terrazzo.data.datasets._shape_options import ShapeOptions

    shapes = {
        name
        for name in datasets.formats()
        if issubclass(datasets.load_format(name).Options, ShapeOptions)
    }
    assert set(WRITERS) == shapes
    assert {f"check_{name}" for name in CHECKS} <= set(vars(dataset_checks))


@pytest.mark.parametrize("name", WRITERS)
def test_the_check_before_training_takes_files_of_shapes(tmp_path, name):
    """They are no images, and have no header to look at."""
    data = WRITERS[name](tmp_path).data
    splits = {split: datasets.open_split(data, split) for split in datasets.SPLITS}
    assert check_before_training(splits, 1, data) is not None


@pytest.mark.parametrize("name", WRITERS)
def test_check_proposes_a_label_map_that_works(tmp_path, name):
    data = WRITERS[name](tmp_path / "data").data
    options = {key: value for key, value in data.options.items() if key != "classes"}
    bare = data.model_copy(update={"labels": None, "options": options})
    with pytest.raises(ConfigError, match="SEG-X121") as caught:
        datasets.open_source(bare, "train")
    assert "classes = [" in caught.value.observed
    report = check_data(bare, fresh=True)
    first, _, proposal = report.proposal.partition("\n")
    (tmp_path / "mine.toml").write_text(proposal)
    classes = json.loads(first.partition("classes = ")[2])
    label_map = load_label_map(str(tmp_path / "mine.toml"))
    assert label_map.names == ("background", *classes)
    assert "#000000" not in {each.colour for each in label_map.classes}
    chosen = data.model_copy(
        update={
            "labels": str(tmp_path / "mine.toml"),
            "options": {**options, "classes": tuple(classes)},
        }
    )
    for split in datasets.SPLITS:
        opened = datasets.open_split(chosen, split)
        labels = [opened.read(index).label_HW for index in range(len(opened))]
        assert labels
        assert max(int(label_HW.max()) for label_HW in labels) > 0


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"yolo"}))  # half a text is a text
def test_a_file_that_is_cut_short_is_named(tmp_path, name):
    tree = WRITERS[name](tmp_path)
    mask = next(iter(tree.written_images.values())).masks[0]
    mask.write_bytes(mask.read_bytes()[: mask.stat().st_size // 2])
    with pytest.raises(DataError, match="SEG-D111") as caught:
        read_all(tree.data)
    assert str(mask) in str(caught.value)
    if mask.suffix in (".json", ".xml"):
        assert "line" in caught.value.observed


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - STATE_NO_SIZE))
def test_an_image_of_another_size_is_refused(tmp_path, name):
    tree = WRITERS[name](tmp_path)
    opened = datasets.open_split(tree.data, "train")
    written = tree.written_images[opened.names[0]]
    save(written.image, written.image_HWC[:-1])
    with pytest.raises(DataError, match="SEG-D009") as caught:
        opened.read(0)
    assert str(written.masks[0]) in str(caught.value)


NEIGHBOURS = dict(zip(WRITERS, [*list(WRITERS)[3:], *list(WRITERS)[:3]], strict=True))


@pytest.mark.parametrize(("name", "other"), NEIGHBOURS.items())
def test_the_file_of_another_tool_is_called_by_its_name(tmp_path, name, other):
    tree, foreign = WRITERS[name](tmp_path / "a"), WRITERS[other](tmp_path / "b")
    mask = next(iter(tree.written_images.values())).masks[0]
    mask.write_bytes(next(iter(foreign.written_images.values())).masks[0].read_bytes())
    with pytest.raises(DataError, match="SEG-D111") as caught:
        read_all(tree.data)
    if not {"cvat", "imagej_roi", "yolo"} & {name, other}:  # these hold no JSON
        assert f'data.format = "{other}"' in caught.value.next_step


JUNK = (None, -1, 2.5, 1e308, float("nan"), 10**30, "", "x", "\0", [], {}, [[1, 2], [3]], True)


def places(value, path=()):
    """Yield the way to every value in nested tables and lists, of long lists to the first ones."""
    yield path
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value[:2]) if isinstance(value, list) else inner
    for key, each in inner:
        yield from places(each, (*path, key))


def with_junk(text, draw):
    """Return a JSON file with one value in it changed, or another text with a word changed."""
    junk = JUNK[draw.integers(len(JUNK))]
    if text[0] not in "[{":
        words = text.split(" ")
        words[draw.integers(min(len(words), 60))] = str(junk)
        return " ".join(words)
    value = {"top": json.loads(text)}
    ways = list(places(value))[1:]
    *way, last = ways[draw.integers(len(ways))]
    at = value
    for key in way:
        at = at[key]
    at[last] = junk
    return json.dumps(value["top"])


def refusal(data, mask):
    try:
        found = datasets.open_source(data, "train")
        for index in range(len(found.names)):
            if found.files(index)[1] == mask:
                found.read_label(index)
    except DataError as error:
        return error
    return None


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"imagej_roi"}))  # it is no text
def test_junk_in_a_file_is_refused_and_never_a_traceback(tmp_path, name):
    tree = WRITERS[name](tmp_path)
    mask = next(iter(tree.written_images.values())).masks[0]
    text = mask.read_text()
    draw = np.random.default_rng(0)
    num_refused = 0
    for _ in range(40):
        mask.write_text(with_junk(text, draw))
        error = refusal(tree.data, mask)
        num_refused += error is not None
        assert error is None or str(mask) in str(error)
    assert num_refused >= 10


# One tool each


def test_coco_classes_are_by_name_and_not_by_id_or_order(tmp_path):
    images(tmp_path, [(4, 8)])
    boxes = [[0, 0, 4, 0, 4, 4, 0, 4], [4, 0, 8, 0, 8, 4, 4, 4]]
    annotations = [
        {"id": n, "image_id": 0, "category_id": category, "segmentation": [box]}
        for n, (category, box) in enumerate(zip((10, 7), boxes, strict=True))
    ]
    write_json(tmp_path / "annotations.json", coco_file([(4, 8)], annotations, ("b", "a")))
    assert (
        source(tmp_path, "coco", classes=["a", "b"]).read_label(0)[0].tolist() == [1] * 4 + [2] * 4
    )
    found = source(tmp_path, "coco", classes=["b", "a"]).read_label(0)[0].tolist()
    assert found == [2] * 4 + [1] * 4
    with pytest.raises(DataError, match="SEG-D112") as caught:
        source(tmp_path, "coco", classes=["b"]).read_label(0)
    assert "'a': annotations[0]" in caught.value.observed
    assert caught.value.allowed == "b"
    found = source(tmp_path, "coco", classes=["b"], undrawn=["a"])
    assert found.read_label(0)[0].tolist() == [0] * 4 + [1] * 4
    assert found.account(0).undrawn == 1


def test_names_of_classes_and_people_are_no_paths(tmp_path):
    """A recipe may not name paths beyond the data; ``../`` in a class is no path."""
    options = {"classes": ["../a", "/b"], "undrawn": ["/c"], "annotator": "/d"}
    data = DataConfig(format="label_studio", root=str(tmp_path), options=options)
    require_inside(data, where="test")
    outside = data.model_copy(update={"options": {"annotations": "../x.json"}})
    with pytest.raises(ConfigError, match="SEG-X026"):
        require_inside(outside, where="test")


def test_coco_ids_of_any_length_are_told_apart(tmp_path):
    images(tmp_path, [(1, 1), (1, 1)])
    file = coco_file([(1, 1), (1, 1)], [])
    for number, image in enumerate(file["images"]):
        image["id"] = 2**60 + number
    square = [[0, 0, 1, 0, 1, 1, 0, 1]]
    file["annotations"] = [
        {"id": 1, "image_id": 2**60 + 1, "category_id": 7, "segmentation": square}
    ]
    write_json(tmp_path / "annotations.json", file)
    found = source(tmp_path, "coco")
    assert [found.read_label(index).item() for index in (0, 1)] == [0, 1]


def test_coco_keeps_the_order_of_the_file(tmp_path):
    """Not by area, not by id: the large one comes last and lies on top."""
    images(tmp_path, [(4, 4)])
    small, large = [0, 0, 2, 0, 2, 2, 0, 2], [0, 0, 4, 0, 4, 4, 0, 4]
    annotations = [
        {"id": 9, "image_id": 0, "category_id": 7, "area": 4, "segmentation": [small]},
        {"id": 1, "image_id": 0, "category_id": 10, "area": 16, "segmentation": [large]},
    ]
    file = coco_file([(4, 4)], annotations, ("a", "b"))
    write_json(tmp_path / "annotations.json", file)
    found = source(tmp_path, "coco", classes=["a", "b"])
    assert (found.read_label(0) == 2).all()
    assert found.account(0).hidden == {"a": 1}


def test_three_hundred_classes_need_sixteen_bits(tmp_path):
    names = [f"c{n}" for n in range(300)]
    images(tmp_path, [(2, 300)])
    annotations = [
        {
            "id": n,
            "image_id": 0,
            "category_id": 7 + 3 * n,
            "iscrowd": int(n == 5),
            "segmentation": [[n, 0, n + 1, 0, n + 1, 2, n, 2]],
        }
        for n in range(300)
    ]
    write_json(tmp_path / "annotations.json", coco_file([(2, 300)], annotations, names))
    label_HW = source(tmp_path, "coco", classes=names, iscrowd="ignore").read_label(0)
    assert label_HW.dtype == np.uint16
    expected = np.arange(1, 301)
    expected[5] = 65535
    np.testing.assert_array_equal(label_HW, [expected, expected])


@pytest.mark.parametrize(
    ("segmentation", "code"),
    [
        ([], "SEG-D116"),
        ([[0, 0, 1, 1]], "SEG-D113"),
        ([[0, 0, 1, 1, 2]], "SEG-D113"),
        ([[0, 0, "x", 1, 2, 2]], "SEG-D113"),
        ({"size": [4, 4], "counts": [3, 4]}, "SEG-D113"),
        ({"size": [4, 4], "counts": [20, -4]}, "SEG-D113"),
        ({"size": [4, 4], "counts": [1.5, 14.5]}, "SEG-D113"),
        ({"size": [4, 4], "counts": [2**70, 16]}, "SEG-D113"),
        ({"size": [4, 4], "counts": "\x7f\x00"}, "SEG-D113"),
        ({"size": [4, 4], "counts": "ooooooooooooooooooo"}, "SEG-D113"),
        ({"size": [40, 40], "counts": [1600]}, "SEG-D113"),
        ({"size": "x", "counts": []}, "SEG-D111"),
    ],
)
def test_coco_shapes_that_cannot_be_are_refused_with_their_place(tmp_path, segmentation, code):
    images(tmp_path, [(4, 4)])
    one = {"id": 1, "image_id": 0, "category_id": 7, "segmentation": segmentation}
    write_json(tmp_path / "annotations.json", coco_file([(4, 4)], [one]))
    with pytest.raises(DataError, match=code) as caught:
        source(tmp_path, "coco").read_label(0)
    assert "annotations[0]" in caught.value.observed


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": [{"id": 0, "file_name": "../x.png", "height": 4, "width": 4}]}, "SEG-D042"),
        ({"images": [{"id": 0, "file_name": "no.png", "height": 4, "width": 4}]}, "SEG-D014"),
        ({"images": [{"id": "x", "file_name": "no.png", "height": 4, "width": 4}]}, "'id' is 'x'"),
        ({"images": [{"id": 0, "file_name": "0000.png", "height": 4}]}, "'width' is missing"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "have the id 1"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "called 'a'"),
        ({"categories": 3}, "'categories' is 3"),
    ],
)
def test_coco_files_that_contradict_themselves_are_refused(tmp_path, change, told):
    images(tmp_path, [(4, 4)])
    write_json(tmp_path / "annotations.json", coco_file([(4, 4)], [], **change))
    with pytest.raises(DataError, match=told):
        source(tmp_path, "coco")


def test_coco_images_that_the_file_does_not_name_are_told(tmp_path):
    images(tmp_path, [(4, 4), (4, 4)])
    write_json(tmp_path / "annotations.json", coco_file([(4, 4)], []))
    assert "1 images: 0001.png" in source(tmp_path, "coco").notes[0]


def test_labelme_kinds_of_shapes(tmp_path):
    images(tmp_path, [(20, 30)])
    mask = io.BytesIO()
    Image.fromarray(np.array([[1, 0], [1, 1]], np.uint8)).save(mask, "PNG")
    shapes = [
        {"label": "a", "shape_type": "rectangle", "points": [[9, 8], [1, 2]]},
        {"label": "b", "shape_type": "circle", "points": [[20, 10], [20, 15]]},
        {
            "label": "b",
            "shape_type": "mask",
            "points": [[3, 4], [4, 5]],
            "mask": base64.b64encode(mask.getvalue()).decode(),
        },
    ]
    labelme_file(tmp_path, 0, (20, 30), shapes)
    label_HW = source(tmp_path, "labelme", classes=["a", "b"], **BESIDE).read_label(0)
    assert (label_HW == 1).sum() == 6 * 8 - 3
    assert label_HW[4:6, 3:5].tolist() == [[2, 1], [2, 2]]
    assert (label_HW == 2).sum() - 3 == pytest.approx(np.pi * 25, abs=4)
    line = {"label": "a", "shape_type": "linestrip", "points": [[0, 5], [30, 5]]}
    labelme_file(tmp_path, 0, (20, 30), [line])
    with pytest.raises(DataError, match="SEG-D116") as caught:
        source(tmp_path, "labelme", **BESIDE).read_label(0)
    assert "line_width" in caught.value.next_step
    found = source(tmp_path, "labelme", line_width=4.0, **BESIDE)
    assert found.read_label(0).any(axis=1).tolist() == [False] * 3 + [True] * 4 + [False] * 13


def test_labelme_images_without_a_file_are_refused_or_left_out(tmp_path):
    images(tmp_path, [(4, 4), (4, 4)])
    labelme_file(tmp_path, 0, (4, 4), [])
    with pytest.raises(DataError, match="SEG-D014") as caught:
        source(tmp_path, "labelme", **BESIDE)
    assert "0001" in caught.value.observed
    found = source(tmp_path, "labelme", unannotated="leave_out", **BESIDE)
    assert found.names == ("0000",)
    assert "0001" in found.notes[0]


def test_labelme_of_another_image_is_refused(tmp_path):
    images(tmp_path, [(4, 4), (4, 4)])
    labelme_file(tmp_path, 0, (4, 4), [])
    (tmp_path / "images/0000.json").rename(tmp_path / "images/0001.json")
    found = source(tmp_path, "labelme", unannotated="leave_out", **BESIDE)
    with pytest.raises(DataError, match="of another image"):
        found.read_label(0)


def test_cvat_draws_by_z_order_and_turns_boxes(tmp_path):
    images(tmp_path, [(20, 20)])
    shapes = (
        '<polygon label="a" points="0.0,0.0;20.0,0.0;20.0,20.0;0.0,20.0" z_order="1"/>'
        '<box label="b" xtl="0" ytl="0" xbr="20" ybr="20" z_order="0"/>'
        '<box label="b" xtl="4" ytl="8" xbr="16" ybr="12" rotation="90.0" z_order="2"/>'
        '<tag label="b"/>'
    )
    (tmp_path / "annotations.xml").write_text(cvat_file([cvat_image(0, (20, 20), shapes)]))
    found = source(tmp_path, "cvat", classes=["a", "b"])
    expected = np.ones((20, 20), int)
    expected[4:16, 8:12] = 2  # upright now
    np.testing.assert_array_equal(found.read_label(0), expected)
    assert "1 tags" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('<cuboid label="a" z_order="0"/>', "SEG-D116"),
        ('<skeleton label="a" z_order="0"><points label="p" points="1,1"/></skeleton>', "SEG-D116"),
        ('<polyline label="a" points="1,1;2,2"/>', "SEG-D116"),
        ('<polygon label="a" points="1,1;2"/>', "SEG-D113"),
        ('<mask label="a" rle="3, 4" left="0" top="0" width="2" height="2"/>', "SEG-D113"),
        ('<mask label="a" rle="0, 9" left="3" top="0" width="3" height="3"/>', "SEG-D113"),
        ('<mask label="a" rle="x" left="0" top="0" width="2" height="2"/>', "SEG-D113"),
        ('<box label="a" xtl="1" ytl="1" xbr="2"/>', "'ybr' is missing"),
    ],
)
def test_cvat_shapes_that_cannot_be_are_refused_with_their_place(tmp_path, text, told):
    images(tmp_path, [(4, 4)])
    (tmp_path / "annotations.xml").write_text(cvat_file([cvat_image(0, (4, 4), text)]))
    with pytest.raises(DataError, match=told) as caught:
        source(tmp_path, "cvat").read_label(0)
    assert "image '0000.png', shape 0" in caught.value.observed


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<annotations><version>1.1</version>\n<image>", "line 2"),
        (b"<annotations><track id='0'/></annotations>", "'label' is missing"),
        (b"<annotation><filename>x</filename></annotation>", "element <annotation>"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>", "document type"),
        ("<annotations/>".encode("utf-16"), "UTF-8"),
    ],
)
def test_xml_that_cvat_does_not_write_is_refused(tmp_path, content, told):
    (tmp_path / "annotations.xml").write_bytes(content)
    with pytest.raises(DataError, match="SEG-D111") as caught:
        source(tmp_path, "cvat")
    assert told in caught.value.observed


def test_cvat_points_are_points_and_no_line(tmp_path):
    images(tmp_path, [(10, 10)])
    points = '<points label="a" points="1.5,1.5;8.5,1.5;8.5,7.5"/>'
    (tmp_path / "annotations.xml").write_text(cvat_file([cvat_image(0, (10, 10), points)]))
    label_HW = source(tmp_path, "cvat", line_width=1.0).read_label(0)
    assert np.argwhere(label_HW).tolist() == [[1, 1], [1, 8], [7, 8]]


def darwin_file(root, size, *shapes, **slot):
    slot = {"type": "image", "width": size[1], "height": size[0], **slot}
    item = {"name": "0000.png", "slots": [slot]}
    write_json(root / "annotations/0000.json", {"item": item, "annotations": shapes})


def darwin_path(*points):
    return [{"x": x, "y": y} for x, y in points]


def test_darwin_paths_inside_others_are_holes_and_tags_are_no_shapes(tmp_path):
    images(tmp_path, [(20, 30)])
    outer = darwin_path((2, 2), (12, 2), (12, 12), (2, 12))
    inner = darwin_path((4, 4), (8, 4), (8, 8), (4, 8))
    apart = darwin_path((20, 2), (24, 2), (24, 5), (20, 5))
    around = {"x": 2, "y": 2, "w": 22, "h": 10}
    darwin_file(
        tmp_path,
        (20, 30),
        {"name": "a", "polygon": {"paths": [inner, outer, apart]}, "bounding_box": around},
        {"name": "dusk", "tag": {}},
        {"name": "a", "line": {"path": darwin_path((1.5, 15.5), (6.5, 15.5))}},
        {"name": "a", "keypoint": {"x": 20.5, "y": 15.5}},
    )
    expected_HW = np.zeros((20, 30), int)
    expected_HW[2:12, 2:12] = 1
    expected_HW[4:8, 4:8] = 0
    expected_HW[2:5, 20:24] = 1
    expected_HW[15, 1:7] = 1
    expected_HW[15, 20] = 1
    found = source(tmp_path, "darwin", line_width=1.0)
    np.testing.assert_array_equal(found.read_label(0), expected_HW)
    assert found.account(0).shapes == {"polygon": 1, "line": 1, "keypoint": 1}


@pytest.mark.parametrize(
    ("shape", "slot", "code", "told"),
    [
        ({"ellipse": {}, "name": "a"}, {}, "SEG-D116", "'ellipse' at annotations[0]"),
        ({"mask": {"sparse_rle": None}, "name": "a"}, {}, "SEG-D116", "'mask'"),
        ({"frames": {"0": {}}, "name": "a"}, {}, "SEG-D116", "'frames'"),
        ({"hologram": {}, "name": "a", "id": "x"}, {}, "SEG-D116", "'hologram'"),
        ({"tag": {}, "name": "a"}, {"type": "video"}, "SEG-D116", "a video or volume"),
        ({"polygon": {"paths": [[]]}, "name": "a"}, {}, "SEG-D111", "paths[0] is no list"),
        ({"polygon": {"paths": [[{"x": 1}]]}, "name": "a"}, {}, "SEG-D111", "'y' is missing"),
        ({"polygon": {"paths": []}, "name": "a"}, {}, "SEG-D113", "0 in annotations[0]"),
    ],
)
def test_darwin_shapes_that_are_not_read_are_refused_with_their_place(
    tmp_path, shape, slot, code, told
):
    images(tmp_path, [(20, 30)])
    darwin_file(tmp_path, (20, 30), shape, **slot)
    with pytest.raises(DataError, match=code) as caught:
        source(tmp_path, "darwin").read_label(0)
    assert told in caught.value.observed


def test_label_studio_turns_pixels_and_not_per_cent(tmp_path):
    """A rectangle turned by 90 degrees about its corner, on an image twice as wide as high."""
    images(tmp_path, [(100, 200)])
    value = {"x": 50, "y": 20, "width": 20, "height": 10, "rotation": 90}
    task = label_studio_task(
        0, (100, 200), [{**value, "rectanglelabels": ["a"]}], "rectanglelabels"
    )
    write_json(tmp_path / "project.json", [task])
    expected = np.zeros((100, 200), int)
    expected[20:60, 90:100] = 1
    np.testing.assert_array_equal(source(tmp_path, "label_studio").read_label(0), expected)


def test_label_studio_polygons_ellipses_and_regions_of_two_controls(tmp_path):
    images(tmp_path, [(100, 200)])
    task = label_studio_task(0, (100, 200), [], "")
    shared = {"original_height": 100, "original_width": 200, "image_rotation": 0}
    points = [[0, 0], [10, 0], [10, 10], [0, 10]]
    ellipse = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10, "rotation": 0}
    task["annotations"][0]["result"] = [
        {"id": "p", "type": "polygon", "value": {"points": points}, **shared},
        {"id": "p", "type": "labels", "value": {"points": points, "labels": ["b"]}, **shared},
        {
            "id": "e",
            "type": "ellipselabels",
            "value": {**ellipse, "ellipselabels": ["a"]},
            **shared,
        },
        {"id": "c", "type": "choices", "value": {"choices": ["good"]}},
        {"type": "relation", "from_id": "p", "to_id": "e"},
    ]
    write_json(tmp_path / "project.json", [task])
    label_HW = source(tmp_path, "label_studio", classes=["a", "b"]).read_label(0)
    assert (label_HW[:10, :20] == 2).all()
    assert (label_HW == 2).sum() == 200
    assert (label_HW == 1).sum() == pytest.approx(np.pi * 20 * 10, rel=0.02)


def test_label_studio_of_several_people_asks_whose_answer_counts(tmp_path):
    images(tmp_path, [(4, 4)])
    task = label_studio_task(0, (4, 4), [])
    full = {"x": 0, "y": 0, "width": 100, "height": 100, "rectanglelabels": ["a"]}
    other = label_studio_task(0, (4, 4), [full], "rectanglelabels")["annotations"][0]
    other["completed_by"] = {"id": 2, "email": "b@example.org"}
    gone = {**other, "was_cancelled": True}
    task["annotations"] += [other, gone]
    write_json(tmp_path / "project.json", [task])
    with pytest.raises(DataError, match="SEG-D117") as caught:
        source(tmp_path, "label_studio")
    assert "by 1, b@example.org" in caught.value.observed
    assert (source(tmp_path, "label_studio", annotator="1").read_label(0) == 0).all()
    found = source(tmp_path, "label_studio", annotator="b@example.org")
    assert (found.read_label(0) == 1).all()
    assert "1 answers were cancelled" in found.notes[0]
    with pytest.raises(ConfigError, match="SEG-X122"):
        source(tmp_path, "label_studio", annotator="c")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"rle": [0, 0, 0]}, "SEG-D113"),
        ({"rle": [256]}, "SEG-D113"),
        ({"rle": run_lengths.label_studio_bytes(np.ones((4, 5), bool))}, "SEG-D113"),
        ({"rle": [0, 0, 0, 64, 58, 23, 0]}, "SEG-D113"),
    ],
)
def test_label_studio_brushes_that_cannot_be_are_refused(tmp_path, change, code):
    images(tmp_path, [(4, 4)])
    value = {"format": "rle", "brushlabels": ["a"], **change}
    write_json(tmp_path / "project.json", [label_studio_task(0, (4, 4), [value])])
    with pytest.raises(DataError, match=code) as caught:
        source(tmp_path, "label_studio").read_label(0)
    assert "[0]" in caught.value.observed


@pytest.mark.parametrize(
    "address",
    [
        "/data/local-files/?d=photos/deep/0000.png",
        "/data/upload/3/89abcdef-0000.png",
        "s3://bucket/photos/0000.png",
        "https://example.org/0000.png?token=x",
        "0000.png",
    ],
)
def test_label_studio_finds_images_by_their_address(tmp_path, address):
    images(tmp_path, [(4, 4)])
    task = label_studio_task(0, (4, 4), [])
    task["data"]["image"] = address
    write_json(tmp_path / "project.json", [task])
    assert source(tmp_path, "label_studio").names == ("0000",)


# The check, and a run


def test_a_run_trains_and_knows_its_shapes_again(tmp_path):
    """Two commands from a COCO file to scores; a corner that moves is other data."""
    tree = WRITERS["coco"](tmp_path / "data")
    values = {
        "backend": "reference",
        "name": "shapes",
        "data": tree.data.model_dump(),
        "loader": {"threads": 0},
        "model": {"name": "pixel_softmax"},
        "training": {"epochs": 1, "batch_size": 4, "schedule": {"learning_rate": 0.05}},
    }
    train(Config.model_validate(values), tmp_path / "run")
    stored = json.loads((tmp_path / "run/run.json").read_text())
    assert 'shapes are drawn by the rule fill = "centre"' in json.dumps(stored).replace("\\", "")


def test_a_corner_that_moves_in_a_long_file_is_other_data(tmp_path):
    """Of other files three samples are read, and this change lies in none of them."""
    tree = WRITERS["coco"](tmp_path)
    file = next(iter(tree.written_images.values())).masks[0]
    padded = " " * 300_000 + file.read_text() + " " * 900_000
    told = []
    for number in (4, 5):
        file.write_text(padded.replace('"category_id": 4', f'"category_id": {number}', 1))
        splits = {name: datasets.open_split(tree.data, name) for name in datasets.SPLITS}
        told.append(data_fingerprint.fingerprint(splits))
    assert data_fingerprint.differences(*told)[0].endswith("the contents of label files")


def test_check_tells_lost_shapes_overlaps_and_both_rules(tmp_path):
    images(tmp_path, [(8, 8)] * 3)
    square = [0, 0, 4, 0, 4, 4, 0, 4]
    sliver = [5.6, 5.6, 5.9, 5.6, 5.9, 5.9, 5.6, 5.9]
    beyond = [2, 2, 12, 2, 12, 6, 2, 6]
    annotations = [
        {"id": n, "image_id": n % 3, "category_id": category, "segmentation": [ring]}
        for n, (category, ring) in enumerate(
            [(7, square), (7, square), (7, square), (7, sliver), (10, beyond), (10, sliver)]
        )
    ]
    file = coco_file([(8, 8)] * 3, annotations, ("a", "b"))
    write_json(tmp_path / "annotations.json", file)
    options = {"classes": ("a", "b"), "split": {"train": 0.4, "val": 0.3, "test": 0.3}}
    data = DataConfig(format="coco", root=str(tmp_path), options=options)
    found = {each.code: each for each in check_data(data, fresh=True).findings}
    lost = found["SEG-D118"]
    assert lost.level.name == "WARNING"
    for told in (
        "6 shapes (polygon 6)",
        "2 cover no pixel (a 1, b 1)",
        "1 reach beyond",
        "b over a 4",
    ):
        assert told in lost.observed
    assert found["SEG-D119"].observed.startswith("pixels by fill = centre and inclusive: a 44 and ")
