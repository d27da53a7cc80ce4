"""Kill a command at random moments and type it again: the outcome is that of an undisturbed one.

    python tools/sweeps/kill_commands.py --command predict --points 20 --seed 1 --out DIR

A folder with all that the command reads is copied; the command is killed there by SIGKILL at a
random moment, every second one before or after a flush, a rename, a replacement or a deletion, then
typed again as the manual says: with --resume, with --overwrite, or as it was. All files of the
folder must then be those of a folder where nothing was killed: no other name, hidden or not, and
the same bytes, but for files that two undisturbed commands write differently, such as times; their
names are printed. Inputs are in that folder too. A kill is a point only where the process really
died of SIGKILL before its end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
from PIL import Image

from terrazzo.testing import forked
from terrazzo.testing.scenes import make_model, make_scene

RECIPE = """
backend = "{backend}"
name = "tiny"
seed = 3

[data]
format = "folder"
root = "data"
labels = "labels.toml"
options = {{ split = {{ train = 0.6, val = 0.2, test = 0.2 }} }}

[model]
{model}

[training]
steps = 8
batch_size = 2
schedule = {{ learning_rate = 0.05 }}

[checkpoint]
every_steps = 2
"""
LABELS = """
name = "tiny"
ignored = [9]
classes = [
    { name = "red", colour = "#FF0000", raw = [0] },
    { name = "green", colour = "#00FF00", raw = [1] },
]
"""
STUDY = """
recipe = "tiny.toml"
[[runs]]
name = "first"
[[runs]]
name = "second"
set = ["seed=5"]
"""
PIXELS = 'name = "pixel_softmax"'
UNET = 'name = "unet"\noptions = { width = 4, depth = 2 }'
OUT = Path("made")
"""Where commands write, seen from the folder they are run in."""


@dataclass(frozen=True)
class Command:
    """A command as a user types it.

    Attributes:
        words: what is typed.
        prepare: fills the folder with what the command reads.
        again: what is added when it is typed once more, given the folder it runs in.
        printed: what it prints is its outcome.
    """

    words: tuple[str, ...]
    prepare: Callable[[Path], None]
    again: Callable[[Path], list[str]]
    printed: bool = False


@dataclass(frozen=True)
class Outcome:
    """What an undisturbed command comes to.

    Attributes:
        code: its exit status.
        files: SHA-256 of each file by name; None for a folder.
        unsteady: names of files whose bytes differ between two such commands.
        seconds: it takes.
        calls: the moments about flushes, renames, replacements and deletions.
        printed: what it prints, where that matters.
    """

    code: int
    files: dict[str, str | None]
    unsteady: frozenset[str]
    seconds: float
    calls: tuple[str, ...]
    printed: str


@dataclass
class Result:
    """What came of one command.

    Attributes:
        kills: kinds of moment.
        unlike: for each failing folder, what is unlike.
    """

    kills: Counter[str] = field(default_factory=Counter)
    unlike: dict[Path, list[str]] = field(default_factory=dict)


def main() -> int:
    """Run the sweep and print its table."""
    options = _options()
    place: Path = options.out.resolve()
    place.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = "cache"  # of the data check: in the folder it is run in
    os.environ["MPLCONFIGDIR"] = str(place / "matplotlib")  # its list of fonts takes long to make
    failed = False
    for name in COMMANDS if options.command == "all" else (options.command,):
        result = sweep(COMMANDS[name], place / name, options.points, options.seed)
        _print_table(name, options.seed, result)
        failed |= bool(result.unlike)
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--command", choices=(*COMMANDS, "all"), default="all")
    parser.add_argument("--points", type=int, default=20, help="kills of each command")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    return parser.parse_args()


def sweep(command: Command, place: Path, points: int, seed: int) -> Result:
    """Kill one command at so many moments; folders of those unlike the truth stay in `place`."""
    rmtree(place, ignore_errors=True)
    place.mkdir()
    command.prepare(place / "before")
    truth = _undisturbed(command, place)
    draw, result = random.Random(seed), Result()  # noqa: S311 - moments, no secrets
    for number in range(20 * points):
        if sum(result.kills.values()) == points:
            return result
        folder = _fresh_folder(place)
        kind, killed = _attempt(command, folder, truth, draw)
        if not killed:
            continue
        result.kills[kind.partition(":")[0]] += 1
        if unlike := _after(command, folder, truth):
            kept = folder.rename(place / f"point-{number:04d}")
            for output in place.glob("work*.txt"):
                output.rename(place / output.name.replace("work", kept.name, 1))
            result.unlike[kept] = [f"killed at {kind}", *unlike]
    message = f"only {sum(result.kills.values())} of {number + 1} were killed before their end"
    raise AssertionError(message)


def _fresh_folder(place: Path) -> Path:
    """Copy what is there before the command; always to one place, for paths are in some files."""
    folder = place / "work"
    rmtree(folder, ignore_errors=True)
    for output in place.glob("work*.txt"):
        output.unlink()
    copytree(place / "before", folder)
    return folder


def _output(folder: Path) -> Path:
    return folder.with_suffix(".txt")


def _undisturbed(command: Command, place: Path) -> Outcome:
    """Run the command in a new process, in a forked one, and in one whose calls are recorded."""
    folder = _fresh_folder(place)
    code = forked.run_and_import(command.words, folder).returncode
    files = contents(folder)
    folder, calls = _fresh_folder(place), place / "calls.txt"
    process = forked.start(command.words, _output(folder), folder=folder, calls=calls)
    assert forked.wait(process) == code, _output(folder)
    folder = _fresh_folder(place)
    since = time.perf_counter()
    assert forked.wait(forked.start(command.words, _output(folder), folder=folder)) == code
    seconds = time.perf_counter() - since
    others = contents(folder)
    assert files.keys() == others.keys(), files.keys() ^ others.keys()
    unsteady = frozenset(name for name, found in files.items() if others[name] != found)
    printed = _printed(_output(folder)) if command.printed else ""
    print(f"{' '.join(command.words)}\n  {seconds:.2f} s, exit {code}; compared by name alone: ")
    print(f"  {', '.join(sorted(unsteady)) or 'nothing'}", flush=True)
    return Outcome(code, files, unsteady, seconds, tuple(_moments(calls)), printed)


def _moments(calls: Path) -> list[str]:
    """Number the recorded calls of each kind: ``sync:1``, ``rename:1``, ``sync:2`` …"""
    if not calls.exists():
        return []
    counts: Counter[str] = Counter()
    moments = []
    for kind in calls.read_text(encoding="utf-8").split():
        counts[kind] += 1
        moments.append(f"{kind}:{counts[kind]}")
        if kind in ("rename", "replace"):
            moments.append(f"{kind}d:{counts[kind]}")
    return moments


def _attempt(
    command: Command, folder: Path, truth: Outcome, draw: random.Random
) -> tuple[str, bool]:
    """Run the command and kill it at a random moment; return the moment, and whether it died."""
    if truth.calls and draw.random() < 0.5:
        moment = draw.choice(truth.calls)
        seconds = None
        process = forked.start(command.words, _output(folder), folder=folder, point=moment)
    else:
        seconds = draw.uniform(0, truth.seconds)
        moment = f"time:{seconds:.3f}"
        process = forked.start(command.words, _output(folder), folder=folder)
    code = forked.wait(process, seconds=seconds)
    assert forked.group_ended(process), "a child of the killed process lives on"
    return moment, code == -signal.SIGKILL


def _after(command: Command, folder: Path, truth: Outcome) -> list[str]:
    """Type the command again; return what is unlike the truth."""
    words = [*command.words, *command.again(folder)]
    output = folder.with_name(f"{folder.name}-again.txt")
    code = forked.wait(forked.start(words, output, folder=folder))
    found = contents(folder)
    unlike = [
        f"{_how(name in truth.files, name in found)}: {name}"
        for name in sorted(found.keys() | truth.files.keys())
        if name not in truth.unsteady or name not in found
        if found.get(name, "") != truth.files.get(name, "")
    ]
    if code != truth.code:
        unlike.insert(0, f"exit {code}")
    elif command.printed and _printed(output) != truth.printed:
        unlike.insert(0, "prints otherwise")
    if not unlike:
        output.unlink()
    return unlike


def _how(wanted: bool, there: bool) -> str:
    if not wanted:
        return "too much"
    return "unlike" if there else "missing"


def _printed(output: Path) -> str:
    """Return the JSON that a command printed, without its progress and what it needed not read."""
    text = output.read_text(encoding="utf-8")
    value = json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    value.pop("reused", None)
    return json.dumps(value)


def contents(folder: Path) -> dict[str, str | None]:
    """Return the SHA-256 of every file below a folder by its name, and None for every folder."""
    return {
        path.relative_to(folder).as_posix(): None
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
    }


def _write_data(folder: Path, *, model: str = PIXELS, backend: str = "reference") -> None:
    draw = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / "data" / name).mkdir(parents=True)
    for number in range(10):
        mask = draw.integers(0, 2, (48, 40)).astype(np.uint8)
        image = np.zeros((*mask.shape, 3), np.uint8)
        image[..., :2] = np.eye(2)[mask] * 150 + draw.integers(0, 100, (*mask.shape, 2))
        mask[0] = 9
        Image.fromarray(image).save(folder / "data" / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "data" / "masks" / f"{number}.png")
    (folder / "labels.toml").write_text(LABELS, encoding="utf-8")
    recipe = RECIPE.format(backend=backend, model=model)
    (folder / "tiny.toml").write_text(recipe, encoding="utf-8")
    (folder / "tiny_study.toml").write_text(STUDY, encoding="utf-8")


def _train(folder: Path, name: str, *words: str) -> None:
    command = ("run", "--config", "tiny.toml", "--out", f"runs/{name}", *words)
    answer = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "terrazzo", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def _one_run(folder: Path) -> None:
    _write_data(folder)
    _train(folder, "first")


def _two_runs(folder: Path) -> None:
    _one_run(folder)
    _train(folder, "second", "--set", "seed=5")


def _torch_run(folder: Path) -> None:
    _write_data(folder, model=UNET, backend="torch")
    _train(folder, "first")


def _model_and_images(folder: Path) -> None:
    _model_and_scene(folder)
    (folder / "photos").mkdir()
    draw = np.random.default_rng(1)
    for number in range(5):
        image = draw.integers(0, 256, (70, 60, 3), np.uint8)
        Image.fromarray(image).save(folder / "photos" / f"{number}.png")


def _model_and_scene(folder: Path) -> None:
    folder.mkdir()
    make_model(folder / "model")
    make_scene(folder / "scene.tif", (100, 90, 3), nodata=0)


def _as_it_was(_: Path) -> list[str]:
    return []


def _resume(_: Path) -> list[str]:
    return ["--resume"]


def _resume_what_is_there(folder: Path) -> list[str]:
    return ["--resume"] if (folder / OUT).exists() else []


def _overwrite_what_is_there(folder: Path) -> list[str]:
    return ["--overwrite"] if (folder / OUT).exists() else []


COMMANDS = {
    "predict": Command(
        (
            *("predict", "model", "photos", "--out", f"{OUT}/maps"),
            *("--probabilities", "--polygons", f"{OUT}/polygons"),
        ),
        _model_and_images,
        _resume,
    ),
    "predict-scene": Command(
        (
            *("predict", "model", "scene.tif", "--out", f"{OUT}/map.tif"),
            *("--probabilities", "--polygons", f"{OUT}/map.gpkg", "--tile", "32"),
            *("--overlap", "12"),
        ),
        _model_and_scene,
        _resume,
    ),
    "study": Command(
        ("study", "tiny_study.toml", "--out", str(OUT)), _write_data, _resume_what_is_there
    ),
    "compare": Command(
        (
            *("compare", "runs/first", "runs/second", "--out", f"{OUT}/compare.html"),
            *("--csv", f"{OUT}/scores.csv", "--latex", f"{OUT}/scores.tex"),
            *("--tables", f"{OUT}/tables", "--figures", f"{OUT}/figures"),
        ),
        _two_runs,
        _overwrite_what_is_there,
    ),
    "convert": Command(
        ("convert", "runs/first", "--to", "keras", "--out", str(OUT)),
        _torch_run,
        _overwrite_what_is_there,
    ),
    "check": Command(("check", "--config", "tiny.toml", "--json"), _write_data, _as_it_was, True),
    "evaluate": Command(
        ("evaluate", "runs/first", "--split", "val", "--calibration", "--boundary"),
        _one_run,
        _as_it_was,
    ),
}


def _print_table(name: str, seed: int, result: Result) -> None:
    kills = ", ".join(f"{kind} {number}" for kind, number in result.kills.most_common())
    points = sum(result.kills.values())
    print(f"{name}, seed {seed}: {points} kills ({kills})")
    print(f"  equal {points - len(result.unlike)}, unlike {len(result.unlike)}")
    for folder, unlike in result.unlike.items():
        print(f"  {folder}: {'; '.join(unlike[:5])}")
    sys.stdout.flush()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # bindings that were imported and never used print pages at a usual exit
