"""The comparison in a real browser: it loads, sorts, filters, slides, and complains of nothing.

Needs Chromium and its driver (Debian: ``apt-get install chromium chromium-driver``), which is
spoken to by plain HTTP (W3C WebDriver).
"""

import shutil

import numpy as np
import pytest

from terrazzo.comparison import compare
from terrazzo.report import write_comparison, write_report
from terrazzo.testing.browser import Browser, driver
from terrazzo.testing.compared_runs import write_run

pytestmark = pytest.mark.skipif(
    shutil.which("chromedriver") is None, reason="chromedriver is not installed"
)
ARROW_RIGHT = "\ue014"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        write_run(folder / f"run_{number}", error=0.1 * number, seed=number) for number in (1, 2, 3)
    ]
    path = folder / "compare.html"
    write_comparison(compare.compare(runs, resamples=500), path)
    return path


@pytest.fixture(scope="module")
def run_page(page):
    return write_report(page.parent / "run_1")


@pytest.fixture(scope="module")
def port():
    with driver() as number:
        yield number


@pytest.fixture(params=["light", "dark"])
def browser(page, port, request):
    opened = Browser(port, dark=request.param == "dark")
    opened.open(page)
    yield opened
    errors = opened.close()
    assert errors == []


def column(browser, table, number):
    return browser.script(
        f"return [...document.querySelectorAll('#{table} tbody tr')]"
        f".filter(row => !row.hidden).map(row => row.cells[{number}].dataset.value ??"
        f" row.cells[{number}].textContent)"
    )


def test_a_table_is_sorted_by_keyboard(browser):
    before = column(browser, "ranking-table", 1)
    assert before == sorted(before, reverse=True)
    browser.press("#ranking-table th:nth-child(2) button", "\n\n")
    assert column(browser, "ranking-table", 1) == before[::-1]
    assert browser.script(
        "return document.querySelector('#ranking-table th:nth-child(2)').ariaSort"
    ) == ("ascending")


def test_images_are_filtered_by_name(browser):
    assert len(column(browser, "images-table", 0)) == 12
    browser.press("input[type=search]", "Scene2")
    assert sorted(column(browser, "images-table", 0)) == [f"scene2_{n:03d}" for n in range(8, 12)]
    told = browser.script("return document.getElementById('images-shown').textContent")
    assert told == "4 of 12 images"


def test_the_slider_moves_the_border_and_the_layers_can_be_chosen(browser):
    browser.script("document.querySelector('#images .stage').scrollIntoView({behavior: 'instant'})")
    browser.press("#images .layered input[type=range]", ARROW_RIGHT * 25)
    clip = "return getComputedStyle(document.querySelector('#images .stage img + img')).clipPath"
    assert browser.script(clip) == "inset(0px 0px 0px 75%)"
    browser.script(
        "const choice = document.querySelector('#images .layered select'); choice.value = 1;"
        "choice.dispatchEvent(new Event('change'))"
    )
    shown = "return document.querySelector('#images .stage img').alt"
    assert browser.script(shown).startswith("Ground truth: scene")


def test_the_map_has_a_slider_too_here_and_in_the_page_of_a_run(browser, run_page):
    for path in (None, run_page):
        if path:
            browser.open(path)
        browser.press(".map input[type=range]", ARROW_RIGHT * 10)
        clip = "return getComputedStyle(document.querySelector('.map .stage img + img')).clipPath"
        assert browser.script(clip) == "inset(0px 0px 0px 60%)"
        width = "return document.querySelector('.map .stage img').naturalWidth"
        assert browser.script(width) > 100
    assert browser.script("return document.documentElement.scrollWidth <= innerWidth")


def test_a_run_can_be_hidden_everywhere(browser):
    parts = "return [...document.querySelectorAll('[data-run=\"1\"]')]"
    assert browser.script(f"{parts}.length") > 60
    browser.script("document.querySelectorAll('.runs input')[1].click()")
    assert browser.script(f"{parts}.every(part => getComputedStyle(part).display === 'none')")
    browser.script("document.querySelectorAll('.runs input')[1].click()")
    assert browser.script(f"{parts}.every(part => part.style.display === '')")


def test_links_to_sections_meet_their_mark(browser):
    for section in ("images", "classes", "maps"):
        browser.script(f"document.querySelector('nav a[href=\"#{section}\"]').click()")
        browser.script("return new Promise(done => requestAnimationFrame(() => done()))")
        top = f"return document.getElementById('{section}').getBoundingClientRect().top"
        assert 0 <= browser.script(top) < 120


def test_the_page_fits_the_window_and_its_ground_is_one_colour(browser, request):
    assert browser.script("return document.documentElement.scrollWidth <= innerWidth")
    browser.script("document.querySelector('#classes').scrollIntoView({behavior: 'instant'})")
    pixels = browser.screenshot().reshape(-1, 3)
    dark = "dark" in request.node.name
    ground = np.array([20, 23, 27] if dark else [255, 255, 255])
    assert (pixels == ground).all(axis=1).mean() > 0.85


@pytest.fixture
def telephone(tmp_path, port):
    """A comparison of runs with long names, in a window of 400 by 900."""
    names = ("unet-width16", "deeplabv3_resnet50-pretrained-long", "segformer_b0")
    runs = [write_run(tmp_path / name, error=0.1 * len(name) / 12) for name in names]
    path = tmp_path / "compare.html"
    write_comparison(compare.compare(runs, resamples=500), path)
    opened = Browser(port, telephone=(400, 900))
    opened.open(path)
    yield opened
    assert opened.close() == []


def test_a_telephone_shows_ranking_and_differences_on_its_first_screen(telephone):
    assert telephone.script("return innerWidth") <= 400
    assert telephone.script("return document.documentElement.scrollWidth <= innerWidth")
    seen = telephone.script(
        "const room = document.querySelector('#ranking .scroll').getBoundingClientRect();"
        "return [...document.querySelectorAll('#ranking-table tr')].flatMap(row =>"
        " [...row.cells].slice(0, 3).map(cell => cell.getBoundingClientRect()).map(cell =>"
        " cell.right <= room.right && cell.bottom <= innerHeight))"
    )
    assert len(seen) == 12
    assert all(seen)


def test_confusion_matrices_stand_beside_each_other_where_there_is_room(telephone, browser):
    tops = (
        "return [...document.querySelectorAll('#confusion .matrix')]"
        ".map(matrix => Math.round(matrix.getBoundingClientRect().top))"
    )
    assert len(set(browser.script(tops))) == 1
    assert len(set(telephone.script(tops))) == 3
