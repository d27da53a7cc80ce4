"""Kill training at random moments, resume it, kill it again: the bits at the end stay the same.

    python tools/sweeps/kill_training.py --backend torch --points 200 --seed 1 --out DIR

One run that nothing disturbs is the truth. Then come chains: a run is killed by SIGKILL at a random
moment, resumed and killed again, up to ten times, then left to finish. Every array of every
checkpoint that is kept and of ``model/``, the bytes of ``log.jsonl``, the counts and scores of
``evaluation/`` and the names of all files must be those of the truth. A kill is a point only where
the process really died of SIGKILL before its end. The processes to be killed are forked from this
one, which has imported the framework, or most of the time would go into imports; the truth, and the
last process of every fifth chain, are started anew. The folders of equal chains are deleted; those
of others stay.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import rmtree

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from terrazzo.base.file_lock import LOCK
from terrazzo.testing import forked

STEPS = 40
KILLS = 10
"""At most so many in one chain."""
ANEW = 5
"""Every so many chains, the last process is started anew instead of forked."""
RECIPE = """
backend = "{backend}"
name = "tiny"
seed = 3

[data]
format = "folder"
root = "{place}/data"
labels = "{place}/labels.toml"
options = {{ split = {{ train = 0.6, val = 0.2, test = 0.2 }} }}

[augment]
crop = [32, 32]
flip_horizontal = 0.5
brightness = 0.2

[model]
{model}

[training]
steps = {steps}
batch_size = 2
schedule = {{ learning_rate = 0.01, warmup_steps = 2 }}

[checkpoint]
every_steps = 3

[validation]
every_steps = 8

