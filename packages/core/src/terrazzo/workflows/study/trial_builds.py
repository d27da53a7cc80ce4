"""Building the models of a study once, in a process of their framework, before any is trained.

``python -m terrazzo.workflows.study.trial_builds WORK ANSWER``: reads a list of `Trial` as JSON and
writes what became of each. What a build refuses (a misspelt option, weights that are nowhere, a
package that is missing) is found here instead of hours later; weights are fetched now.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from terrazzo.base import config_parsing
from terrazzo.base.errors import ConfigError, ResourceError, TerrazzoError
from terrazzo.base.recipe import Config
from terrazzo.data import datasets
from terrazzo.data.labels import LabelMap
from terrazzo.data.sample import Bands
from terrazzo.models import backends, compatibility
from terrazzo.models.contract import State
from terrazzo.models.parameter_groups import Part
from terrazzo.runs import init_weights, saved_model
from terrazzo.runs.folder import RunFolder


@dataclass(frozen=True)
class Trial:
    """A model to build.

    Attributes:
        name: of the run.
        recipe: of the run, as TOML holds it.
        band_names: of its images.
        dtype: of their pixels.
        begins_with: run of the same study whose weights it begins with.
    """

    name: str
    recipe: dict[str, Any]
    band_names: tuple[str, ...]
    dtype: str
    begins_with: str | None


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        checkpoint_bytes: of one checkpoint; 0 where the model was refused.
        error: why; see `TerrazzoError.as_json`.
    """

    checkpoint_bytes: int = 0
    error: dict[str, str | None] | None = None


def build_all(backend: str, trials: Sequence[Trial]) -> dict[str, Outcome]:
    """Build models in a process of their own.

    Args:
        backend: of all of them.
        trials: runs after those they begin with.

    Raises:
        ResourceError: SEG-R050, something killed the process.
    """
    with tempfile.TemporaryDirectory() as folder:
        work, answer = Path(folder) / "work.json", Path(folder) / "answer.json"
        work.write_text(json.dumps([asdict(each) for each in trials]), encoding="utf-8")
        command = [sys.executable, "-m", __name__, str(work), str(answer)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603
        if not answer.is_file():
            said = done.stderr.decode(errors="replace").strip()
            raise ResourceError(
                "SEG-R050",
                f"the process that builds the {backend} models of the study ended without a word",
                observed=f"exit code {done.returncode}" + (f"\n{said[-2000:]}" if said else ""),
                next_step="too little memory most often; `terrazzo run` with the recipe of one run "
                "shows more",
            )
        found = json.loads(answer.read_text(encoding="utf-8"))
    return {name: Outcome(**each) for name, each in found.items()}


@dataclass(frozen=True)
class _Built:
    """What is known of a model that was built: names, shapes and parts of its weights."""

    recipe: Config
    label_map: LabelMap
    weights: State
    parts: Mapping[str, Part]
    checkpoint_bytes: int


def _try_all(trials: Sequence[Trial]) -> dict[str, Outcome]:
    built: dict[str, _Built] = {}
    alike: dict[str, _Built] = {}
    outcomes = {}
    for trial in trials:
        try:
            found = _built(trial, alike)
            _refuse_other_weights(found, built.get(trial.begins_with or ""), trial)
            built[trial.name] = found
            outcomes[trial.name] = Outcome(found.checkpoint_bytes)
        except TerrazzoError as error:
            outcomes[trial.name] = Outcome(error=error.as_json())
        except ImportError as error:
            outcomes[trial.name] = Outcome(error=_missing_package(trial, error).as_json())
        except Exception as error:
            outcomes[trial.name] = Outcome(error=_unexpected(trial, error).as_json())
    return outcomes


def _built(trial: Trial, alike: dict[str, _Built]) -> _Built:
    recipe = config_parsing.parse(Config, trial.recipe, where=f"run {trial.name}")
    label_map = datasets.load_labels(recipe.data)
    training = recipe.training
    loss = training.loss
    if isinstance(loss.class_weights, str):  # what they are is known once labels are counted
        loss = loss.model_copy(update={"class_weights": (1.0,) * len(label_map)})
        training = training.model_copy(update={"loss": loss})
    same = repr((recipe.model, training, label_map.names, trial.band_names, trial.dtype))
    if same in alike:
        return alike[same]
    zeros, ones = (0.0,) * len(trial.band_names), (1.0,) * len(trial.band_names)
    bands = Bands(trial.band_names, trial.dtype, zeros, ones)
    trainer = backends.load(recipe.backend).build(
        recipe.model, training, label_map, bands, recipe.seed
    )
    state = trainer.state()
    alike[same] = _Built(
        recipe,
        label_map,
        {name: _of_shape(array.shape) for name, array in state.items()},
        dict(trainer.parts),
        sum(array.nbytes for array in state.values()),
    )
    return alike[same]


def _of_shape(shape: tuple[int, ...]) -> Any:
    """Return an array of a shape that takes no memory."""
    return np.broadcast_to(np.zeros((), np.uint8), shape)


def _refuse_other_weights(found: _Built, first: _Built | None, trial: Trial) -> None:
    """Refuse weights to begin with that will not fit, or do not where their run is there."""
    recipe = config_parsing.parse(Config, trial.recipe, where=f"run {trial.name}")
    init = recipe.init
    if init is None:
        return
    if first is not None:
        given, given_names = first.weights, first.label_map.names
    elif trial.begins_with is None:
        folder = RunFolder(config_parsing.resolve_path(init.run, where="init.run")).model
        card = saved_model.read_card(folder)
        compatibility.require_same_model(
            (card.backend, card.model.name), (recipe.backend, recipe.model.name), folder=init.run
        )
        given, given_names = saved_model.read_weights(folder), card.label_map.names
    else:
        return  # the other run was refused, or is done
    same_classes = given_names == found.label_map.names
    wanted = init_weights.wanted_weights(found.parts, init.part, same_classes=same_classes)
    init_weights.refuse_differences(
        Path(init.run), {name: found.weights[name] for name in wanted}, given
    )


def _missing_package(trial: Trial, error: ImportError) -> ConfigError:
    return ConfigError(
        "SEG-X180",
        "a package that the model needs is not installed",
        observed=error,
        next_step=f"pip install terrazzo-{trial.recipe['backend']} brings all that its models need",
    )


def _unexpected(trial: Trial, error: Exception) -> ConfigError:
    traceback.print_exc()
    return ConfigError(
        "SEG-X181",
        "the model cannot be built",
        observed=f"{type(error).__name__}: {error}",
        next_step=f"see where with `terrazzo run` and the recipe of the run {trial.name!r}",
    )


def main() -> None:
    """Do the trials in a file."""
    work, answer = map(Path, sys.argv[1:3])
    trials = [
        Trial(**{**each, "band_names": tuple(each["band_names"])})
        for each in json.loads(work.read_text(encoding="utf-8"))
    ]
    outcomes = {name: asdict(each) for name, each in _try_all(trials).items()}
    answer.write_text(json.dumps(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
