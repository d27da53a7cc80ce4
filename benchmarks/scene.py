"""Whole-scene prediction against what people write or use instead, on one scene and one model.

    python benchmarks/scene.py                       8192² for speed, 4096² and 16384² for memory
    python benchmarks/scene.py --rounds 3            medians of three rounds, all ways in turn
    python benchmarks/scene.py --size 2048 --memory 1024 2048
    python benchmarks/scene.py --ways "model alone" terrazzo --memory

The scene has 3 bands of uint8, deflated in blocks of 512; tiles of 512 share 128; the model is a
softmax of 6 classes over single pixels in NumPy: cheap, so that reading, blending and writing show.
MONAI is the package itself (requirements-bench.txt), with the model channels first, as it wants it.
The others are written out here after what they do, in float32:

    rasterio loop    every tile read, argmax, its inner part written: no blending, one thread
    mmseg slide      whole scene and K-channel sums in memory, uniform weights (mmsegmentation,
                     `EncoderDecoder.slide_inference`)
    Gaussian slide   the same with MONAI's weights: sigma an eighth of the tile
    cosine slide     the same with weights that fall along a cosine in the overlap, after
                     terratorch's `tiled_inference`

These are no measurements of those packages themselves, whose own overhead comes on top. All write
deflate as Terrazzo does, with all cores. Imports are done before the clock starts. Peak memory is
the largest resident set of a process of its own that does nothing else.
"""

import argparse
import importlib
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.windows import Window

from terrazzo.base.recipe import ModelConfig
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Bands
from terrazzo.inference import blending, predict
from terrazzo.inference.jobs import ThisProcess
from terrazzo.inference.map_writer import make_maps
from terrazzo.inference.outputs import Settings, Work
from terrazzo.inference.tiled_prediction import Scene, Tiling
from terrazzo.inference.tiles import starts
from terrazzo.io import rasters
from terrazzo.models.card import ModelCard
from terrazzo.training.loop import peak_memory

TILE, OVERLAP, BANDS, CLASSES, BATCH = 512, 128, 3, 6, 4


class CheapModel:
    """What prediction uses of a `Trainer`."""

    device = "cpu"

    def __init__(self):
        rng = np.random.default_rng(0)
        self.kernel_CK = rng.normal(0, 0.02, (BANDS, CLASSES)).astype(np.float32)

    def predict(self, images_BHWC):
        logits = images_BHWC.reshape(-1, BANDS).astype(np.float32) @ self.kernel_CK
        np.exp(logits, out=logits)
        logits /= logits @ np.ones((CLASSES, 1), np.float32)
        return logits.reshape(*images_BHWC.shape[:3], CLASSES)

    def predict_channels_first(self, images_BCHW):
        logits_BKP = self.kernel_CK.T @ images_BCHW.reshape(len(images_BCHW), BANDS, -1)
        np.exp(logits_BKP, out=logits_BKP)
        logits_BKP /= logits_BKP.sum(axis=1, keepdims=True)
        return logits_BKP.reshape(len(images_BCHW), CLASSES, *images_BCHW.shape[2:])

    def predict_labels(self, images_BHWC):
        return self.predict(images_BHWC).argmax(axis=-1).astype(np.uint8)


def write_scene(path, size, height=None):
    """Write smooth colours with some noise, a strip at a time; a square unless told otherwise."""
    height = size if height is None else height
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (TILE // 32, max(size // 32, 1), BANDS)).astype(np.float32)
    strip = cv2.resize(coarse, (size, TILE), interpolation=cv2.INTER_LINEAR)
    strip = np.clip(strip + rng.normal(0, 3, strip.shape), 0, 255).astype(np.uint8)
    profile = {"driver": "GTiff", "height": height, "width": size, "count": BANDS, "dtype": "uint8"}
    tiling = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    with rasterio.open(path, "w", **profile, **tiling, interleave="pixel", zlevel=1) as dataset:
        for row in range(0, height, TILE):
            shifted = np.roll(strip, 37 * row // TILE, axis=1)
            dataset.write(
                np.moveaxis(shifted[: height - row], 2, 0),
                window=Window(0, row, size, min(TILE, height - row)),
            )


def card():
    classes = tuple(LabelClass(f"class {k}", f"#{k * 40:02X}00FF", (k,)) for k in range(CLASSES))
    names = tuple(f"band {n}" for n in range(1, BANDS + 1))
    bands = Bands(names, "uint8", (128.0,) * BANDS, (32.0,) * BANDS)
    model = ModelConfig(name="pixel_softmax")
    return ModelCard("reference", model, LabelMap("benchmark", classes), bands, None, 1)


TILING = Tiling(tile=TILE, overlap=OVERLAP, batch_size=BATCH)


def ours(path, out):
    scene = Scene.of_file(path, tuple(range(BANDS)))
    work = Work(path, out, areas=out.with_suffix(".csv"), style=out.with_suffix(".qml"))
    order = predict.order_for(scene, card(), work, Settings(tiling=TILING), ("cheap",))
    (_,) = make_maps([order], ThisProcess(CheapModel(), lambda: None))


def tiles(size):
    firsts = starts(size, TILE, OVERLAP)
    return [(row, column) for row in firsts for column in firsts]


def model_alone(path, _out):
    """The model on as many tiles, already in memory."""
    size = rasters.info(path).rows
    images_BHWC = np.stack([rasters.read_window(path, 0, 0, TILE, TILE)[0]] * BATCH)
    model = CheapModel()
    for _ in range(0, len(tiles(size)), BATCH):
        model.predict(images_BHWC)


def writer(path, out):
    with rasterio.open(path) as source:
        profile = {**source.profile, "count": 1, "blockxsize": 256, "blockysize": 256}
        profile |= {"zlevel": 5, "num_threads": "all_cpus"}
    return rasterio.open(out, "w", **profile)


def rasterio_loop(path, out):
    model, margin = CheapModel(), OVERLAP // 2
    with rasterio.open(path) as source, writer(path, out) as target:
        for row, column in tiles(source.height):
            image_HWC = np.moveaxis(source.read(window=Window(column, row, TILE, TILE)), 0, 2)
            labels_HW = model.predict_labels(image_HWC[None])[0]
            top, left = margin * (row > 0), margin * (column > 0)
            part = labels_HW[top:, left:]
            place = Window(column + left, row + top, part.shape[1], part.shape[0])
            target.write(part[None], window=place)


def slide(path, out, weights_HW):
    model = CheapModel()
    with rasterio.open(path) as source:
        image_HWC = np.ascontiguousarray(np.moveaxis(source.read(), 0, 2))
    sums_KHW = np.zeros((CLASSES, *image_HWC.shape[:2]), np.float32)
    count_HW = np.zeros(image_HWC.shape[:2], np.float32)
    for row, column in tiles(image_HWC.shape[0]):
        place = (slice(row, row + TILE), slice(column, column + TILE))
        probabilities_HWK = model.predict(image_HWC[place][None])[0]
        sums_KHW[(slice(None), *place)] += np.moveaxis(probabilities_HWK, 2, 0) * weights_HW
        count_HW[place] += weights_HW
    sums_KHW /= count_HW
    with writer(path, out) as target:
        target.write(sums_KHW.argmax(axis=0).astype(np.uint8)[None])


def mmseg_slide(path, out):
    slide(path, out, np.ones((TILE, TILE), np.float32))


def gaussian_slide(path, out):
    distance = np.arange(TILE) - (TILE - 1) / 2
    bell = np.exp(-0.5 * np.square(distance / (TILE / 8)))
    slide(path, out, np.maximum(np.outer(bell, bell), 1e-3).astype(np.float32))


def cosine_slide(path, out):
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(OVERLAP) + 0.5) / OVERLAP)
    side = np.concatenate([ramp, np.ones(TILE - 2 * OVERLAP), ramp[::-1]])
    slide(path, out, np.maximum(np.outer(side, side), 1e-3).astype(np.float32))


