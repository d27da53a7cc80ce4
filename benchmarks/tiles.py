"""Random chips from one large GeoTIFF against bare rasterio windows and torchgeo, on two threads.

    python benchmarks/tiles.py                    8192², deflated and uncompressed
    python benchmarks/tiles.py --size 2048 --chips 80 --rounds 1

The scene has 4 bands of uint16 and a label raster, both in blocks of 256. All read random windows
of 256², image and label:

    terrazzo     chips = "random" of the format `geotiff` through the training loader, two threads,
                 batches of 8: everything checked, labels mapped
    rasterio     the same windows by `dataset.read` and nothing else, two threads, a handle each
    torchgeo     `RasterDataset & RasterDataset` and the windows of a `RandomGeoSampler` in a
                 `DataLoader` of two workers, batches of 8

*Cold* is a process that goes through its windows once, from the start of its threads or workers on;
*warm* is the fourth of five times in another one. GDAL's cache holds all blocks; the files are in
the system's own cache. Each way is a process of its own; they take turns, and medians are printed.
Without torchgeo it is left out; it is not in requirements-bench.txt for the sake of its many
packages: pip install torchgeo.
"""

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from terrazzo.base.recipe import AugmentConfig, DataConfig, LoaderConfig
from terrazzo.data.datasets import open_split
from terrazzo.data.loader import TrainingOrder, training_batches

CHIP, BANDS, THREADS, BATCH = 256, 4, 2, 8
CACHE_MB = 3000
PASSES = {"cold": 1, "warm": 5}
PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 400_000, 0, -10, 5_800_000)}


def write_scene(folder, size, compress):
    """Write smooth fields with some noise, a row of blocks at a time."""
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "height": size, "width": size} | PLACE
    profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256}
    if compress:
        profile |= {"compress": "deflate", "zlevel": 6}
    coarse = rng.integers(300, 4000, (BANDS, 8, size // 32))
    strip = coarse.repeat(32, axis=1).repeat(32, axis=2)
    noise = rng.normal(0, 25, (BANDS, 256, size))
    with (
        rasterio.open(
            folder / "image.tif", "w", count=BANDS, dtype="uint16", interleave="pixel", **profile
        ) as image,
        rasterio.open(folder / "label.tif", "w", count=1, dtype="uint8", **profile) as label,
    ):
        for row in range(0, size, 256):
            values = np.roll(strip + noise, 37 * row // 256, axis=2)
            window = Window(0, row, size, 256)
            image.write(values.astype(np.uint16), window=window)
            label.write((values[:1] // 800).astype(np.uint8), window=window)


def random_chips(folder, chips):
    """Return the training split of the scene, cut at random."""
    classes = ", ".join(f'{{ name="c{k}", colour="#00000{k}", raw=[{k}] }}' for k in range(9))
    (folder / "labels.toml").write_text(f'name = "c"\nclasses = [{classes}]\n')
    options = {
        "scenes": [{"images": ["image.tif"], "label": "label.tif"}],
        "chip": CHIP,
        "chips": "random",
        "count": chips,
        "split": {"train": 1, "val": 0, "test": 0},
    }
    labels = str(folder / "labels.toml")
    data = DataConfig(format="geotiff", root=str(folder), labels=labels, options=options)
    return data, open_split(data, "train")


def terrazzo_passes(folder, chips, passes):
    data, split = random_chips(folder, chips)
    steps = chips // BATCH
    yield
    batches = training_batches(
        split,
        data,
        AugmentConfig(),
        LoaderConfig(threads=THREADS),
        TrainingOrder(len(split), BATCH, seed=0),
        start_step=0,
        stop_step=steps * passes,
    )
    for _ in range(passes):
        yield sum(len(batch) for batch in itertools.islice(batches, steps))


def rasterio_passes(folder, chips, passes):
    _, split = random_chips(folder, chips)
    local = threading.local()

    def read(place):
        if not hasattr(local, "files"):
            local.files = [rasterio.open(folder / name) for name in ("image.tif", "label.tif")]
        window = Window(place[2], place[1], CHIP, CHIP)
        return [file.read(window=window).shape for file in local.files]

    yield
    with ThreadPoolExecutor(THREADS) as executor:
        for _ in range(passes):
            yield len(list(executor.map(read, split.source.places)))


def torchgeo_passes(folder, chips, passes):
    import torch
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import RandomGeoSampler

    class Masks(RasterDataset):
        is_image = False

    dataset = RasterDataset([folder / "image.tif"]) & Masks([folder / "label.tif"])
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=list(RandomGeoSampler(dataset, size=CHIP, length=chips)),
        num_workers=THREADS,
        collate_fn=stack_samples,
        persistent_workers=True,
    )
    yield
    for _ in range(passes):
        yield sum(len(batch["image"]) for batch in loader)


WAYS = {"terrazzo": terrazzo_passes, "rasterio": rasterio_passes, "torchgeo": torchgeo_passes}


def run_way(way, folder, chips, num_passes):
    """Print the chips a second of every pass."""
    passes = WAYS[way](folder, chips, num_passes)
    next(passes)  # imports and headers
    begun, speeds = time.perf_counter(), []
    for count in passes:
        assert count == chips
        now = time.perf_counter()
        speeds.append(count / (now - begun))
        begun = now
    print(json.dumps(speeds))


def measure(way, folder, chips, state):
    """Return the chips a second of the only pass, or of the last but one."""
    command = [sys.executable, __file__, "--way", way, "--folder", folder, "--chips", str(chips)]
    environment = {**os.environ, "GDAL_CACHEMAX": str(CACHE_MB), "OMP_NUM_THREADS": "1"}
    command += ["--passes", str(PASSES[state])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])[-2:][0]


def compare(folder, chips, rounds):
    """Print the medians of all ways, and ours as a multiple of each of the others'."""
    ways = [way for way in WAYS if way != "torchgeo" or importlib.util.find_spec("torchgeo")]
    for state in PASSES:
        rows = [{way: measure(way, folder, chips, state) for way in ways} for _ in range(rounds)]
        for way in ways:
            middle = statistics.median(row[way] for row in rows)
            ratios = sorted(row["terrazzo"] / row[way] for row in rows)
            ratio = f"{statistics.median(ratios):6.2f} ({ratios[0]:.2f}…{ratios[-1]:.2f})"
            print(f"{state}  {way:<9}{middle:8.1f} chips/s   terrazzo is {ratio}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--chips", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compress", choices=["deflate", "none"])
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--folder")
    parser.add_argument("--passes", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.way:
        run_way(arguments.way, Path(arguments.folder), arguments.chips, arguments.passes)
        return
    for compress in [arguments.compress] if arguments.compress else ["deflate", "none"]:
        with tempfile.TemporaryDirectory() as folder:
            write_scene(Path(folder), arguments.size, compress == "deflate")
            size = (Path(folder) / "image.tif").stat().st_size
            print(f"{arguments.size}², {compress}: {size / 1e6:.0f} MB", flush=True)
            compare(folder, arguments.chips, arguments.rounds)


if __name__ == "__main__":
    main()
