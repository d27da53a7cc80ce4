"""Predictions for labelling programs: how masks are packed, the files, when they are written."""

from __future__ import annotations

import json
import os
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio import features

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.inference import predict
from terrazzo.inference.labelling import cvat, label_studio, programs, run_lengths
from terrazzo.inference.labelling.confidence import Confidence
from terrazzo.inference.labelling.polygons import outlines
from terrazzo.inference.labelling.source import PredictedImage
from terrazzo.inference.model import load_model
from terrazzo.inference.outputs import Settings
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import images
from terrazzo.testing.scenes import make_model, make_scene

# ---- packing -------------------------------------------------------------------------------------


class Bits:
    """A stream of bits, read as Label Studio's page does."""

    def __init__(self, data):
        self.bits, self.at = np.unpackbits(np.array(data, np.uint8)), 0

    def read(self, number):
        taken = self.bits[self.at : self.at + number]
        assert len(taken) == number
        self.at += number
        return int("".join(map(str, taken)), 2)


def from_label_studio(data, shape):
    """The alpha of each pixel, and a check that all four bands are one."""
    stream = Bits(data)
    count, word = stream.read(32), stream.read(5) + 1
    sizes = [stream.read(4) + 1 for _ in range(4)]
    values = np.empty(count, np.uint8)
    at = 0
    while at < count:
        same = stream.read(1)
        end = at + 1 + stream.read(sizes[stream.read(2)])
        assert end <= count
        if same:
            values[at:end] = stream.read(word)
        else:
            values[at:end] = [stream.read(word) for _ in range(end - at)]
        at = end
    bands_HW4 = values.reshape(*shape, 4)
    assert (bands_HW4 == bands_HW4[..., :1]).all()
    return bands_HW4[..., 3]


def from_cvat(runs, shape):
    mask_HW = np.zeros(shape, bool)
    values = np.arange(len(runs.lengths)) % 2 == 1
    box = np.repeat(values, runs.lengths).reshape(runs.height, runs.width)
    mask_HW[runs.top : runs.top + runs.height, runs.left : runs.left + runs.width] = box
    return mask_HW


def test_the_bytes_of_a_mask_for_label_studio_are_these():
    """Five values of 32, 5 and four times 4 bits, then a run: 1, which length, its length, 255."""
    header = f"{4:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    bits = header + "1" + "00" + "011" + "11111111"
    expected = np.packbits([int(bit) for bit in bits]).tolist()
    assert expected == [0, 0, 0, 4, 57, 27, 252, 127, 224]
    assert run_lengths.label_studio_bytes(np.ones((1, 1), bool)) == expected


def test_the_runs_of_a_mask_for_cvat_are_these():
    mask_HW = np.zeros((5, 6), bool)
    mask_HW[1, 2:4] = mask_HW[2, 3:5] = True
    runs = run_lengths.boxed_runs(mask_HW)
    assert runs == run_lengths.BoxedRuns((0, 2, 2, 2), left=2, top=1, width=3, height=2)


MASKS = st.builds(
    lambda shape, seed, runs: np.repeat(
        np.random.default_rng(seed).random(shape[0] * shape[1]) < 0.5, runs
    )[: shape[0] * shape[1]].reshape(shape),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 1 << 30),
    st.sampled_from([1, 2, 3, 5, 70]),
)


@given(MASKS)
@settings(max_examples=100, deadline=None)
def test_masks_come_out_of_their_packing_as_they_went_in(mask_HW):
    shape = mask_HW.shape
    packed = run_lengths.label_studio_bytes(mask_HW)
    assert set(packed) <= set(range(256))
    values_HW = from_label_studio(packed, shape)
    np.testing.assert_array_equal(values_HW, np.where(mask_HW, 255, 0))
    if mask_HW.any():
        np.testing.assert_array_equal(from_cvat(run_lengths.boxed_runs(mask_HW), shape), mask_HW)


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 5, 63, 64, 65, 16383, 16384, 16385, 32768, 50_000])
def test_runs_of_every_length_are_cut_where_they_must_be(pixels):
    """Sixteen bits hold 65,536 values: 16,384 pixels of four."""
    mask_HW = np.zeros((1, pixels + 7), bool)
    mask_HW[0, 3 : 3 + pixels] = True
    values_HW = from_label_studio(run_lengths.label_studio_bytes(mask_HW), mask_HW.shape)
    np.testing.assert_array_equal(values_HW, np.where(mask_HW, 255, 0))


