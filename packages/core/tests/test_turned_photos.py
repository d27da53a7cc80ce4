"""Photos with an Exif orientation under shapes of labelling tools: what the stated sizes tell."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from terrazzo.base.errors import DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import DataConfig
from terrazzo.check import check_before_training, check_data
from terrazzo.data import datasets
from terrazzo.io import images

SPLIT = {"train": 1.0, "val": 0.0, "test": 0.0}
STORED = (20, 30)
MAP = """
name = "two"
ignored = [255]
classes = [
    { name = "rest", colour = "#BAB0AC", raw = [0] },
    { name = "a", colour = "#4E79A7", raw = [1] },
]
"""


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def photo(path, orientation, size=STORED):
    """Write noise with a bright corner; return the pixels as stored and as they are displayed."""
    image_HWC = np.random.default_rng(1).integers(0, 90, (*size, 3), np.uint8)
    image_HWC[2:8, 3:14] += 150
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_HWC).save(path, exif=exif)
    with Image.open(path) as image:
        return image_HWC, np.asarray(ImageOps.exif_transpose(image))


def bright(image_HWC):
    return image_HWC.min(axis=2) >= 150


def box_of(mask_HW):
    """Return left, top, right and bottom, with corners at whole numbers."""
    rows, columns = np.nonzero(mask_HW)
    return (
        int(columns.min()),
        int(rows.min()),
        int(columns.max()) + 1,
        int(rows.max()) + 1,
    )


def corners(mask_HW):
    left, top, right, bottom = box_of(mask_HW)
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def coco(root, mask_HW):
    flat = mask_HW.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - int(flat[-1])]])))
    counts = np.diff(edges, prepend=0).tolist()
    rows, columns = mask_HW.shape
    write(
        root / "annotations.json",
        {
            "images": [{"id": 0, "file_name": "a.png", "height": rows, "width": columns}],
            "categories": [{"id": 3, "name": "a"}],
            "annotations": [
                {
                    "id": 0,
                    "image_id": 0,
                    "category_id": 3,
                    "segmentation": {"size": [rows, columns], "counts": counts},
                }
            ],
        },
    )
    return {}


def labelme(root, mask_HW, version="6.3.1"):
    rows, columns = mask_HW.shape
    shape = {"label": "a", "points": corners(mask_HW), "shape_type": "polygon"}
    file = {"imagePath": "a.png", "imageData": None, "shapes": [shape], "version": version}
    write(root / "images/a.json", {**file, "imageHeight": rows, "imageWidth": columns})
    return {"images": "images", "annotations": "images"}


def cvat(root, mask_HW):
    left, top, right, bottom = box_of(mask_HW)
    box = f'<box label="a" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"/>'
    rows, columns = mask_HW.shape
    image = f'<image id="0" name="a.png" width="{columns}" height="{rows}">{box}</image>'
    write(root / "annotations.xml", f"<annotations>{image}</annotations>")
    return {}


def label_studio(root, mask_HW):
    rows, columns = mask_HW.shape
    points = [[100 * x / columns, 100 * y / rows] for x, y in corners(mask_HW)]
    result = {
        "id": "r",
        "type": "polygonlabels",
        "original_height": rows,
        "original_width": columns,
        "value": {"points": points, "polygonlabels": ["a"]},
    }
    task = {"data": {"image": "a.png"}, "annotations": [{"completed_by": 1, "result": [result]}]}
    write(root / "project.json", [task])
    return {}


def supervisely(root, mask_HW):
    rows, columns = mask_HW.shape
    points = {"exterior": corners(mask_HW), "interior": []}
    shape = {"classTitle": "a", "geometryType": "polygon", "points": points}
    file = {"size": {"height": rows, "width": columns}, "objects": [shape]}
    write(root / "ann/a.png.json", file)
    return {"images": "images"}


def qupath(root, mask_HW):
    outline = corners(mask_HW)
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*outline, outline[0]]]},
        "properties": {"classification": {"name": "a"}},
    }
    write(root / "annotations/a.geojson", {"type": "FeatureCollection", "features": [feature]})
    return {}


STATING = {tool.__name__: tool for tool in (coco, labelme, cvat, label_studio, supervisely)}


def settings(root, tool, **options):
    options = {"classes": ["a"], "split": SPLIT, **options}
    return DataConfig(format=tool, root=str(root), options=options)


def assert_lies_right(sample, expected_HWC):
    np.testing.assert_array_equal(sample.image_HWC, expected_HWC)
    np.testing.assert_array_equal(sample.raw_label == 1, bright(expected_HWC))
    assert 0 < (sample.raw_label == 1).sum() < sample.raw_label.size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_as_pillow_turns_them(tmp_path, orientation):
    _, displayed_HWC = photo(tmp_path / "a.png", orientation)
    turned_HWC = images.read_image(tmp_path / "a.png", turned_by=orientation)
    np.testing.assert_array_equal(turned_HWC, displayed_HWC)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("tool", STATING)
def test_a_size_as_displayed_reads_the_picture_as_displayed(tmp_path, tool, orientation, coarse):
    _, displayed_HWC = photo(tmp_path / "images/a.png", orientation)
    options = STATING[tool](tmp_path, bright(displayed_HWC))
    source = datasets.open_source(settings(tmp_path, tool, **options), "train")
    assert_lies_right(source.read(0), displayed_HWC)
    image_HWC = source.read_image(0, coarse=coarse).image_HWC
    np.testing.assert_array_equal(image_HWC, displayed_HWC)
    assert source.account(0).pixels == {"a": 66}


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("tool", STATING)
def test_a_size_as_stored_reads_the_pixels_as_stored(tmp_path, tool, orientation):
    stored_HWC, _ = photo(tmp_path / "images/a.png", orientation)
    options = STATING[tool](tmp_path, bright(stored_HWC))
    source = datasets.open_source(settings(tmp_path, tool, **options), "train")
    assert_lies_right(source.read(0), stored_HWC)


@pytest.mark.parametrize(
    ("orientation", "size"), [(2, STORED), (3, STORED), (4, STORED), (6, (24, 24))]
)
@pytest.mark.parametrize("version", ["4.5.6", "6.3.1"])
def test_labelme_is_known_to_draw_on_the_displayed_picture(tmp_path, orientation, size, version):
    _, displayed_HWC = photo(tmp_path / "images/a.png", orientation, size)
    options = labelme(tmp_path, bright(displayed_HWC), version)
    source = datasets.open_source(settings(tmp_path, "labelme", **options), "train")
    assert_lies_right(source.read(0), displayed_HWC)


@pytest.mark.parametrize(
    ("orientation", "size"), [(2, STORED), (3, STORED), (4, STORED), (8, (24, 24))]
)
@pytest.mark.parametrize("tool", ["coco", "cvat", "label_studio", "supervisely", "old labelme"])
def test_where_both_fit_and_the_tool_is_not_known_it_is_refused(tmp_path, orientation, size, tool):
    _, displayed_HWC = photo(tmp_path / "images/a.png", orientation, size)
    mask_HW = bright(displayed_HWC)
    if tool == "old labelme":
        tool, options = "labelme", labelme(tmp_path, mask_HW, "3.6.0")
    else:
        options = STATING[tool](tmp_path, mask_HW)
    with pytest.raises(DataError, match="SEG-D114") as caught:
        datasets.open_source(settings(tmp_path, tool, **options), "train")
    assert f"(0x0112) = {orientation}" in caught.value.observed
    assert "they fit the picture as it is stored and as it is displayed" in caught.value.observed
    assert caught.value.next_step.startswith("look at both")


@pytest.mark.parametrize(
    ("orientation", "stated", "told"), [(6, (7, 7), "neither"), (9, STORED, "")]
)
def test_sizes_of_another_picture_and_odd_orientations_are_refused(
    tmp_path, orientation, stated, told
):
    photo(tmp_path / "images/a.png", orientation)
    mask_HW = np.zeros(stated, bool)
    mask_HW[2:4, 2:5] = True
    coco(tmp_path, mask_HW)
    with pytest.raises(DataError, match="SEG-D114") as caught:
        datasets.open_source(settings(tmp_path, "coco"), "train")
    assert told in caught.value.observed


def test_a_tool_that_states_no_size_is_refused(tmp_path):
    _, displayed_HWC = photo(tmp_path / "images/a.png", 6)
    qupath(tmp_path, bright(displayed_HWC))
    with pytest.raises(DataError, match="SEG-D114") as caught:
        datasets.open_source(settings(tmp_path, "qupath"), "train")
    assert "a.geojson states no size" in caught.value.observed


def test_the_checks_take_a_photo_that_is_turned(tmp_path):
    _, displayed_HWC = photo(tmp_path / "images/a.png", 6)
    coco(tmp_path, bright(displayed_HWC))
    (tmp_path / "two.toml").write_text(MAP)
    data = settings(tmp_path, "coco").model_copy(update={"labels": str(tmp_path / "two.toml")})
    report = check_data(data, progress=Silent(), threads=1)
    assert not {"SEG-D009", "SEG-D010", "SEG-D114"} & {each.code for each in report.findings}
    train = datasets.open_split(data, "train")
    assert check_before_training({"train": train}, 1, data) is not None
    np.testing.assert_array_equal(train.read(0).label_HW, bright(displayed_HWC))


def test_check_gives_one_advice_where_nothing_tells(tmp_path):
    photo(tmp_path / "images/a.png", 3)
    coco(tmp_path, np.eye(*STORED, dtype=bool))
    report = check_data(settings(tmp_path, "coco"), progress=Silent(), threads=1)
    codes = {each.code for each in report.findings}
    assert "SEG-D114" in codes
    assert "SEG-D010" not in codes


def test_a_large_jpeg_is_turned_whole_also_where_a_coarse_one_would_do(tmp_path):
    size = (200, 300)
    _, displayed_HWC = photo(tmp_path / "images/a.jpg", 6, size)
    coco(tmp_path, np.eye(*size[::-1], dtype=bool))
    file = tmp_path / "annotations.json"
    file.write_text(file.read_text().replace("a.png", "a.jpg"))
    source = datasets.open_source(settings(tmp_path, "coco"), "train")
    image_HWC = source.read_image(0, coarse=True).image_HWC
    assert image_HWC.shape == displayed_HWC.shape
    assert np.abs(image_HWC.astype(int) - displayed_HWC).max() < 40  # two decoders


def test_a_tag_behind_the_pixels_is_never_passed_over(tmp_path):
    photo(tmp_path / "images/a.png", 6)
    data = (tmp_path / "images/a.png").read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    last = data.index(b"IEND") - 4
    moved = data[:start] + data[end:last] + data[start:end] + data[last:]
    (tmp_path / "images/a.png").write_bytes(moved)
    coco(tmp_path, np.eye(*STORED, dtype=bool))
    with pytest.raises(DataError, match="SEG-D010"):
        datasets.open_source(settings(tmp_path, "coco"), "train").read(0)
