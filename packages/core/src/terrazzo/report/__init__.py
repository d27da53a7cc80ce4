"""The pages of a run and of a comparison: HTML files that open offline; and figures as files.

Pages: ``run_page`` (with ``split_view`` and ``run_examples``) and ``compare_page`` (with
``comparison_figures`` and ``comparison_examples``) work out what a page shows; ``page_assets``
puts it into the templates. Both use ``curves``, ``reliability_curves``, ``confusion_matrix`` and
``scene_overviews``, which draw with ``palettes``, ``inline_svg`` and ``image_layers``. Files:
``run_figure_files`` for experiment trackers, ``comparison_figure_files`` for papers.
Everything is read from run folders; matplotlib and Jinja are imported by the first page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from terrazzo.base.atomic_write import replace_text
from terrazzo.runs.folder import RunFolder

if TYPE_CHECKING:
    from terrazzo.comparison.compare import Comparison


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` into a run folder, with what the folder has so far.

    The same folder gives the same bytes. An earlier report is replaced as a whole.

    Args:
        run_folder: see `terrazzo.runs.folder`; the run need not be finished.

    Returns:
        The path of the report.

    Raises:
        CheckpointError: SEG-C001 not a run folder; SEG-C014 a file in it cannot be read.
        ConfigError: ``config.toml`` or ``labels.toml`` is missing or wrong.
        ResourceError: SEG-R004 the disk is full or refuses; an earlier report is untouched.
    """
    from terrazzo.evaluation import stored  # matplotlib and Jinja: only when a report is made
    from terrazzo.report import run_page

    html = run_page.render(stored.read(RunFolder(run_folder)))
    path = run_folder / "report.html"
    replace_text(path, html)
    return path


def comparison_page(comparison: Comparison) -> str:
    """Return the page of a comparison, one file that opens offline."""
    from terrazzo.report import compare_page

    return compare_page.render(comparison)


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison.

    Raises:
        ResourceError: SEG-R004 the disk is full or refuses; an earlier page is untouched.
    """
    replace_text(path, comparison_page(comparison))