# ---- outlines ------------------------------------------------------------------------------------


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 1 << 30), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_outlines_drawn_by_their_depth_are_the_labels_again(rows, columns, seed, classes):
    """Of noise, in which areas lie within areas."""
    labels_HW = np.random.default_rng(seed).integers(0, classes, (rows, columns)).astype(np.uint8)
    drawn_HW = np.full_like(labels_HW, 200)
    # Reversed, so that nothing but the depth tells what lies above what.
    found = outlines(labels_HW, 255, 0)[::-1]
    for each in sorted(found, key=lambda outline: outline.depth):
        assert len(each.corners) >= 3
        ring = [*each.corners, each.corners[0]]
        polygon = {"type": "Polygon", "coordinates": [ring]}
        inside = features.rasterize([(polygon, 1)], labels_HW.shape)
        drawn_HW[inside == 1] = each.train_id
    np.testing.assert_array_equal(drawn_HW, labels_HW)


def test_outlines_are_simpler_with_a_tolerance_and_have_three_corners_still():
    rows, columns = np.indices((60, 60))
    labels_HW = ((rows - 30) ** 2 + (columns - 30) ** 2 < 500).astype(np.uint8)
    labels_HW[0, 0] = 2  # one pixel
    exact, simple = (outlines(labels_HW, 255, tolerance) for tolerance in (0, 1.5))
    assert sum(len(o.corners) for o in simple) < sum(len(o.corners) for o in exact) / 2
    assert min(len(o.corners) for o in simple) >= 3
    assert [(o.train_id, o.depth) for o in simple] == [(o.train_id, o.depth) for o in exact]


# ---- files ---------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, shape in (("a b&<é.png", (37, 41)), ("sub/c.jpg", (20, 30)), ("d.png", (1, 1))):
        Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).save(folder / name)
    return folder


