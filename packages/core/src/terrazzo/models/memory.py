"""Training steps and forward passes for which the memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import TerrazzoError
from terrazzo.base.memory import host_ran_out, memory_for, out_of_memory, size_of
from terrazzo.base.recipe import ModelConfig
from terrazzo.models.contract import Predictor

if TYPE_CHECKING:
    from terrazzo.models.contract import Trainer

Output = TypeVar("Output", bound=np.generic)
Answer = TypeVar("Answer")


def ran_out(trainer: Predictor, error: Exception) -> bool:
    """Tell whether an error says that the host or the device had no memory left."""
    if isinstance(error, TerrazzoError):  # it has its message
        return False
    return host_ran_out(error) or trainer.out_of_memory(error)


def memory_to_build(
    model: ModelConfig, ran_out: Callable[[Exception], bool]
) -> AbstractContextManager[None]:
    """Return a context in which a model that does not fit says so.

    Args:
        model: its name and options.
        ran_out: tells the framework's errors of memory from its others.

    Raises:
        ResourceError: SEG-R006, within the context.
    """
    return memory_for(
        f"building model {model.name}",
        next_step="choose a smaller one (`terrazzo list models`, model.options), or see what else "
        "fills the memory (`nvidia-smi`, `free`)",
        ran_out=ran_out,
    )


def step_memory(
    trainer: Predictor, images_BHWC: NDArray[np.generic], step: int
) -> AbstractContextManager[None]:
    """Return a context in which a training step that does not fit says what to lower.

    Args:
        trainer: knows its framework's errors.
        images_BHWC: the batch of the step.
        step: its number, from 1.

    Raises:
        ResourceError: SEG-R006, within the context.
    """
    return memory_for(
        f"making training step {step} on {trainer.device}",
        size=f"batch {_size(images_BHWC)}",
        next_step="lower training.batch_size, augment.crop or data.image_size, or raise "
        "training.accumulate; the last checkpoint is whole: --resume goes on from there where the "
        "machine has more memory, other settings need a new run",
        ran_out=trainer.out_of_memory,
    )


@dataclass
class ForwardPasses:
    """Forward passes of a trainer that halve their batch where the memory does not suffice.

    What fits is remembered for the batches after it. Each image is predicted by itself, so the
    size of a batch changes nothing of what is predicted but, in some networks, the last bits:
    libraries sum in another order for another number of images. Of our networks on the CPU the
    UNet gave equal bits for every number that was tried, DeepLabV3, LR-ASPP and SegFormer did not.

    Attributes:
        trainer: the model.
        doing: what they are for, such as ``scoring val``.
        setting: which setting is the size of a batch.
        smaller: which settings make an image smaller, for a batch of one that does not fit.
        say: told of every halving.
        most: images of a pass; None: as many as are given.
    """

    trainer: Predictor
    doing: str
    setting: str
    smaller: str
    say: Callable[[str], None]
    most: int | None = None

    def predict(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return what `Predictor.predict` does.

        Raises:
            ResourceError: SEG-R006, a batch of one image does not fit.
        """
        return self._by_parts(self.trainer.predict, images_BHWC)

    def predict_labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return what `Predictor.predict_labels` does.

        Raises:
            ResourceError: SEG-R006, a batch of one image does not fit.
        """
        return self._by_parts(self.trainer.predict_labels, images_BHWC)

    def score(
        self, images_BHWC: NDArray[np.generic], labels_BHW: NDArray[np.generic]
    ) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
        """Return what `Trainer.score` does; the trainer must be one.

        Raises:
            ResourceError: SEG-R006, a batch of one image does not fit.
        """
        trainer = cast("Trainer", self.trainer)
        found: list[tuple[NDArray[np.integer], NDArray[np.float64]]] = []
        done = 0
        while done < len(images_BHWC):
            part = slice(done, done + (self.most or len(images_BHWC)))

            def forward(
                images_BHWC: NDArray[np.generic], labels_BHW: NDArray[np.generic] = labels_BHW[part]
            ) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
                return trainer.score(images_BHWC, labels_BHW)

            output = self._attempt(forward, images_BHWC[part])
            if output is not None:
                found.append(output)
                done += len(output[0])
        labels, losses = zip(*found, strict=True)
        return np.concatenate(labels), np.concatenate(losses)

    def _by_parts(
        self,
        forward: Callable[[NDArray[np.generic]], NDArray[Output]],
        images_BHWC: NDArray[np.generic],
    ) -> NDArray[Output]:
        outputs: list[NDArray[Output]] = []
        done = 0
        while done < len(images_BHWC):
            part_BHWC = images_BHWC[done : done + (self.most or len(images_BHWC))]
            output = self._attempt(forward, part_BHWC)
            if output is not None:
                outputs.append(output)
                done += len(part_BHWC)
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def _attempt(
        self,
        forward: Callable[[NDArray[np.generic]], Answer],
        images_BHWC: NDArray[np.generic],
    ) -> Answer | None:
        """Return the output; None where it did not fit and `most` has been halved.

        A second attempt from here would find the arrays of the first one still held by its error.
        """
        try:
            return forward(images_BHWC)
        except Exception as error:
            if not ran_out(self.trainer, error):
                raise
            if len(images_BHWC) == 1:
                doing = f"{self.doing} on {self.trainer.device}"
                raise out_of_memory(
                    doing,
                    error,
                    size=f"one image {_size(images_BHWC)}",
                    next_step=f"{self.smaller}, or use a machine with more memory",
                ) from error
        self.most = len(images_BHWC) // 2
        self.say(
            f"out of memory while {self.doing}: batch {_size(images_BHWC)}; going on with batches "
            f"of {self.most}, the results are the same but for rounding; lower {self.setting} to "
            "avoid this"
        )
        return None


def _size(images_BHWC: NDArray[np.generic]) -> str:
    return size_of(images_BHWC.shape, images_BHWC.dtype, images_BHWC.itemsize)
