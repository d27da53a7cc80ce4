"""The loader against loaders people use, on the same images and with two readers each.

The work: decode CamVid, scale 0.5…2, crop 360×360 (padded where the image is smaller), flip,
normalise to float32, batches of 8. What reads:

    terrazzo        two threads; normalised after the batch is there, as on a device
    bare OpenCV     two threads; one fused warp an image and one a label; checks nothing, maps no
                    labels, does not average what it shrinks: the least that can be done
    torchvision v2  torch DataLoader, two workers; torchvision.io, tv_tensors, uint8 until the end
    albumentations  torch DataLoader, two workers; OpenCV, one Affine
    tf.data         two parallel calls, a private pool of two threads; in a process of its own

    pip install -r requirements-bench.txt
    TERRAZZO_DATA=… python benchmarks/loader.py

All take turns; printed are the medians in images/s and the medians of the ratios. A peer that is
not installed is left out. ``--tiny`` times the cost of a batch of two 32×32 images in memory.
``--read-ahead grain threads`` lets the two ways of reading ahead take turns in the loader itself:
the ordered thread pool that it has, and grain 0.2, which it had before.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import math
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from terrazzo.base.ordered_map import ordered_map
from terrazzo.base.recipe import AugmentConfig, DataConfig, LoaderConfig
from terrazzo.data import loader
from terrazzo.data.datasets import open_split
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.loader import TrainingOrder, digest, training_batches
from terrazzo.data.sample import IGNORE
from terrazzo.testing.memory import MemorySplit

BATCH = 8
READERS = 2
CROP = 360
SCALE = (0.5, 2.0)
MEAN, STD = (104.0, 106.0, 109.0), (72.0, 76.0, 76.0)
NORMALISE = ((np.arange(256.0)[:, None] - MEAN) / STD).astype(np.float32)[None]
FLOORS = {"bare OpenCV": 0.9, "torchvision v2": 1.4, "albumentations": 1.4, "tf.data": 1.4}


def normalised(pixels):
    """Return …×3 uint8 as float32 of mean 0 and deviation 1, by a table: a third of the time."""
    return cv2.LUT(pixels.reshape(-1, *pixels.shape[-2:]), NORMALISE).reshape(pixels.shape)


def draw_scale(draw):
    """Return a scale from a number in 0…1, even in the logarithm."""
    return math.exp(math.log(SCALE[0]) + draw * math.log(SCALE[1] / SCALE[0]))


# Ours and the bare loop


def camvid_batches(split, data, threads, num_batches, seed):
    """Return augmented batches of CamVid, not normalised."""
    return training_batches(
        split,
        data,
        AugmentConfig(crop=(CROP, CROP), scale=SCALE, flip_horizontal=0.5),
        LoaderConfig(threads=threads),
        TrainingOrder(len(split), BATCH, seed),
        start_step=0,
        stop_step=num_batches,
    )


def our_batches(split, data, num_batches, seed, *, normalise=True):
    """Yield images and labels of the loader under test."""
    for batch in camvid_batches(split, data, READERS, num_batches, seed):
        yield normalised(batch.images_BHWC) if normalise else batch.images_BHWC, batch.labels_BHW


def bare_batches(files, num_batches, seed, *, normalise=True):
    """Yield images and labels, read by threads an image at a time."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(files), num_batches * BATCH)
    draws = rng.random((num_batches * BATCH, 4))

    def read(pick, draw):
        image_HWC, label_HW = bare_sample(*files[pick], draw)
        return normalised(image_HWC) if normalise else image_HWC, label_HW

    with ThreadPoolExecutor(READERS) as executor:
        samples = executor.map(read, picks, draws)
        for _ in range(num_batches):
            batch = list(itertools.islice(samples, BATCH))
            yield tuple(np.stack(arrays) for arrays in zip(*batch, strict=True))


