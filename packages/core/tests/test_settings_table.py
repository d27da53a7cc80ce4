"""What settings there are, as the command line and the docs tell it."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field
from typer.testing import CliRunner

from terrazzo.base import settings_table
from terrazzo.base.config_parsing import Count, Frozen, parse, parse_toml
from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import Config
from terrazzo.cli.app import app


class Inner(Frozen):
    """A table."""

    width: Count
    """Of ``it``,
    in pixels."""


class Base(Frozen):
    """What others extend."""

    kept: bool = True
    """As before."""
    said: str = "a"
    """Of the base."""


class Outer(Base):
    """Settings."""

    said: str = "b"
    """Of the class."""
    mode: Literal["fast", False] = False
    bounds: tuple[Annotated[float, Field(gt=0, lt=1)], int] = (0.5, 2)
    names: tuple[str, ...] = ()
    inner: Inner
    maybe: Inner | None = None
    several: tuple[Inner, ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


def test_every_field_has_its_line():
    told = list(settings_table.text(settings_table.of_class(Outer, "a."), 80))
    assert told == [
        "a.kept: true or false; default true",
        "    As before.",
        'a.said: text; default "b"',
        "    Of the class.",
        "a.mode: fast | false; default false",
        "a.bounds: [number > 0, < 1, whole number]; default [0.5, 2]",
        "a.names: list of text; default []",
        "a.inner.width: whole number ≥ 1; required",
        "    Of `it`, in pixels.",
        "a.maybe.width: whole number ≥ 1; required",
        "    Of `it`, in pixels.",
        "a.several: list of {width}; default []",
        "a.seed: whole number ≥ 0; default 0",
    ]


def test_all_keys_of_a_recipe_are_told():
    keys = {each.key for each in settings_table.of_class(Config)}
    assert {"backend", "training.loss.dice", "init.run", "tracking.uri"} <= keys
    assert not any(key.endswith(("training", "training.loss")) for key in keys)


def listed(*words):
    return CliRunner().invoke(app, ["list", *words])


def test_list_settings_of_one_table():
    lines = listed("settings", "training.schedule").stdout.splitlines()
    assert lines[0] == (
        'training.schedule.name: constant | poly | exponential | cosine | plateau; default "poly"'
    )
    assert all(line.startswith(("training.schedule.", "    ")) for line in lines)


def test_list_options_of_a_format_and_of_a_model():
    told = listed("options", "folder").stdout
    assert "\nmask_suffix: text;" in told
    told = listed("options", "pixel_softmax").stdout
    assert told.startswith("[model.options] of pixel_softmax in reference\n")


@pytest.mark.parametrize("words", [("settings", "trainin"), ("options", "foldre"), ("option", "x")])
def test_unknown_names_are_answered_with_those_that_are_meant(words):
    error = listed(*words).exception
    assert isinstance(error, ConfigError)
    assert error.code == "SEG-X004"
    assert "did you mean" in error.next_step


@pytest.mark.parametrize(
    "line", [r'root = "C:\Users\me"', r'root = "D:\data"', r'root = "\\server\images"']
)
def test_a_windows_path_in_double_quotes_is_answered_with_single_quotes(line):
    with pytest.raises(ConfigError) as caught:
        parse_toml(line.encode(), where="r.toml")
    assert caught.value.next_step == (
        "in double quotes a backslash begins a special character: put Windows paths into single "
        r"quotes, as in root = 'C:\Users\me\images', or write them with /"
    )


@pytest.mark.parametrize("line", [r'said = "C:\temp\new"', r'said = "C:/a\temp"'])
def test_a_windows_path_that_toml_takes_for_tabs_is_told_too(line):
    with pytest.raises(ConfigError) as caught:
        parse(Base, parse_toml(line.encode(), where="r.toml"), where="r.toml")
    assert caught.value.code == "SEG-X002"
    assert caught.value.observed == "said is a path with a tab, a new line or the like"
    assert "single quotes" in caught.value.next_step


def test_other_mistakes_in_toml_get_no_such_advice():
    with pytest.raises(ConfigError) as caught:
        parse_toml(b'a = "b', where="r.toml")
    assert caught.value.next_step is None
    kept = parse(Base, parse_toml(rb"said = 'C:\temp'", where="r.toml"), where="r.toml")
    assert kept.said == r"C:\temp"


def test_version_names_the_releases_at_work():
    answer = CliRunner().invoke(app, ["--version"])
    assert answer.exit_code == 0
    first, *others = answer.stdout.splitlines()
    assert first.startswith("terrazzo ")
    assert any(line.startswith("numpy ") for line in others)
    assert others[-1].startswith("python 3.")
