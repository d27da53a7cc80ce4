"""ROIs of ImageJ: which pixels they are, what their class is, and what is refused."""

from __future__ import annotations

import struct
import sys
import zipfile

import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image
from rasterio import features
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.data.datasets import imagej_roi

SPLIT = {"train": 1.0, "val": 0.0, "test": 0.0}
SIZE = (40, 50)


def roi_of(points, kind=ROI_TYPE.POLYGON, **more):
    """Return a ROI with whole numbers for corners, as the tools of ImageJ make it."""
    points_N2 = np.asarray(points)
    left, top = points_N2.min(axis=0).tolist()
    right, bottom = points_N2.max(axis=0).tolist()
    return ImagejRoi(
        roitype=kind,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        n_coordinates=len(points_N2),
        integer_coordinates=(points_N2 - [left, top]).astype(np.int32),
        **{"name": "a", **more},
    )


def boxed(kind, left, top, right, bottom, **more):
    more = {"name": "a", **more}
    return ImagejRoi(roitype=kind, left=left, top=top, right=right, bottom=bottom, **more)


def composite(rings, **more):
    path = []
    for first, *others in rings:
        path += [0, *first]
        for point in others:
            path += [1, *point]
        path.append(4)
    path = np.array(path, np.float32)
    more = {"name": "a", "shape_roi_size": len(path), "multi_coordinates": path, **more}
    return boxed(ROI_TYPE.RECT, 0, 0, *SIZE[::-1], **more)


def source(root, **options):
    options = {"split": SPLIT, "classes": ["a"], **options}
    return datasets.open_source(
        DataConfig(format="imagej_roi", root=str(root), options=options), "train"
    )


def place(root, name="image", size=SIZE):
    (root / "images").mkdir(parents=True, exist_ok=True)
    Image.new("L", size[::-1]).save(root / f"images/{name}.png")
    return root / f"images/{name}"


def labels_of(root, *rois, size=SIZE, **options):
    """Write ROIs as a set for one image, and return its label."""
    path = place(root, size=size).with_suffix(".zip")
    path.unlink(missing_ok=True)
    for number, roi in enumerate(rois):
        roi.tofile(path, name=f"{number:04d}")
    return source(root, **options).read_label(0)


def test_polygons_are_what_gdal_fills(tmp_path):
    """Whole numbers are corners of pixels: 300 stars, objects of 1 and 2 pixels among them."""
    rng = np.random.default_rng(0)
    for number in range(300):
        reach = (1, 2, 6, 25)[number % 4]
        centre_2 = rng.integers(0, 45, 2)
        points_N2 = np.unique(centre_2 + rng.integers(0, reach + 1, (9, 2)), axis=0)
        points_N2 = rng.permutation(points_N2)
        if len(points_N2) < 3:
            points_N2 = centre_2 + np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        place(tmp_path, f"{number:03d}")
        roi = roi_of(points_N2, (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)[number % 3])
        roi.tofile(tmp_path / f"images/{number:03d}.roi")
        expected = {
            "type": "Polygon",
            "coordinates": [[*points_N2.tolist(), points_N2[0].tolist()]],
        }
        np.save(tmp_path / f"{number:03d}.npy", features.rasterize([expected], SIZE))
    found = source(tmp_path)
    covered = 0
    for index, name in enumerate(found.names):
        expected_HW = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_array_equal(found.read_label(index), expected_HW, name)
        covered += int(expected_HW.any())
    assert len(found.names) == 300
    assert covered > 200


def test_traced_objects_with_holes_have_their_own_pixels_again(tmp_path):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mask_HW = rng.random(SIZE) < (0.2, 0.5, 0.8)[seed % 3]
        rings = [
            ring[:-1]
            for shape, _ in features.shapes(mask_HW.astype(np.uint8), mask=mask_HW)
            for ring in shape["coordinates"]
        ]
        assert len(rings) > 20
        np.testing.assert_array_equal(labels_of(tmp_path, composite(rings)), mask_HW)


