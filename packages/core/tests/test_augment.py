"""Image and label move together, and nothing is invented on the way."""

import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import AugmentConfig
from terrazzo.data.augment import augment, resize_image
from terrazzo.data.sample import IGNORE, Sample

IGNORE_16 = 65535


def coordinate_sample(rows, columns):
    """Return an image of its own (x, y) pixel centres and a label that numbers the pixels."""
    y, x = np.mgrid[:rows, :columns]
    image_HWC = np.stack([x + 0.5, y + 0.5], axis=-1).astype(np.float32)
    return Sample("s", image_HWC, (y * columns + x).astype(np.uint16), "s.tif")


def random_sample(shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    image_HWC = (rng.random(shape) * 250).astype(dtype)
    return Sample("s", image_HWC, rng.integers(0, 5, shape[:2], dtype=np.uint8), "s.png")


def change(sample, image_size=None, seed=0, ignore=IGNORE, deviation_C=None, **options):
    rng = np.random.Generator(np.random.Philox(key=seed))
    settings = AugmentConfig(**options)
    return augment(sample, settings, image_size, rng, ignore, deviation_C=deviation_C)


sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))
geometries = st.fixed_dictionaries(
    {
        "crop": st.none() | sizes,
        "scale": st.tuples(st.floats(0.25, 3), st.floats(0.25, 3)).map(sorted).map(tuple),
        "rotate": st.sampled_from([0.0, 10.0, 180.0]),
        "turns": st.booleans(),
        "flip_horizontal": st.just(0.5),
        "flip_vertical": st.just(0.5),
    }
)


deformations = st.fixed_dictionaries(
    {
        "crop": st.none() | sizes,
        "scale": st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)).map(sorted).map(tuple),
        "rotate": st.sampled_from([0.0, 180.0]),
        "turns": st.booleans(),
        "flip_horizontal": st.just(0.5),
        "elastic": st.sampled_from([0.0, 3.0]),
        "elastic_points": st.sampled_from([2, 5]),
        "grid_distortion": st.sampled_from([0.0, 0.3]),
        "optical_distortion": st.sampled_from([0.0, 0.4]),
    }
)
versions = st.fixed_dictionaries(
    {
        "crop": st.none() | sizes,
        "scale": st.just((1.0, 1.0)),
        "rotations": st.sampled_from([5, 12, 45]),
    }
)


