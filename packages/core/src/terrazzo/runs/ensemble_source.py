"""Where the models of an ensemble come from: all of them computed in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from terrazzo.base.errors import ConfigError
from terrazzo.models.card import ModelCard
from terrazzo.models.ensembles import bands_of_member
from terrazzo.models.runtimes import ComputePrecision
from terrazzo.runs import model_source, saved_model
from terrazzo.runs.model_source import ModelSource


@dataclass(frozen=True)
class FurtherModel:
    """A model that is asked beside the first one.

    Attributes:
        name: of the run, for messages and records.
        folder: of the model.
        card: of it.
        sha256: of its weights.
    """

    name: str
    folder: Path
    card: ModelCard
    sha256: str


def read_further(
    first: ModelCard, folder: Path, others: Sequence[Path], say: Callable[[str], None]
) -> tuple[FurtherModel, ...]:
    """Read what the further models of an ensemble are, and refuse those that do not fit.

    Args:
        first: the card of the first model.
        folder: of the first model.
        others: folders of the others' models.
        say: told of folders of earlier versions.

    Raises:
        ConfigError: SEG-X171, SEG-X172, as `bands_of_member`; SEG-X174, a model is named twice.
        DataError: as `bands_of_member`.
        CheckpointError: as `saved_model.read_card`.
    """
    found: list[FurtherModel] = []
    digests = {model_source.digest(folder)} if others else set()
    for other in others:
        card = saved_model.read_card(other, say)
        bands_of_member(first, card, str(other))
        digest = model_source.digest(other)
        if digest in digests:
            raise ConfigError(
                "SEG-X174",
                "a model is in the ensemble twice",
                file=other,
                observed="the weights of a model that was named before",
                allowed="each model once: named twice it would count twice",
                next_step="leave this --ensemble out",
            )
        digests.add(digest)
        name = other.resolve()
        run = name.parent.name if name.name == "model" else name.name
        found.append(FurtherModel(run, other, card, digest))
    return tuple(found)


def with_others(
    first: ModelSource,
    card: ModelCard,
    others: Sequence[FurtherModel],
    *,
    runtime: str | None,
    precision: ComputePrecision | None,
    say: Callable[[str], None],
) -> ModelSource:
    """Return the source of an ensemble.

    Args:
        first: source of the first model.
        card: of the first model.
        others: the further ones; none: `first` alone.
        runtime: asked for, as `model_source.choose`.
        precision: of the arithmetic, as there.
        say: told which runtime predicts.

    Raises:
        ConfigError: SEG-X170, they need several frameworks; and as `model_source.choose`.
    """
    if not others:
        return first
    sources = [
        model_source.choose(
            each.folder,
            each.card,
            runtime=_word(runtime, card, each.card),
            precision=precision,
            fixed_size=first.fixed_size,
            say=say,
        )
        for each in others
    ]
    cards = [card, *(each.card for each in others)]
    frameworks = sorted(
        {c.backend for c, s in zip(cards, [first, *sources], strict=True) if s.runtime is None}
    )
    if len(frameworks) > 1:
        raise ConfigError(
            "SEG-X170",
            "the models of this ensemble need several frameworks, and one process holds one",
            observed=" and ".join(frameworks),
            allowed="models of one backend; or all of them computed by OpenVINO or ONNX Runtime",
            next_step="add --runtime openvino or --runtime onnxruntime",
        )
    return replace(first, others=tuple(sources))


def _word(runtime: str | None, first: ModelCard, other: ModelCard) -> str | None:
    """Return the runtime for a further model: the first one's own framework is any one's own."""
    return model_source.OWN if runtime == first.backend != other.backend else runtime