def test_parts_that_overlap_leave_a_hole(tmp_path):
    """A composite selection is even-odd, whatever the order and direction of its rings."""
    outer, inner = (
        [[5, 5], [25, 5], [25, 25], [5, 25]],
        [[10, 10], [15, 10], [15, 20], [10, 20]],
    )
    expected_HW = np.zeros(SIZE, np.uint8)
    expected_HW[5:25, 5:25] = 1
    expected_HW[10:20, 10:15] = 0
    for rings in ([outer, inner], [inner, outer], [outer[::-1], inner]):
        np.testing.assert_array_equal(labels_of(tmp_path, composite(rings)), expected_HW)


def test_rectangles_with_whole_and_broken_numbers(tmp_path):
    expected_HW = np.zeros(SIZE, np.uint8)
    expected_HW[3:9, 4:30] = 1
    np.testing.assert_array_equal(
        labels_of(tmp_path, boxed(ROI_TYPE.RECT, 4, 3, 30, 9)), expected_HW
    )
    exact = {"options": ROI_OPTIONS.SUB_PIXEL_RESOLUTION, "version": 228}
    exact |= {"xd": 3.6, "yd": 2.7, "widthd": 26.2, "heightd": 6.2}
    roi = boxed(ROI_TYPE.RECT, 3, 2, 31, 10, **exact)
    np.testing.assert_array_equal(labels_of(tmp_path, roi), expected_HW)


def test_ovals_hold_the_pixels_whose_centres_are_inside(tmp_path):
    label_HW = labels_of(tmp_path, boxed(ROI_TYPE.OVAL, 5, 4, 45, 34))
    rows_HW, columns_HW = np.indices(SIZE) + 0.5
    inside_HW = ((columns_HW - 25) / 20) ** 2 + ((rows_HW - 19) / 15) ** 2 <= 1
    np.testing.assert_array_equal(label_HW, inside_HW)
    single_HW = labels_of(tmp_path, boxed(ROI_TYPE.OVAL, 7, 9, 8, 10))
    assert np.argwhere(single_HW).tolist() == [[9, 7]]


def with_fraction(roi, fraction):
    """Return the bytes of a ROI with the number that roifile takes for arrow heads."""
    data = bytearray(roi.tobytes())
    data[52:56] = struct.pack(">f", fraction)
    return bytes(data)


def test_ellipses_and_turned_rectangles(tmp_path):
    place(tmp_path)
    ends = {"x1": 10.0, "y1": 10.0, "x2": 30.0, "y2": 25.0}
    points = [[10, 10], [30, 10], [30, 25]]
    rows_HW, columns_HW = np.indices(SIZE) + 0.5
    along_HW = ((columns_HW - 20) * 20 + (rows_HW - 17.5) * 15) / 25
    across_HW = ((rows_HW - 17.5) * 20 - (columns_HW - 20) * 15) / 25
    inside = {
        ROI_SUBTYPE.ELLIPSE: (0.4, (along_HW / 12.5) ** 2 + (across_HW / 5) ** 2 <= 1),
        ROI_SUBTYPE.ROTATED_RECT: (8.0, (abs(along_HW) < 12.5) & (abs(across_HW) < 4)),
    }
    for subtype, (fraction, expected_HW) in inside.items():
        roi = roi_of(points, ROI_TYPE.FREEHAND, subtype=subtype, **ends)
        (tmp_path / "images/image.roi").write_bytes(with_fraction(roi, fraction))
        np.testing.assert_array_equal(source(tmp_path).read_label(0), expected_HW)


def test_lines_have_their_own_width_or_that_of_the_options(tmp_path):
    """Whole numbers are centres of pixels here."""
    line = {"roitype": ROI_TYPE.LINE, "x1": 5.0, "y1": 10.0, "x2": 20.0, "y2": 10.0, "name": "a"}
    label_HW = labels_of(tmp_path, ImagejRoi(**line, stroke_width=3))
    assert label_HW[9:12, 5:21].all()
    assert not label_HW[:9].any()
    assert not label_HW[12:].any()
    thin_HW = labels_of(tmp_path, ImagejRoi(**line, stroke_width=3), line_width=1.0)
    assert np.argwhere(thin_HW).tolist() == [[10, column] for column in range(5, 21)]
    with pytest.raises(DataError, match="SEG-D116") as caught:
        labels_of(tmp_path, ImagejRoi(**line))
    assert "line_width" in caught.value.next_step
    bent = roi_of([[5, 5], [5, 20], [15, 20]], ROI_TYPE.POLYLINE, stroke_width=1)
    bent_HW = labels_of(tmp_path, bent)
    assert bent_HW[5:21, 5].all()
    assert bent_HW[20, 5:16].all()
    assert bent_HW.sum() == 26


