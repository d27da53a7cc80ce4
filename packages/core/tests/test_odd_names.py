"""Names that mean something to Rich, matplotlib, XML, CSV or LaTeX, through every command."""

import csv
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
import tomli_w
from PIL import Image

from terrazzo.base import printable
from terrazzo.base.errors import ConfigError
from terrazzo.comparison import table_files
from terrazzo.comparison.tables import Column, Table
from terrazzo.data.labels import MAX_NAME, load_label_map
from terrazzo.report import figure_files, inline_svg, page_assets
from terrazzo.report.curves import step_axes

CLASSES = (
    "[/a]",
    "[red]x[/red] :smile:",
    r"a $\foo$ b",
    "<b>bold</b>",
    "&amp; &lt;",
    "=1+1",
    "+1",
    "-1",
    "@x",
    "'=quoted",
    r"_ & % $ # ~ ^ { } \ |",
    "\"double\" 'single'",
    "#084582",
    "Straße 日本",
    "l" * MAX_NAME,
)
RUNS = ("[red]x <b>&amp; $foo$ _%#", "=1+1 [bold")
FILES = (
    "[red]",
    "<b>&amp;",
    r"a $\foo$ b",
    "=1+1",
    "-1",
    "@x",
    "%s {} #",
    "'\"",
    "l" * 200,
    "日本",
)


