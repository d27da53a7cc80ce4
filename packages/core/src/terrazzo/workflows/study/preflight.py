"""Everything in a study that can be refused, looked at before its first step.

A fault in the last run would else be found after all others were trained. Each data set is read as
a run would read it before training: the headers of all files, one image of every split, all labels;
each model is built once (`trial_builds`). What was found is said together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from terrazzo import check, tracking
from terrazzo.base.errors import DataError, TerrazzoError
from terrazzo.base.recipe import DataConfig, LoaderConfig, Statistics
from terrazzo.check.coverage import Coverage
from terrazzo.comparison import compare
from terrazzo.data import datasets, normalization, pixel_size
from terrazzo.data.augment import require_eight_bits_for_clahe
from terrazzo.data.datasets import Split
from terrazzo.data.loader import TrainingOrder
from terrazzo.data.sample import Bands
from terrazzo.data.scaling import require_one_scaling, scaling_of
from terrazzo.models import compatibility
from terrazzo.models.card import ModelCard
from terrazzo.runs.data_fingerprint import fingerprint
from terrazzo.runs.folder import require_space
from terrazzo.training.state import EventSchedule
from terrazzo.workflows.study import plan as study_plan
from terrazzo.workflows.study import trial_builds
from terrazzo.workflows.study.faults import Faults, Say
from terrazzo.workflows.study.plan import Plan, PlannedRun
from terrazzo.workflows.study.steps import folder_of, is_trained
from terrazzo.workflows.study.trial_builds import Outcome, Trial
from terrazzo.workflows.train import require_weight_a_class, warnings_of_settings


def check_study(plan: Plan, say: Say, *, models: bool = True) -> None:
    """Refuse what would stop a study later; runs that are trained are not looked at again.

    Args:
        plan: the study.
        say: told what is being done, and of every fault but the first.
        models: build each model once. Not where they are built on other machines.

    Raises:
        TerrazzoError: the first fault; as `terrazzo run` and `terrazzo compare` raise them.
            ConfigError SEG-X180, SEG-X181: a model cannot be built; DataError SEG-D155: runs of
            one test have other test images; ResourceError SEG-R070: the disk is too small.
    """
    pending = [run for run in plan.chosen if not is_trained(plan, run)]
    if not pending:
        return
    say("looking at all data, settings and models before the first step")
    found = Faults()
    opened = _Opened()
    for planned in pending:
        with found.of(planned.name):
            _check_run(plan, planned, opened)
    scored = _check_score_data(plan, opened, found)
    for planned in pending:
        with found.of(planned.name):
            _check_scored(planned, opened, scored)
    with found.of(""):
        _check_tests(plan, opened)
        _check_group(plan, opened, scored)
    outcomes = _check_models(plan, pending, opened, found) if models else {}
    with found.of(""):
        _check_space(plan, pending, opened, outcomes)
    _warn(pending, opened, say)
    found.refuse(say, "before the first step")


@dataclass(frozen=True)
class _Seen:
    """A data set that is sound: its splits, and the pixels of each class in each image."""

    splits: dict[str, Split]
    labelled: Coverage | None


class _Opened:
    """Data sets that were opened and looked through, each table once."""

    def __init__(self) -> None:
        self._known: list[tuple[object, _Seen | TerrazzoError]] = []

    def splits(
        self, data: DataConfig, loader: LoaderConfig, names: Sequence[str] = datasets.SPLITS
    ) -> dict[str, Split]:
        """Return the splits of a data set, as `look` found them."""
        return self.look(data, loader, names).splits

    def look(
        self, data: DataConfig, loader: LoaderConfig, names: Sequence[str] = datasets.SPLITS
    ) -> _Seen:
        """Read a data set as a run reads it before it begins.

        Raises:
            DataError, ConfigError: what is wrong, each time it is asked for.
        """
        key = (data.model_copy(update={"image_size": None}), tuple(names))
        for known, result in self._known:
            if known == key:
                if isinstance(result, TerrazzoError):
                    raise result
                return result
        try:
            found = {name: datasets.open_split(data, name) for name in names}
            labelled = check.check_before_training(found, loader.threads, data, loader.timeout)
        except TerrazzoError as error:
            self._known.append((key, error))
            raise
        seen = _Seen(found, labelled)
        self._known.append((key, seen))
        return seen


def _check_run(plan: Plan, planned: PlannedRun, opened: _Opened) -> None:
    """Look at the data of one run, and at settings that only its data can say are wrong."""
    recipe = planned.recipe
    splits = opened.splits(recipe.data, recipe.loader)
    train = splits["train"]
    require_weight_a_class(recipe, train.label_map)
    normalize = recipe.data.normalize
    if normalize in ("imagenet", "image") or isinstance(normalize, Statistics):
        normalization.bands_of(train, normalize)
    if not datasets.reading_rules(recipe.data).apply_scale:
        require_one_scaling(splits)
    tracking.trackers(recipe.tracking, folder_of(plan, planned))
    require_eight_bits_for_clahe(recipe.augment, str(train.source.read_image(0).image_HWC.dtype))


def _warn(pending: Sequence[PlannedRun], opened: _Opened, say: Say) -> None:
    """Say which settings of which runs cannot do what was meant, each once."""
    runs: dict[str, list[str]] = {}
    for planned in pending:
        recipe = planned.recipe
        try:
            seen = opened.look(recipe.data, recipe.loader)
        except TerrazzoError:
            continue  # said already
        for line in warnings_of_settings(recipe, seen.splits["train"], seen.labelled):
            runs.setdefault(line, []).append(planned.name)
    for line, names in runs.items():
        say(f"{line} ({', '.join(names)})")


def _check_score_data(plan: Plan, opened: _Opened, found: Faults) -> Split | None:
    """Look at the data that all runs are scored on; None where each is scored on its own."""
    split = plan.study.score.split
    if plan.score_data is None:
        return None
    with found.of(""):
        return opened.splits(plan.score_data, LoaderConfig(), [split])[split]
    return None


def _check_scored(planned: PlannedRun, opened: _Opened, scored: Split | None) -> None:
    """Refuse data to be scored on that the model of a run will not be made for."""
    recipe = planned.recipe
    try:
        train = opened.splits(recipe.data, recipe.loader)["train"]
    except TerrazzoError:
        return  # said already
    if scored is None:
        return
    rules = datasets.reading_rules(recipe.data, train.source)
    seen = train.source.read_image(0).image_HWC
    names = train.source.band_names
    card = ModelCard(
        recipe.backend,
        recipe.model,
        train.label_map,
        Bands(
            names,
            str(seen.dtype),
            (0.0,) * len(names),
            (1.0,) * len(names),
            per_image=recipe.data.normalize == "image",
        ),
        recipe.data.image_size,
        0,
        pixel_size.pixel_sizes(train),
        rules,
        None if rules.apply_scale else scaling_of(train),
        recipe.training.precision,
    )
    compatibility.require_known_pixels(card, compatibility.pixels_of_split(scored, rules))


def _check_tests(plan: Plan, opened: _Opened) -> None:
    """Refuse runs whose own tests are not the same images, which could not be compared.

    Raises:
        DataError: SEG-D155.
    """
    if plan.score_data is not None:
        return
    split = plan.study.score.split
    for some in plan.tests.values():
        runs = sorted((run for run in some if run in plan.chosen), key=lambda run: run.fold or 0)
        for first, other in pairwise(runs):
            if first.recipe.data == other.recipe.data or first.fold != other.fold:
                continue
            try:
                both = [
                    opened.splits(each.recipe.data, each.recipe.loader) for each in (first, other)
                ]
            except TerrazzoError:
                continue  # said already
            kept = [fingerprint(splits)["splits"][split] for splits in both]
            if kept[0]["fingerprint"] == kept[1]["fingerprint"]:
                continue
            raise DataError(
                "SEG-D155",
                f"the runs {first.name!r} and {other.name!r} would be scored on different tests",
                file=other.recipe.data.root,
                observed=f"{kept[0]['images']} and {kept[1]['images']} images in {split}, "
                "or the same number of others",
                allowed="the same images and labels in every run: only then one score can be "
                "above another",
                next_step="set score.data to one of the study's data sets, or give the runs data "
                "sets of their own (`data`): then each test has its own page",
            )


def _check_group(plan: Plan, opened: _Opened, scored: Split | None) -> None:
    """Refuse an expression for groups that does not fit the names of the images scored."""
    if plan.study.group is None:
        return
    if scored is not None:
        compare.group_names(scored.names, plan.study.group)
        return
    for some in plan.tests.values():
        runs = [run for run in some if run in plan.chosen]
        if not runs:
            continue
        try:
            splits = opened.splits(runs[0].recipe.data, runs[0].recipe.loader)
        except TerrazzoError:
            continue  # said already
        compare.group_names(splits[plan.study.score.split].names, plan.study.group)


def _check_models(
    plan: Plan, pending: Sequence[PlannedRun], opened: _Opened, found: Faults
) -> dict[str, Outcome]:
    """Build each model once, those of one backend in one process."""
    by_backend: dict[str, list[Trial]] = {}
    for planned in pending:
        recipe = planned.recipe
        try:
            source = opened.splits(recipe.data, recipe.loader)["train"].source
        except TerrazzoError:
            continue  # said already, and its bands are not known
        first = next((run for run in plan.runs if run.name == planned.begins_with), None)
        there = first is not None and is_trained(plan, first)
        by_backend.setdefault(recipe.backend, []).append(
            Trial(
                planned.name,
                study_plan.as_toml(recipe),
                source.band_names,
                str(source.read_image(0).image_HWC.dtype),
                None if there else planned.begins_with,
            )
        )
    outcomes: dict[str, Outcome] = {}
    for backend, trials in by_backend.items():
        with found.of(""):
            outcomes |= trial_builds.build_all(backend, trials)
    for name, outcome in outcomes.items():
        if outcome.error is not None:
            found.add(TerrazzoError.from_json(outcome.error), name)
    return outcomes


def _check_space(
    plan: Plan, pending: Sequence[PlannedRun], opened: _Opened, outcomes: dict[str, Outcome]
) -> None:
    """Refuse a disk that cannot hold the checkpoints of all runs.

    Raises:
        ResourceError: SEG-R070.
    """
    needed = 0
    for planned in pending:
        recipe = planned.recipe
        outcome = outcomes.get(planned.name)
        if outcome is None or outcome.error is not None:
            continue
        train = opened.splits(recipe.data, recipe.loader)["train"]
        steps = TrainingOrder(len(train), recipe.training.batch_size, 0, 0, 1).steps_per_epoch
        most = EventSchedule(recipe, steps).most_checkpoints
        needed += outcome.checkpoint_bytes * (most + 1)  # and the model
    require_space(plan.out, needed)
