"""What the pages say is there: links, paths, names, and every command with its options."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from terrazzo.base import settings_table
from terrazzo.base.recipe import Config, load_data_config, load_recipe
from terrazzo.cli.app import app
from terrazzo.data import datasets, labels
from terrazzo.models import backends
from terrazzo.workflows.study.plan import load_study

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RECIPES = [
    *sorted((ROOT / "recipes").rglob("*.toml")),
    *(backends.demo_recipe(backend) for backend in ("torch", "keras")),
]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CORE = ROOT / "packages" / "core"

HOMES = {
    "terrazzo/": CORE / "src",
    "terrazzo_torch/": ROOT / "packages" / "torch_models" / "src",
    "terrazzo_keras/": ROOT / "packages" / "keras_models" / "src",
    **{
        f"{name}/": ROOT for name in ("packages", "recipes", "tests", "tools", "benchmarks", "docs")
    },
}
"""Where a path that begins so lies."""


def relative(path):
    return str(path.relative_to(ROOT))


# Links ------------------------------------------------------------------------------------------


def without_code(text):
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page):
    """Return the anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#{1,6} (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page):
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text("utf-8")))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def broken_links(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_and_anchor_leads_somewhere(page):
    assert not list(broken_links(page))


def test_links_are_found_and_missing_ones_seen(tmp_path):
    assert sum(len(links(page)) for page in PAGES) >= 25
    page = tmp_path / "page.md"
    page.write_text("# One head\n[a](page.md#one-head) [b](#none) [c](gone.md) [d](https://x.y)\n")
    assert list(broken_links(page)) == ["#none", "gone.md"]


# Paths and names --------------------------------------------------------------------------------


def code_spans(page):
    return re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))


def paths(words):
    """Return the words that are paths into the repository, without placeholders."""
    for word in words:
        home = next((HOMES[start] for start in HOMES if word.startswith(start)), None)
        if (
            home is not None
            and re.fullmatch(r"[\w./]+", word)
            and not re.search(r"\b[A-Z]+\b", word)
        ):
            yield word, home / word


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_path_is_there(page):
    words = [word for span in code_spans(page) for word in span.split()]
    assert [word for word, path in paths(words) if not path.exists()] == []


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=relative)
def test_every_dotted_name_of_ours_is_there(page):
    for name in re.findall(r"`(terrazzo(?:\.\w+)+)`", page.read_text("utf-8")):
        if name.endswith((".toml", ".md")):
            continue
        module, _, attribute = name.rpartition(".")
        found = importlib.import_module(module)
        if not hasattr(found, attribute):
            importlib.import_module(name)


def test_paths_are_found():
    found = [each for page in PAGES for span in code_spans(page) for each in paths(span.split())]
    assert len(found) >= 60


def test_the_rooms_are_shown_in_the_order_in_which_they_may_import():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    _, *shown = re.findall(r"^\| `(\w+)/` \|", page, flags=re.MULTILINE)  # the first is the head
    contract = next(c for c in SETTINGS["tool"]["importlinter"]["contracts"] if "layers" in c)
    levels = [layer.split(" : ") for layer in reversed(contract["layers"])]
    assert len(shown) == sum(map(len, levels))
    for level in levels:
        assert set(shown[: len(level)]) == set(level)
        shown = shown[len(level) :]
    rooms = {path.name for path in (CORE / "src" / "terrazzo").iterdir() if path.is_dir()}
    assert rooms - {"testing", "__pycache__"} == {room for level in levels for room in level}


# Commands ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    where: str
    text: str
    mention: bool = False
    """In a sentence, where arguments may be left out."""

    @property
    def words(self):
        return shlex.split(self.text, comments=True)


def is_command(line):
    return re.match(r"(terrazzo|python|make|pytest) [^=]", line) is not None


def command_lines(text):
    """Yield the commands among lines, one that is continued as one; without what follows a pipe."""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip().removeprefix("$ ")
        if is_command(line):
            yield re.split(r" [|>] | {2,}\(", line)[0]


