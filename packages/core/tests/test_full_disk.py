"""Every writer where the disk refuses: one error that says why, and everything as it was."""

from __future__ import annotations

import dataclasses
import functools
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from terrazzo.base import atomic_write, json_files
from terrazzo.base.errors import ResourceError
from terrazzo.base.recipe import Config
from terrazzo.check import cache
from terrazzo.comparison import table_files
from terrazzo.comparison.compare import Comparison, compare
from terrazzo.data.datasets import demo
from terrazzo.evaluation import result
from terrazzo.inference import polygonize, predict
from terrazzo.inference.labelling import programs
from terrazzo.inference.labelling.source import PredictedImage
from terrazzo.inference.outputs import Settings
from terrazzo.io import archives, images, rasters
from terrazzo.report import comparison_figure_files, write_report
from terrazzo.runs import checkpoint, saved_model
from terrazzo.runs.folder import claimed, create_run
from terrazzo.testing.compared_runs import LABEL_MAP, write_run
from terrazzo.testing.scenes import LABELS, make_model, make_scene
from terrazzo.workflows.compare import write_comparison_files, write_files

FACTS = {"numbers": list(range(3000))}
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
RECIPE = Config.model_validate(
    {
        "backend": "reference",
        "data": {"format": "folder", "root": "d" * 300},
        "model": {"name": "pixel_softmax"},
        "training": {"steps": 3},
    }
)


@dataclass
class Inputs:
    """What the writers need; made once, and only read."""

    root: Path

    @property
    def runs(self) -> list[Path]:
        return [self.root / "a", self.root / "b"]

    @functools.cached_property
    def comparison(self) -> Comparison:
        return compare(self.runs)

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def scene(self) -> Path:
        return self.root / "scene.tif"

    @property
    def photo(self) -> Path:
        return self.root / "photo.png"

    @property
    def archive(self) -> Path:
        return self.root / "archive.zip"


@pytest.fixture(scope="module")
def inputs() -> Iterator[Inputs]:
    # Not `tmp_path`: its parents are closed to other users.
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for number, run in enumerate(("a", "b")):
            write_run(root / run, error=0.1 * (number + 1), seed=number)
        make_model(root / "model")
        make_scene(root / "scene.tif", (70, 65, 3))
        Image.fromarray(IMAGE).save(root / "photo.png")
        Image.fromarray(IMAGE[..., 0] % len(LABELS)).save(root / "map.png")
        (root / "confidence.json").write_text('{"mean_probability": 0.5, "classes": {}}')
        for path in root.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        with zipfile.ZipFile(root / "archive.zip", "w") as archive:
            archive.writestr("data/one.bin", os.urandom(9000))
        yield Inputs(root)


@dataclass(frozen=True)
class Writer:
    """Something that writes.

    Attributes:
        write: makes a file or a folder, or adds to one.
        suffix: of what it makes.
        makes_folder: a folder rather than a file.
        begins_with: makes what it adds to.
    """

    write: Callable[[Inputs, Path], object]
    suffix: str = ""
    makes_folder: bool = False
    begins_with: Callable[[Inputs, Path], object] | None = None


def write_raster_rows(inputs: Inputs, path: Path, *, cog: bool = False) -> None:
    info = rasters.info(inputs.scene)
    with atomic_write.replacing(path) as temporary:
        rasters.write_rows(
            temporary,
            info,
            [IMAGE[None, :64, :64, 0].repeat(2, 1).repeat(2, 2)[:, : info.rows, : info.columns]],
            dtype="uint8",
            nodata=255,
            band_names=("class",),
            classes=rasters.ClassTable(LABELS.names, LABELS.colours),
            tags={},
            cloud_optimised=cog,
        )


def write_polygons(inputs: Inputs, path: Path) -> None:
    with atomic_write.replacing(path) as temporary:
        labels = IMAGE[..., 0] % len(LABELS)
        rows, columns = labels.shape
        size = dataclasses.replace(rasters.info(inputs.scene), rows=rows, columns=columns)
        polygonize.write(temporary, [labels], size, LABELS)


def write_points(inputs: Inputs, path: Path) -> None:
    at = np.arange(300.0)
    fields = {"reference": np.full(300, "class " * 20, dtype=object)}
    rasters.write_points(path, at, at, rasters.info(inputs.scene).crs, fields, "points")


