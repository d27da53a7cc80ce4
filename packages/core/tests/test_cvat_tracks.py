"""Tracks of "CVAT for video 1.1": each frame is an image, and nothing is interpolated."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import DataError
from terrazzo.base.recipe import DataConfig, load_recipe
from terrazzo.data import datasets
from terrazzo.workflows.init import Wishes, init, measure_step

SPLIT = {"train": 1.0, "val": 0.0, "test": 0.0}
SIZE = (20, 30)
BOX = '<box frame="{frame}" keyframe="{key}" outside="{out}" z_order="{z}" '
BOX += 'xtl="{left}" ytl="2" xbr="{right}" ybr="6"/>'


def box(frame, left, *, out=0, z=0):
    """Return a box of 4 rows and 5 columns."""
    return BOX.format(frame=frame, key=int(frame == 0), out=out, z=z, left=left, right=left + 5)


def track(number, label, *shapes):
    return f'<track id="{number}" label="{label}" source="manual">{"".join(shapes)}</track>'


def meta(stop=5, extra=""):
    size = f"<original_size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></original_size>"
    labels = "<labels><label><name>car</name></label><label><name>road</name></label></labels>"
    return f"<meta><task><stop_frame>{stop}</stop_frame>{extra}{labels}</task>{size}</meta>"


def write(root, *tracks, frames=6, suffix=".png", head=None):
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number in range(frames):
        image_HWC = np.random.default_rng(number).integers(0, 255, (*SIZE, 3), np.uint8)
        Image.fromarray(image_HWC).save(root / f"images/frame_{number:06d}{suffix}")
    head = meta() if head is None else head
    text = f"<annotations><version>1.1</version>{head}{''.join(tracks)}</annotations>"
    (root / "annotations.xml").write_text(text)


def source(root, **options):
    options = {"split": SPLIT, "classes": ["car", "road"], **options}
    return datasets.open_source(DataConfig(format="cvat", root=str(root), options=options), "train")


MOVING = track(0, "car", *(box(frame, 2 * frame) for frame in range(3)), box(3, 6, out=1))
ROAD = '<polygon frame="{frame}" keyframe="1" outside="0" z_order="0" '
ROAD += 'points="0,10;30,10;30,20;0,20"/>'


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_each_frame_has_its_objects(tmp_path, suffix):
    road = track(1, "road", *(ROAD.format(frame=frame) for frame in range(6)))
    write(tmp_path, MOVING, road, suffix=suffix)
    found = source(tmp_path)
    assert found.names == tuple(f"frame_{number:06d}" for number in range(6))
    for number in range(6):
        expected_HW = np.zeros(SIZE, np.uint8)
        expected_HW[10:] = 2
        if number < 3:
            expected_HW[2:6, 2 * number : 2 * number + 5] = 1
        np.testing.assert_array_equal(found.read_label(number), expected_HW)
    assert found.account(0).shapes == {"box": 1, "polygon": 1}


def test_objects_lie_by_z_order_and_then_by_tracks(tmp_path):
    ends = box(1, 0, out=1)
    over = track(0, "car", box(0, 0, z=1), ends)
    under = track(1, "road", box(0, 2), ends)
    write(tmp_path, over, under)
    assert source(tmp_path).read_label(0)[3, :8].tolist() == [1, 1, 1, 1, 1, 2, 2, 0]
    write(tmp_path, track(0, "car", box(0, 0), ends), under)
    assert source(tmp_path).read_label(0)[3, :8].tolist() == [1, 1, 2, 2, 2, 2, 2, 0]


def test_an_object_may_come_again(tmp_path):
    back = track(0, "car", box(0, 0), box(1, 0, out=1), box(4, 9), box(5, 10))
    write(tmp_path, back)
    found = source(tmp_path)
    assert [int(found.read_label(n).sum()) for n in range(6)] == [20, 0, 0, 0, 20, 20]


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ((box(0, 0), box(3, 6), box(4, 6, out=1)), "track '0': frame 0, then frame 3"),
        ((box(0, 0), box(1, 0)), "track '0': frame 1, then nothing up to frame 5"),
    ],
)
def test_frames_that_are_left_out_are_refused_and_not_guessed(tmp_path, shapes, told):
    write(tmp_path, track(0, "car", *shapes))
    with pytest.raises(DataError, match="SEG-D143") as caught:
        source(tmp_path)
    assert caught.value.observed == told


def test_every_second_frame_of_a_video_leaves_nothing_out(tmp_path):
    filtered = meta(stop=4, extra="<frame_filter>step=2</frame_filter>")
    moving = track(0, "car", box(0, 0), box(2, 3), box(4, 6))
    write(tmp_path, moving, head=filtered)
    for odd in (1, 3, 5):
        (tmp_path / f"images/frame_{odd:06d}.png").unlink()
    assert [int(source(tmp_path).read_label(n).sum()) for n in range(3)] == [20, 20, 20]


def test_images_of_frames_with_objects_must_be_there(tmp_path):
    write(tmp_path, MOVING)
    (tmp_path / "images/frame_000001.png").unlink()
    with pytest.raises(DataError, match="SEG-D014") as caught:
        source(tmp_path)
    assert caught.value.observed == "1 frames: frame_000001"


@pytest.mark.parametrize(
    ("tracks", "head", "code", "told"),
    [
        ((MOVING,), "", "SEG-D111", "<original_size>"),
        ((MOVING, '<image id="0" name="a.png"/>'), None, "SEG-D111", "both <track> and <image>"),
        (
            (track(0, "car", box(2, 0), box(1, 0)),),
            None,
            "SEG-D111",
            "frame 1 stands after",
        ),
        ((track(0, "car", box("x", 0)),), None, "SEG-D111", "'frame' is 'x'"),
        (('<track id="0"><box/></track>',), None, "SEG-D111", "'label' is missing"),
        (
            (track(0, "car", *(f'<skeleton frame="{n}" outside="0"/>' for n in range(6))),),
            None,
            "SEG-D116",
            "skeleton",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path, tracks, head, code, told):
    write(tmp_path, *tracks, head=head)
    with pytest.raises(DataError, match=code) as caught:
        source(tmp_path).read_label(0)
    assert told in caught.value.observed


def test_init_reads_a_video(tmp_path, monkeypatch):
    measured = measure_step.Measured(2, 0.01, 10**8, 10**10, "cpu", "as the test says")
    monkeypatch.setattr(measure_step, "measure", lambda *_: (measured, ""))
    road = track(1, "road", *(ROAD.format(frame=frame) for frame in range(6)))
    write(tmp_path, MOVING, road)
    recipe = load_recipe(init(tmp_path, wishes=Wishes(backend="reference")).recipe)
    assert recipe.data.format == "cvat"
    assert recipe.data.options["classes"] == ("car", "road")


@pytest.mark.parametrize("second", ["b/frame_000001.png", "a/frame_000001.jpg"])
def test_images_of_another_video_do_not_get_the_objects_of_this_one(tmp_path, second):
    write(tmp_path, MOVING, frames=0)
    for number in range(6):
        path = tmp_path / f"images/a/frame_{number:06d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(path)
    (tmp_path / "images" / second).parent.mkdir(exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / second)
    with pytest.raises(DataError) as caught:
        source(tmp_path)
    assert caught.value.code == "SEG-D014"
    assert "a/frame_000001.png" in caught.value.observed
    assert second in caught.value.observed
