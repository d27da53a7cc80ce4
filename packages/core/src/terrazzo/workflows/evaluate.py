"""`terrazzo evaluate`: the model of a finished run scored on a split of its own data or others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from terrazzo.base.config_parsing import Size, StrPath
from terrazzo.base.errors import ConfigError
from terrazzo.base.processes import World, first_does, leaving_word, together
from terrazzo.base.progress import Progress, Silent
from terrazzo.base.recipe import Config, TrainingConfig, load_data_config
from terrazzo.data import datasets
from terrazzo.data.datasets import Split
from terrazzo.evaluation.other_data import open_other_data
from terrazzo.evaluation.prediction_method import MethodMember, MethodTiles, PredictionMethod
from terrazzo.inference.composition import Composition, method_of
from terrazzo.inference.model import model_folder
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.models import backends, compatibility, radiometry
from terrazzo.models.card import ModelCard
from terrazzo.models.ensembles import Member
from terrazzo.models.mask_refinement import MaskSettings, backend_for_masks, mask_generator
from terrazzo.models.runtimes import ComputePrecision
from terrazzo.models.test_time_augmentation import Augmentation, require_augmentation
from terrazzo.runs import ensemble_source, exported_model, model_source, saved_model
from terrazzo.runs.folder import RunFolder, claimed
from terrazzo.runs.model_source import ModelSource
from terrazzo.runs.own_data import labels_now, own_data
from terrazzo.workflows.finished_run import FinishedRun, Scoring, score_ways


def evaluate(
    run: StrPath,
    split: str = "test",
    *,
    data: StrPath | None = None,
    calibration: bool | None = None,
    boundary: bool | None = None,
    any_pixel_size: bool = False,
    runtime: str | None = None,
    precision: ComputePrecision | None = None,
    augmentation: Augmentation | None = None,
    tiling: Tiling | None = None,
    ensemble: Sequence[StrPath] = (),
    masks: MaskSettings | None = None,
    progress: Progress | None = None,
) -> FinishedRun:
    """Score the model of a finished run, or an exported one, on one split.

    Scores by another runtime than the run's own framework are kept under a name of their own, such
    as ``test-openvino``, so that those of a comparison are all computed alike. So are those of
    test-time augmentation, tiles, ensembles and refinement: ``test-tta_flips``,
    ``test-tile_512_128``, ``test-ensemble_of_3``, ``test-sam``.

    Args:
        run: the run folder; or an exported folder, with `data`.
        split: train, val or test.
        data: a TOML file with a table ``data`` of other data; their scores are kept as STEM-SPLIT.
        calibration: score the probabilities as well. None: as the recipe says.
        boundary: score boundary bands as well. None: as the recipe says.
        any_pixel_size: take pixels of another size on the ground than those of training.
        runtime: what computes the model, see `terrazzo.runs.model_source.choose`; None: the run's
            own framework.
        precision: of its arithmetic; None: that of training, or float32.
        augmentation: at test time, see `terrazzo.models.test_time_augmentation`; None: none.
        tiling: show images at their own scale by tiles that are blended; None: whole, at the
            model's size.
        ensemble: further runs, whose probabilities are averaged with those of the run.
        masks: where probabilities are averaged at last, see `terrazzo.models.mask_refinement`; what
            was predicted without is scored too, and compared.
        progress: told how far it is; None: shows nothing.

    Returns:
        The run with its scores on the split.

    Raises:
        TerrazzoError: of every kind; see `terrazzo.base.errors`.
    """
    folder = RunFolder(Path(run))
    asked = {"calibration": calibration, "boundary": boundary}
    if augmentation is not None:
        require_augmentation(augmentation)
    ways = _Ways(
        Composition(augmentation, tiling, masks), tuple(map(Path, ensemble)), runtime, precision
    )
    if exported_model.is_exported(folder.path):
        return _evaluate_exported(
            folder, split, data, asked, ways, any_pixel_size, progress or Silent()
        )
    recipe = folder.read_config()  # before it is locked: nothing is written where no run is
    world = backends.load(recipe.backend).world()
    if progress is None or world.rank != 0:
        progress = Silent()
    with leaving_word(world), ExitStack() as stack:
        first_does(world, lambda: stack.enter_context(claimed(folder.path)))
        recipe, opened, card = together(
            world,
            lambda: _open(
                folder, split, data, asked, any_pixel_size=any_pixel_size, progress=progress
            ),
        )
        source = model_source.choose(
            folder.model,
            card,
            runtime=runtime or model_source.OWN,
            precision=precision,
            say=progress.say,
        )
        _refuse_several(world, source)
        scored = together(
            world, lambda: ways.of(folder, source, card, recipe, opened, progress.say)
        )
        return score_ways(folder, recipe, scored, card.step, progress)


@dataclass(frozen=True)
class _Ways:
    """What is done beside asking the run's own model once."""

    composition: Composition
    ensemble: tuple[Path, ...]
    runtime: str | None
    precision: ComputePrecision | None

    def of(
        self,
        folder: RunFolder,
        source: ModelSource,
        card: ModelCard,
        recipe: Config,
        split: Split,
        say: Callable[[str], None],
    ) -> list[tuple[Scoring, Split]]:
        """Load the models; return what is to be scored, the refined way last."""
        others = ensemble_source.read_further(
            card, source.folder, [model_folder(path) for path in self.ensemble], say
        )
        source = ensemble_source.with_others(
            source,
            card,
            others,
            runtime=self.runtime or model_source.OWN,
            precision=self.precision,
            say=say,
        )
        composition = self.composition
        if composition.masks is not None:
            own = None if source.runtime is not None else card.backend
            masks = replace(composition.masks, backend=backend_for_masks(own))
            composition = replace(composition, masks=masks)
            mask_generator(masks)  # before anything is scored
        if composition.tiling is not None and recipe.data.image_size is not None:
            rows, columns = recipe.data.image_size
            say(
                f"the model was trained on images resized to {rows}×{columns}; tiles are taken at "
                "the images' own scale"
            )
        (_, first), *rest = source.load_members()
        members = [replace(first, image_size=recipe.data.image_size), *(m for _, m in rest)]
        names: tuple[MethodMember, ...] = ()
        if others:
            own_name = folder.path.absolute().name
            names = (
                MethodMember(own_name, model_source.digest(source.folder)),
                *(MethodMember(each.name, each.sha256) for each in others),
            )
        wanted = [replace(composition, masks=None)]
        wanted += [composition] if composition.masks is not None else []
        return [
            (scoring, _named_after(split, scoring.method, source))
            for scoring in (_scoring(each, members, names, card, say) for each in wanted)
        ]


