"""Recipes that are wrong, and software that is not there."""

from __future__ import annotations

from terrazzo.testing.faults import places
from terrazzo.testing.faults.places import train
from terrazzo.testing.faults.table import Place, row


@row(
    "X01",
    "numbers as text, keys twice or misspelt, yes/no, code in a recipe",
    "SEG-X001",
    "SEG-X002",
    "SEG-X006",
    kept="L0",
    note="recipes are TOML, not YAML: there are no aliases and no objects, 1e-3 is a number, and "
    "a repeated key is refused by the language",
)
def row_x01(place: Place) -> None:
    """The key, and its line where the text is no TOML."""
    places.make_images(place)
    recipe = place.folder / "recipe.toml"
    good = recipe.read_text()
    tries: dict[str, tuple[str, tuple[str, ...]]] = {
        '[training.optimizer]\nweight_decay = "1e-3"\n': ("SEG-X002", ("1e-3", "weight_decay")),
        "[trainig]\nsteps = 3\n": ("SEG-X001", ("did you mean 'training'",)),
        "[training.optimizer]\nname = 1\nname = 2\n": ("SEG-X006", ("line ",)),
        "[evaluation]\nboundary = yes\n": ("SEG-X006", ("line ",)),
        '[evaluation]\nboundary = "maybe"\n': ("SEG-X002", ("evaluation.boundary", "'maybe'")),
        "x = !!python/object/apply:os.system ['touch canary']\n": ("SEG-X006", ("line ",)),
        f"x = {'[' * 9999}{']' * 9999}\n": ("SEG-X006", ("",)),
    }
    for text, (code, observed) in tries.items():
        recipe.write_text(f"{good}\n{text}")
        with place.nothing_written():
            place.expect(train(place), code, exit=2, path=recipe, observed=observed)
    assert not (place.folder / "canary").exists()
    recipe.write_text(good.replace("learning_rate = 0.05", "learning_rate = 1e-3"))
    place.expect(train(place, *places.sets("training.steps=1")), None, exit=0)
    assert "learning_rate = 0.001" in (place.folder / "run/config.toml").read_text()


@row(
    "X02",
    "numbers that cannot be: NaN, negative, crops beyond the image, overlap beyond the tile",
    "SEG-X002",
    kept="L0",
)
def row_x02(place: Place) -> None:
    """The setting, its value and its bound; a crop beyond the image is filled up, and told of."""
    places.make_images(place)
    tries = {
        "training.schedule.learning_rate=nan": ("learning_rate = nan", "finite"),
        "training.schedule.learning_rate=-1": ("learning_rate = -1", "greater than"),
        "training.schedule.learning_rate=inf": ("learning_rate = inf", "finite"),
        "training.batch_size=0": ("training.batch_size = 0", "greater than"),
        "seed=99999999999": ("seed = 99999999999", "less than"),
        "augment.crop=[0, 4]": ("augment.crop", "greater than"),
        "loader.threads=-1": ("loader.threads = -1", "greater than"),
    }
    for assignment, observed in tries.items():
        with place.nothing_written():
            answer = train(place, "--set", assignment)
            place.expect(answer, "SEG-X002", exit=2, path="recipe.toml", observed=observed)
    scene = places.write_scene(place.folder / "scene.tif", 40, 40)
    run = places.finished_run(place)
    with place.nothing_written():
        answer = place.terrazzo(
            "predict", run, scene, "--out", "map.tif", "--tile", "32", "--overlap", "32"
        )
        place.expect(answer, "SEG-X002", exit=2, observed=("overlap", "32"))
    answer = train(place, *places.sets("augment.crop=[40, 40]", "training.steps=1"))
    place.expect(answer, None, exit=0, observed="crop = 40×40")


_WITHOUT = """
import sys
hidden = sys.argv.pop(1)
sys.modules[hidden] = None
from terrazzo.cli.app import main
main()
"""


@row(
    "X03",
    "a backend or an extra that is not installed",
    "SEG-X003",
    "SEG-X050",
    kept="L0",
    note="oldest allowed versions are pip's to keep: each package states them",
)
def row_x03(place: Place) -> None:
    """The line for pip that installs it."""
    places.make_images(place)
    hidden = "keras" if place.backend == "keras" else "torch"
    with place.nothing_written():
        answer = place.process(
            f"terrazzo_{hidden}",
            *places.run_words("--backend", hidden),
            program=("-c", _WITHOUT),
        )
        told = (f"pip install terrazzo-{hidden}", f"no package terrazzo_{hidden}")
        place.expect(answer, "SEG-X003", exit=2, observed=told)
        words = places.run_words("--track", "tensorboard")
        answer = place.process("tensorboardX", *words, program=("-c", _WITHOUT))
        place.expect(answer, "SEG-X050", exit=2, observed="pip install")
