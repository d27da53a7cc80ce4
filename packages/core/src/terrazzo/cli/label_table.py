"""A label map as text for a terminal: train id, colour, name, raw values."""

from __future__ import annotations

from rich.text import Text

from terrazzo.data.labels import LabelMap


def table(label_map: LabelMap) -> Text:
    """Return one line a class, with swatches where the terminal shows colour.

    Names go in as plain text, so that brackets in them are not taken for markup.
    """
    lines = Text(f"{label_map.name}: {len(label_map)} classes, from {_kind(label_map)}\n")
    lines.append(f"source: {label_map.source or 'not given'}\n")
    width = max(len(name) for name in (*label_map.names, "(ignored)"))
    for train_id, each in enumerate(label_map.classes):
        lines.append(f"{train_id:>5} ")
        # A background, not a block character: it shows in every font.
        lines.append("    ", style=f"on {each.colour}")
        lines.append(f" {each.colour} {each.name:<{width}}  raw {_raw(label_map, each.raw)}\n")
    lines.append(f"{label_map.ignore_index:>5} {'':<12} {'(ignored)':<{width}}  ")
    lines.append(f"raw {_raw(label_map, label_map.ignored)}\n")
    lines.append("any other raw value is an error")
    return lines


def _kind(label_map: LabelMap) -> str:
    return "colour masks" if label_map.colour_coded else "index masks"


def _raw(label_map: LabelMap, codes: tuple[int, ...]) -> str:
    return ", ".join(label_map.raw_text(code) for code in codes) or "none"