def _scoring(
    composition: Composition,
    members: Sequence[Member],
    names: tuple[MethodMember, ...],
    card: ModelCard,
    say: Callable[[str], None],
) -> Scoring:
    method = method_of(composition, names)
    own_size = composition.takes_own_size(members)
    return Scoring(composition.of(members, card.label_map, say), method, own_size)


def name_of_scores(
    split: str,
    *,
    runtime: str | None = None,
    precision: ComputePrecision | None = None,
    augmentation: Augmentation | None = None,
    tiling: Tiling | None = None,
    ensemble: Sequence[StrPath] = (),
    masks: MaskSettings | None = None,
    **_: object,
) -> str:
    """Return the name that the scores of a split get by these options of `evaluate`."""
    members = (MethodMember("", ""),) * (len(ensemble) + 1) if ensemble else ()
    tiles = None if tiling is None else MethodTiles(tiling.tile, tiling.overlap, tiling.blend)
    method = PredictionMethod(augmentation, tiles, members, None if masks is None else {})
    words = [split, *method.words, runtime, precision]
    return "-".join(word for word in words if word is not None)


def _named_after(split: Split, method: PredictionMethod, source: ModelSource) -> Split:
    """Give a split a name that tells how its predictions were made, and who computed them."""
    words = [split.name, *method.words, source.runtime, source.precision]
    return replace(split, name="-".join(word for word in words if word is not None))