def write_evaluation(inputs: Inputs, path: Path) -> None:
    found = result.Evaluation(
        "test",
        1,
        ("n" * 240,),
        np.ones((1, 4, 4), np.int64),
        np.zeros(1, np.int64),
        (result.Example("n" * 240, IMAGE, IMAGE[..., 0] % 4, IMAGE[..., 1] % 4),),
    )
    result.write(found, LABEL_MAP, path)


def write_checkpoint(inputs: Inputs, folder: Path) -> None:
    checkpoint.write(folder, 3, {"weights/w": np.zeros((40, 40), np.float32)}, {"losses": []})


def write_model(inputs: Inputs, folder: Path) -> None:
    card = saved_model.read_card(inputs.model)
    saved_model.write(folder, card, saved_model.read_weights(inputs.model))


def write_image_map(inputs: Inputs, folder: Path) -> None:
    predict.predict(
        inputs.model, inputs.photo, folder, Settings(probabilities=True, overwrite=True)
    )


def write_labelling(inputs: Inputs, folder: Path, program: str) -> None:
    image = PredictedImage(
        inputs.photo, "photo.png", inputs.root / "map.png", inputs.root / "confidence.json", LABELS
    )
    atomic_write.make_folder(folder)
    programs.write(program, folder, [image], LABELS, "model", lambda _: None)


def write_map(inputs: Inputs, path: Path, **settings: object) -> None:
    predict.predict(inputs.model, inputs.scene, path, Settings(overwrite=True, **settings))


def write_all(folder: Path, files: Mapping[str, str | bytes]) -> None:
    write_files((folder / name, content) for name, content in files.items())


def claim(inputs: Inputs, folder: Path) -> None:
    with claimed(folder):
        (folder / "made").touch()


def create(inputs: Inputs, folder: Path) -> None:
    create_run(folder, RECIPE, LABEL_MAP, overwrite=True)


WRITERS = {
    "text": Writer(lambda _, path: atomic_write.replace_text(path, "word " * 2000), ".html"),
    "JSON": Writer(lambda _, path: json_files.replace_json(path, FACTS), ".json"),
    "line": Writer(
        lambda _, path: json_files.append_json_line(path, FACTS, flush=True),
        ".jsonl",
        begins_with=lambda _, path: path.write_text('{"step": 1}\n'),
    ),
    "PNG": Writer(lambda _, path: images.write_png(path, IMAGE), ".png"),
    "GeoTIFF": Writer(lambda _, path: rasters.write(path, IMAGE, crs=None, transform=None), ".tif"),
    "GeoTIFF by rows": Writer(write_raster_rows, ".tif"),
    "cloud optimised GeoTIFF": Writer(
        lambda inputs, path: write_raster_rows(inputs, path, cog=True), ".tif"
    ),
    "polygons": Writer(write_polygons, ".gpkg"),
    "points": Writer(write_points, ".gpkg"),
    "evaluation": Writer(write_evaluation, makes_folder=True),
    "comparison": Writer(
        lambda inputs, path: write_comparison_files(inputs.comparison, path, overwrite=True),
        ".html",
    ),
    "tables": Writer(
        lambda inputs, path: write_all(path, table_files.all_tables(inputs.comparison)),
        makes_folder=True,
    ),
    "figures": Writer(
        lambda inputs, path: write_all(
            path, comparison_figure_files.all_figures(inputs.comparison)
        ),
        makes_folder=True,
    ),
    "checkpoint": Writer(write_checkpoint, makes_folder=True),
    "model": Writer(write_model, makes_folder=True),
    "image map": Writer(write_image_map, makes_folder=True),
    "map": Writer(
        lambda inputs, path: write_map(
            inputs,
            path,
            probabilities=True,
            cloud_optimised=True,
            polygons=path.with_suffix(".gpkg"),
        ),
        ".tif",
    ),
    "labels for CVAT": Writer(
        lambda inputs, path: write_labelling(inputs, path, "cvat"), makes_folder=True
    ),
    "labels for Label Studio": Writer(
        lambda inputs, path: write_labelling(inputs, path, "labelstudio"), makes_folder=True
    ),
    "archive": Writer(
        lambda inputs, path: archives.unpack(inputs.archive, path, most_bytes=1 << 20),
        makes_folder=True,
    ),
    "run": Writer(create, makes_folder=True),
    "lock": Writer(claim, makes_folder=True),
}


@contextmanager
def of_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size; Python ignores the signal that says so."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user who may write nowhere but in what is open to all."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return what is in a folder, but for locks and rows that a resume goes on with."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock" and ".partial" not in str(path)
    }