[log]
every_steps = 1
"""
LABELS = """
name = "tiny"
ignored = [9]
classes = [
    { name = "red", colour = "#FF0000", raw = [0] },
    { name = "green", colour = "#00FF00", raw = [1] },
]
"""
UNET = 'name = "unet"\noptions = { width = 4, depth = 2 }'
MODELS = {"reference": 'name = "pixel_softmax"', "torch": UNET, "keras": UNET}
INSIDE_SAVES = ("sync", "rename", "renamed", "replace", "replaced", "delete", "save")


@dataclass(frozen=True)
class Work:
    """What is trained, and how long it takes.

    Attributes:
        backend: reference, torch or keras.
        place: folder of the recipe and of all runs.
        seconds: of the undisturbed run, from its first step to its end.
    """

    backend: str
    place: Path
    seconds: float

    def words(self, run: Path) -> list[str]:
        """Return the command that trains into `run`."""
        return ["run", "--config", str(self.place / "tiny.toml"), "--out", str(run)]


@dataclass
class Chain:
    """What came of one chain.

    Attributes:
        folder: the run.
        kills: kinds of moment at which it was killed.
        differences: from the truth; or why it did not come to its end.
    """

    folder: Path
    kills: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def main() -> int:
    """Run the sweep and print its table."""
    options = _options()
    place: Path = options.out.resolve()
    place.mkdir(parents=True, exist_ok=True)
    work = _prepare(options.backend, place)
    print(f"{options.backend}, seed {options.seed}: an undisturbed run, {work.seconds:.1f} s")
    truth = contents(place / "truth")
    assert truth == contents(place / "control"), "a forked process trains otherwise"
    chains: list[Chain] = []
    if options.jobs == 1:  # no pool then: it has threads, and a process with threads cannot fork
        _run_chains(work, truth, options, chains, map)
    else:
        with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
            _run_chains(work, truth, options, chains, pool.map)
    _print_table(options.backend, options.seed, chains)
    return int(any(chain.differences for chain in chains))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", choices=MODELS, default="reference")
    parser.add_argument("--points", type=int, default=200, help="kills at least")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    parser.add_argument("--jobs", type=int, default=1, help="chains side by side")
    return parser.parse_args()


def points(chains: Iterable[Chain]) -> int:
    """Return how many processes were killed."""
    return sum(len(chain.kills) for chain in chains)


def _run_chains(
    work: Work,
    truth: dict[str, object],
    options: argparse.Namespace,
    chains: list[Chain],
    spread: Callable[..., Iterable[Chain]],
) -> None:
    """Add chains until there are points enough."""
    while (missing := options.points - points(chains)) > 0:
        numbers = range(len(chains), len(chains) + options.jobs)
        job = partial(_chain, work, truth, options.seed, -(-missing // options.jobs))
        for chain in spread(job, numbers):
            chains.append(chain)
            _say(chain, chains)


def _prepare(backend: str, place: Path) -> Work:
    """Write data and recipe, and train twice undisturbed: in a new process and in a forked one."""
    draw = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (place / "data" / folder).mkdir(parents=True, exist_ok=True)
    for number in range(10):
        mask = draw.integers(0, 2, (48, 40)).astype(np.uint8)
        image = np.zeros((*mask.shape, 3), np.uint8)
        image[..., :2] = np.eye(2)[mask] * 150 + draw.integers(0, 100, (*mask.shape, 2))
        mask[0] = 9
        Image.fromarray(image).save(place / "data" / "images" / f"{number}.png")
        Image.fromarray(mask).save(place / "data" / "masks" / f"{number}.png")
    (place / "labels.toml").write_text(LABELS, encoding="utf-8")
    recipe = RECIPE.format(backend=backend, place=place, model=MODELS[backend], steps=STEPS)
    (place / "tiny.toml").write_text(recipe, encoding="utf-8")
    for name in ("truth", "control"):
        rmtree(place / name, ignore_errors=True)
    work = Work(backend, place, 0.0)
    answer = forked.run_and_import(work.words(place / "truth"), place)
    assert answer.returncode == 0, answer.stderr
    process = forked.start(work.words(place / "control"), place / "control.txt")
    begun = _begun(place / "control")
    while not begun():
        time.sleep(0.001)
    since = time.perf_counter()
    code = forked.wait(process)
    assert code == 0, (place / "control.txt").read_text(encoding="utf-8")
    return Work(backend, place, time.perf_counter() - since)


def _finish(work: Work, chain: Chain, output: Path, *, anew: bool) -> str:
    """Train to the end, in a process started `anew` or a forked one; return why it failed."""
    words = [*work.words(chain.folder), *_again(chain.folder)]
    if anew:
        command = [sys.executable, "-m", "terrazzo", *words]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return answer.stderr if answer.returncode else ""
    code = forked.wait(forked.start(words, output))
    return f"exit {code}, see {output}" if code else ""


def _chain(work: Work, truth: dict[str, object], seed: int, kills: int, number: int) -> Chain:
    draw = random.Random(f"{seed}:{number}")  # noqa: S311 - moments, no secrets
    chain = Chain(work.place / f"chain-{number:04d}")
    output = chain.folder.with_suffix(".txt")
    rmtree(chain.folder, ignore_errors=True)
    output.unlink(missing_ok=True)
    for _ in range(min(kills, draw.randint(KILLS - 2, KILLS))):
        kind, code = _attempt(work, chain.folder, output, draw)
        if code != -signal.SIGKILL:
            failed = "" if code == 0 else f"exit {code} before {kind}, see {output}"
            break
        chain.kills.append(kind)
    else:
        failed = _finish(work, chain, output, anew=number % ANEW == 0)
    chain.differences = [failed] if failed else differences(truth, contents(chain.folder))
    if not chain.differences:
        rmtree(chain.folder)
        output.unlink(missing_ok=True)
    return chain


def _again(run: Path) -> list[str]:
    """Return what a user adds to the command to go on."""
    if (run / "config.toml").exists():
        return ["--resume"]
    return ["--overwrite"] if run.exists() else []


def _attempt(work: Work, run: Path, output: Path, draw: random.Random) -> tuple[str, int]:
    """Start or resume a run and kill it at a random moment; return its kind and the exit status."""
    step = _newest(run)
    kind, number = _draw_moment(draw, step)
    words = [*work.words(run), *_again(run)]
    with output.open("a", encoding="utf-8") as file:
        file.write(f"--- after step {step}, to be killed at {kind}:{number}\n")
    begun, seconds = _begun(run), 0.0
    match kind:
        case "start":
            begun, seconds = _always, draw.uniform(0, 1.0)
        case "time":
            seconds = draw.uniform(0, work.seconds / 4)
        case "line":
            begun = partial(_has_grown, run / "log.jsonl", _size(run / "log.jsonl"), 150 * number)
        case "save":
            begun = _Saving(run / "checkpoints", number)
            seconds = draw.uniform(0, 0.01)
        case _:
            return kind, forked.wait(forked.start(words, output, point=f"{kind}:{number}"))
    return kind, forked.wait(forked.start(words, output), begun=begun, seconds=seconds)


def _draw_moment(draw: random.Random, step: int) -> tuple[str, int]:
    """Draw a kind of moment, every second one inside a save, and its number."""
    if step == STEPS:  # what is left: the model, the scores, the report
        kind = draw.choice(("sync", "rename", "renamed", "replace", "replaced", "delete"))
        return kind, draw.randint(1, {"rename": 1, "renamed": 1, "sync": 3}.get(kind, 6))
    if draw.random() < 0.5:
        kind = draw.choices(("time", "line", "step", "start"), (4, 3, 3, 1))[0]
        return kind, step + draw.randint(1, 8) if kind == "step" else draw.randint(1, 8)
    kind = draw.choice(("sync", "rename", "renamed", "delete", "save"))
    return kind, draw.randint(1, {"sync": 14, "delete": 12}.get(kind, 3))


def _newest(run: Path) -> int:
    saved = [int(folder.name.removeprefix("step-")) for folder in _checkpoints(run)]
    return max(saved, default=0)


def _checkpoints(run: Path) -> list[Path]:
    found = (run / "checkpoints").glob("step-*")
    return sorted(folder for folder in found if folder.name.removeprefix("step-").isdigit())


def _always() -> bool:
    return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _has_grown(path: Path, before: int, by: int) -> bool:
    return _size(path) >= before + by


def _begun(run: Path) -> Callable[[], bool]:
    """Return the question whether a step was done since now: each process notes its first."""
    return partial(_has_grown, run / "timing.jsonl", _size(run / "timing.jsonl"), 1)


@dataclass
class _Saving:
    """The question whether the checkpoint of this number is being written."""

    folder: Path
    number: int
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.seen |= self._unfinished()  # left by an earlier kill
        self.number += len(self.seen)

    def _unfinished(self) -> set[str]:
        return {place.name for place in self.folder.glob("*.tmp-*")}

    def __call__(self) -> bool:
        self.seen |= self._unfinished()
        return len(self.seen) >= self.number


def contents(run: Path) -> dict[str, object]:
    """Return what must be equal: names of all files, arrays, log, counts and scores."""
    found: dict[str, object] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if name == LOCK or path.is_dir():
            continue
        if path.suffix == ".safetensors":
            for key, array in load_file(path).items():
                kind = f"{array.dtype}{array.shape}"
                found[f"{name}: {key}"] = kind, hashlib.sha256(array.tobytes()).hexdigest()
        elif path.name in ("log.jsonl", "model.toml", "config.toml", "labels.toml", "splits.json"):
            found[name] = path.read_bytes()
        elif path.name == "record.json" or name.startswith("evaluation/test.json"):
            found[name] = json.loads(path.read_bytes())
        else:  # times, versions, pages: that they are there
            found[name] = None
    return found


def differences(truth: dict[str, object], found: dict[str, object]) -> list[str]:
    """Return the names of what is missing, too much or unlike."""
    names = sorted(truth.keys() | found.keys())
    missing = object()
    return [name for name in names if truth.get(name, missing) != found.get(name, missing)]


def _say(chain: Chain, chains: list[Chain]) -> None:
    outcome = f"UNLIKE: {'; '.join(chain.differences)}" if chain.differences else "equal"
    print(f"chain {len(chains)}  {points(chains)} points  {outcome}", flush=True)


def _print_table(backend: str, seed: int, chains: list[Chain]) -> None:
    kinds = Counter(kind for chain in chains for kind in chain.kills)
    inside = sum(number for kind, number in kinds.items() if kind in INSIDE_SAVES)
    unlike = [chain for chain in chains if chain.differences]
    print(f"\n{backend}, seed {seed}")
    print("moment        kills")
    for kind, number in kinds.most_common():
        print(f"{kind:12}  {number:5}")
    print(f"{'all':12}  {points(chains):5}  {inside} of them inside saves")
    print(
        f"chains equal to the undisturbed run: {len(chains) - len(unlike)}, unlike: {len(unlike)}"
    )
    for chain in unlike:
        print(f"see {chain.folder}")


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # bindings that were imported and never used print pages at a usual exit