def test_points_are_single_pixels_and_need_a_width(tmp_path):
    points = roi_of([[3, 4], [10, 20], [30, 7]], ROI_TYPE.POINT, stroke_width=4)
    with pytest.raises(DataError, match="SEG-D116"):
        labels_of(tmp_path, points)
    label_HW = labels_of(tmp_path, points, line_width=1.0)
    assert np.argwhere(label_HW).tolist() == [[4, 3], [7, 30], [20, 10]]


def test_the_last_one_lies_on_top(tmp_path):
    first, second = (
        boxed(ROI_TYPE.RECT, 0, 0, 20, 20),
        boxed(ROI_TYPE.RECT, 10, 0, 30, 20, name="b"),
    )
    label_HW = labels_of(tmp_path, first, second, classes=["a", "b"])
    assert label_HW[0, [5, 15, 25]].tolist() == [1, 2, 2]


@pytest.mark.parametrize(
    ("class_from", "more", "name"),
    [
        ("name", {"name": "nucleus"}, "nucleus"),
        ("name", {"name": "nucleus-12"}, "nucleus"),
        ("name", {"name": "0012-0034"}, "unnamed"),
        ("name", {"name": "0002-0012-0034"}, "unnamed"),
        ("name", {"name": "17"}, "unnamed"),
        ("name", {"name": "T cell 2"}, "T cell 2"),
        ("group", {"group": 3}, "group 3"),
        ("group", {"group": 300}, "group 300"),
        ("group", {}, "no group"),
        ("stroke_colour", {"stroke_color": b"\xff\x00\xff\x10"}, "#00FF10"),
        ("stroke_colour", {}, "no colour"),
    ],
)
def test_classes_come_from_names_groups_or_colours(tmp_path, class_from, more, name):
    roi = boxed(ROI_TYPE.RECT, 0, 0, 5, 5, **more)
    label_HW = labels_of(tmp_path, roi, class_from=class_from, classes=["other", name])
    assert label_HW[0, 0] == 2
    with pytest.raises(DataError, match="SEG-D112"):
        labels_of(tmp_path, roi, class_from=class_from, classes=["other"])
    with pytest.raises(ConfigError, match="SEG-X121") as caught:
        labels_of(tmp_path, roi, class_from=class_from, classes=[])
    assert f'"{name}"' in caught.value.observed


def text_roi():
    more = {"subtype": ROI_SUBTYPE.TEXT, "text": "x", "text_name": "y"}
    return boxed(ROI_TYPE.RECT, 0, 0, 9, 9, **more)


@pytest.mark.parametrize(
    ("roi", "told"),
    [
        (boxed(ROI_TYPE.RECT, 0, 0, 9, 9, rounded_rect_arc_size=4), "round corners"),
        (roi_of([[0, 0], [5, 5], [9, 0]], ROI_TYPE.ANGLE), "angle"),
        (ImagejRoi(roitype=ROI_TYPE.LINE, subtype=ROI_SUBTYPE.ARROW, x2=9.0), "arrow"),
        (text_roi(), "text"),
        (roi_of([[0, 0], [5, 5], [9, 0]], options=ROI_OPTIONS.SPLINE_FIT), "spline"),
        (boxed(ROI_TYPE.RECT, 0, 0, 9, 9, position=2), "position 2"),
        (boxed(ROI_TYPE.RECT, 0, 0, 9, 9, z_position=3), "Z 3"),
        (boxed(ROI_TYPE.RECT, 0, 0, 9, 9, t_position=4), "T 4"),
        (
            composite(
                [], multi_coordinates=np.array([0, 1, 1, 2, 5, 5, 9, 9], "f4"), shape_roi_size=8
            ),
            "curves",
        ),
    ],
)
def test_what_is_not_read_is_refused_by_name(tmp_path, roi, told):
    with pytest.raises(DataError, match="SEG-D116") as caught:
        labels_of(tmp_path, roi, line_width=1.0)
    assert told in caught.value.observed
    assert "ROI 0" in caught.value.observed


