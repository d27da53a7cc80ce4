"""A study: one TOML of several runs that ends in one comparison. Here, from the file to a plan.

Nothing is written and nothing is trained; `terrazzo.workflows.study.runner` does what is planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from terrazzo.base import config_parsing
from terrazzo.base.config_parsing import Count, Frozen, read_toml
from terrazzo.base.errors import ConfigError, unknown_name
from terrazzo.base.recipe import (
    Config,
    DataConfig,
    InitConfig,
    anchor_data,
    assign_setting,
    require_inside,
)
from terrazzo.data import datasets
from terrazzo.models import backends, compatibility
from terrazzo.runs.folder import with_kept_defaults, with_limit_of_its_time
from terrazzo.workflows.study.faults import Faults, Say

FULL = "full"
"""The scale a study has by itself."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200)]
"""Also the name of a folder."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
_OF_ALL = "all."
Assignments = tuple[str, ...]
"""``key=value`` with dotted keys, as after ``--set``."""


class ScoreConfig(Frozen):
    """What all runs are scored on."""

    data: str | None = None
    """One of the study's data sets. None: each run's own."""
    split: Literal["train", "val", "test"] = "test"


class RunConfig(Frozen):
    """One run of a study; one a seed."""

    name: Name
    recipe: str | None = None
    """Path from the study's folder. None: the study's recipe."""
    backend: str | None = None
    """None: the recipe's."""
    data: str | None = None
    """One of the study's data sets, in place of the recipe's whole table. None: the recipe's."""
    init: InitConfig | None = None
    """``run`` is the name of another run of the study."""
    seeds: tuple[Seed, ...] | None = None
    """None: the study's."""
    set: Assignments = ()
    at: dict[str, Assignments] = Field(default_factory=dict)
    """More of them, by scale; applied last."""


class ScaleConfig(Frozen):
    """What is different when the whole study is run at another scale."""

    set: Assignments = ()
    data: dict[str, DataConfig] = Field(default_factory=dict)
    """Data sets that take the place of those of the same name."""
    seeds: tuple[Seed, ...] | None = None
    leave_out: tuple[str, ...] = ()
    """Runs that cannot be had at this scale."""


