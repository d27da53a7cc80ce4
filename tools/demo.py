"""``make demo``: one model of each framework on the generated city, both in one table.

Each run is a process of its own, because two frameworks never share one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from terrazzo.base.console import PlainConsole

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ("torch", "keras")


def main() -> None:
    """Run both demos, then print the table."""
    seconds = {backend: _run(backend) for backend in BACKENDS}
    results = {backend: _read(backend) for backend in BACKENDS}
    first = results[BACKENDS[0]]
    table = Table(title="demo: test split of the generated city")
    table.add_column("")
    for backend in BACKENDS:
        table.add_column(f"{backend} · {results[backend]['model']}", justify="right")
    rows = {"mean IoU": [f"{results[b]['scores']['mean_iou']:.3f}" for b in BACKENDS]}
    for k, name in enumerate(first["classes"]):
        rows[f"IoU {name}"] = [f"{results[b]['per_class']['iou'][k]:.3f}" for b in BACKENDS]
    rows["seconds, start to report"] = [f"{seconds[b]:.0f}" for b in BACKENDS]
    for title, cells in rows.items():
        table.add_row(title, *cells)
    console = PlainConsole()
    console.print(table)
    console.print(f"{first['definition']}", style="dim")
    for backend in BACKENDS:
        console.print(f"report: {_folder(backend) / 'report.html'}", soft_wrap=True)


def _folder(backend: str) -> Path:
    return Path("runs") / f"demo_{backend}"


def _run(backend: str) -> float:
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "tools" / "run.py"), "--backend", backend]
    subprocess.run(  # noqa: S603 - our own command
        [*command, "--out", str(_folder(backend)), "--overwrite"], check=True
    )
    return time.perf_counter() - started


def _read(backend: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(
        (_folder(backend) / "evaluation" / "test.json").read_text("utf-8")
    )
    record = json.loads((_folder(backend) / "run.json").read_text("utf-8"))
    return {**result, "model": record["model"]}


if __name__ == "__main__":
    main()