class Told:
    """A progress that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def advance(self, done, total, text):
        """Keep nothing."""

    def say(self, text):
        self.lines.append(text)


def run(model, source, out, program, **more):
    told = Told()
    predict.predict(model, source, out, Settings(labels_for=program, **more), progress=told)
    return told.lines


def tasks_in(out):
    return json.loads((out / label_studio.TASKS).read_text("utf-8"))


def cvat_images(out):
    root = ElementTree.parse(out / cvat.ANNOTATIONS).getroot()
    return {image.get("name"): image for image in root.iter("image")}


def runs_of(mask):
    box = {side: int(mask.get(side)) for side in ("left", "top", "width", "height")}
    return run_lengths.BoxedRuns(tuple(map(int, mask.get("rle").split(","))), **box)


@pytest.mark.parametrize("whole", [0, 1 << 22])
def test_label_studio_gets_the_masks_of_the_maps_and_their_certainty(
    tmp_path, model, photos, whole
):
    out = tmp_path / "maps"
    tiling = Tiling(tile=32, overlap=12)
    lines = run(model, [photos], out, "labelstudio", whole_images_up_to=whole, tiling=tiling)
    assert f"{label_studio.ROOT_VARIABLE}={tmp_path}" in lines[-1]
    loaded = load_model(model)
    names = loaded.card.label_map.names
    tasks = tasks_in(out)
    assert len(tasks) == 3
    for task in tasks:
        before, _, path = task["data"]["image"].partition("=")
        assert before == "/data/local-files/?d"
        source = tmp_path / os.fsdecode(unquote_to_bytes(path))
        image_HWC = images.read_image(source)
        labels_HW = images.read_label(out / source.relative_to(photos).with_suffix(".png"), "index")
        seen_HW = np.full(labels_HW.shape, 255)
        (prediction,) = task["predictions"]
        chosen_HW = loaded.predict_probabilities(image_HWC).max(axis=2)
        assert prediction["score"] == pytest.approx(chosen_HW.mean(), abs=1e-5)
        for region in prediction["result"]:
            assert (region["original_height"], region["original_width"]) == labels_HW.shape
            mask_HW = from_label_studio(region["value"]["rle"], labels_HW.shape) == 255
            k = names.index(*region["value"]["brushlabels"])
            assert mask_HW.any()
            assert region["score"] == pytest.approx(chosen_HW[mask_HW].mean(), abs=1e-5)
            seen_HW[mask_HW] = k
        np.testing.assert_array_equal(seen_HW, labels_HW)


def test_cvat_gets_the_masks_of_the_maps(tmp_path, model, photos):
    out = tmp_path / "maps"
    run(model, [photos], out, "cvat")
    names = load_model(model).card.label_map.names
    found = cvat_images(out)
    assert list(found) == ["a b&<é.png", "d.png", "sub/c.jpg"]
    # No number of a frame: where a name does not fit, CVAT would put the masks on another image.
    numbers = {int(image.get("id")) for image in found.values()}
    assert len(numbers) == 3
    assert min(numbers) > 10**8
    for name, image in found.items():
        labels_HW = images.read_label((out / name).with_suffix(".png"), "index")
        assert (int(image.get("height")), int(image.get("width"))) == labels_HW.shape
        seen_HW = np.full(labels_HW.shape, 255)
        for mask in image:
            mask_HW = from_cvat(runs_of(mask), labels_HW.shape)
            assert mask_HW.any()
            seen_HW[mask_HW] = names.index(mask.get("label"))
        np.testing.assert_array_equal(seen_HW, labels_HW)
    labels = json.loads((out / cvat.LABELS).read_text("utf-8"))
    assert [(each["name"], each["type"]) for each in labels] == [(n, "mask") for n in names]
    assert not list(out.rglob("*_confidence.json"))


def test_maps_are_the_same_with_and_without_the_files_of_a_program(tmp_path, model, photos):
    for program in (None, "cvat", "labelstudio"):
        run(model, [photos], tmp_path / str(program), program)
    maps = {path.relative_to(tmp_path / "None") for path in (tmp_path / "None").rglob("*.png")}
    assert len(maps) == 7
    for program in ("cvat", "labelstudio"):
        for path in maps:
            other = (tmp_path / program / path).read_bytes()
            assert other == (tmp_path / "None" / path).read_bytes()


@pytest.mark.parametrize("program", programs.NAMES)
def test_ignored_pixels_are_in_no_mask_and_names_may_be_odd(tmp_path, program):
    """Of a map with more classes than a byte holds, whose ignore value is 65535."""
    odd = ("street & <kerb>", "\"quoted\" 'twice'", "Straße 中")
    names = (*odd, *(f"class {k}" for k in range(3, 300)))
    label_map = LabelMap("many", tuple(LabelClass(n, "#A1B2C3", (k,)) for k, n in enumerate(names)))
    labels_HW = np.full((6, 50), label_map.ignore_index, np.uint16)
    labels_HW[1:5].flat[:] = np.arange(200) % 100 * 3
    labels_HW[1, :3] = 0, 1, 2
    images.write_png(tmp_path / "map.png", labels_HW)
    confidence = Confidence(300)
    present = labels_HW[labels_HW < 300][None]
    confidence.add(present, np.full((1, present.size, 300), 0.5, np.float32))
    confidence.write(tmp_path / "c.json", names)
    image = PredictedImage(
        tmp_path / "a.png", "a.png", tmp_path / "map.png", tmp_path / "c.json", label_map
    )
    programs.write(program, tmp_path, [image], label_map, "m", lambda _: None)
    seen_HW = np.full(labels_HW.shape, label_map.ignore_index)
    if program == "cvat":
        masks = [
            (m.get("label"), from_cvat(runs_of(m), seen_HW.shape))
            for m in cvat_images(tmp_path)["a.png"]
        ]
        kept = [each["name"] for each in json.loads((tmp_path / cvat.LABELS).read_text("utf-8"))]
    else:
        (task,) = tasks_in(tmp_path)
        regions = [region["value"] for region in task["predictions"][0]["result"]]
        masks = [
            (value["brushlabels"][0], from_label_studio(value["rle"], seen_HW.shape) == 255)
            for value in regions
        ]
        config = ElementTree.parse(tmp_path / label_studio.CONFIG).getroot()
        kept = [label.get("value") for label in config.iter("Label")]
        assert {label.get("background") for label in config.iter("Label")} == {"#A1B2C3"}
    for name, mask_HW in masks:
        seen_HW[mask_HW] = names.index(name)
    assert kept == list(names)
    np.testing.assert_array_equal(seen_HW, labels_HW)


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("program", programs.NAMES)
def test_a_resumed_prediction_leaves_the_files_of_one_that_was_not_interrupted(
    tmp_path, model, photos, program
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(model, [photos], whole, program)
    run(model, [photos], cut, program)
    for path in programs.files(program, cut):
        path.unlink()
    for path in cut.glob("d*"):  # as if it had been killed before the last image
        path.unlink()
    lines = run(model, [photos], cut, program, resume=True)
    assert sum("was finished before" in line for line in lines) == 2
    assert everything(cut) == everything(whole)
    run(model, [photos], cut, program, resume=True)  # when all is there
    assert everything(cut) == everything(whole)


def test_what_another_program_lacks_is_made(tmp_path, model, photos):
    """CVAT needs the maps alone; for Label Studio, how sure the model was is found out."""
    out = tmp_path / "maps"
    run(model, [photos], out, None)
    lines = run(model, [photos], out, "cvat", resume=True)
    assert sum("was finished before" in line for line in lines) == 3
    lines = run(model, [photos], out, "labelstudio", resume=True)
    assert sum("_confidence.json: it is made again" in line for line in lines) == 3
    run(model, [photos], tmp_path / "fresh", "labelstudio")
    assert tasks_in(out) == tasks_in(tmp_path / "fresh")


@pytest.mark.parametrize("program", programs.NAMES)
def test_files_that_are_there_are_not_replaced_unasked(tmp_path, model, photos, program):
    out = tmp_path / "maps"
    out.mkdir()
    theirs = programs.files(program, out)[0]
    theirs.write_text("somebody's")
    for resume in (False, True):
        with pytest.raises(CheckpointError) as caught:
            run(model, [photos], out, program, resume=resume)
        assert caught.value.code == "SEG-C002"
        assert everything(out) == {theirs.relative_to(out): b"somebody's"}
    run(model, [photos], out, program, overwrite=True)
    assert theirs.read_text("utf-8") != "somebody's"


def test_a_map_of_another_model_is_refused_and_no_file_is_left(tmp_path, model, photos):
    out = tmp_path / "maps"
    run(model, [photos], out, None)
    images.write_png(out / "d.png", np.array([[17]], np.uint8))
    with pytest.raises(CheckpointError) as caught:
        run(model, [photos], out, "cvat", resume=True)
    assert caught.value.code == "SEG-C002"
    assert "class 17" in str(caught.value)
    assert not (out / cvat.ANNOTATIONS).exists()
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_scenes_and_unknown_programs_are_refused_before_any_work(tmp_path, model, photos):
    make_scene(photos / "scene.tif", (20, 20, 3))
    for program, code in (("cvat", "SEG-X087"), ("labelstudio", "SEG-X087"), ("cvta", "SEG-X004")):
        with pytest.raises(ConfigError) as caught:
            run(model, [photos], tmp_path / "maps", program)
        assert caught.value.code == code
        assert not (tmp_path / "maps").exists()


def test_names_that_cvat_would_change_are_refused():
    for name in ("n" * 65, " blank before"):
        label_map = LabelMap("m", (LabelClass(name, "#000000", (0,)),))
        with pytest.raises(ConfigError) as caught:
            programs.refuse_unfit("cvat", label_map, [])
        assert caught.value.code == "SEG-X087"
        programs.refuse_unfit("labelstudio", label_map, [])


def test_names_that_are_no_utf8(tmp_path, model):
    """Label Studio's addresses hold any bytes, XML does not."""
    name = os.fsdecode(b"caf\xe9.png")
    photos = tmp_path / "photos"
    photos.mkdir()
    try:
        (photos / name).write_bytes(b"")
    except OSError as error:
        pytest.skip(f"this disk takes no such name: {error}")
    images.write_png(photos / name, np.zeros((5, 4, 3), np.uint8))
    run(model, [photos], tmp_path / "ls", "labelstudio")
    assert tasks_in(tmp_path / "ls")[0]["data"]["image"].endswith("photos/caf%E9.png")
    with pytest.raises(ConfigError) as caught:
        run(model, [photos], tmp_path / "cv", "cvat")
    assert caught.value.code == "SEG-X087"
    str(caught.value).encode()


def test_images_of_several_folders_have_one_root(tmp_path, model):
    for name in ("one/photos/a.png", "two/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 5)).save(tmp_path / name)
    inputs = [tmp_path / "one" / "photos", tmp_path / "two" / "b.png"]
    lines = run(model, inputs, tmp_path / "maps", "labelstudio")
    addresses = [task["data"]["image"].partition("=")[2] for task in tasks_in(tmp_path / "maps")]
    assert addresses == ["one/photos/a.png", "two/b.png"]
    assert lines[-1].endswith(f"={tmp_path}")