class StudyConfig(Frozen):
    """One study."""

    name: Name
    scale: str = FULL
    """``full``, or one of `scales`."""
    recipe: str | None = None
    """Path from the study's folder; the base of every run that names none."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    set: Assignments = ()
    """For every run, before its own."""
    all: Assignments = ()
    """For every run, after all else; ``--set all.training.steps=20`` adds one."""
    data: dict[Name, DataConfig] = Field(default_factory=dict)
    score: ScoreConfig = ScoreConfig()
    group: str | None = None
    """Images whose names agree in this regular expression are drawn together; see `compare`."""
    sizes: Annotated[tuple[Count | Literal["all"], ...], Field(min_length=1)] | None = None
    """Numbers of training images: each run is done once with each, for a curve over sizes."""
    folds: Annotated[int, Field(ge=2)] | Literal["leave_one_out"] | None = None
    """Cross-validation: each run is done so often, each time with another part of the groups as its
    test; counts of all parts are pooled. ``leave_one_out``: as many as there are groups."""
    runs: Annotated[tuple[RunConfig, ...], Field(min_length=1)]
    scales: dict[Name, ScaleConfig] = Field(default_factory=dict)

    @property
    def at_scale(self) -> ScaleConfig:
        """What the scale in use changes."""
        return self.scales.get(self.scale, ScaleConfig())

    def data_named(self, name: str) -> DataConfig:
        """Return a data set of the study, as the scale in use has it."""
        found = self.data | self.at_scale.data
        if name not in found:
            raise unknown_name("data set of the study", name, found)
        return found[name]


@dataclass(frozen=True)
class PlannedRun:
    """One run, resolved.

    Attributes:
        name: of its folder.
        recipe: all its settings.
        begins_with: the run of the study whose weights it begins with.
        test: name of the data set it is scored on; empty where it is the recipe's own.
        stem: its name in the file of the study, without size, fold and seed.
        pooled: name under which its counts are pooled with those of the other folds; None where
            there are no folds.
        fold: which one; None where there are none.
    """

    name: str
    recipe: Config
    begins_with: str | None
    test: str
    stem: str
    pooled: str | None = None
    fold: int | None = None


@dataclass(frozen=True)
class Plan:
    """All that a study will do.

    Attributes:
        study: the file.
        out: its folder.
        runs: each one after the one it begins with, otherwise as in the file.
        score_data: what all runs are scored on; None: each on its own data.
        inputs: the files it was read from.
        only: names of the runs to do now, those they begin with included; None: all.
    """

    study: StudyConfig
    out: Path
    runs: tuple[PlannedRun, ...]
    score_data: DataConfig | None
    inputs: tuple[Path, ...] = ()
    only: frozenset[str] | None = None

    @property
    def chosen(self) -> tuple[PlannedRun, ...]:
        """The runs to do now."""
        return tuple(run for run in self.runs if self.only is None or run.name in self.only)

    @property
    def split(self) -> str:
        """Name under which every run keeps the scores that are compared."""
        score = self.study.score
        return f"{score.data}-{score.split}" if score.data else score.split

    @property
    def tests(self) -> dict[str, list[PlannedRun]]:
        """Runs by what they are scored on: only those of one test can be compared."""
        tests: dict[str, list[PlannedRun]] = {}
        for run in self.runs:
            tests.setdefault(run.test, []).append(run)
        return tests


def load_study(path: Path, assignments: Sequence[str] = ()) -> StudyConfig:
    """Read a study.

    Args:
        path: the TOML file.
        assignments: ``key=value`` for keys of the study, such as ``scale=small``.

    Raises:
        ConfigError: see `config_parsing.read_toml`, `assign`, `parse`;
            SEG-X004 a name that
            is not in the study; SEG-X060 two runs of one name.
    """
    values = read_toml(path)
    if "model" in values and "runs" not in values:  # a recipe, for its folds, sizes or seeds
        values = {"recipe": path.name, "runs": [{"name": path.stem}]}
    values.setdefault("name", path.stem)
    _anchor_data_sets(values, path.parent)
    for assignment in assignments:
        if assignment.startswith(_OF_ALL):
            _add_for_all(values, assignment)
        else:
            config_parsing.assign(values, assignment)
    study = config_parsing.parse(StudyConfig, values, where=path)
    names = [run.name for run in study.runs]
    _refuse_twice(names, path)
    _refuse_unknown("scale", [study.scale], [FULL, *study.scales])
    _refuse_unknown("scale", [s for run in study.runs for s in run.at], [FULL, *study.scales])
    for scale in study.scales.values():
        _refuse_unknown("run of the study", scale.leave_out, names)
        _refuse_unknown("data set of the study", scale.data, study.data)
    return study


def _add_for_all(values: dict[str, Any], assignment: str) -> None:
    """Take an assignment that is for every run, such as ``all.training.steps=20``."""
    earlier = values.get("all", [])
    if not isinstance(earlier, list):
        raise ConfigError("SEG-X007", "'all' is a list of settings", observed=earlier)
    values["all"] = [*earlier, assignment.removeprefix(_OF_ALL)]


def _anchor_data_sets(values: dict[str, Any], folder: Path) -> None:
    """Make the paths of all data sets mean the same from anywhere: runs begin in processes."""
    scales = values.get("scales", {})
    several = [values, *(scales.values() if isinstance(scales, dict) else ())]
    for each in several:
        tables = each.get("data") if isinstance(each, dict) else None
        for table in tables.values() if isinstance(tables, dict) else ():
            if isinstance(table, dict):
                anchor_data(table, folder, lambda _: None)


def plan_study(study: StudyConfig, path: Path, out: Path, say: Say = lambda _: None) -> Plan:
    """Resolve every run, and refuse early what would otherwise stop the study after hours.

    Args:
        study: as `load` gave it.
        path: its file; recipes are looked for from there.
        out: folder of the study.
        say: told of what is wrong with every run but the first that is wrong.

    Raises:
        ConfigError: a recipe or a setting is wrong; SEG-X004 unknown model, data set, or run to
            begin with; SEG-X017 a run begins with another model; SEG-X060 two runs of one name;
            SEG-X061 runs begin with each other; SEG-X062 runs of one test have other classes;
            SEG-X063 no two runs have the same test.
    """
    kept = [run for run in study.runs if run.name not in study.at_scale.leave_out]
    seeds = {run.name: run.seeds or study.at_scale.seeds or study.seeds for run in kept}
    if study.folds is not None and study.score.data is not None:
        raise ConfigError(
            "SEG-X185",
            "folds are scored each on its own part of the data",
            file=path,
            observed=f"folds = {study.folds} and score.data = {study.score.data!r}",
            next_step="remove one of the two",
        )
    planned: list[PlannedRun] = []
    faults = Faults()
    for run in kept:
        with faults.of(run.name):
            planned += _variants(study, path, out, run, seeds)
    faults.refuse(say, "in the settings of the runs")
    _refuse_twice([run.name for run in planned], path)
    planned = [
        replace(run, recipe=with_kept_defaults(run.recipe, out / "recipes" / f"{run.name}.toml"))
        for run in planned
    ]
    score_data = _score_data(study, out)
    recipes = {recipe for run in kept if (recipe := run.recipe or study.recipe) is not None}
    inputs = (path, *(path.parent / recipe for recipe in sorted(recipes)))
    found = Plan(study, out, _in_order(planned, path), score_data, inputs)
    _refuse_other_models(found)
    _refuse_other_classes(found, path)
    _refuse_nothing_to_compare(found, path)
    return found


def _variants(
    study: StudyConfig, path: Path, out: Path, run: RunConfig, seeds: dict[str, tuple[int, ...]]
) -> list[PlannedRun]:
    """Resolve one run of the file with every size, fold and seed."""
    folds = _folds(study, path, run)
    return [
        _planned(study, path, out, run, _Variant(size, fold, seed, len(folds)), seeds)
        for size in study.sizes or (None,)
        for fold in folds
        for seed in seeds[run.name]
    ]


def _score_data(study: StudyConfig, out: Path) -> DataConfig | None:
    """Return what all runs are scored on, as a study that is gone on with has it."""
    name = study.score.data
    if name is None:
        return None
    data, kept = study.data_named(name), out / "data" / f"{name}.toml"
    if not data.limit or "limit_draw" in data.model_fields_set or not kept.is_file():
        return data
    before = with_limit_of_its_time(read_toml(kept)).get("data", {})
    how = before.get("limit_draw", data.limit_draw)
    return data.model_copy(update={"limit_draw": how})


def with_only(plan: Plan, names: Sequence[str]) -> Plan:
    """Return a plan that does some of its runs, and those whose weights they begin with.

    Args:
        plan: of the whole study.
        names: of runs as in the file, which mean all their seeds and folds, or of run folders;
            none: all runs.

    Raises:
        ConfigError: SEG-X004, a name is none of these.
    """
    if not names:
        return plan
    known = {run.name for run in plan.runs} | {run.stem for run in plan.runs}
    _refuse_unknown("run of the study", names, sorted(known))
    wanted = {run.name for run in plan.runs if {run.name, run.stem} & set(names)}
    for run in reversed(plan.runs):  # each after the one it begins with
        if run.name in wanted and run.begins_with is not None:
            wanted.add(run.begins_with)
    return replace(plan, only=frozenset(wanted))


def _planned(
    study: StudyConfig,
    path: Path,
    out: Path,
    run: RunConfig,
    variant: _Variant,
    seeds: dict[str, tuple[int, ...]],
) -> PlannedRun:
    """Resolve one run with one size, fold and seed."""
    name = _name(run.name, variant, seeds)
    begins_with = None
    values = _recipe_of(study, path, run) | {"name": name, "seed": variant.seed}
    if run.backend is not None:
        values["backend"] = run.backend
    if run.data is not None:
        values["data"] = study.data_named(run.data).model_dump(exclude_unset=True)
    if run.init is not None:
        _refuse_unknown("run of the study", [run.init.run], seeds)
        begins_with = _name(run.init.run, variant, seeds)
        values["init"] = {"run": str(run_folder_of(out, begins_with)), "part": run.init.part}
    for assignment in _assignments(study, run):
        assign_setting(values, assignment)
    _apply(variant, values)
    # Without the name, which `Faults` adds: what several runs share is wrong once.
    resolved = config_parsing.parse(Config, values, where=str(path))
    require_inside(resolved.data, where=str(path))
    if variant.fold is not None:
        data = datasets.with_fold(resolved.data, variant.folds, variant.fold)
        resolved = resolved.model_copy(update={"data": data})
    models = backends.load(resolved.backend).models()
    _refuse_unknown(f"{resolved.backend} model", [resolved.model.name], models)
    test, pooled = study.score.data or run.data or "", _pooled(run.name, variant, seeds)
    return PlannedRun(name, resolved, begins_with, test, run.name, pooled, variant.fold)


def _recipe_of(study: StudyConfig, path: Path, run: RunConfig) -> dict[str, Any]:
    """Read the recipe of a run; its paths mean the same from anywhere."""
    recipe = run.recipe or study.recipe
    if recipe is None:
        raise ConfigError(
            "SEG-X002",
            f"the run {run.name!r} has no recipe",
            file=path,
            next_step="give it `recipe`, or the study one for all runs",
        )
    values = read_toml(path.parent / recipe)
    if isinstance(values.get("data"), dict):
        anchor_data(values["data"], (path.parent / recipe).parent, lambda _: None)
    return values


def _assignments(study: StudyConfig, run: RunConfig) -> Assignments:
    of_scale = (*study.at_scale.set, *run.at.get(study.scale, ()))
    return (*study.set, *run.set, *of_scale, *study.all)


def _folds(study: StudyConfig, path: Path, run: RunConfig) -> Sequence[int | None]:
    """Return the folds of a run.

    Raises:
        ConfigError: SEG-X184, its splits come from no draw.
    """
    if study.folds is None:
        return (None,)
    if study.folds != "leave_one_out":
        return range(study.folds)
    values = _recipe_of(study, path, run)
    if run.data is not None:
        values["data"] = study.data_named(run.data).model_dump(exclude_unset=True)
    for assignment in _assignments(study, run):
        assign_setting(values, assignment)
    values.setdefault("name", run.name)
    resolved = config_parsing.parse(Config, values, where=str(path))
    return range(datasets.num_groups(resolved.data))


def _apply(variant: _Variant, values: dict[str, Any]) -> None:
    """Set in a recipe what makes a variant of it."""
    if variant.size is not None:
        limit = values.setdefault("data", {}).setdefault("limit", {})
        limit.pop("train", None)
        if variant.size != "all":
            limit["train"] = variant.size
        values["data"]["limit_seed"] = variant.seed  # each seed of a curve has images of its own


def run_folder_of(out: Path, name: str) -> Path:
    """Return the run folder of one run of the study in `out`."""
    return out / "runs" / name


@dataclass(frozen=True)
class _Variant:
    """What a run of the file is done with.

    Attributes:
        size: training images; None where the study has no sizes.
        fold: which part is the test; None where there are no folds.
        seed: of the run.
        folds: how many there are.
    """

    size: int | Literal["all"] | None
    fold: int | None
    seed: int
    folds: int = 0


def _name(run: str, variant: _Variant, seeds: dict[str, tuple[int, ...]]) -> str:
    """Name a run with its size and fold, and with its seed where it has several."""
    whole = run if variant.size is None else f"{run}_{variant.size}"
    return _with_seed(
        whole if variant.fold is None else f"{whole}_fold{variant.fold}", run, variant.seed, seeds
    )


def _pooled(run: str, variant: _Variant, seeds: dict[str, tuple[int, ...]]) -> str | None:
    """Name what the folds of a run make together."""
    return None if variant.fold is None else _name(run, replace(variant, fold=None), seeds)


def _with_seed(name: str, run: str, seed: int, seeds: dict[str, tuple[int, ...]]) -> str:
    """Name the seed where there are several; where there is one, that is the one meant."""
    if len(seeds[run]) == 1:
        return name
    if seed not in seeds[run]:
        kind = f"seed of {run}"
        raise unknown_name(kind, str(seed), map(str, seeds[run]))
    return f"{name}_seed{seed}"


def _in_order(runs: Sequence[PlannedRun], path: Path) -> tuple[PlannedRun, ...]:
    """Put each run after the one it begins with, otherwise leave the order of the file."""
    ordered: list[PlannedRun] = []
    waiting = list(runs)
    while waiting:
        done = {None, *(run.name for run in ordered)}
        ready = next((run for run in waiting if run.begins_with in done), None)
        if ready is None:
            raise ConfigError(
                "SEG-X061",
                "runs start from the weights of each other",
                file=path,
                observed=", ".join(f"{run.name} with {run.begins_with}" for run in waiting),
                allowed="a run begins with one that can be trained before it",
                next_step="remove one `init`",
            )
        waiting.remove(ready)
        ordered.append(ready)
    return tuple(ordered)


def _refuse_other_models(plan: Plan) -> None:
    recipes = {run.name: run.recipe for run in plan.runs}
    for run in plan.runs:
        if run.begins_with is not None and run.recipe.init is not None:
            first = recipes[run.begins_with]
            compatibility.require_same_model(
                (first.backend, first.model.name),
                (run.recipe.backend, run.recipe.model.name),
                folder=run.recipe.init.run,
            )


def _refuse_other_classes(plan: Plan, path: Path) -> None:
    """Refuse runs that could not be scored on their test, or not be compared on it."""
    for runs in plan.tests.values():
        data = plan.score_data or runs[0].recipe.data
        wanted = datasets.load_labels(data).names
        for run in runs:
            names = datasets.load_labels(run.recipe.data).names
            if names != wanted:
                raise ConfigError(
                    "SEG-X062",
                    f"the run {run.name!r} has other classes than the test it is scored on",
                    file=path,
                    observed=", ".join(names),
                    allowed=", ".join(wanted),
                    next_step="give its data a label map (data.labels) with the classes of the "
                    "test, or a test of its own (`data`)",
                )


def _refuse_nothing_to_compare(plan: Plan, path: Path) -> None:
    pooled = [run.pooled for run in plan.runs if run.pooled is not None]
    if not pooled and all(len(runs) < 2 for runs in plan.tests.values()):
        raise ConfigError(
            "SEG-X063",
            "no two runs of the study are scored on the same test",
            file=path,
            observed=", ".join(f"{run.name} on {run.test or 'its own'}" for run in plan.runs),
            next_step="set score.data to one of the study's data sets",
        )


def _refuse_twice(names: list[str], path: Path) -> None:
    # Names are folders, and many disks tell no `First` from `first`.
    same = [name.casefold() for name in names]
    twice = sorted({name for name in names if same.count(name.casefold()) > 1})
    if twice:
        raise ConfigError(
            "SEG-X060",
            "two runs of a study have one name",
            file=path,
            observed=", ".join(twice),
            allowed="names that differ in more than capital letters",
            next_step="name each run once; a run with several seeds is called NAME_seed0, …",
        )


def _refuse_unknown(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, known)


def as_toml(settings: pydantic.BaseModel) -> dict[str, Any]:
    """Return settings as TOML can hold them."""
    return settings.model_dump(mode="json", exclude_none=True)
