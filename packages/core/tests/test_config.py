from __future__ import annotations

import json

import pytest

from terrazzo.base import config_parsing
from terrazzo.base.config_parsing import resolve_path
from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import (
    AugmentConfig,
    Config,
    TrainingConfig,
    from_anywhere,
    load_data_config,
    load_recipe,
)
from terrazzo.training.state import EventSchedule

RECIPE = """
backend = "torch"
[data]
format = "camvid"
root = "data"
[model]
name = "unet"
[training]
epochs = 2
[training.schedule]
learning_rate = 1e-3
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "quick.toml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_is_named_after_its_file_and_numbers_are_numbers(recipe):
    loaded = load_recipe(recipe)
    assert loaded.name == "quick"
    assert loaded.training.schedule.learning_rate == 0.001


def test_assignments_come_last_and_are_toml_or_a_bare_word(recipe):
    loaded = load_recipe(
        recipe,
        assignments=("training.batch_size=3", "data.image_size=[64, 96]", "data.labels=camvid"),
        backend="keras",
    )
    assert loaded.training.batch_size == 3
    assert loaded.data.image_size == (64, 96)
    assert loaded.data.labels == "camvid"
    assert loaded.backend == "keras"


def test_an_unknown_key_is_named_with_its_nearest_neighbour(recipe):
    with pytest.raises(ConfigError, match=r"SEG-X001: unknown key 'training\.batchsize'") as caught:
        load_recipe(recipe, assignments=("training.batchsize=3",))
    assert "did you mean 'batch_size'?" in str(caught.value)
    assert str(recipe) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("assignment", "observed"),
    [
        ("training.batch_size='many'", "training.batch_size = 'many'"),
        ("training.batch_size=0", "training.batch_size = 0"),
        ("training.schedule.learning_rate=-1", "training.schedule.learning_rate = -1"),
        ("training.schedule.learning_rate=nan", "training.schedule.learning_rate = nan"),
        ("training={steps=5,epochs=1}", "give exactly one of epochs, steps and passes"),
        ("augment.crop=[0, 4]", "augment.crop.0 = 0"),
        ("training.loss.cross_entropy=0", "at least one loss term"),
    ],
)
def test_a_wrong_value_is_shown_with_its_key(recipe, assignment, observed):
    with pytest.raises(ConfigError, match="SEG-X002") as caught:
        load_recipe(recipe, assignments=(assignment,))
    assert observed in str(caught.value)


def test_every_wrong_value_is_named_not_only_the_first(recipe):
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe, assignments=("training.batch_size=0", "seed=-1"))
    assert "training.batch_size = 0" in str(caught.value)
    assert "seed = -1" in str(caught.value)


def test_missing_tables_are_named(tmp_path):
    path = tmp_path / "empty.toml"
    path.write_text("backend = 'torch'")
    with pytest.raises(ConfigError, match="data is missing; model is missing; training is missing"):
        load_recipe(path)


def test_a_misspelt_file_is_answered_with_its_neighbour(recipe):
    with pytest.raises(ConfigError, match=r"did you mean 'quick\.toml'"):
        load_recipe(recipe.with_name("quik.toml"))


def test_broken_toml_is_named_with_its_line(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("a = 1\nb = = 2\n")
    with pytest.raises(ConfigError, match=r"SEG-X006.*\n.*\n.*line 2"):
        load_recipe(path)


@pytest.mark.parametrize("assignment", ["training.batch_size", "=3", "seed.deeper=3"])
def test_a_malformed_assignment_is_refused(recipe, assignment):
    with pytest.raises(ConfigError, match="SEG-X007"):
        load_recipe(recipe, assignments=("seed=1", assignment))


def test_an_unset_variable_in_a_path_is_named(monkeypatch):
    monkeypatch.delenv("TERRAZZO_NOT_SET", raising=False)
    with pytest.raises(ConfigError, match="SEG-X008") as caught:
        resolve_path("$TERRAZZO_NOT_SET/camvid", where="data.root")
    assert "$TERRAZZO_NOT_SET/camvid" in str(caught.value)


def test_settings_cannot_be_changed_after_reading(recipe):
    loaded = load_recipe(recipe)
    with pytest.raises(ValueError, match="frozen"):
        loaded.seed = 3


def test_a_dumped_recipe_reads_back_equal(recipe):
    loaded = load_recipe(recipe, assignments=("augment.crop=[3, 4]",))
    assert Config.model_validate(loaded.model_dump(mode="json", exclude_none=True)) == loaded


def test_parse_names_the_choices_of_a_nested_table():
    with pytest.raises(ConfigError, match="amsgrad, betas, epsilon, momentum, name"):
        config_parsing.parse(TrainingConfig, {"steps": 1, "optimizer": {"lr": 1}}, where="x.toml")


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("training.epochs=true", "epochs = True"),
        ('training.epochs="3"', "epochs = '3'"),
        ("training.epochs=3.0", "epochs = 3.0"),
        ("training.schedule.learning_rate=true", "learning_rate = True"),
        ('training.schedule.learning_rate="1e-3"', "learning_rate = '1e-3'"),
        ("augment.turns=1", "turns = 1"),
        ('augment.crop=["64", 64]', "crop.0 = '64'"),
        ("augment.scale=[true, 2.0]", "scale.0 = True"),
        ("augment.scale=[2, 1]", "lower bound"),
        ("data.limit.train=true", "train = True"),
    ],
)
def test_values_of_a_wrong_kind_are_refused(recipe, assignment, named):
    with pytest.raises(ConfigError, match="SEG-X002") as caught:
        load_recipe(recipe, assignments=(assignment,))
    assert named in caught.value.observed


def test_whole_numbers_stand_for_floats_and_arrays_for_tuples(recipe):
    loaded = load_recipe(
        recipe,
        assignments=("augment.scale=[1, 2]", "augment.crop=[64, 32]", "augment.rotate=10"),
    )
    assert loaded.augment.scale == (1.0, 2.0)
    assert loaded.augment.crop == (64, 32)
    assert loaded.augment.rotate == 10.0


# Paths in recipes


def put_data(folder, root="mine", labels="maps/mine.toml"):
    (folder / root).mkdir(parents=True)
    (folder / labels).parent.mkdir(parents=True, exist_ok=True)
    (folder / labels).write_text("")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def data_of(recipe, root="mine", labels="maps/mine.toml", **options):
    values = recipe.read_text().split("[data]")[0]
    recipe.write_text(f'{values}[data]\nformat = "folder"\nroot = "{root}"\nlabels = "{labels}"\n')
    recipe.write_text(recipe.read_text() + '[model]\nname = "m"\n[training]\nsteps = 1\n')
    notes = []
    return load_recipe(recipe, note=notes.append, **options).data, notes


@pytest.fixture
def bare(tmp_path):
    folder = tmp_path / "recipes"
    folder.mkdir()
    path = folder / "r.toml"
    path.write_text('backend = "torch"\n')
    return path


def test_paths_are_looked_for_from_the_recipes_folder_first(bare, elsewhere):
    put_data(bare.parent)
    put_data(elsewhere)
    data, notes = data_of(bare)
    assert data.root == str(bare.parent / "mine")
    assert data.labels == str(bare.parent / "maps" / "mine.toml")
    assert notes == []
    assert load_data_config(bare).root == data.root


def test_then_from_the_current_one_with_a_note(bare, elsewhere):
    put_data(elsewhere)
    data, notes = data_of(bare)
    assert data.root == str(elsewhere / "mine")
    assert data.labels == str(elsewhere / "maps" / "mine.toml")
    assert [note.split(" = ")[0] for note in notes] == ["data.root", "data.labels"]
    assert str(elsewhere / "mine") in notes[0]


def test_what_is_nowhere_yet_is_to_be_made_where_one_stands(bare, elsewhere):
    data, notes = data_of(bare, root="../new")
    assert data.root == "../new"
    assert notes == []
    begun = from_anywhere(load_recipe(bare))
    assert begun.data.root == str(elsewhere.parent / "new")
    assert begun.data.labels == str(elsewhere / "maps" / "mine.toml")


@pytest.mark.parametrize("root", ["$TERRAZZO_HERE/x", "~/x", "/abs/x", "$TERRAZZO_NOT_SET/x"])
def test_paths_that_mean_the_same_anywhere_stay_as_they_are(bare, elsewhere, monkeypatch, root):
    monkeypatch.setenv("TERRAZZO_HERE", str(elsewhere))
    monkeypatch.delenv("TERRAZZO_NOT_SET", raising=False)
    data, _ = data_of(bare, root=root, labels="camvid")
    assert (data.root, data.labels) == (root, "camvid")
    assert from_anywhere(load_recipe(bare)).data == data


def test_paths_given_on_the_command_line_begin_where_one_stands(bare, elsewhere):
    put_data(bare.parent)
    put_data(elsewhere)
    data, notes = data_of(bare, assignments=("data.root=mine", "data.labels=maps/mine.toml"))
    assert data.root == str(elsewhere / "mine")
    assert data.labels == str(elsewhere / "maps" / "mine.toml")
    assert notes == []


@pytest.mark.parametrize("length", ["epochs", "steps", "passes"])
def test_a_length_that_is_set_takes_the_place_of_another(recipe, length):
    found = load_recipe(recipe, assignments=(f"training.{length}=5",)).training
    lengths = {"epochs": found.epochs, "steps": found.steps, "passes": found.passes}
    assert {name: value for name, value in lengths.items() if value is not None} == {length: 5}


@pytest.mark.parametrize(
    ("augment", "versions"),
    [
        ({}, 1),
        ({"rotations": 5}, 111),
        ({"turns": True}, 4),
        ({"turns": True, "flip_vertical": 0.5}, 8),
        ({"flip_horizontal": 0.5, "flip_vertical": 0.5}, 4),
        ({"rotate": 20.0, "flip_horizontal": 0.5}, 2),
    ],
)
def test_a_pass_is_an_epoch_over_every_version(recipe, augment, versions):
    found = load_recipe(recipe, assignments=("training.passes=3",))
    found = found.model_copy(update={"augment": AugmentConfig(**augment)})
    assert found.augment.versions == versions
    assert EventSchedule(found, steps_per_epoch=7).total_steps == 3 * versions * 7


def test_a_table_is_kept_as_json_and_nothing_else_is_one():
    assert json.loads(config_parsing.json_table({"a": None}, "config")) == {"a": None}
    assert config_parsing.json_table('{"a": 1}', "config") == '{"a": 1}'
    for text, told in (("{", "config is no JSON"), ("[1]", "config is no table")):
        with pytest.raises(ValueError, match=told):
            config_parsing.json_table(text, "config")
