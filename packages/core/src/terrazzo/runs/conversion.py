"""Models of runs in the form of a faster runtime, converted once and kept.

The conversion needs the model's framework, so it runs in a process of its own: the one that
predicts never loads it. What it makes is an exported folder in the user's cache, under a name that
all it depends on is in. It is compared with the model itself on noise before it is kept; a model
that a runtime does not compute rightly is used by its own framework.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from terrazzo.base.atomic_write import make_folder
from terrazzo.base.child_module import ChildModuleError, answer, run_module
from terrazzo.base.config_parsing import cache_folder
from terrazzo.base.errors import TerrazzoError
from terrazzo.models import backends, runtimes
from terrazzo.models.card import ModelCard
from terrazzo.models.exporter import Exporter, GraphForm, exporter
from terrazzo.models.runtimes import agreement
from terrazzo.models.runtimes.predictor import SessionPredictor
from terrazzo.runs import exported_model, saved_model

_FORMAT = 1  # raise it when a conversion would come out differently
_KEPT = 12  # conversions; the oldest go
_GRAPH_DTYPES = ("uint8", "uint16", "float32")
_LONGEST = 1800.0  # seconds


class NotConvertedError(ChildModuleError):
    """Why a model is not used in the runtime: a line for the user."""


def raw_form(card: ModelCard) -> GraphForm:
    """Return the form that takes images as a model is shown them: as their files have them.

    Those that are normalised each by itself are so before the graph.
    """
    dtype = card.bands.seen_dtype
    return GraphForm(dtype if dtype in _GRAPH_DTYPES else "float32")


def converted(folder: Path, card: ModelCard, to: str, say: Callable[[str], None]) -> Path:
    """Return the exported folder of a model in the cache, which is made if it is not there.

    Args:
        folder: a model folder.
        card: of it.
        to: the format.
        say: told that a conversion takes some seconds.

    Raises:
        NotConvertedError: with the reason.
        CheckpointError: as `saved_model.sha256_of_weights`.
        ResourceError: as `saved_model.sha256_of_weights`.
    """
    place = cache_folder() / "converted" / _name(folder, card, to)
    if _is_whole(place):
        with suppress(OSError):
            os.utime(place)
        return place
    say(f"preparing the model for {_runtime(to)}, once: kept in {place}")
    try:
        make_folder(place.parent)
        _make(place, folder, to)
        _forget_oldest(place.parent)
    except (OSError, TerrazzoError, ChildModuleError) as error:
        raise NotConvertedError(str(error).partition("\n")[0]) from error
    return place


def _is_whole(place: Path) -> bool:
    try:
        exported_model.read(place)
    except TerrazzoError:
        return False
    return True


def _make(place: Path, folder: Path, to: str) -> None:
    """Convert in a folder of this process's own: others may be converting the same model."""
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=place.parent))
    try:
        run_module(__name__, [folder.absolute(), to, unfinished], longest=_LONGEST)
        if not _is_whole(place):  # damaged, or not there
            shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):  # another process was first, with the same
            unfinished.replace(place)
        exported_model.read(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _runtime(to: str) -> str:
    return next(name for name, each in runtimes.RUNTIMES.items() if each == to)


def _name(folder: Path, card: ModelCard, to: str) -> str:
    depends_on = [
        _FORMAT,
        metadata.version("terrazzo"),
        saved_model.sha256_of_weights(folder),
        repr(card),
        to,
        runtimes.version(_runtime(to)),
        sorted(backends.load(card.backend).versions().items()),
    ]
    digest = hashlib.sha256(json.dumps(depends_on, default=str).encode()).hexdigest()
    return f"{to}-{digest[:32]}"


def _forget_oldest(parent: Path) -> None:
    kept: list[tuple[float, Path]] = []
    for path in parent.iterdir():
        with suppress(OSError):
            kept.append((path.stat().st_mtime, path))
    for _, path in sorted(kept, reverse=True)[_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def convert(folder: Path, to: str, out: Path) -> None:
    """Write a model into an empty folder in another form, and compare both on noise.

    Raises:
        NotConvertedError: it does not give what the model gives.
        TerrazzoError: of every kind.
    """
    card, trainer = saved_model.load(folder)
    form = raw_form(card)
    own = exporter(card.backend)
    facts = own.write(to, trainer, card, form, out)
    run = {"weights_sha256": saved_model.sha256_of_weights(folder), "step": card.step}
    session = runtimes.open_session(_runtime(to), out, form)
    predictor = SessionPredictor(session, card.bands, card.label_map.dtype)
    verified = _compare_on_noise(own, trainer, predictor)
    exported_model.write(out, card, exported_model.describe(card, to, form, facts, run), verified)


def _compare_on_noise(own: Exporter, trainer: Any, predictor: SessionPredictor) -> dict[str, Any]:
    worst = 0.0
    for seed, size in enumerate((*agreement.SIZES[:2], agreement.SIZES[1])):
        images_BHWC = agreement.noise(predictor.bands, 2, size, seed, missing=seed == 2)
        found = agreement.compare(
            own.logits(trainer, images_BHWC),
            predictor.session.logits(images_BHWC),
            predictor.predict_labels(images_BHWC),
        )
        if not found.holds:
            msg = (
                f"on {size[0]}×{size[1]} noise it is off by {found.error:.2g} of the range of the "
                f"logits ({agreement.TOLERANCE:g} allowed), {found.unexplained} labels differ"
            )
            raise NotConvertedError(msg)
        worst = max(worst, found.error)
    return {"largest_error": worst, "on": "noise"}


def main(arguments: list[str]) -> int:
    """Convert in a process of its own; say in one line what went wrong."""
    folder, to, out = arguments
    return answer(lambda: convert(Path(folder), to, Path(out)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
