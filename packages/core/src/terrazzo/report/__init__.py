"""The report of a run: one HTML file that opens offline, made from the run folder alone.

``record`` reads the folder, ``figures`` draws the curves, ``gallery`` prepares the images and
``page`` puts them into ``run.html`` with ``report.css`` and ``report.js``. A comparison has
``compare_page`` and ``compare.html``; what both pages hold is in ``head.html`` and ``parts.html``,
``reliability`` and ``map_layers``. matplotlib and Jinja are imported by the first page, not before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from terrazzo.base.atomic_write import replace_text
from terrazzo.runs.folder import RunFolder

if TYPE_CHECKING:
    from terrazzo.comparison.compare import Comparison


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` into a run folder, of what the folder holds so far.

    The same folder gives the same bytes. A report that is there already is replaced whole.

    Args:
        run_folder: as `terrazzo.runs.folder` describes it; a run that was stopped early will do.

    Returns:
        The path of the report.

    Raises:
        CheckpointError: SEG-C001 this is no run folder; SEG-C014 a file in it cannot be read.
        ConfigError: ``config.toml`` or ``labels.toml`` is missing or wrong.
        ResourceError: SEG-R004 the disk is full or refuses; an earlier report is untouched.
    """
    from terrazzo.evaluation import stored  # matplotlib and Jinja: only when a report is made
    from terrazzo.report import run_page

    html = run_page.render(stored.read(RunFolder(run_folder)))
    path = run_folder / "report.html"
    replace_text(path, html)
    return path


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison, one file that opens offline.

    Raises:
        ResourceError: SEG-R004 the disk is full or refuses; an earlier page is untouched.
    """
    from terrazzo.report import compare_page

    html = compare_page.render(comparison)
    replace_text(path, html)
