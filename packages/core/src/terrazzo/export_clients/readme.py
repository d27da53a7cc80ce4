"""``README.md`` of an export, for the person who opens it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from terrazzo.export_clients.order import ClientOrder


def write_readme(
    order: ClientOrder,
    folder: Path,
    program: str,
    steps: Sequence[str],
    limits: Sequence[str],
    *,
    tried: str = "",
) -> None:
    """Write what the model is, how the program opens it, and what to know before.

    Args:
        order: the model.
        folder: of the export.
        program: its full name.
        steps: what to do, one after another.
        limits: what to know.
        tried: how one can try whether it works.
    """
    card = order.card
    lines = [
        f"# {order.run}: semantic segmentation for {program}",
        "",
        f"Model {card.model.name} ({card.backend}), {card.step} steps, "
        f"weights {order.digest[:16]}.",
        f"Bands in this order: {', '.join(card.bands.names)} ({card.bands.dtype}).",
        "Classes: "
        + ", ".join(f"{number} {name}" for number, name in enumerate(card.label_map.names))
        + ".",
        "",
        "## How to open it",
        *(f"{number}. {step}" for number, step in enumerate(steps, 1)),
        "",
        "## What to know",
        *(f"- {limit}" for limit in limits),
        *(["", "## Validation", tried] if tried else []),
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def value_limits(order: ClientOrder, *, missing_inside: bool) -> list[str]:
    """Return limits that follow from how the values of the training's files were taken.

    Args:
        order: the model.
        missing_inside: whether what is written takes NaN as missing.
    """
    card = order.card
    limits = []
    if card.bands.dtype == "float32" and not missing_inside:
        limits.append("NaN is no missing value here: fill it with the band's mean first")
    derivation = card.rules.derivation
    if derivation is not None:
        limits.append(
            f"{derivation.text}: bands that `terrazzo predict` computes of "
            f"{', '.join(derivation.source_names)} while it reads a GeoTIFF; the network does not, "
            "so give them computed, all bands as float32"
        )
    if card.rules.apply_scale:
        limits.append(
            "trained on values × scale + offset as the GeoTIFF declares: give such values"
        )
    elif card.scaling is not None and any(pair != (1.0, 0.0) for pair in card.scaling):
        limits.append(
            "trained on values as stored, although the files declare a scale and an offset: a "
            "program that applies them shows the model other values"
        )
    return limits


def size_limits(order: ClientOrder) -> list[str]:
    """Return the limit of a model that sees every image at one size."""
    if order.card.image_size is None:
        return []
    rows, columns = order.card.image_size
    return [
        f"images have {rows} rows and {columns} columns here: the model was trained on whole "
        "images resized to that, so resize yours before, and the answer after"
    ]
