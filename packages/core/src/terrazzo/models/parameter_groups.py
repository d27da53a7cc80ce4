"""Which part of a network a weight belongs to, and what that means for training.

Each model file says it by the beginnings of names: `ENCODER`, what pretraining gives; `HEAD`, what
depends on the number of classes. All else is decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from terrazzo.base.errors import ConfigError

if TYPE_CHECKING:
    from terrazzo.base.recipe import TrainingConfig

Part = Literal["encoder", "decoder", "head"]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one model.

    Attributes:
        encoder: beginnings of the names of the encoder's weights.
        head: beginnings of the names of the weights that depend on the number of classes.
        layer: from the name of an encoder's weight to the number of its layer, 0 for the first and
            None for what comes after the last; None where the model does not number them.
        frozen: the encoder stays as it is, whatever `TrainingConfig.train_part` says.
    """

    encoder: tuple[str, ...]
    head: tuple[str, ...]
    layer: Callable[[str], int | None] | None = None
    frozen: bool = False

    def of(self, name: str) -> Part:
        """Return the part of the weight `name`, without ``weights/``."""
        if name.startswith(self.head):
            return "head"
        return "encoder" if name.startswith(self.encoder) else "decoder"

    def is_frozen(self, name: str, training: TrainingConfig) -> bool:
        """Tell whether the weight `name` stays as it is."""
        freezes = self.frozen or training.train_part == "decoder"
        return freezes and self.of(name) == "encoder"

    def lr_factors(self, names: Iterable[str], training: TrainingConfig) -> dict[str, float]:
        """Return what multiplies the learning rate of each weight, where it is not 1.

        Raises:
            ConfigError: SEG-X016, `layer_decay` for a model without numbered layers.
        """
        if training.layer_decay != 1 and self.layer is None:
            raise ConfigError(
                "SEG-X016",
                "training.layer_decay is for models with numbered layers",
                observed=training.layer_decay,
                allowed="1 for this model; other values for vit and dinov3_linear",
                next_step="remove it, or use training.encoder_lr_factor",
            )
        encoder = [name for name in names if self.of(name) == "encoder"]
        layers = {name: self.layer(name) if self.layer else None for name in encoder}
        last = max((layer for layer in layers.values() if layer is not None), default=0)
        factors = {
            name: training.encoder_lr_factor
            * training.layer_decay ** (0 if layer is None else last - layer)
            for name, layer in layers.items()
        }
        return {name: factor for name, factor in factors.items() if factor != 1}
