"""Where a model for prediction comes from: a run's own framework, another runtime, an export."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from terrazzo.base.errors import ConfigError
from terrazzo.models import runtimes
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Predictor
from terrazzo.models.ensembles import Member, bands_of_member, mean_over_models
from terrazzo.models.runtimes import ComputePrecision
from terrazzo.runs import conversion, exported_model, saved_model
from terrazzo.runs.conversion import NotConvertedError

OWN = "framework"
"""The word for a run's own framework, or an exported folder's own runtime, whichever it is."""
VARIABLE = "TERRAZZO_RUNTIME"
"""The environment variable that is asked where no runtime is given."""
DEFAULT = "openvino"
"""Where it is installed and there is no GPU."""


@dataclass(frozen=True)
class ModelSource:
    """How to get the predictor; small, and the same in every process that sees the files.

    Attributes:
        folder: a model folder, or an exported one.
        runtime: one of `runtimes.RUNTIMES`; None: the framework of the run.
        precision: of the arithmetic; None: that of training, or float32.
        fixed_size: rows and columns that most images will have; None: any.
        others: further members of an ensemble, each alone; empty: there is none.
    """

    folder: Path
    runtime: str | None = None
    precision: ComputePrecision | None = None
    fixed_size: tuple[int, int] | None = None
    others: tuple[ModelSource, ...] = ()

    def load(self) -> tuple[ModelCard, Predictor]:
        """Load the model, or all models of an ensemble, to see images at their own size.

        Raises:
            TerrazzoError: as `saved_model.load` and `exported_model.load`.
        """
        members = self.load_members()
        return members[0][0], mean_over_models([replace(m, image_size=None) for _, m in members])

    def load_members(self) -> list[tuple[ModelCard, Member]]:
        """Load each model with its card, to see images at the size of its own.

        Raises:
            TerrazzoError: as `load`; as `bands_of_member`.
        """
        first, predictor = self._load()
        members = [(first, Member(predictor, first.image_size))]
        for source in self.others:
            card, predictor = source._load()
            columns = bands_of_member(first, card, str(source.folder))
            members.append((card, Member(predictor, card.image_size, columns)))
        return members

    def absolute(self) -> ModelSource:
        """Return the same source for a process that works in another folder."""
        others = tuple(each.absolute() for each in self.others)
        return replace(self, folder=self.folder.resolve(), others=others)

    def _load(self) -> tuple[ModelCard, Predictor]:
        if self.runtime is None:
            return saved_model.load(self.folder, precision=self.precision)
        folder = self.folder
        if not exported_model.is_exported(folder):
            # In another machine's process it may have to be converted there.
            card = saved_model.read_card(folder)
            to = runtimes.RUNTIMES[self.runtime]
            folder = conversion.converted(folder, card, to, lambda _: None)
        return exported_model.load(
            folder,
            runtime=self.runtime,
            precision=self.precision or "float32",
            fixed_size=self.fixed_size,
        )

    def plan(self, card: ModelCard) -> tuple[str, ...]:
        """Return what tells this model and its arithmetic from any others, for the record.

        Raises:
            CheckpointError: as `saved_model.sha256_of_weights`.
        """
        plan: tuple[str, ...] = (card.backend, card.model.name, digest(self.folder))
        if self.runtime is not None:
            plan += (self.runtime, runtimes.version(self.runtime))
        plan = plan if self.precision is None else (*plan, self.precision)
        for other in self.others:
            plan += ("with", *other.plan(saved_model.read_card(other.folder)))
        return plan


def digest(folder: Path) -> str:
    """Return what tells the weights of a model folder, or an exported one, from any others.

    Raises:
        CheckpointError: as `saved_model.sha256_of_weights` and `exported_model.sha256`.
        ResourceError: as they do.
    """
    if exported_model.is_exported(folder):
        return exported_model.sha256(folder)
    return saved_model.sha256_of_weights(folder)


def choose(
    folder: Path,
    card: ModelCard,
    *,
    runtime: str | None = None,
    precision: ComputePrecision | None = None,
    fixed_size: tuple[int, int] | None = None,
    say: Callable[[str], None],
) -> ModelSource:
    """Choose what predicts.

    Args:
        folder: a model folder, or an exported one.
        card: of it.
        runtime: asked for; None: what ``TERRAZZO_RUNTIME`` says, else OpenVINO where it is
            installed and there is no GPU, else the framework.
        precision: of the arithmetic; None: that of training, or float32.
        fixed_size: rows and columns that most images will have.
        say: told which runtime predicts where it is not the framework.

    Raises:
        ConfigError: SEG-X081 the runtime is not installed; SEG-X082 unknown, or not for this model;
            SEG-X083 it cannot compute in this precision here.
    """
    if exported_model.is_exported(folder):
        exported = exported_model.read(folder)
        exported_model.require_readable(exported.to, folder, None if runtime == OWN else runtime)
        assert exported.runtime is not None
        runtimes.require(exported.runtime)
        return ModelSource(folder, exported.runtime, precision, fixed_size)
    asked = runtime or os.environ.get(VARIABLE) or None
    chosen = _known(asked, card) if asked else _default(card)
    if chosen is None:
        return ModelSource(folder, None, precision)
    runtimes.require(chosen)
    source = ModelSource(folder, chosen, precision, fixed_size)
    try:
        conversion.converted(folder, card, runtimes.RUNTIMES[chosen], say)
    except NotConvertedError as error:
        if asked:
            raise ConfigError(
                "SEG-X082",
                f"the model cannot be used by the runtime {chosen!r}",
                file=folder,
                observed=str(error),
                allowed=f"--runtime {card.backend}",
                next_step=f"leave --runtime away, or give --runtime {card.backend}",
            ) from error
        say(f"predicting with {card.backend}: {chosen} does not take this model ({error})")
        return ModelSource(folder, None, precision)
    say(
        f"predicting with {chosen} {runtimes.version(chosen)} in {precision or 'float32'} on the "
        f"processor; --runtime {card.backend} uses {card.backend}"
    )
    return source


def _known(asked: str, card: ModelCard) -> str | None:
    """Return the runtime of a word; None for the framework."""
    if asked in (OWN, card.backend):
        return None
    if asked in ("openvino", "onnxruntime"):
        return asked
    raise ConfigError(
        "SEG-X082",
        f"the runtime {asked!r} is not one for this model",
        observed=f"a model of the backend {card.backend!r}",
        allowed=f"{card.backend}, openvino, onnxruntime",
        next_step=f"--runtime, or the environment variable {VARIABLE}",
    )


def _default(card: ModelCard) -> str | None:
    if card.backend not in ("torch", "keras") or card.precision == "bfloat16":
        return None
    if runtimes.accelerator_present() or not runtimes.installed(DEFAULT):
        return None
    return DEFAULT