@settings(max_examples=100, deadline=None)
@given(
    size=sizes,
    image_size=st.none() | sizes,
    options=geometries | versions | deformations,
    seed=st.integers(0, 2**32),
)
def test_image_and_label_agree_within_half_a_pixel(size, image_size, options, seed):
    sample = coordinate_sample(*size)
    moved = change(sample, image_size, seed, IGNORE_16, **options)

    assert moved.label_HW.shape == moved.image_HWC.shape[:2]
    assert moved.label_HW.shape == (options["crop"] or image_size or size)
    assert moved.label_HW.dtype == np.uint16
    assert moved.image_HWC.dtype == np.float32

    inside_HW = moved.label_HW != IGNORE_16
    rows, columns = size
    base = image_size or size
    for band, (length, other, numbers_HW) in enumerate(
        [(columns, base[1], moved.label_HW % columns), (rows, base[0], moved.label_HW // columns)]
    ):
        # One averaged pixel covers this many of the file's, which matters at the border alone.
        shrink = max(1.0, length / max(1, round(other * options["scale"][0])))
        # Averaging puts a part of a pixel at the pixel's centre, at most 1/8 off; linear sampling
        # works in steps of 1/32 pixel.
        tolerance = 0.5 + (0.125 if shrink > 1 else 0) + shrink / 32
        error_HW = np.abs(moved.image_HWC[..., band] - (numbers_HW + 0.5))
        border_HW = np.minimum(numbers_HW, length - 1 - numbers_HW) < shrink
        assert (error_HW[inside_HW & ~border_HW] <= tolerance).all()
        assert (error_HW[inside_HW & border_HW] <= tolerance + shrink / 2).all()


@settings(max_examples=50, deadline=None)
@given(options=geometries | versions, seed=st.integers(0, 2**32), image_size=st.none() | sizes)
def test_labels_are_never_invented(options, seed, image_size):
    label_HW = np.random.default_rng(seed).choice([0, 3, 9, 200, IGNORE], (31, 43))
    sample = Sample("s", np.zeros((31, 43, 1), np.uint8), label_HW.astype(np.uint8), "s.png")
    moved = change(sample, image_size, seed, **options)
    assert set(np.unique(moved.label_HW)) <= set(np.unique(label_HW)) | {IGNORE}


@pytest.mark.parametrize("seed", range(5))
def test_a_rotation_keeps_lengths_angles_and_the_centre(seed):
    moved = change(coordinate_sample(61, 61), seed=seed, rotate=180).image_HWC
    middle_HWC = moved[20:41, 20:41]
    along_x, along_y = middle_HWC[:, 1:] - middle_HWC[:, :-1], middle_HWC[1:] - middle_HWC[:-1]
    step_x, step_y = along_x.mean(axis=(0, 1)), along_y.mean(axis=(0, 1))
    assert np.hypot(*step_x) == pytest.approx(1, abs=0.01)
    assert step_x[0] * step_y[1] - step_x[1] * step_y[0] == pytest.approx(1, abs=0.01)
    assert moved[30, 30] == pytest.approx([30.5, 30.5], abs=0.04)
    assert abs(step_x[1]) > 0.01


@pytest.mark.parametrize("step", [5, 45, 90, 180])
def test_rotations_draw_every_version_and_no_other(step):
    angles = list(range(0, 181, step))
    sample = coordinate_sample(41, 41)
    seen = {}
    for seed in range(36 * len(angles)):
        moved = change(sample, seed=seed, ignore=IGNORE_16, rotations=step)
        x, y = np.moveaxis(moved.image_HWC, 2, 0)
        # Ten steps to the right in the result, looked up in the image; then ten steps down.
        right = x[20, 30] - x[20, 20], y[20, 30] - y[20, 20]
        down = x[30, 20] - x[20, 20], y[30, 20] - y[20, 20]
        is_mirrored = right[0] * down[1] - right[1] * down[0] < 0
        assert moved.image_HWC[20, 20] == pytest.approx([20.5, 20.5], abs=0.04)
        seen.setdefault((is_mirrored, moved.label_HW.tobytes()), (right, down))
    # Half a turn and one flip is the other flip: of 111 versions 109 differ.
    assert len(seen) == 3 * len(angles) - 2
    plain = [right for (is_mirrored, _), (right, _) in seen.items() if not is_mirrored]
    found = sorted(round(np.degrees(np.arctan2(right[1], right[0]))) % 360 for right in plain)
    # Counter-clockwise as seen: the way to the right comes from further down in the image.
    assert found == angles


def test_a_version_is_turned_first_and_flipped_then():
    sample = coordinate_sample(40, 40)
    turned = [np.rot90(sample.label_HW, k) for k in range(3)]
    wanted = {v.tobytes() for t in turned for v in (t, t[::-1], t[:, ::-1])}
    found = {
        change(sample, seed=seed, ignore=IGNORE_16, rotations=90).label_HW.tobytes()
        for seed in range(200)
    }
    assert found == wanted


@pytest.mark.parametrize(
    "options", [{"rotations": 7}, {"rotations": 5, "rotate": 5.0}, {"rotations": 5, "turns": True}]
)
def test_rotations_that_do_not_divide_half_a_turn_or_meet_other_turns_are_refused(options):
    with pytest.raises(ValueError, match="rotations"):
        AugmentConfig(**options)


def test_the_scale_spans_its_bounds():
    steps = [
        change(coordinate_sample(64, 64), seed=seed, scale=(0.5, 2.0), crop=(16, 16)).image_HWC
        for seed in range(60)
    ]
    scales = np.array([1 / (image[8, 8, 0] - image[8, 7, 0]) for image in steps])
    assert scales.min() >= 0.49
    assert scales.max() <= 2.05
    assert scales.min() < 0.6
    assert scales.max() > 1.6
    assert 20 <= (scales < 1).sum() <= 40


@pytest.mark.parametrize("bands", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_flips_and_turns_move_whole_pixels(bands, dtype):
    sample = random_sample((20, 20, bands), dtype)
    flipped = change(sample, flip_horizontal=1.0, flip_vertical=1.0)
    np.testing.assert_array_equal(flipped.image_HWC, sample.image_HWC[::-1, ::-1])
    np.testing.assert_array_equal(flipped.label_HW, sample.label_HW[::-1, ::-1])
    upside_down = change(sample, flip_vertical=1.0)
    np.testing.assert_array_equal(upside_down.image_HWC, sample.image_HWC[::-1])
    mirrored = change(sample, flip_horizontal=1.0)
    np.testing.assert_array_equal(mirrored.label_HW, sample.label_HW[:, ::-1])
    seen = set()
    for seed in range(30):
        turned = change(sample, seed=seed, turns=True)
        count = next(
            k for k in range(4) if np.array_equal(turned.image_HWC, np.rot90(sample.image_HWC, k))
        )
        np.testing.assert_array_equal(turned.label_HW, np.rot90(sample.label_HW, count))
        seen.add(count)
    assert seen == {0, 1, 2, 3}


def test_turns_keep_the_shape_of_a_image_that_is_not_square():
    sample = random_sample((12, 20, 3))
    results = {change(sample, seed=seed, turns=True).image_HWC.tobytes() for seed in range(20)}
    assert results == {sample.image_HWC.tobytes(), sample.image_HWC[::-1, ::-1].tobytes()}
    assert change(sample, turns=True, crop=(12, 12)).label_HW.shape == (12, 12)


def test_a_crop_is_a_window_of_the_image_anywhere():
    sample = coordinate_sample(30, 40)
    corners = set()
    for seed in range(400):
        cut = change(sample, seed=seed, ignore=IGNORE_16, crop=(26, 38))
        row, column = divmod(int(cut.label_HW[0, 0]), 40)
        window = np.s_[row : row + 26, column : column + 38]
        np.testing.assert_array_equal(cut.label_HW, sample.label_HW[window])
        np.testing.assert_array_equal(cut.image_HWC, sample.image_HWC[window])
        corners.add((row, column))
    assert corners == {(row, column) for row in range(5) for column in range(3)}


@pytest.mark.parametrize("scale", [0.6, 1.7])
@pytest.mark.parametrize("rotate", [0.0, 1e-9])
def test_scaled_windows_reach_every_edge_and_lie_where_they_should(scale, rotate):
    """Without a rotation a part of the image is resized; with one, all of it is warped."""
    sample = coordinate_sample(300, 200)
    seen = np.zeros(300 * 200, bool)
    for seed in range(150):
        options = {"scale": (scale, scale), "crop": (60, 60), "rotate": rotate}
        moved = change(sample, seed=seed, ignore=IGNORE_16, **options)
        seen[moved.label_HW[moved.label_HW != IGNORE_16]] = True
        draws = np.random.Generator(np.random.Philox(key=seed)).random(14)
        corner = [
            int(draw * (round(length * scale) - 60 + 1)) / scale
            for draw, length in ((draws[6], 200), (draws[5], 300))
        ]
        # A part of whole pixels is half a pixel of the window beside it, and stretched by as much.
        centre = np.add(corner, 30.5 / scale)
        assert moved.image_HWC[30, 30] == pytest.approx(centre, abs=1 / scale)
    for axis in (0, 1):
        places = np.flatnonzero(seen.reshape(300, 200).any(axis=axis))
        assert places[0] < 6
        assert places[-1] > (200, 300)[axis] - 7
        assert np.diff(places).max() <= np.ceil(1 / scale)


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_a_crop_larger_than_the_image_is_padded_with_ignore(bands):
    sample = random_sample((10, 14, bands))
    for seed in range(10):
        cut = change(sample, seed=seed, crop=(40, 50))
        inside = np.argwhere(cut.label_HW != IGNORE)
        (row, column), last = inside.min(axis=0), inside.max(axis=0)
        assert tuple(last - (row, column)) == (9, 13)
        window = np.s_[row : row + 10, column : column + 14]
        np.testing.assert_array_equal(cut.label_HW[window], sample.label_HW)
        np.testing.assert_array_equal(cut.image_HWC[window], sample.image_HWC)
        assert (cut.label_HW == IGNORE).sum() == 40 * 50 - 10 * 14


def test_scale_turn_and_flip_bring_every_pixel_to_its_place():
    sample = coordinate_sample(8, 14)
    doubled_HW = np.repeat(np.repeat(sample.label_HW, 2, axis=0), 2, axis=1)
    turned = [np.rot90(doubled_HW, count) for count in range(4)]
    allowed = {labels_HW.tobytes() for labels_HW in [*turned, *(np.fliplr(t) for t in turned)]}
    seen = set()
    options = {"scale": (2.0, 2.0), "turns": True, "flip_horizontal": 0.5, "flip_vertical": 0.5}
    for seed in range(60):
        moved = change(sample, seed=seed, ignore=IGNORE_16, crop=(30, 40), **options)
        inside = np.argwhere(moved.label_HW != IGNORE_16)
        (top, left), (bottom, right) = inside.min(axis=0), inside.max(axis=0)
        seen.add(moved.label_HW[top : bottom + 1, left : right + 1].tobytes())
    assert seen == allowed


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_band_is_treated_alike(bands, dtype):
    sample = random_sample((40, 40, bands), dtype)
    options = {"scale": (0.5, 2.0), "rotate": 45.0, "crop": (30, 30), "blur": 2.0}
    for seed in range(4):
        together = change(sample, seed=seed, **options)
        assert together.image_HWC.shape == (30, 30, bands)
        assert together.image_HWC.dtype == dtype
        for band in range(bands):
            one = Sample("s", sample.image_HWC[..., band : band + 1].copy(), sample.label_HW, "s")
            alone = change(one, seed=seed, **options).image_HWC[..., 0]
            difference = np.abs(alone.astype(float) - together.image_HWC[..., band])
            # OpenCV has a kernel of its own for some numbers of bands, in steps of 1/32 pixel.
            assert difference.max() <= 10


@pytest.mark.parametrize("size", [(20, 30), (45, 17), (90, 100)])
def test_training_sees_what_evaluation_sees(size):
    sample = random_sample((60, 80, 3))
    resized = resize_image(sample.image_HWC, size)
    assert resized.shape == (*size, 3)
    moved = change(sample, size)
    difference = np.abs(moved.image_HWC.astype(int) - resized)
    averaged = all(new == old or 2 * new < old for new, old in zip(size, (60, 80), strict=True))
    assert difference.max() <= (0 if averaged else 1)  # two ways to round one interpolation


def test_no_pixel_is_left_out_down_to_one_half():
    """Each single bright pixel shows in the shrunk image, wherever it lies."""
    for size in ((20, 40), (21, 33), (40, 20)):
        for place in range(40):
            dots_HWC = np.zeros((40, 40, 1), np.float32)
            dots_HWC[place, place] = 1
            assert resize_image(dots_HWC, size).sum() > 0, (size, place)


def test_resize_averages_what_it_shrinks():
    stripes_HWC = np.zeros((40, 40, 5), np.float32)
    stripes_HWC[:, ::4] = 100
    np.testing.assert_allclose(resize_image(stripes_HWC, (40, 10)), 25, rtol=1e-5)
    np.testing.assert_allclose(resize_image(stripes_HWC, (80, 10)), 25, rtol=1e-5)
    assert resize_image(stripes_HWC, (40, 40)) is stripes_HWC


@pytest.mark.parametrize("option", ["brightness", "contrast", "colour", "noise", "blur"])
def test_changes_of_colour_leave_the_geometry_alone(option):
    sample = random_sample((40, 40, 3))
    geometry = {"scale": (0.5, 2.0), "rotate": 90.0, "turns": True, "flip_horizontal": 0.5}
    for seed in range(5):
        plain = change(sample, seed=seed, **geometry)
        coloured = change(
            sample, seed=seed, **geometry, **{option: 0.9 if option != "blur" else 9.0}
        )
        np.testing.assert_array_equal(plain.label_HW, coloured.label_HW)
        assert not np.array_equal(plain.image_HWC, coloured.image_HWC)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_colours_saturate_and_never_wrap(dtype, top):
    image_HWC = np.zeros((20, 20, 5), dtype)
    image_HWC[10:] = top
    sample = Sample("s", image_HWC, np.zeros((20, 20), np.uint8), "s.png")
    for seed in range(20):
        options = {"brightness": 0.5, "contrast": 0.5, "colour": 0.3}
        found = change(sample, seed=seed, **options).image_HWC
        assert (found[10:] > 0.15 * top).all()
        assert (found[:10] < 0.5 * top).all()
        noisy = change(sample, seed=seed, noise=0.05, deviation_C=np.full(5, top / 4.4)).image_HWC
        assert (noisy[10:] > 0.6 * top).all()
        assert (noisy[:10] < 0.4 * top).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_contrast_keeps_the_mean_and_brightness_scales_it(dtype, bands):
    sample = random_sample((50, 50, bands), dtype)
    sample.image_HWC[...] = sample.image_HWC // 4 + 60  # far from either end of the range
    means_C = sample.image_HWC.mean(axis=(0, 1))
    stds_C = sample.image_HWC.std(axis=(0, 1))
    for seed in range(5):
        flat = change(sample, seed=seed, contrast=0.5).image_HWC
        np.testing.assert_allclose(flat.mean(axis=(0, 1)), means_C, atol=1)
        ratio_C = flat.std(axis=(0, 1)) / stds_C
        assert np.ptp(ratio_C) < 0.02
        assert 0.49 < ratio_C[0] < 1.51
        bright = change(sample, seed=seed, brightness=0.5).image_HWC
        ratio_C = bright.mean(axis=(0, 1)) / means_C
        assert np.ptp(ratio_C) < 0.02
        coloured = change(sample, seed=seed, colour=0.5).image_HWC
        ratio_C = coloured.mean(axis=(0, 1)) / means_C
        assert bands == 1 or np.ptp(ratio_C) > 0.02


def test_nothing_on_means_nothing_changed():
    sample = random_sample((9, 7, 3))
    same = change(sample)
    np.testing.assert_array_equal(same.image_HWC, sample.image_HWC)
    np.testing.assert_array_equal(same.label_HW, sample.label_HW)


def test_the_input_is_not_modified():
    sample = random_sample((30, 30, 3))
    before = sample.image_HWC.copy(), sample.label_HW.copy()
    everything = {"brightness": 0.5, "noise": 0.5, "blur": 3.0, "flip_horizontal": 1.0}
    change(sample, **everything)
    np.testing.assert_array_equal(sample.image_HWC, before[0])
    np.testing.assert_array_equal(sample.label_HW, before[1])


def test_results_do_not_depend_on_the_threads_of_opencv():
    sample = random_sample((200, 300, 3))
    options = {"scale": (0.5, 2.0), "rotate": 45.0, "blur": 2.0, "crop": (160, 160)}
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = [change(sample, seed=seed, **options).image_HWC for seed in range(4)]
        cv2.setNumThreads(4)
        four = [change(sample, seed=seed, **options).image_HWC for seed in range(4)]
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(alone, four)


def turned_about_the_centre(label_HW, count, side):
    """Quarter turns within the image's own frame; half a pixel goes to one side or the other."""
    rows, columns = label_HW.shape
    turned = np.rot90(label_HW, count)
    margin = 64
    canvas = np.full((rows + 2 * margin, columns + 2 * margin), IGNORE, label_HW.dtype)
    down, across = (
        margin + (frame - length + side) // 2
        for frame, length in zip((rows, columns), turned.shape, strict=True)
    )
    canvas[down : down + turned.shape[0], across : across + turned.shape[1]] = turned
    return canvas[margin : margin + rows, margin : margin + columns]


@pytest.mark.parametrize("columns", [60, 61])
@pytest.mark.parametrize("rows", [40, 41])
@pytest.mark.parametrize("lying", [False, True])
def test_quarter_turns_keep_structures_of_one_pixel(rows, columns, lying):
    """Ties of nearest-neighbour sampling once went to even pixels: poles vanished or doubled."""
    label_HW = np.zeros((rows, columns), np.uint8)
    poles = np.random.default_rng(rows + columns).choice(np.arange(11, 29), 10, replace=False)
    label_HW[(poles,) if lying else (slice(None), 10 + poles)] = 1
    sample = Sample("s", np.repeat(label_HW[..., None] * 200, 3, axis=2), label_HW, "s.png")
    allowed = {}
    for count in range(3):
        for side in (0, 1):
            found = turned_about_the_centre(label_HW, count, side)
            for version in (found, found[::-1], found[:, ::-1]):
                # Half a turn and one flip is the other flip.
                allowed.setdefault(version.tobytes(), count % 2)
    seen = set()
    for seed in range(40):
        moved = change(sample, seed=seed, rotations=90)
        assert moved.label_HW.tobytes() in allowed
        seen.add(allowed[moved.label_HW.tobytes()])
        inside_HW = moved.label_HW != IGNORE
        for band in range(3):
            wanted = moved.label_HW[inside_HW] * 200
            np.testing.assert_array_equal(moved.image_HWC[inside_HW][:, band], wanted)
    assert seen == {0, 1}


@pytest.mark.parametrize("size", [(30, 200), (200, 31)])
def test_a_quarter_turn_whose_window_misses_the_image_teaches_nothing(size):
    """A long image, turned, no longer reaches a window near its former end."""
    sample = coordinate_sample(*size)
    missed = 0
    for seed in range(100):
        moved = change(sample, seed=seed, ignore=IGNORE_16, rotations=90, crop=(20, 20))
        assert moved.image_HWC.shape == (20, 20, 2)
        inside_HW = moved.label_HW != IGNORE_16
        y, x = divmod(moved.label_HW[inside_HW], size[1])
        np.testing.assert_array_equal(moved.image_HWC[inside_HW], np.stack([x, y], 1) + 0.5)
        missed += not inside_HW.any()
    assert 5 < missed < 60


def photograph(shape=(64, 64, 3)):
    """Return floats with the mean and deviation of a photograph in 0…255, none near saturation."""
    return np.random.default_rng(3).uniform(124 - 100.4, 124 + 100.4, shape)


def noise_in_deviations(image_HWC, dtype, **options):
    """Return how much one fixed draw moves the pixels of an image, in its own deviations."""
    image_HWC = image_HWC.astype(dtype)
    deviation_C = np.full(3, image_HWC.std(dtype=np.float64))
    sample = Sample("s", image_HWC, np.zeros(image_HWC.shape[:2], np.uint8), "s.tif")
    moved = change(sample, seed=5, deviation_C=deviation_C, **options).image_HWC
    assert moved.dtype == dtype
    return float(np.std(moved.astype(np.float64) - image_HWC) / image_HWC.std())


@pytest.mark.parametrize(
    "options", [{"noise": 0.1}, {"brightness": 0.2}, {"contrast": 0.4}, {"colour": 0.2}]
)
def test_noise_and_colour_are_as_strong_whatever_the_numbers_are(options):
    eight = noise_in_deviations(photograph(), np.uint8, **options)
    assert eight > 0.02
    twelve = noise_in_deviations(photograph() * 16, np.uint16, **options)
    sixteen = noise_in_deviations(photograph() * 257, np.uint16, **options)
    reflectance = noise_in_deviations(photograph() / 500, np.float32, **options)
    assert (twelve, sixteen, reflectance) == pytest.approx((eight,) * 3, rel=0.05)


def test_one_outlier_does_not_make_the_noise_louder():
    image_HWC = photograph().astype(np.float32)
    with_outlier = image_HWC.copy()
    with_outlier[5, 5] = 1e6
    deviation_C = image_HWC.std(axis=(0, 1)).astype(np.float64)
    label_HW = np.zeros((64, 64), np.uint8)
    plain, odd = (
        change(Sample("s", each, label_HW, "s.tif"), noise=0.1, deviation_C=deviation_C).image_HWC
        for each in (image_HWC, with_outlier)
    )
    same = np.ones((64, 64), bool)
    same[5, 5] = False
    np.testing.assert_array_equal(plain[same], odd[same])


def test_noise_of_each_band_follows_its_own_deviation():
    image_HWC = np.zeros((64, 64, 2), np.float32)
    sample = Sample("s", image_HWC, np.zeros((64, 64), np.uint8), "s.tif")
    moved = change(sample, noise=0.1, deviation_C=np.array([1.0, 40.0])).image_HWC
    assert moved[..., 1].std() / moved[..., 0].std() == pytest.approx(40, rel=0.05)


def test_eight_bit_results_are_those_of_the_first_version():
    sha = hashlib.sha256()
    sample = random_sample((40, 50, 3))
    for seed in range(10):
        options = {"noise": 0.1, "brightness": 0.2, "contrast": 0.2, "colour": 0.1}
        sha.update(change(sample, seed=seed, **options).image_HWC.tobytes())
    assert sha.hexdigest() == "8fbb02f30211c7c8d2a2728dc9619f2d11970fbb4dcbdbb74169b87372e9538d"


DEFORMATIONS = {"elastic": 8.0, "grid_distortion": 0.3, "optical_distortion": 0.4}


@pytest.mark.parametrize("option", sorted(DEFORMATIONS))
def test_a_deformation_bends_and_leaves_the_other_draws_as_they_were(option):
    sample = coordinate_sample(90, 120)
    others = {"scale": (0.8, 1.2), "rotate": 20.0, "flip_horizontal": 0.5, "noise": 0.0}
    for seed in range(5):
        plain = change(sample, seed=seed, ignore=IGNORE_16, **others)
        bent = change(
            sample, seed=seed, ignore=IGNORE_16, **others, **{option: DEFORMATIONS[option]}
        )
        assert not np.array_equal(plain.image_HWC, bent.image_HWC)
        # The same affine map lies behind: half of the pixels moved by less than a quarter.
        moved = np.abs(plain.image_HWC - bent.image_HWC).max(axis=2)
        assert np.median(moved) < 24


def test_noise_is_the_same_with_a_deformation_and_without():
    flat = Sample("s", np.full((40, 50, 3), 90, np.uint8), np.zeros((40, 50), np.uint8), "s.png")
    plain = change(flat, noise=0.2)
    np.testing.assert_array_equal(change(flat, noise=0.2, elastic=4.0).image_HWC, plain.image_HWC)


def test_a_lens_leaves_the_centre_and_pulls_the_corners_by_its_number():
    sample = coordinate_sample(101, 101)
    pulls = []
    for seed in range(200):
        bent = change(sample, seed=seed, ignore=IGNORE_16, optical_distortion=0.2)
        np.testing.assert_allclose(bent.image_HWC[50, 50], (50.5, 50.5), atol=0.01)
        # Half way to the right edge: r² = 1/8 in half diagonals.
        pulls.append((bent.image_HWC[50, 75, 0] - 50.5) / 25 - 1)
    assert np.max(np.abs(pulls)) <= 0.2 / 8 + 0.002
    assert max(pulls) > 0.02
    assert min(pulls) < -0.02


def test_grid_distortion_keeps_the_edges_and_the_order():
    sample = coordinate_sample(100, 100)
    for seed in range(20):
        bent = change(sample, seed=seed, ignore=IGNORE_16, grid_distortion=0.9)
        columns = bent.image_HWC[50, :, 0]
        assert (np.diff(columns) >= 0).all()
        # The widest cell is 19 times as wide as the narrowest, or fewer.
        assert columns[0] < 2.5
        assert columns[-1] > 97.5
        assert IGNORE_16 not in bent.label_HW


def test_elastic_displacements_have_the_deviation_that_is_asked_for():
    sample = coordinate_sample(99, 99)
    at_the_middle = [
        change(sample, seed=seed, ignore=IGNORE_16, elastic=6.0).image_HWC[49, 49] - 49.5
        for seed in range(400)
    ]
    assert np.std(at_the_middle) == pytest.approx(6.0, rel=0.1)


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_equalisation_lifts_a_dull_image_and_leaves_the_label(bands):
    rng = np.random.default_rng(0)
    dull_HWC = (100 + 8 * rng.random((64, 64, bands))).astype(np.uint8)
    sample = Sample("s", dull_HWC, rng.integers(0, 5, (64, 64), dtype=np.uint8), "s.png")
    results = [change(sample, seed=seed, clahe=4.0) for seed in range(40)]
    changed = [r for r in results if not np.array_equal(r.image_HWC, dull_HWC)]
    assert 10 <= len(changed) <= 30
    for result in results:
        np.testing.assert_array_equal(result.label_HW, sample.label_HW)
    assert np.mean([r.image_HWC.std() for r in changed]) > 1.3 * dull_HWC.std()


def test_equalisation_of_other_types_is_refused_by_name():
    with pytest.raises(ConfigError) as caught:
        change(random_sample((9, 9, 3), np.uint16), seed=3, clahe=2.0)
    assert caught.value.code == "SEG-X011"
    assert "uint16" in str(caught.value)


def test_a_missing_value_stays_missing_when_its_place_is_bent():
    sample = random_sample((60, 60, 2), np.float32)
    sample.image_HWC[20:30, 20:30, 0] = np.nan
    present = ~np.isnan(sample.image_HWC)
    sample = Sample(sample.name, sample.image_HWC, sample.label_HW, "s.tif", present)
    rng = np.random.Generator(np.random.Philox(key=1))
    bent = augment(sample, AugmentConfig(elastic=3.0), None, rng, IGNORE, np.array([1.0, 1.0]))
    lost = np.isnan(bent.image_HWC)
    assert 60 < lost[..., 0].sum() < 160
    assert not lost[..., 1].any()