def code_blocks(page, language):
    """Return the fenced blocks of a language; "" for those without one and indented ones."""
    text = page.read_text("utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    blocks = [code for found, code in fenced if found == language]
    if language:
        return blocks
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [*blocks, *re.findall(r"(?:^ {4}.*\n)+", text, flags=re.MULTILINE)]


def commands_of_page(page):
    blocks = [line for block in code_blocks(page, "") for line in command_lines(block)]
    spans = [span for span in code_spans(page) if is_command(span) and "…" not in span]
    return [
        *(Command(relative(page), text) for text in blocks),
        *(Command(relative(page), text, mention=True) for text in spans),
    ]


def commands_of_recipe(path):
    head = path.read_text("utf-8").partition("\n\n")[0]
    lines = re.sub(r"^# ?", "", head, flags=re.MULTILINE)
    spans = [span for span in re.findall(r"`([^`]+)`", lines) if is_command(span)]
    return [
        *(Command(relative(path), text) for text in command_lines(lines)),
        *(Command(relative(path), text, mention=True) for text in spans),
    ]


def subcommands(command, name=""):
    for each, sub in getattr(command, "commands", {}).items():
        yield from subcommands(sub, f"{name} {each}".strip())
    if not hasattr(command, "commands"):
        yield name, command


CLI = typer.main.get_command(app)


def commands_of_help():
    for name, command in subcommands(CLI):
        for text in command_lines(command.help):
            yield Command(f"terrazzo {name} --help", text)


COMMANDS = [
    *(command for page in PAGES for command in commands_of_page(page)),
    *(command for path in RECIPES for command in commands_of_recipe(path)),
    *commands_of_help(),
]


def of_kind(kind):
    found = [command for command in COMMANDS if command.words[0] == kind]
    return pytest.mark.parametrize("command", found, ids=lambda c: f"{c.where}: {c.text}")


def parsed(words, *, mention=False):
    """Return the subcommand and its parameters as Typer would hand them over; runs nothing.

    In a `mention` within a sentence, arguments may be left out.
    """
    command, name, words = CLI, "terrazzo", list(words)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in command.commands, f"no command {name}"
        command = command.commands[name]
    if words[-1:] in (["--help"], ["--version"]):
        return "", {}
    try:
        return name, command.make_context(name, words).params
    except Exception as error:
        # Typer brings its own copy of Click; unknown options have been refused before this.
        if mention and type(error).__name__ == "MissingParameter":
            return "", {}
        raise


def is_placeholder(word):
    return re.search(r"\b[A-Z]{2,}\b", str(word)) is not None


def check_terrazzo(words, *, mention=False):
    """Parse a command, and read the recipe or study that it names with its assignments."""
    name, given = parsed(words, mention=mention)
    given = {key: value for key, value in given.items() if value not in (None, [], ())}
    if any(is_placeholder(value) for value in given.values()):
        return
    config = given.get("config")
    if name == "run" and str(config).startswith("recipes/"):
        load_recipe(
            ROOT / config,
            assignments=tuple(given.get("assignments", ())),
            backend=given.get("backend"),
        )
    if name == "run" and config is None and "backend" in given:
        backends.demo_recipe(given["backend"])
    if name == "check" and str(config).startswith("recipes/"):
        load_data_config(ROOT / config, assignments=tuple(given.get("assignments", ())))
    if name == "check" and "format" in given:
        assert given["format"] in datasets.formats()
    if name == "study":
        load_study(ROOT / given["file"], tuple(given.get("assignments", ())))
    if name == "list" and "name" in given:
        check_listed(given["kind"], given["name"])
    if name == "data":
        assert given["name"] in datasets.formats()
    if name == "convert":
        assert given["to"] in backends.PACKAGES


def check_listed(kind, name):
    if kind == "labels":
        labels.load_label_map(name)
    elif kind == "settings":
        assert any(each.key.startswith(name) for each in settings_table.of_class(Config))
    else:
        models = [
            each for backend in backends.installed() for each in backends.load(backend).models()
        ]
        assert name in (*datasets.formats(), *models)


def missing_files(words):
    return [word for word, path in paths(words) if not path.exists()]


def test_commands_are_found():
    kinds = [command.words[0] for command in COMMANDS]
    assert kinds.count("terrazzo") >= 100
    assert kinds.count("python") >= 20
    assert kinds.count("make") >= 15
    assert kinds.count("pytest") >= 3
    assert {command.where for command in COMMANDS} >= {
        "README.md",
        "CONTRIBUTING.md",
        *map(relative, RECIPES),
        *(f"terrazzo {name} --help" for name, _ in subcommands(CLI)),
    }


@of_kind("terrazzo")
def test_a_terrazzo_command_parses(command):
    check_terrazzo(command.words[1:], mention=command.mention)
    assert not missing_files(command.words)


@pytest.mark.parametrize(
    "line",
    [
        "trian --backend keras",
        "run --bakcend keras",
        "run --config recipes/none.toml",
        "run --config recipes/camvid/unet_quick.toml --set training.epoch=1",
        "run --backend jax",
        "evaluate --split val",
        "predict run scene.tif",
        "predict run scene.tif --out map.tif --tile large",
        "list labels camvit",
    ],
)
def test_a_wrong_command_is_seen(line):
    with pytest.raises((Exception, SystemExit)):
        check_terrazzo(line.split())


def test_a_mention_may_leave_out_arguments_but_not_invent_options():
    check_terrazzo(["evaluate", "--split", "val"], mention=True)
    with pytest.raises(Exception, match="--spilt"):
        check_terrazzo(["evaluate", "--spilt", "val"], mention=True)


@of_kind("python")
def test_a_python_command_names_a_script_and_its_options(command):
    script, *words = command.words[1:]
    if script == "-m":
        assert words[0] == "terrazzo"
        return
    assert (ROOT / script).is_file()
    assert not missing_files(words)
    if script == "tools/run.py":
        check_terrazzo(["run", *words])
        return
    tree = ast.parse((ROOT / script).read_text("utf-8"))
    known = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known


@of_kind("pytest")
def test_a_pytest_command_names_what_is_there(command):
    assert not missing_files(command.words)


def test_make_has_every_target():
    named = {word for c in COMMANDS if c.words[0] == "make" for word in c.words[1:]}
    targets = sorted(word for word in named if re.fullmatch(r"[a-z-]+", word))
    assert len(targets) >= 5
    # `--dry-run` prints; a target that is not there ends it.
    dry = ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT)]
    assert subprocess.run([*dry, *targets], capture_output=True, check=False).returncode == 0
    assert subprocess.run([*dry, "no-such"], capture_output=True, check=False).returncode != 0


