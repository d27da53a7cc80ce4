"""What a finished workflow leaves behind: a run folder with the scores that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from terrazzo.base.processes import first_does
from terrazzo.base.progress import Progress
from terrazzo.base.recipe import Config
from terrazzo.data.datasets import Split
from terrazzo.data.labels import LabelMap
from terrazzo.data.scene_placement import Placed
from terrazzo.evaluation import extra_scores, result
from terrazzo.evaluation import loop as evaluation_loop
from terrazzo.evaluation.extra_counts import Counter
from terrazzo.evaluation.paired import PairedDifference, against
from terrazzo.evaluation.prediction_method import PLAIN, PredictionMethod
from terrazzo.evaluation.result import Evaluation
from terrazzo.evaluation.scene_overview import SceneOverviews
from terrazzo.metrics.scores import Scores
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
        beside: the difference from the same predictions without refinement; None: not refined.
    """

    folder: RunFolder
    label_map: LabelMap = field(repr=False)
    evaluation: Evaluation = field(repr=False)
    report: Path | None
    beside: PairedDifference | None = field(default=None, repr=False)

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


@dataclass(frozen=True)
class Scoring:
    """One way of predicting that is to be scored.

    Attributes:
        predictor: the model with all that is done about it.
        method: what that is, for the record.
        own_size: whether it takes images at their own size, not at ``data.image_size``.
    """

    predictor: Predictor
    method: PredictionMethod = PLAIN
    own_size: bool = False


def score_run(
    folder: RunFolder,
    recipe: Config,
    trainer: Predictor,
    split: Split,
    step: int | None,
    progress: Progress,
) -> FinishedRun:
    """Score a model on a split, write what was found, and bring the report up to date."""
    return score_ways(folder, recipe, [(Scoring(trainer), split)], step, progress)


def score_ways(
    folder: RunFolder,
    recipe: Config,
    ways: Sequence[tuple[Scoring, Split]],
    step: int | None,
    progress: Progress,
    *,
    report: bool = True,
) -> FinishedRun:
    """Score one way of predicting, or two whose difference is asked for; write what was found.

    Args:
        folder: of the run, or an exported model.
        recipe: how data are read and what is scored.
        ways: each with the split under the name its scores get; a second one is compared with the
            first.
        step: of the weights.
        progress: told how far it is.
        report: bring the report of the run up to date.

    Returns:
        The run with the scores of the last way.
    """
    found: list[Evaluation] = []
    difference: PairedDifference | None = None
    for scoring, split in ways:
        evaluation = _evaluation(recipe, scoring, split, step or 0, progress)
        if found:
            difference = against(evaluation, found[0])
            evaluation = replace(evaluation, beside=difference.record())
            if np.array_equal(evaluation.counts_NKK, found[0].counts_NKK):
                progress.say(f"warning: {_without_effect(scoring.method)}")
        found.append(evaluation)
    label_map = ways[-1][1].label_map

    def write() -> None:
        for evaluation in found:
            result.write(evaluation, label_map, folder.evaluation)
        if report:
            write_report(folder.path)

    first_does(ways[0][0].predictor.world, write)
    page = folder.path / "report.html" if report else None
    return FinishedRun(folder, label_map, found[-1], page, difference)


def _without_effect(method: PredictionMethod) -> str:
    """Say that refined predictions count as those before, and why that may be."""
    masks = method.masks or {}
    return (
        "refining changed the counts of no image. Masks are kept that the mask model itself gives "
        f"an IoU of {masks.get('quality')} or more and a stability of {masks.get('stability')} "
        "or more: there may have been none"
    )


def _evaluation(
    recipe: Config, scoring: Scoring, split: Split, step: int, progress: Progress
) -> Evaluation:
    source, data, batch_size = split.source, recipe.data, recipe.validation.batch_size
    if scoring.own_size:  # images of any size, with the probabilities of all classes at that size
        data, batch_size = data.model_copy(update={"image_size": None}), 1
    evaluation = evaluation_loop.evaluate(
        scoring.predictor,
        split,
        data,
        recipe.loader,
        batch_size=batch_size,
        step=step,
        progress=progress,
        counter=Counter(split, recipe.evaluation),
        overviews=SceneOverviews(source) if isinstance(source, Placed) else None,
    )
    return replace(evaluation, method=scoring.method)
