"""The page of `terrazzo serve` in a real browser: an image goes in, its map lies over it."""

import shutil
import time

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Bands
from terrazzo.inference.model import Model
from terrazzo.io import rasters
from terrazzo.models import backends
from terrazzo.models.card import ModelCard
from terrazzo.serving.app import create_app
from terrazzo.serving.settings import ServeSettings
from terrazzo.testing.browser import Browser, driver
from terrazzo.testing.scenes import UTM

pytest.importorskip("uvicorn", reason="needs terrazzo[serve]")
from terrazzo.testing.serving import served

pytestmark = pytest.mark.skipif(
    shutil.which("chromedriver") is None, reason="chromedriver is not installed"
)
COLOURS = {"water": "#1F6FB5", "forest": "#2E7D4F", "field": "#D9B44A"}
CLASSES = tuple(LabelClass(name, colour, (k,)) for k, (name, colour) in enumerate(COLOURS.items()))
LABELS = LabelMap("land", CLASSES)
BANDS = Bands(("red", "green", "blue"), "uint8", (128.0,) * 3, (40.0,) * 3)


def land_model():
    """Return a model that takes blue for water, green for forest, and red for a field."""
    config = ModelConfig(name="pixel_softmax", options={"features": "colour"})
    trainer = backends.load("reference").build(config, TrainingConfig(steps=1), LABELS, BANDS, 0)
    kernel_FK = np.array([[-2, -2, 2], [0, 2, 0], [2, -1, -2]], np.float32)
    trainer.load_state({"weights/kernel": kernel_FK, "weights/bias": np.zeros(3, np.float32)})
    return Model(ModelCard("reference", config, LABELS, BANDS, None, 1), trainer)


def land_image(rows=420, columns=560):
    """Draw a river, a wood and fields."""
    y, x = np.mgrid[:rows, :columns]
    image_HWC = np.empty((rows, columns, 3), np.uint8)
    image_HWC[:] = (176, 140, 90)
    image_HWC[(x // 70 + y // 60) % 3 == 0] = (190, 160, 105)
    image_HWC[np.hypot((x - 400) / 1.3, y - 120) < 95] = (70, 120, 75)
    image_HWC[np.abs(y - 270 - 45 * np.sin(x / 75)) < 32] = (60, 95, 150)
    noise = np.random.default_rng(0).normal(0, 9, image_HWC.shape)
    return np.clip(image_HWC + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def address():
    with served(create_app(land_model(), ServeSettings(max_pixels=1 << 19))) as found:
        yield found


@pytest.fixture(scope="module")
def port():
    with driver() as number:
        yield number


@pytest.fixture(params=["light", "dark"])
def browser(address, port, request):
    opened = Browser(port, dark=request.param == "dark")
    opened.open(address)
    yield opened
    assert opened.close() == []


def wait_for(browser, condition):
    for _ in range(200):
        if browser.script(f"return {condition}"):
            return
        time.sleep(0.05)
    raise AssertionError(browser.script("return document.body.innerText"))


def send(browser, path):
    browser.press("#file", str(path))
    wait_for(browser, "!document.getElementById('result').hidden")


def legend(browser):
    """Return the cells of the legend, row by row."""
    return browser.script(
        "return [...document.querySelectorAll('#legend tbody tr')].map(row => "
        "[...row.cells].map(cell => cell.textContent))"
    )


def pixel_counts(image_HWC):
    labels_HW = land_model().predict(image_HWC)
    return np.bincount(labels_HW.ravel(), minlength=3)


def set_to(browser, name, value):
    browser.script(
        f"const control = document.getElementById('{name}'); control.value = '{value}';"
        "control.dispatchEvent(new Event('input'))"
    )


def test_an_image_gets_its_map_and_the_shares_of_its_classes(tmp_path, browser):
    image_HWC = land_image()
    Image.fromarray(image_HWC).save(tmp_path / "land.png")
    send(browser, tmp_path / "land.png")
    counts_K = pixel_counts(image_HWC)
    order = np.argsort(-counts_K)
    rows = legend(browser)
    assert [row[0] for row in rows] == [LABELS.names[k] for k in order]
    assert [row[1].replace(",", "") for row in rows] == [str(counts_K[k]) for k in order]
    sizes = browser.script(
        "return ['image', 'mask'].map(id => { const i = document.getElementById(id);"
        " return [i.naturalWidth, i.naturalHeight, i.clientWidth, i.clientHeight]})"
    )
    assert sizes[0] == sizes[1]
    assert sizes[0][:2] == [560, 420]
    set_to(browser, "opacity", 30)
    style = "return getComputedStyle(document.getElementById('mask')).opacity"
    assert browser.script(style) == "0.3"
    assert browser.script("return document.documentElement.scrollWidth <= innerWidth")


def test_the_threshold_of_a_class(tmp_path, browser):
    image_HWC = land_image()
    Image.fromarray(image_HWC).save(tmp_path / "land.png")
    send(browser, tmp_path / "land.png")
    probability_HW = land_model().predict_probabilities(image_HWC)[..., 0]
    for threshold in (50, 90):
        set_to(browser, "class", "0")
        set_to(browser, "threshold", threshold)
        expected = np.count_nonzero(np.rint(255 * probability_HW) >= 255 * threshold / 100)
        told = f"{expected:,} pixels"
        wait_for(browser, f"document.getElementById('above').textContent.startsWith('{told}')")
        drawn = browser.script(
            "const c = document.getElementById('probability');"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] === 255; return n"
        )
        assert drawn == expected > 0
    set_to(browser, "class", "")
    wait_for(browser, "document.getElementById('probability').hidden")


def test_a_geotiff_is_shown_too_and_its_missing_pixels_are_told(tmp_path, browser):
    image_HWC = land_image()
    image_HWC[:50] = 0
    rasters.write(
        tmp_path / "land.tif", image_HWC, nodata=0, band_names=("red", "green", "blue"), **UTM
    )
    send(browser, tmp_path / "land.tif")
    assert legend(browser)[-1][0] == "no data"
    assert browser.script("return document.getElementById('image').naturalWidth") == 560


def test_a_file_that_is_refused_is_explained_and_the_next_one_is_not(tmp_path, address, port):
    browser = Browser(port)
    browser.open(address)
    (tmp_path / "notes.png").write_text("no image")
    browser.press("#file", str(tmp_path / "notes.png"))
    wait_for(browser, "!document.getElementById('error').hidden")
    told = browser.script("return document.getElementById('error').innerText")
    assert told.startswith("SEG-D012: the body does not hold an image")
    assert "content is text" in told
    Image.fromarray(land_image(50, 60)).save(tmp_path / "land.png")
    send(browser, tmp_path / "land.png")
    assert browser.script("return document.getElementById('error').hidden")
    said = browser.close()  # a browser notes every answer of 400 and above
    assert all("415" in line["message"] for line in said)


def test_an_image_is_dropped_onto_the_page(browser):
    browser.script(
        "const canvas = document.createElement('canvas'); canvas.width = 40; canvas.height = 30;"
        "canvas.getContext('2d').fillRect(0, 0, 40, 30);"
        "canvas.toBlob(blob => { const data = new DataTransfer();"
        " data.items.add(new File([blob], 'black.png', {type: 'image/png'}));"
        " document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true}))"
        "})"
    )
    wait_for(browser, "!document.getElementById('result').hidden")
    assert sum(int(row[1].replace(",", "")) for row in legend(browser)) == 40 * 30