def test_every_extra_that_is_named_exists():
    extras = tomllib.loads((CORE / "pyproject.toml").read_text("utf-8"))
    named = {e for page in PAGES for e in re.findall(r"terrazzo\[(\w+)\]", page.read_text("utf-8"))}
    assert len(named) >= 4
    assert named <= extras["project"]["optional-dependencies"].keys()


# Blocks -----------------------------------------------------------------------------------------


def test_every_toml_block_is_toml():
    blocks = [block for page in PAGES for block in code_blocks(page, "toml")]
    assert len(blocks) >= 8
    for block in blocks:
        tomllib.loads(block)


def test_the_recipe_and_the_label_map_of_the_tour_are_read(tmp_path):
    blocks = code_blocks(ROOT / "docs" / "recipes.md", "toml")
    (recipe,) = [block for block in blocks if "backend =" in block]
    (label_map,) = [block for block in blocks if "[[classes]]" in block]
    (tmp_path / "mine.toml").write_text(recipe)
    (tmp_path / "mine_labels.toml").write_text(label_map)
    assert load_recipe(tmp_path / "mine.toml").data.format == "folder"
    assert labels.load_label_map(tmp_path / "mine_labels.toml").names == ("background", "cell")


def test_every_python_block_compiles():
    blocks = [(page, block) for page in PAGES for block in code_blocks(page, "python")]
    assert len(blocks) >= 2
    for page, block in blocks:
        compile(block, str(page), "exec")


@pytest.fixture
def own_images(tmp_path):
    """What the README takes for granted: mine/images, mine/masks, mine.toml."""
    draw = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "mine" / kind).mkdir(parents=True)
    for number in range(10):
        mask = draw.integers(0, 2, (2, 2)).repeat(16, axis=0).repeat(16, axis=1)
        image = mask[..., None] * 120 + draw.integers(0, 100, (32, 32, 3))
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "mine/images" / f"{number}.png")
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "mine/masks" / f"{number}.png")
    label_map = code_blocks(ROOT / "docs" / "recipes.md", "toml")[1]
    (tmp_path / "mine.toml").write_text(label_map)
    return tmp_path


def run_python(code, folder):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_python_of_the_readme_runs(own_images):
    first, second = code_blocks(ROOT / "README.md", "python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 12
    told = "\nassert labels_HW.shape == image_HWC.shape[:2]\nprint(run.scores.mean_iou)"
    answer = run_python(first + told, own_images)
    assert answer.returncode == 0, answer.stderr
    assert 0.5 < float(answer.stdout) <= 1  # and nothing else was printed
    assert (own_images / "runs" / "mine" / "report.html").is_file()

    lines = second.strip().splitlines()
    pairs = "import numpy as np\npairs = [(np.zeros(4, int), np.zeros(4, int))]\n"
    answer = run_python("\n".join([pairs, *lines[:-1], f"print({lines[-1]})"]), own_images)
    assert answer.stdout == "1.0\n", answer.stderr


def test_the_page_of_settings_is_that_of_the_code():
    spec = importlib.util.spec_from_file_location("settings_page", ROOT / "tools/settings_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "python tools/settings_page.py"
