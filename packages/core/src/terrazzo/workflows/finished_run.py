"""What a finished workflow leaves behind: a run folder with the scores that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from terrazzo.base.processes import first_does
from terrazzo.base.progress import Progress
from terrazzo.base.recipe import Config
from terrazzo.data.datasets import Split
from terrazzo.data.labels import LabelMap
from terrazzo.data.scene_placement import Placed
from terrazzo.evaluation import extra_scores, result
from terrazzo.evaluation import loop as evaluation_loop
from terrazzo.evaluation.extra_counts import Counter
from terrazzo.evaluation.result import Evaluation
from terrazzo.evaluation.scene_overview import SceneOverviews
from terrazzo.metrics.scores import Scores
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Predictor
from terrazzo.report import write_report
from terrazzo.runs.folder import RunFolder

StopRequested = Callable[[], bool]


@dataclass(frozen=True)
class FinishedRun:
    """A run with the scores of one split.

    Shows itself as a table in a notebook, and stands for its folder where a path is asked for:
    ``load_model(run)``, ``compare([a, b])``.

    Attributes:
        folder: the run folder.
        label_map: its classes.
        evaluation: the counts of the split that was asked for, image by image.
        report: the page for people; None: an exported model has none.
    """

    folder: RunFolder
    label_map: LabelMap = field(repr=False)
    evaluation: Evaluation = field(repr=False)
    report: Path | None

    @property
    def path(self) -> Path:
        """Where the run folder lies."""
        return self.folder.path

    @property
    def scores(self) -> Scores:
        """Scores of the split, from one confusion matrix over all its images."""
        return self.evaluation.matrix.scores()

    @property
    def extra_scores(self) -> list[str]:
        """What was scored beside the classes, a line each."""
        counts_NKK, names = self.evaluation.counts_NKK, self.label_map.names
        summary = extra_scores.summary(self.evaluation.extra, counts_NKK, names)
        return extra_scores.lines(summary)

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        title = f"{self.path}: {self.evaluation.split}"
        return self.scores.to_html(self.label_map.names, title=title)


def score_run(
    folder: RunFolder,
    recipe: Config,
    trainer: Predictor,
    split: Split,
    step: int | None,
    progress: Progress,
) -> FinishedRun:
    """Score a model on a split, write what was found, and bring the report up to date."""
    evaluation = _evaluation(recipe, trainer, split, step or 0, progress)

    def write() -> None:
        result.write(evaluation, split.label_map, folder.evaluation)
        write_report(folder.path)

    first_does(trainer.world, write)
    return FinishedRun(folder, split.label_map, evaluation, folder.path / "report.html")


def score_export(
    folder: RunFolder,
    recipe: Config,
    predictor: Predictor,
    split: Split,
    card: ModelCard,
    progress: Progress,
) -> FinishedRun:
    """Score an exported model on a split, and write what was found beside it."""
    evaluation = _evaluation(recipe, predictor, split, card.step, progress)
    result.write(evaluation, split.label_map, folder.evaluation)
    return FinishedRun(folder, split.label_map, evaluation, None)


def _evaluation(
    recipe: Config, predictor: Predictor, split: Split, step: int, progress: Progress
) -> Evaluation:
    source = split.source
    return evaluation_loop.evaluate(
        predictor,
        split,
        recipe.data,
        recipe.loader,
        batch_size=recipe.validation.batch_size,
        step=step,
        progress=progress,
        counter=Counter(split, recipe.evaluation),
        overviews=SceneOverviews(source) if isinstance(source, Placed) else None,
    )