def bare_sample(image_file, label_file, draw):
    """Decode and warp one pair."""
    image_HWC = cv2.imread(str(image_file), cv2.IMREAD_COLOR)
    label_HW = cv2.imread(str(label_file), cv2.IMREAD_UNCHANGED)
    rows, columns = label_HW.shape
    scale = draw_scale(draw[0])
    sign = -1.0 if draw[1] < 0.5 else 1.0
    left = draw[2] * (columns * scale - CROP)
    top = draw[3] * (rows * scale - CROP)
    x = (left if sign > 0 else left + CROP) / scale
    matrix = np.array([[sign / scale, 0, x], [0, 1 / scale, top / scale]])
    size, inverse = (CROP, CROP), cv2.WARP_INVERSE_MAP
    return (
        cv2.warpAffine(image_HWC, matrix, size, flags=cv2.INTER_LINEAR | inverse),
        cv2.warpAffine(
            label_HW, matrix, size, flags=cv2.INTER_NEAREST | inverse, borderValue=IGNORE
        ),
    )


# torch DataLoader


def torch_batches(dataset_class, files, num_batches, seed):
    """Yield batches of a DataLoader with two worker processes."""
    import torch

    dataset = dataset_class(files)
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=torch.utils.data.RandomSampler(
            dataset,
            replacement=True,
            num_samples=num_batches * BATCH,
            generator=torch.Generator().manual_seed(seed),
        ),
        num_workers=READERS,
        prefetch_factor=4,
        worker_init_fn=_single_threaded,
    )
    return iter(loader)


def _single_threaded(_worker):
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)