def monai_gaussian(path, out):
    torch, inferers = importlib.import_module("torch"), importlib.import_module("monai.inferers")
    model = CheapModel()
    with rasterio.open(path) as source:
        image_BCHW = torch.from_numpy(source.read().astype(np.float32)[None])
    with torch.inference_mode():
        probabilities_BKHW = inferers.sliding_window_inference(
            image_BCHW,
            (TILE, TILE),
            BATCH,
            lambda x: torch.from_numpy(model.predict_channels_first(x.numpy())),
            overlap=OVERLAP / TILE,
            mode="gaussian",
        )
        labels_HW = probabilities_BKHW[0].argmax(dim=0).to(torch.uint8).numpy()
    with writer(path, out) as target:
        target.write(labels_HW[None])


WAYS = {
    "model alone": model_alone,
    "terrazzo": ours,
    "MONAI Gaussian": monai_gaussian,
    "rasterio loop": rasterio_loop,
    "mmseg slide": mmseg_slide,
    "Gaussian slide": gaussian_slide,
    "cosine slide": cosine_slide,
}


def measure(way, path, folder):
    """Run one way in a process of its own; return seconds and peak memory in MB."""
    command = [sys.executable, __file__, "--way", way, "--scene", str(path), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def run_way(way, path, folder):
    if way.startswith("MONAI"):
        importlib.import_module("torch")
        importlib.import_module("monai.inferers")
    if way.startswith("terrazzo"):
        blending.compiled_best_class()
    begun = time.perf_counter()
    WAYS[way](path, folder / "map.tif")
    seconds = time.perf_counter() - begun
    print(seconds, peak_memory()["peak_memory_bytes"] / 2**20)


def remove_map(folder):
    for left in folder.glob("map.*"):
        left.unlink()


def speeds(path, folder, size, ways, rounds):
    taken = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            taken[way].append(measure(way, path, folder))
            remove_map(folder)
    for way, measured in taken.items():
        seconds = statistics.median(second for second, _ in measured)
        alone = [second for second, _ in taken.get("model alone", [])]
        ratio = f"{statistics.median(alone) / seconds:8.2f} of the model alone" if alone else ""
        peak = max(peak for _, peak in measured)
        speed = f"{size**2 / 1e6 / seconds:6.2f} Mpx/s"
        print(f"{way:<20}{speed}{seconds:8.1f} s{peak:8.0f} MB{ratio}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", nargs="*", choices=WAYS)
    parser.add_argument("--memory", type=int, nargs="*", default=[4096, 16384])
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.way:
        run_way(arguments.way, arguments.scene, arguments.out)
        return
    ways = arguments.ways
    if ways is None:
        monai = importlib.util.find_spec("monai") is not None
        ways = [way for way in WAYS if monai or not way.startswith("MONAI")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "scene.tif"
        if ways:
            write_scene(path, arguments.size)
            print(f"{arguments.size}²: {path.stat().st_size / 1e6:.0f} MB", flush=True)
            speeds(path, folder, arguments.size, ways, arguments.rounds)
        for size in arguments.memory:
            write_scene(path, size)
            seconds, peak = measure("terrazzo", path, folder)
            remove_map(folder)
            print(
                f"terrazzo {size}²: {peak:.0f} MB, {size**2 / 1e6 / seconds:.2f} Mpx/s", flush=True
            )


if __name__ == "__main__":
    main()