def test_the_first_slice_and_any_channel_are_read(tmp_path):
    roi = boxed(ROI_TYPE.RECT, 0, 0, 9, 9, position=1, c_position=3, z_position=1, t_position=1)
    assert labels_of(tmp_path, roi).sum() == 81


def test_sets_with_other_files_or_none_are_refused(tmp_path):
    path = place(tmp_path).with_suffix(".zip")
    for names, told in ((["notes.txt"], "it holds 'notes.txt'"), ([], "it is empty")):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        with pytest.raises(DataError, match="SEG-D111") as caught:
            source(tmp_path).read_label(0)
        assert told in caught.value.observed
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="SEG-D111"):
        source(tmp_path).read_label(0)


def test_sets_that_unpack_to_more_than_any_outline_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(imagej_roi, "_LARGEST", 1000)
    path = place(tmp_path).with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", b"Iout" + bytes(5000))
    with pytest.raises(DataError, match="SEG-D111") as caught:
        source(tmp_path).read_label(0)
    assert "5004 B" in caught.value.observed


@pytest.mark.parametrize("suffix", [".roi", ".zip"])
def test_junk_is_refused_and_never_a_traceback(tmp_path, suffix, caplog):
    path = place(tmp_path).with_suffix(suffix)
    rois = [
        roi_of([[0, 0], [9, 0], [9, 9]], group=2, stroke_color=b"\xff\xff\x00\x00"),
        composite([[[0, 0], [9, 0], [9, 9]]]),
        text_roi(),
    ]
    draw = np.random.default_rng(0)
    refused = 0
    for number in range(120):
        rois[number % 3].tofile(path, **({"mode": "w"} if suffix == ".zip" else {}))
        data = bytearray(path.read_bytes())
        for at in draw.integers(0, len(data), 1 + number % 4):
            data[at] = draw.integers(256)
        if number % 10 == 0:
            del data[draw.integers(len(data)) :]
        path.write_bytes(bytes(data) or b"I")
        try:
            source(tmp_path, line_width=1.0).read_label(0)
        except DataError as error:
            refused += str(path) in str(error)
    assert refused >= 40


def test_roifile_is_asked_for_where_it_is_missing(tmp_path, monkeypatch):
    boxed(ROI_TYPE.RECT, 0, 0, 5, 5).tofile(place(tmp_path).with_suffix(".roi"))
    monkeypatch.setitem(sys.modules, roifile.__name__, None)
    imagej_roi._roifile.cache_clear()
    with pytest.raises(ConfigError, match="SEG-X003") as caught:
        source(tmp_path)
    assert caught.value.next_step == "pip install 'terrazzo[microscopy]'"


def stack_with(root, roi, z=5):
    """Write a stack of z slices, each of its own grey, with a ROI beside it."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    stack_ZHW = np.arange(z, dtype=np.uint8)[:, None, None] * np.ones(SIZE, np.uint8)
    tifffile.imwrite(root / "images/image.tif", stack_ZHW, imagej=True, metadata={"axes": "ZYX"})
    roi.tofile(root / "images/image.roi")


@pytest.mark.parametrize("where", [{"position": 4}, {"z_position": 4}, {}])
def test_rois_of_the_slice_that_is_read_are_drawn(tmp_path, where):
    stack_with(tmp_path, boxed(ROI_TYPE.RECT, 0, 0, 9, 8, **where))

    raw = source(tmp_path, plane={"z": 3}).read(0)

    assert (raw.image_HWC == 3).all()
    assert np.count_nonzero(raw.raw_label == 1) == 72


@pytest.mark.parametrize(
    ("where", "plane", "told"),
    [
        ({"position": 1}, {"z": 3}, "position 1"),
        ({"z_position": 1, "t_position": 1}, {"z": 3}, "Z 1"),
        ({"position": 4}, {"z": 3, "t": 0}, "position 4"),
        ({"position": 2}, {"z": 0}, "position 2"),
    ],
)
def test_rois_of_another_slice_than_the_one_that_is_read_are_refused(tmp_path, where, plane, told):
    """The first slice has labels of its own, which are not those of the fourth."""
    stack_with(tmp_path, boxed(ROI_TYPE.RECT, 0, 0, 9, 8, **where))

    with pytest.raises(DataError) as caught:
        source(tmp_path, plane=plane).read(0)

    assert caught.value.code == "SEG-D116"
    assert told in caught.value.observed