def below_a_file(writer: Writer, room: Path) -> Path:
    (room / "file").write_text("precious")
    return room / "file" / f"x{writer.suffix}"


def of_a_long_name(writer: Writer, room: Path) -> Path:
    return room / f"{'x' * 256}{writer.suffix}"


def in_the_way(writer: Writer, room: Path) -> Path:
    """A file in the place of a folder, or a folder in that of a file."""
    place = room / f"x{writer.suffix}"
    inside = place if writer.makes_folder else place / "inside"
    inside.parent.mkdir(exist_ok=True)
    inside.write_text("precious")
    return place


def read_only(writer: Writer, room: Path) -> Path:
    (room / "closed").mkdir()
    return room / "closed" / f"x{writer.suffix}"


FAULTS = {
    "a file for a folder": below_a_file,
    "a long name": of_a_long_name,
    "something in the way": in_the_way,
    "read-only": read_only,
}


@pytest.fixture
def room() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WRITERS)
def test_a_place_that_refuses_is_named_and_left_as_it_was(inputs, room, name, fault):
    writer = WRITERS[name]
    warm_up(inputs, writer)
    place = FAULTS[fault](writer, room)
    if writer.begins_with is not None and fault == "read-only":
        writer.begins_with(inputs, place)
    before = contents(room)
    with ExitStack() as stack:
        if fault == "read-only":
            for folder in [place.parent, *(p for p in place.parent.rglob("*") if p.is_dir())]:
                folder.chmod(0o555)
            for file in (p for p in place.parent.rglob("*") if p.is_file()):
                file.chmod(0o444)
            stack.enter_context(as_nobody())
        caught = stack.enter_context(pytest.raises(ResourceError, match=r"SEG-R00[45]"))
        writer.write(inputs, place)
    error = caught.value
    assert str(room) in error.file
    assert error.observed
    assert error.next_step
    assert contents(room) == before


_warm: set[str] = set()


def warm_up(inputs: Inputs, writer: Writer) -> None:
    """Write once where nothing refuses: it can, and imports what another user may not read."""
    if str(writer) in _warm:
        return
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "deeper" / f"x{writer.suffix}"
        place.parent.mkdir()
        if writer.begins_with is not None:
            writer.begins_with(inputs, place)
        writer.write(inputs, place)
        assert place.exists()
    _warm.add(str(writer))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (name, size)
        for name in WRITERS
        for size in (0, 700)
        # A lock needs no space, and one drawing of all figures takes seconds.
        if name != "lock" and (name, size) != ("figures", 700)
    ],
)
def test_a_file_that_may_not_grow_leaves_everything_as_it_was(inputs, room, name, size):
    writer = WRITERS[name]
    place = room / f"x{writer.suffix}"
    warm_up(inputs, writer)
    if writer.begins_with is not None:
        writer.begins_with(inputs, place)
    before = contents(room)
    with pytest.raises(ResourceError, match="SEG-R004") as caught, of_most(size):
        writer.write(inputs, place)
    assert "free on this disk" in str(caught.value.observed)
    named = str(caught.value.file).removeprefix(str(room))
    assert "/." not in named or name == "map"  # whose finished rows stay there for a resume
    after = contents(room)
    assert not [path for path in after if "/." in f"/{path}" or ".tmp-" in path]
    for path, data in before.items():
        assert after.pop(path) == data
    writer.write(inputs, place)
    healed = contents(room)
    assert {path: healed[path] for path in after} == after  # all of it was whole


def test_the_error_says_what_is_needed_and_what_is_free(tmp_path):
    with pytest.raises(ResourceError) as caught, of_most(100):
        atomic_write.replace_text(tmp_path / "page.html", "x" * 250_000)
    error = caught.value
    assert error.file == str(tmp_path / "page.html")
    assert error.allowed == "0.2 MB of space"
    assert "File too large" in error.observed
    assert "ulimit -f" in error.next_step
    with (
        pytest.raises(ResourceError) as caught,
        of_most(100),
        atomic_write.replacing(tmp_path / "page.html") as temporary,
    ):
        temporary.write_bytes(bytes(5000))
    assert caught.value.allowed == "more than 100 bytes of space"


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    for name in ("n" * 250 + ".json", "ä" * 125 + ".json", "n." + "s" * 253):
        assert len(os.fsencode(name)) == 255
        json_files.replace_json(tmp_path / name, FACTS)
        assert json_files.read_json(tmp_path / name) == FACTS
    assert len(list(tmp_path.iterdir())) == 3