def write_data(folder):
    draw = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / "data" / name).mkdir(parents=True)
    for name in FILES:
        mask = draw.integers(0, len(CLASSES), (24, 24)).astype(np.uint8)
        image = np.stack([mask * 16, 255 - mask * 16, np.full_like(mask, 99)], axis=2)
        Image.fromarray(image).save(folder / "data" / "images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "data" / "masks" / f"{name}.png")
    classes = [
        {"name": name, "colour": f"#{4099 * k % 0xFFFFFF:06X}", "raw": [k]}
        for k, name in enumerate(CLASSES)
    ]
    (folder / "labels.toml").write_text(tomli_w.dumps({"name": "[/x]", "classes": classes}))
    for seed, name in enumerate(RUNS):
        recipe = {
            "backend": "reference",
            "name": name,
            "seed": seed,
            "data": {
                "format": "folder",
                "root": "data",
                "labels": "labels.toml",
                "options": {"split": {"train": 0.4, "val": 0.2, "test": 0.4, "seed": 1}},
            },
            "model": {"name": "pixel_softmax"},
            "training": {
                "epochs": 1,
                "batch_size": 2,
                "schedule": {"learning_rate": 0.01 * (1 + seed)},
            },
            "evaluation": {"calibration": True, "boundary": True},
        }
        (folder / f"{seed}.toml").write_text(tomli_w.dumps(recipe))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder in which every command has been run on odd names; its output by command."""
    folder = tmp_path_factory.mktemp("odd")
    write_data(folder)
    runs = [f"runs/{name}" for name in RUNS]
    commands = {
        "check": ("check", "data", "--labels", "labels.toml"),
        "check --json": ("check", "data", "--labels", "labels.toml", "--json"),
        "list": ("list", "labels", "labels.toml"),
        "run": ("run", "--config", "0.toml"),
        "run other": ("run", "--config", "1.toml"),
        "compare": ("compare", *runs, "--csv", "all.csv", "--latex", "one.tex",
                    "--tables", "paper", "--figures", "paper"),
        "explain": ("metrics", "explain", runs[0]),
        "predict": ("predict", runs[0], "data/images", "--out", "maps"),
    }  # fmt: skip
    program = [sys.executable, "-c", "from terrazzo.cli.app import main; main()"]
    output = {}
    for name, words in commands.items():
        answer = subprocess.run(
            [*program, *words], cwd=folder, capture_output=True, text=True, check=False,
            encoding="utf-8",
        )  # fmt: skip
        assert answer.returncode == 0, (name, answer.stderr)
        if name != "compare":  # whose figure files need fonts of this machine
            assert "Warning" not in answer.stderr
        output[name] = answer.stdout
    return folder, output


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = set(), [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def read_rows(file):
    return [*csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline=""))]


def pages(folder):
    return [folder / "compare.html", *(folder / "runs" / name / "report.html" for name in RUNS)]


def test_pages_show_names_as_text_and_their_figures_are_xml(work):
    folder, _ = work
    for path in pages(folder):
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        assert not page.tags & {"b", "smile", "red", "a$"}
        shown = "\n".join(page.texts)
        for name in CLASSES:
            assert name in shown, (path, name)
        figures = re.findall(r"<svg\b.*?</svg>", text, re.DOTALL)
        assert figures
        for figure in figures:
            ET.fromstring(figure)
    assert all(name in "\n".join(Page(pages(folder)[0].read_text()).texts) for name in RUNS)


def test_figures_are_xml_and_of_bounded_size(work):
    folder, _ = work
    files = list((folder / "paper").glob("*.svg"))
    assert len(files) >= 6
    for file in files:
        ET.parse(file)
    for file in (folder / "paper").glob("*.png"):
        with Image.open(file) as image:
            assert max(image.size) < 6000


def test_csv_gives_names_back_and_holds_no_formula(work):
    folder, _ = work
    rows = read_rows(folder / "all.csv")
    name_columns = (rows[0].index("run"), rows[0].index("minus"), rows[0].index("class"))
    for row in rows[1:]:
        for column in name_columns:
            assert not row[column].startswith(("=", "+", "-", "@"))
    names = {table_files.name_from_csv(row[name_columns[2]]) for row in rows[1:]}
    assert names == {*CLASSES, ""}
    assert {table_files.name_from_csv(row[name_columns[0]]) for row in rows[1:]} == set(RUNS)
    by_class = read_rows(folder / "paper" / "iou.csv")
    assert not [head for head in by_class[0] if head.startswith("=")]
    assert [table_files.name_from_csv(row[0]) for row in by_class[1:]] == [*CLASSES, "Mean"]


def test_numbers_in_csv_stay_numbers(work):
    folder, _ = work
    head, *others = read_rows(folder / "all.csv")
    rows = [dict(zip(head, row, strict=True)) for row in others]
    # So few images have no interval; a difference below 0 keeps its sign, without an apostrophe.
    negative = [row for row in rows if row["estimate"].startswith("-")]
    assert negative
    assert all(float(row["estimate"]) < 0 for row in negative)
    assert all(row["low"] == row["high"] == "" for row in rows if row["minus"])


def test_latex_has_no_character_that_it_would_act_on(work):
    folder, _ = work
    files = [folder / "one.tex", *(folder / "paper").glob("*.tex")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        for name in ("<b>", "[red]x <b>", r"$\foo$"):
            assert name not in text
        assert not re.search(r"(?:\\\\|rule)\s*[\[*]", text), file  # read as an argument
        for line in text.splitlines():
            bare = re.sub(r"\\[&%$#_{}\\]", "", line)
            assert bare.count("{") == bare.count("}")
            assert bare.count("$") % 2 == 0
            assert "%" not in bare
            assert "#" not in bare
    iou = (folder / "paper" / "iou.tex").read_text()
    rows = [line for line in iou.splitlines() if line.endswith(r"\\")]
    columns = 1 + len(RUNS)  # images that hold the class, and a score a run
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns}
    assert len(rows) == 1 + len(CLASSES) + 1


def test_terminals_show_names_as_they_are(work):
    _, output = work
    for command in ("check", "list", "run"):
        for name in ("[/a]", "[red]x[/red] :smile:", r"a $\foo$ b", "&amp; &lt;"):
            assert name in output[command], command
    assert "[red]x <b>&amp;" in output["run"]
    assert {row["name"] for row in json.loads(output["check --json"])["classes"]} == set(CLASSES)


def test_every_file_is_predicted(work):
    folder, output = work
    assert len(output["predict"].splitlines()) == len(FILES)
    assert {file.stem for file in (folder / "maps").glob("*.png")} >= set(FILES)


@pytest.mark.parametrize("bad", ["a\x1b[31mb", "two\nlines", "\x00", "\u202ereversed", "\x85"])
def test_control_characters_in_a_label_map_are_refused(tmp_path, bad):
    file = tmp_path / "labels.toml"
    classes = [
        {"name": "sky", "colour": "#000000", "raw": [0]},
        {"name": bad, "colour": "#FFFFFF", "raw": [1]},
    ]
    file.write_text(tomli_w.dumps({"name": "x", "classes": classes}), encoding="utf-8")
    # NUL is refused in any text of any TOML file.
    words = r"SEG-X010: .*classes\[1\].name has control|SEG-X002(.|\n)*classes.1.name.*NUL"
    with pytest.raises(ConfigError, match=words) as caught:
        load_label_map(file)
    assert str(file) in str(caught.value)
    assert bad not in str(caught.value)
    file.write_text(tomli_w.dumps({"name": bad, "classes": classes[:1]}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"SEG-X010: label map: name has|SEG-X002"):
        load_label_map(file)


@pytest.mark.parametrize("ending", ["toml", "csv"])
def test_a_name_of_3000_letters_is_refused(tmp_path, ending):
    file = tmp_path / f"labels.{ending}"
    long = "l" * 3000
    table = {"name": "x", "classes": [{"name": long, "colour": "#000000", "raw": [0]}]}
    file.write_text(tomli_w.dumps(table) if ending == "toml" else f"name;r;g;b\n{long};0;0;0\n")
    with pytest.raises(ConfigError, match=r"SEG-X010: .*more than 200 characters") as caught:
        load_label_map(file)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("name", ["\x1b[2J", "a\x00b", "\udcff", "\ufffe", "l" * 3000, "$" * 7])
def test_what_an_older_run_may_hold_is_shown_all_the_same(name, recwarn):
    """Its label map was not looked at, and file names are the file system's."""
    figure, axes = step_axes(3)
    axes.set_yticks([0, 1], [figure_files.plain(name), "b"])
    ET.fromstring(inline_svg.render(figure, "f", name))
    for kind in figure_files.FORMATS:
        file = figure_files.encode(figure, kind)
    ET.fromstring(file)
    table = Table("t", name, (Column("run"), Column(name)), ((name, name),))
    for text in (table_files.as_csv(table), table_files.as_latex(table)):
        text.encode()
        assert "\x00" not in text
    assert printable.lines(name).encode()
    assert not printable.has_control_characters(printable.one_line(name))
    rendered = page_assets.render(
        "page.html", {"heading": name, "title": name}, styles=(), scripts=()
    )
    rendered.encode()


@pytest.mark.parametrize("name", [*CLASSES, "'", "''", "''=x", "'+", "\t=x", "", 'a,b\n"c"'])
def test_a_name_comes_back_from_csv(name):
    text = table_files.csv_text(name)
    assert table_files.name_from_csv(text) == name
    assert not text.startswith(("=", "+", "-", "@", "\t", "\r"))
