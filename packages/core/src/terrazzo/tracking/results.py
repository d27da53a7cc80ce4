"""What a finished run has to show: scores of the test split, figures, the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from terrazzo.tracking import run_summary
from terrazzo.tracking.run_summary import Facts, Point

SPLIT = "test"


@dataclass(frozen=True)
class Results:
    """Results of one run.

    Attributes:
        scores: of the test split, at the step of the weights.
        figures: PNG files by name, without suffix.
        files: for people: recipe, label map, report.
        model: the model folder.
    """

    scores: Point
    figures: dict[str, bytes]
    files: tuple[Path, ...]
    model: Path

    def without_scores(self) -> Results:
        """Return the same but for the scores."""
        return replace(self, scores=(self.scores[0], {}))


def read(of: Facts) -> Results:
    """Read the results of a finished run and draw its figures."""
    from terrazzo.evaluation import stored
    from terrazzo.report import run_figure_files  # matplotlib

    found = stored.read(of.folder)
    summary = next(each.summary for each in found.scored if each.summary["split"] == SPLIT)
    files = (of.folder.config, of.folder.labels, of.folder.path / "report.html")
    return Results(
        scores=run_summary.of_evaluation(summary, of.classes),
        figures=run_figure_files.draw(found, SPLIT),
        files=tuple(path for path in files if path.is_file()),
        model=of.folder.model,
    )