def test_a_line_of_a_killed_process_is_taken_away(tmp_path):
    path = tmp_path / "timing.jsonl"
    json_files.cut_unfinished_line(path)
    assert not path.exists()
    path.write_text('{"a": 1}\n{"b": ')
    json_files.cut_unfinished_line(path)
    json_files.append_json_line(path, {"c": 2})
    assert path.read_text() == '{"a": 1}\n{"c": 2}\n'


def test_a_report_that_cannot_be_written_leaves_the_earlier_one(inputs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(inputs.runs[0], run)
    earlier = write_report(run).read_bytes()
    before = contents(run)
    with pytest.raises(ResourceError, match=r"SEG-R004(.*\n)+.*report.html"), of_most(1000):
        write_report(run)
    assert contents(run) == before
    assert before["report.html"] == earlier
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    with pytest.raises(ResourceError, match="a folder is where the file should be"):
        write_report(run)


def test_generated_data_that_cannot_be_written_are_drawn_again(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="SEG-R004"):
        demo.open_split(tmp_path / "file" / "city", "test", demo.Options())
    with pytest.raises(ResourceError, match=r"SEG-R004(.*\n)+.*city.tif"), of_most(3000):
        demo.open_split(tmp_path / "city", "test", demo.Options())
    assert not any((tmp_path / "city").iterdir())


TOML = """
backend = "reference"
data.format = "folder"
data.root = "data"
data.labels = "labels.toml"
data.options.split = { train = 0.6, val = 0.2, test = 0.2 }
model.name = "pixel_softmax"
training = { epochs = 2, batch_size = 2, schedule = { learning_rate = 0.05 } }
checkpoint.every_steps = 2
log.every_steps = 1
"""
COLOURS = """
name = "colours"
classes = [
    { name = "red", colour = "#FF0000", raw = [0] },
    { name = "green", colour = "#00FF00", raw = [1] },
]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which file is written")
@pytest.mark.parametrize("log", ["log.jsonl", "timing.jsonl"])
def test_a_log_on_a_full_disk_ends_training_and_a_resume_gives_the_same_bytes(tmp_path, log):
    for number in range(10):
        image_HWC = np.roll(IMAGE, number, 0)[:16, :12]
        for folder, array in (("images", image_HWC), ("masks", image_HWC[..., 0] % 2)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            images.write_png(tmp_path / "data" / folder / f"{number}.png", array)
    (tmp_path / "labels.toml").write_text(COLOURS)
    (tmp_path / "recipe.toml").write_text(TOML)

    def run(*words, module=("-m", "terrazzo")):
        command = [sys.executable, *module, "run", "--config", "recipe.toml", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run("--out", "whole").returncode == 0
    full = ("-m", "terrazzo.testing.full_disk", f"{log}:600")
    done = run("--out", "cut", module=full)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    for told in ("SEG-R004", log, "No space left on device", "free on this disk", "--resume"):
        assert told in done.stderr
    assert (tmp_path / "cut" / log).read_bytes().endswith(b"\n")
    step = checkpoint.found(tmp_path / "cut" / "checkpoints")[-1]
    checkpoint.read(tmp_path / "cut" / "checkpoints", step)
    done = run("--out", "cut", "--resume")
    assert done.returncode == 0, done.stderr
    for name in ("log.jsonl", "model/weights.safetensors", "evaluation/test.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path):
    (tmp_path / "file").write_text("")
    known = cache.Cache(tmp_path / "file" / "cache.json")
    assert not known.write()


def test_the_lock_holds_on_a_full_disk(room):
    folder = room / "x"
    with (
        of_most(0),
        claimed(folder),
        pytest.raises(ResourceError, match="SEG-C009"),
        claimed(folder),
    ):
        pass


def test_evaluation_of_a_long_name_is_kept_by_number(tmp_path):
    write_evaluation(Inputs(tmp_path), tmp_path / "evaluation")
    examples = tmp_path / "evaluation" / "test_examples"
    names = json_files.read_json(examples / result.EXAMPLE_NAMES)
    ((stem, full),) = names.items()
    assert full == "n" * 240
    assert (examples / f"{stem}_prediction.png").is_file()


def test_short_names_stay_different():
    longer = ("n" * 300 + "a", "n" * 300 + "b")
    cut = {atomic_write.short_name(name, 50) for name in longer}
    assert len(cut) == 2
    assert all(len(name) <= 50 for name in cut)
    assert atomic_write.short_name("short", 50) == "short"