class TorchvisionImages:
    """CamVid through torchvision.io and torchvision.transforms.v2."""

    def __init__(self, files):
        import torch
        from torchvision import tv_tensors
        from torchvision.transforms import v2

        self.files = files
        fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE}
        self.transform = v2.Compose(
            [
                v2.ScaleJitter((360, 480), SCALE, antialias=False),
                v2.RandomCrop((CROP, CROP), pad_if_needed=True, fill=fill),
                v2.RandomHorizontalFlip(),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        from torchvision import io, tv_tensors

        image_file, label_file = map(str, self.files[index])
        image = tv_tensors.Image(io.decode_image(io.read_file(image_file), io.ImageReadMode.RGB))
        label = tv_tensors.Mask(io.decode_image(io.read_file(label_file), io.ImageReadMode.GRAY))
        return self.transform(image, label)


class AlbumentationsImages:
    """CamVid through OpenCV and albumentations."""

    def __init__(self, files):
        import albumentations as A  # noqa: N812
        from albumentations.pytorch import ToTensorV2

        self.files = files
        self.transform = A.Compose(
            [
                A.RandomScale((SCALE[0] - 1, SCALE[1] - 1), p=1),
                A.PadIfNeeded(CROP, CROP, border_mode=cv2.BORDER_CONSTANT, fill_mask=IGNORE),
                A.RandomCrop(CROP, CROP),
                A.HorizontalFlip(p=0.5),
                A.Normalize([m / 255 for m in MEAN], [s / 255 for s in STD]),
                ToTensorV2(),
            ]
        )

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        image_file, label_file = map(str, self.files[index])
        image_HWC = cv2.imread(image_file, cv2.IMREAD_COLOR_RGB)
        label_HW = cv2.imread(label_file, cv2.IMREAD_UNCHANGED)
        changed = self.transform(image=image_HWC, mask=label_HW)
        return changed["image"], changed["mask"]


# tf.data, in a process of its own


def tensorflow_batches(files, num_batches, seed):
    """Return an iterator over batches of a tf.data pipeline."""
    import tensorflow as tf

    def read(image_file, label_file):
        image_HWC = tf.image.decode_jpeg(tf.io.read_file(image_file), 3)
        label_HWC = tf.image.decode_png(tf.io.read_file(label_file), 1)
        bounds = [math.log(bound) for bound in SCALE]
        scale = tf.exp(tf.random.uniform([], *bounds))
        size = tf.cast(tf.round(tf.cast(tf.shape(label_HWC)[:2], tf.float32) * scale), tf.int32)
        image_HWC = tf.image.resize(image_HWC, size)
        label_HWC = tf.image.resize(label_HWC, size, "nearest")
        lacking = tf.maximum(CROP - size, 0)
        padding = [[0, lacking[0]], [0, lacking[1]], [0, 0]]
        image_HWC = tf.pad(image_HWC, padding)
        label_HWC = tf.pad(label_HWC, padding, constant_values=IGNORE)
        slack = tf.cast(tf.maximum(size - CROP, 0) + 1, tf.float32)
        corner = tf.cast(tf.random.uniform([2]) * slack, tf.int32)
        corner = tf.concat([corner, [0]], 0)
        image_HWC = tf.slice(image_HWC, corner, [CROP, CROP, 3])
        label_HWC = tf.slice(label_HWC, corner, [CROP, CROP, 1])
        if tf.random.uniform([]) < 0.5:
            image_HWC = tf.reverse(image_HWC, [1])
            label_HWC = tf.reverse(label_HWC, [1])
        return (image_HWC - tf.constant(MEAN)) / tf.constant(STD), label_HWC

    images, labels = ([str(pair[part]) for pair in files] for part in (0, 1))
    pairs = tf.data.Dataset.from_tensor_slices((images, labels))
    pairs = pairs.shuffle(len(files), seed).repeat().take(num_batches * BATCH)
    batches = pairs.map(read, READERS, deterministic=False).batch(BATCH).prefetch(4)
    options = tf.data.Options()
    options.threading.private_threadpool_size = READERS
    return iter(batches.with_options(options))


def serve_tensorflow(files):
    """Time one turn for every line of standard input: number of batches, seed."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for line in sys.stdin:
        num_batches, seed = map(int, line.split())
        batches = tensorflow_batches(files, num_batches, seed)
        print(images_per_second(batches, num_batches), flush=True)


class TensorFlow:
    """The other process."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--tensorflow"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def images_per_second(self, num_batches, seed):
        """Let it take one turn."""
        self.process.stdin.write(f"{num_batches} {seed}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


# Timing


def images_per_second(batches, num_batches):
    """Time all batches but the first, which starts the readers."""
    next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    return (num_batches - 1) * BATCH / (time.perf_counter() - start)


def compare(arguments):
    """Let all take turns and print the table."""
    root = Path(os.environ["TERRAZZO_DATA"]) / "camvid"
    data = DataConfig(format="camvid", root=str(root))
    split = open_split(data, "train")
    files = [split.source.files(index) for index in range(len(split))]
    cv2.setNumThreads(1)
    count, there = arguments.batches, importlib.util.find_spec
    tensorflow = TensorFlow() if there("tensorflow") else None

    def timed(read, *what, **options):
        return lambda turn: images_per_second(iter(read(*what, count, turn, **options)), count)

    work = {
        "terrazzo": timed(our_batches, split, data),
        "bare OpenCV": timed(bare_batches, files),
        "terrazzo, not normalised": timed(our_batches, split, data, normalise=False),
        "bare OpenCV, not normalised": timed(bare_batches, files, normalise=False),
    }
    if there("torchvision"):
        work["torchvision v2"] = timed(torch_batches, TorchvisionImages, files)
    if there("torch") and there("albumentations"):
        work["albumentations"] = timed(torch_batches, AlbumentationsImages, files)
    if tensorflow is not None:
        work["tf.data"] = lambda turn: tensorflow.images_per_second(count, turn)
    speed = {name: [] for name in work}
    for turn in range(arguments.turns + 1):  # the first warms up
        for name, run in work.items():
            speed[name].append(run(turn))
    if tensorflow is not None:
        tensorflow.close()

    print(f"CamVid, scale 0.5…2, crop {CROP}², flip, normalise, batch {BATCH}, {READERS} readers")
    print(f"{'':<30}{'images/s':>10}{'ours / theirs':>15}  floor")
    for name, values in speed.items():
        plain = "terrazzo, not normalised" if "not normalised" in name else "terrazzo"
        ratios = [ours / each for ours, each in zip(speed[plain][1:], values[1:], strict=True)]
        ratio, floor = statistics.median(ratios), FLOORS.get(name)
        verdict = "" if floor is None else f"  {floor} {'reached' if ratio >= floor else 'missed'}"
        print(f"{name:<30}{statistics.median(values[1:]):>10.0f}{ratio:>15.2f}{verdict}")


def tiny_batches(threads, num_batches, seed):
    """Return batches of two images in memory."""
    rng = np.random.default_rng(0)
    labels = LabelMap("bench", tuple(LabelClass(f"{k}", "#000000", (k,)) for k in range(11)))
    split = MemorySplit(
        "train",
        tuple(rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(16)),
        tuple(rng.integers(0, 11, (32, 32), np.uint8) for _ in range(16)),
        labels,
    )
    return training_batches(
        split,
        DataConfig(format="none", root="."),
        AugmentConfig(flip_horizontal=0.5),
        LoaderConfig(threads=threads),
        TrainingOrder(len(split), 2, seed),
        start_step=0,
        stop_step=num_batches,
    )


def tiny(num_batches=2000):
    """Print what a batch of two images in memory costs its readers, and who asks for it."""
    for threads in (0, 1, 2):
        wall, busy = zip(
            *(milliseconds(tiny_batches(threads, num_batches, turn)) for turn in range(5)),
            strict=True,
        )
        print(
            f"{threads} threads: {statistics.median(wall):.3f} ms a batch of two 32×32 images, "
            f"{statistics.median(busy):.3f} ms of processor time"
        )


# Two ways to read ahead


def grain_map(function, items, *, threads, ahead):
    """Do what `ordered_map` does with grain."""
    import grain

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    results = iter(grain.MapDataset.source(items).map(function).to_iter_dataset(options))
    try:
        yield from results
    finally:
        results.close()


READ_AHEAD = {"threads": ordered_map, "grain": grain_map}


def milliseconds(batches):
    """Return wall time and processor time a batch, the first, which starts the readers, apart."""
    next(batches)
    wall, busy = time.perf_counter(), time.process_time()
    count = sum(1 for _ in batches)
    return (
        (time.perf_counter() - wall) * 1e3 / count,
        (time.process_time() - busy) * 1e3 / count,
    )


def compare_read_ahead(ways, arguments):
    """Let the ways take turns on CamVid and on tiny images; print medians and their ratios."""
    data = DataConfig(format="camvid", root=str(Path(os.environ["TERRAZZO_DATA"]) / "camvid"))
    split = open_split(data, "train")
    work = {}
    for threads in (1, 2):
        work[f"CamVid, {threads} threads"] = lambda turn, threads=threads: camvid_batches(
            split, data, threads, arguments.batches, turn
        )
        work[f"two 32×32 images, {threads} threads"] = lambda turn, threads=threads: tiny_batches(
            threads, 40 * arguments.batches, turn
        )
    print(f"{'ms a batch':<30}" + "".join(f"{f'{way}: wall, busy':>24}" for way in ways), "ratios")
    for name, batches in work.items():
        times = {way: [] for way in ways}
        sums = {way: digest(itertools.islice(_read(way, batches(0)), 20)) for way in ways}
        assert len(set(sums.values())) == 1, sums
        for turn in range(arguments.turns):
            for way in ways if turn % 2 == 0 else reversed(ways):
                times[way].append(milliseconds(_read(way, batches(turn))))
        cells = "".join(
            f"{statistics.median(t[0] for t in each):>15.3f}, "
            f"{statistics.median(t[1] for t in each):>7.3f}"
            for each in times.values()
        )
        ratios = [
            statistics.median(
                theirs[kind] / ours[kind]
                for ours, theirs in zip(times[ways[0]], times[ways[-1]], strict=True)
            )
            for kind in (0, 1)
        ]
        print(f"{name:<30}{cells}  {ways[-1]} / {ways[0]}: {ratios[0]:.3f}, {ratios[1]:.3f}")


def _read(way, batches):
    """Yield batches that are read ahead in the way named."""
    with (
        mock.patch.object(loader, "ordered_map", READ_AHEAD[way]),
        contextlib.closing(batches),
    ):
        yield from batches


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=46, help="batches a turn (one epoch)")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="the cost of a batch instead")
    parser.add_argument("--read-ahead", nargs="+", choices=READ_AHEAD, help="compare these instead")
    parser.add_argument("--tensorflow", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tensorflow:
        root = Path(os.environ["TERRAZZO_DATA"]) / "camvid"
        split = open_split(DataConfig(format="camvid", root=str(root)), "train")
        serve_tensorflow([split.source.files(index) for index in range(len(split))])
    elif arguments.read_ahead:
        compare_read_ahead(arguments.read_ahead, arguments)
    elif arguments.tiny:
        tiny()
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
