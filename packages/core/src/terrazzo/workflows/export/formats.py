"""Which formats and precisions there are for which models."""

from __future__ import annotations

from terrazzo.base.errors import ConfigError
from terrazzo.models.card import ModelCard
from terrazzo.models.exporter import Exporter, ExportPrecision

PRECISIONS: dict[str, tuple[ExportPrecision, ...]] = {
    "onnx": ("float32", "float16", "int8"),
    "openvino": ("float32", "float16", "int8"),
    "litert": ("float32", "float16", "int8"),
    "torch": ("float32",),
    "keras": ("float32",),
    "huggingface": ("float32",),
}
"""Precisions of each format."""

LAYOUTS = ("NHWC", "NCHW")


def require_fixed_normalization(card: ModelCard) -> None:
    """Refuse a model whose images are normalised each by itself: no exported file does that.

    A graph that did it would take the statistics of whatever it is given, tiles too.

    Raises:
        ConfigError: SEG-X080.
    """
    if card.bands.per_image:
        raise ConfigError(
            "SEG-X080",
            "a model whose images are normalised each by itself cannot be exported",
            observed='data.normalize = "image"',
            allowed="one mean and one deviation of each band, which exported files hold",
            next_step="predict with the run itself (terrazzo predict, terrazzo serve), or train "
            'with data.normalize = "dataset" or "pretrained"',
        )


def require_offered(to: str, precision: str, layout: str, card: ModelCard, own: Exporter) -> None:
    """Refuse what is not offered for a model, with what is.

    Raises:
        ConfigError: SEG-X080.
    """
    offered = [name for name in PRECISIONS if name in own.FORMATS]
    if to not in offered:
        raise ConfigError(
            "SEG-X080",
            f"a model of the backend {card.backend!r} cannot be exported to {to!r}",
            observed=f"--to {to}",
            allowed=", ".join(offered),
            next_step="other backends have other formats: "
            "torch has onnx, openvino, torch and huggingface; keras has onnx, openvino, litert and "
            "keras",
        )
    if precision not in PRECISIONS[to]:
        raise ConfigError(
            "SEG-X080",
            f"the format {to!r} is not written in {precision}",
            observed=f"--precision {precision}",
            allowed=", ".join(PRECISIONS[to]),
        )
    if layout not in LAYOUTS:
        raise ConfigError(
            "SEG-X080",
            "no such layout of images",
            observed=f"--layout {layout}",
            allowed=", ".join(LAYOUTS),
        )