def _refuse_several(world: World, source: ModelSource) -> None:
    if world.size > 1 and source.runtime is not None:
        raise ConfigError(
            "SEG-X082",
            f"the runtime {source.runtime!r} scores in one process",
            observed=f"{world.size} processes",
            allowed="one process, or the run's own framework",
            next_step="start it without torchrun, or leave --runtime away",
        )


def _evaluate_exported(
    folder: RunFolder,
    split: str,
    data: StrPath | None,
    asked: Mapping[str, bool | None],
    ways: _Ways,
    any_pixel_size: bool,
    progress: Progress,
) -> FinishedRun:
    """Score an exported model on the data that a file names."""
    if data is None:
        raise ConfigError(
            "SEG-X082",
            "an exported model brings no data to be scored on",
            file=folder.path,
            allowed="--data FILE, a recipe or a TOML with a table data",
            next_step="the config.toml of the run it was exported from is such a recipe",
        )
    card = saved_model.read_card(folder.path, progress.say)
    source = model_source.choose(
        folder.path, card, runtime=ways.runtime, precision=ways.precision, say=progress.say
    )
    config = load_data_config(Path(data), note=progress.say)
    if config.image_size is None:
        config = config.model_copy(update={"image_size": card.image_size})
    recipe = Config(
        backend=card.backend, data=config, model=card.model, training=TrainingConfig(steps=1)
    )
    opened = datasets.open_split(config, split)
    recipe = _compatible(recipe, opened, card, folder.path, asked, any_pixel_size, progress)
    opened = replace(opened, name=f"{Path(data).stem}-{split}")
    scored = ways.of(folder, source, card, recipe, opened, progress.say)
    return score_ways(folder, recipe, scored, card.step, progress, report=False)


def _open(
    folder: RunFolder,
    split: str,
    data: StrPath | None,
    asked: Mapping[str, bool | None],
    *,
    any_pixel_size: bool,
    progress: Progress,
) -> tuple[Config, Split, ModelCard]:
    """Open what is to be scored; refuse what the model was not made for."""
    recipe = folder.read_config()
    card = saved_model.read_card(folder.model, progress.say)
    if data is None:
        now = labels_now(recipe.data, progress.say)
        if now is not None:
            compatibility.require_same_labels(card.label_map, now, folder.model)
        opened = datasets.open_split(own_data(folder, recipe.data), split)
    else:
        recipe, opened = open_other_data(recipe, Path(data), split, progress.say)
    recipe = _compatible(recipe, opened, card, folder.model, asked, any_pixel_size, progress)
    return recipe, opened, card


def _compatible(
    recipe: Config,
    opened: Split,
    card: ModelCard,
    model: Path,
    asked: Mapping[str, bool | None],
    any_pixel_size: bool,
    progress: Progress,
) -> Config:
    """Refuse data that the model was not made for; return the recipe with what is asked for."""
    for note in opened.source.notes:
        progress.say(note)
    given = {name: value for name, value in asked.items() if value is not None}
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=given)})
    rules = datasets.reading_rules(recipe.data, opened.source)
    compatibility.require_same_labels(card.label_map, opened.label_map, model)
    compatibility.require_known_pixels(
        card, compatibility.pixels_of_split(opened, rules), any_pixel_size=any_pixel_size
    )
    if (warning := radiometry.split_unlike_training(card.bands, opened)) is not None:
        progress.say(f"warning {radiometry.CODE}: {warning}")
    if recipe.data.image_size != card.image_size:
        progress.say(
            f"warning: images are {_size_told(recipe.data.image_size)}, as the data say; the model "
            f"was made for images {_size_told(card.image_size)}"
        )
    return recipe


def _size_told(size: Size | None) -> str:
    return "at their own size" if size is None else f"brought to {size[0]}×{size[1]}"
