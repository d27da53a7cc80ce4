"""A model behind real HTTP: the pixels of `terrazzo predict`, and every limit."""

from __future__ import annotations

import base64
import importlib.util
import io
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio
import requests
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from terrazzo.inference import predict
from terrazzo.inference.model import Model, load_model
from terrazzo.inference.outputs import Settings
from terrazzo.io import images, rasters
from terrazzo.serving.app import create_app
from terrazzo.serving.batching import Batcher
from terrazzo.serving.settings import ServeSettings
from terrazzo.testing.scenes import LABELS, UTM, make_model, make_scene

pytest.importorskip("uvicorn", reason="needs terrazzo[serve]")
from terrazzo.testing.serving import served

needs_vector = pytest.mark.skipif(
    importlib.util.find_spec("pyogrio") is None, reason="needs terrazzo[vector]"
)
PNG, JPEG, TIFF = "image/png", "image/jpeg", "image/tiff"


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def encoded(image_HWC, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(image_HWC).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def model(folder):
    return make_model(folder / "model")


@pytest.fixture(scope="module")
def app(model):
    return create_app(load_model(model), ServeSettings(max_pixels=1 << 20, max_bytes=1 << 21))


@pytest.fixture(scope="module")
def address(app):
    with served(app) as found:
        yield found


def post(address, body, content_type=PNG, headers=(), **query):
    return requests.post(
        f"{address}/predict",
        data=body,
        params=query,
        headers={"Content-Type": content_type, **dict(headers)},
        timeout=30,
    )


def mask_of(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def labels_of(path):
    return rasters.read_label(path, "index")


def predicted(model, source, out, **settings):
    predict.predict(model, [source], out, Settings(**settings))


def refused(answer, status, code):
    """Check an error; returns what it says."""
    told = answer.json()["error"]
    assert (answer.status_code, told["code"]) == (status, code), answer.text
    for secret in ("Traceback", "/tmp", "/vsimem", "site-packages", ".py"):
        assert secret not in answer.text
    return told


# The same pixels as `terrazzo predict` ----------------------------------------------------------


def test_images_that_are_normalised_each_by_itself(tmp_path):
    """Their masks are those of predict; a scene, of which the model would see parts, is refused."""
    model = make_model(tmp_path / "model", per_image=True)
    source, scene = tmp_path / "a.png", make_scene(tmp_path / "a.tif", (40, 30, 3))
    source.write_bytes(encoded(noise((97, 101)) // 3))
    predicted(model, source, tmp_path / "out")
    with served(create_app(load_model(model), ServeSettings())) as address:
        answer = mask_of(post(address, source.read_bytes()))
        refused(post(address, scene.read_bytes(), TIFF), 422, "SEG-D147")
    np.testing.assert_array_equal(answer, images.read_label(tmp_path / "out" / "a.png", "index"))
    assert len(np.unique(answer)) > 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [(97, 101), (1, 1), (200, 33)])
def test_the_mask_of_an_image_is_that_of_predict(tmp_path, model, address, kind, shape):
    source = tmp_path / f"a.{kind.lower()}"
    source.write_bytes(encoded(noise(shape), kind))
    predicted(model, source, tmp_path / "out")
    answer = post(address, source.read_bytes(), f"image/{kind.lower()}")
    expected_HW = images.read_label(tmp_path / "out" / "a.png", "index")
    np.testing.assert_array_equal(mask_of(answer), expected_HW)
    image = Image.open(io.BytesIO(answer.content))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), LABELS.colourise(expected_HW))


@pytest.mark.slow
def test_a_large_image_is_predicted_by_tiles_as_predict_does(tmp_path, model):
    body = encoded(np.repeat(np.repeat(noise((103, 130)), 20, 0), 20, 1))  # 5.4 megapixels
    (tmp_path / "a.png").write_bytes(body)
    predicted(model, tmp_path / "a.png", tmp_path / "out")
    with served(create_app(load_model(model))) as address:
        mask_HW = mask_of(post(address, body))
    np.testing.assert_array_equal(mask_HW, images.read_label(tmp_path / "out" / "a.png", "index"))


@pytest.mark.parametrize("image_size", [(48, 48), (64, 40)])
def test_a_model_of_one_image_size_sees_images_at_it_and_scenes_at_their_own(tmp_path, image_size):
    model = make_model(tmp_path / "model", image_size=image_size)
    (tmp_path / "a.png").write_bytes(encoded(noise((97, 101))))
    make_scene(tmp_path / "s.tif", (90, 70, 3))
    predicted(model, tmp_path / "a.png", tmp_path / "out")
    predicted(model, tmp_path / "s.tif", tmp_path / "map.tif")
    with served(create_app(load_model(model))) as address:
        mask_HW = mask_of(post(address, (tmp_path / "a.png").read_bytes()))
        scene_map = post(address, (tmp_path / "s.tif").read_bytes(), TIFF, format="geotiff")
    np.testing.assert_array_equal(mask_HW, images.read_label(tmp_path / "out" / "a.png", "index"))
    assert scene_map.content == (tmp_path / "map.tif").read_bytes()


@pytest.mark.parametrize(("shape", "nodata"), [((90, 70), 0), ((700, 530), None), ((1, 5), 0)])
def test_the_geotiff_has_the_bytes_of_predict(tmp_path, model, address, shape, nodata):
    source = make_scene(tmp_path / "s.tif", (*shape, 3), nodata=nodata)
    predicted(model, source, tmp_path / "map.tif")
    body = source.read_bytes()
    assert post(address, body, TIFF, format="geotiff").content == (
        (tmp_path / "map.tif").read_bytes()
    )
    np.testing.assert_array_equal(
        mask_of(post(address, body, "application/octet-stream")),
        labels_of(tmp_path / "map.tif"),
    )


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_other_types_and_missing_values(tmp_path, dtype):
    model = make_model(tmp_path / "model", 5, dtype)
    nodata = float("nan") if dtype == "float32" else 0
    source = make_scene(tmp_path / "s.tif", (60, 70, 5), dtype, nodata=nodata)
    predicted(model, source, tmp_path / "map.tif")
    with served(create_app(load_model(model))) as address:
        answer = post(address, source.read_bytes(), TIFF, format="geotiff")
        assert mask_of(post(address, source.read_bytes(), TIFF, format="preview")).ndim == 3
    assert answer.content == (tmp_path / "map.tif").read_bytes()


def test_shares_are_of_pixels_that_hold_data(tmp_path, address):
    body = make_scene(tmp_path / "s.tif", (90, 70, 3), nodata=0).read_bytes()
    answer = post(address, body, TIFF, {"Accept": "application/json"}.items(), mask="1").json()
    mask_HW = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask_png"]))))
    counts = np.bincount(mask_HW.ravel(), minlength=256)
    assert [each["pixels"] for each in answer["classes"]] == counts[:6].tolist()
    assert answer["nodata"] == counts[255] > 0
    assert sum(each["share"] for each in answer["classes"]) == pytest.approx(1)
    assert [each["name"] for each in answer["classes"]] == list(LABELS.names)


def test_probabilities_of_a_class(tmp_path, model, address):
    image_HWC = noise((50, 60))
    expected_HW = load_model(model).predict_probabilities(image_HWC)[..., 2]
    for word in ("class 2", "2"):
        answer = post(address, encoded(image_HWC), **{"format": "probabilities", "class": word})
        np.testing.assert_array_equal(mask_of(answer), np.rint(expected_HW * 255))
    source = make_scene(tmp_path / "s.tif", (90, 70, 3), nodata=0)
    predicted(model, source, tmp_path / "map.tif", probabilities=True)
    expected_HW = rasters.read(tmp_path / "map_probabilities.tif").image_HWC[..., 3]
    valid_HW = labels_of(tmp_path / "map.tif") != 255
    answer = post(address, source.read_bytes(), TIFF, **{"format": "probabilities", "class": "3"})
    expected_HW = np.where(valid_HW, np.rint(expected_HW * 255), 0)
    np.testing.assert_array_equal(mask_of(answer), expected_HW)


@needs_vector
def test_polygons_of_a_scene_lie_on_the_earth_and_those_of_an_image_in_its_pixels(
    tmp_path, address
):
    import shapely

    body = make_scene(tmp_path / "s.tif", (30, 40, 3), nodata=0).read_bytes()
    answer = post(address, body, TIFF, {"Accept": "application/geo+json"}.items())
    assert answer.headers["Content-Type"] == "application/geo+json"
    found, shares = answer.json(), post(address, body, TIFF, format="json").json()
    pixels = [0] * 6
    for feature in found["features"]:
        pixels[feature["properties"]["class_id"]] += feature["properties"]["pixels"]
        assert feature["properties"]["area_m2"] == pytest.approx(
            0.25 * feature["properties"]["pixels"], rel=2e-3
        )
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.exterior.is_ccw
        assert 13 < shape.bounds[0] < 14
        assert 52 < shape.bounds[1] < 53
    assert pixels == [each["pixels"] for each in shares["classes"]]
    found = post(address, encoded(noise((20, 30))), format="geojson").json()
    assert found["coordinates"].startswith("pixels")
    shapes = [shapely.geometry.shape(each["geometry"]) for each in found["features"]]
    assert all(shape.exterior.is_ccw for shape in shapes)
    assert shapely.union_all(shapes).equals(shapely.box(0, 0, 30, 20))


def test_what_predict_would_say_of_a_scene_names_no_file(tmp_path, address):
    with rasterio.open(
        tmp_path / "s.tif", "w", driver="GTiff", dtype="uint8", count=4, height=30, width=40, **UTM
    ) as scene:
        scene.write(np.random.default_rng(0).integers(0, 256, (4, 30, 40), np.uint8))
        scene.colorinterp = [ColorInterp(code) for code in (3, 4, 5, 6)]
    answer = post(address, (tmp_path / "s.tif").read_bytes(), TIFF, format="json")
    (remark,) = answer.json()["remarks"]
    assert remark.startswith("image: band 4 is read as alpha")


def test_what_predict_would_say_comes_along(address):
    flat_HWC = np.zeros((20, 20, 3), np.uint8)
    (remark,) = post(address, encoded(flat_HWC), format="json").json()["remarks"]
    assert "not like those of training" in remark


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", PNG),
        ("application/json;q=0.4, image/png;q=0.5", PNG),
        ("image/png;q=0.4, application/json", "application/json"),
        ("text/html, image/*;q=0.1", PNG),
    ],
)
def test_the_format_that_is_liked_best(address, accept, media_type):
    answer = post(address, encoded(noise((5, 5))), PNG, {"Accept": accept}.items())
    assert answer.headers["Content-Type"] == media_type


def test_the_card_and_health(address):
    card = requests.get(f"{address}/model", timeout=9).json()
    assert [each["name"] for each in card["classes"]] == list(LABELS.names)
    assert card["limits"]["max_pixels"] == 1 << 20
    assert card["dtype"] == "uint8"
    assert requests.get(f"{address}/health", timeout=9).json() == {"status": "ok"}
    head = requests.head(f"{address}/health", timeout=9)
    assert (head.status_code, head.content) == (200, b"")


# Refusals ---------------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(rows, columns):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def tiff_of(rows, columns, **profile):
    """Write a GeoTIFF that has no pixels at all."""
    with MemoryFile() as file:
        settings = {
            "driver": "GTiff",
            "dtype": "uint8",
            "count": 3,
            "sparse_ok": True,
        }
        settings |= UTM | profile
        with file.open(height=rows, width=columns, **settings):
            pass
        return file.read()


GOOD = encoded(noise((9, 9)))
VRT = (
    b'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1">'
    b"<SimpleSource><SourceFilename>/etc/hostname</SourceFilename></SimpleSource>"
    b"</VRTRasterBand></VRTDataset>"
)


@pytest.mark.parametrize(
    ("body", "content_type", "query", "status", "code"),
    [
        (GOOD, "text/plain", {}, 415, "SEG-D077"),
        (GOOD, "multipart/form-data; boundary=x", {}, 415, "SEG-D077"),
        (GOOD, "", {}, 415, "SEG-D077"),
        (b"", PNG, {}, 422, "SEG-D013"),
        (b"GIF89a...", "image/png", {}, 415, "SEG-D012"),
        (VRT, TIFF, {}, 415, "SEG-D012"),
        (b"/etc/passwd", TIFF, {}, 415, "SEG-D012"),
        (GOOD[:-20], PNG, {}, 422, "SEG-D011"),
        (encoded(noise((9, 9))[..., 0]), PNG, {}, 422, "SEG-D020"),
        (encoded(np.zeros((9, 9), np.uint16)), PNG, {}, 422, "SEG-D020"),
        (GOOD, PNG, {"format": "bmp"}, 400, "SEG-X086"),
        (GOOD, PNG, {"format": "geotiff"}, 400, "SEG-X086"),
        (GOOD, PNG, {"file": "/etc/passwd"}, 400, "SEG-X086"),
        (GOOD, PNG, {"format": "probabilities", "class": "clas 2"}, 400, "SEG-X004"),
        (GOOD, PNG, {"format": "probabilities"}, 400, "SEG-X004"),
        (GOOD, PNG, {"format": "probabilities", "class": "6"}, 400, "SEG-X004"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_named(address, body, content_type, query, status, code):
    refused(post(address, body, content_type, **query), status, code)


def test_another_type_of_pixel_is_the_error_of_predict(tmp_path, address):
    body = make_scene(tmp_path / "s.tif", (9, 9, 3), "uint16").read_bytes()
    told = refused(post(address, body, TIFF), 422, "SEG-D019")
    assert (told["observed"], told["allowed"]) == ("uint16", "uint8")
    assert "scale of the training images" in told["next_step"]


def test_no_accepted_format(address):
    answer = post(address, GOOD, PNG, {"Accept": "text/html"}.items())
    refused(answer, 400, "SEG-X086")


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (png_bomb(1025, 1025), PNG, "SEG-D076"),
        (png_bomb(60_000, 60_000), PNG, "SEG-D031"),
        (tiff_of(50_000, 50_000, tiled=True, blockxsize=512, blockysize=512), TIFF, "SEG-D076"),
        (tiff_of(99, 99, tiled=True, blockxsize=65_536, blockysize=65_536), TIFF, "SEG-D076"),
        (tiff_of(9, 9, count=5000, interleave="pixel"), TIFF, "SEG-D020"),
    ],
    ids=["png", "large png", "tiff", "blocks", "bands"],
)
def test_bombs_are_refused_by_their_headers(address, body, content_type, code):
    assert len(body) < 1 << 20
    for how in ("png", "preview"):
        status = 422 if code == "SEG-D020" else 413
        refused(post(address, body, content_type, format=how), status, code)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_too_many_bytes(address, chunked):
    body = b"x" * ((1 << 21) + 1)
    pieces = (body[at : at + 65536] for at in range(0, len(body), 65536))
    told = refused(post(address, pieces if chunked else body), 413, "SEG-D075")
    assert told["allowed"] == f"{1 << 21} bytes"


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_body_that_is_cut_anywhere_is_an_error_of_its_sender(tmp_path, address, kind):
    whole = GOOD if kind == "png" else make_scene(tmp_path / "s.tif", (40, 40, 3)).read_bytes()
    for length in range(1, len(whole), max(1, len(whole) // 60)):
        answer = post(address, whole[:length], TIFF)
        assert 400 <= answer.status_code < 500 or kind == "tif", answer.text
        assert answer.status_code < 500, (length, answer.text)


def test_a_geotiff_cannot_name_another_file(tmp_path, address):
    outside = make_scene(tmp_path / "outside.tif", (9, 9, 3))
    for body in (f"GTIFF_DIR:1:{outside}", f"/vsicurl/http://{outside}", str(outside)):
        answer = post(address, body.encode(), TIFF)
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "SEG-D012")


def test_paths_and_methods(address):
    for path in ("/nothing", "/predict/..%2f..%2fetc/passwd", "/static/x", "//etc/passwd"):
        refused(requests.get(address + path, timeout=9), 404, "SEG-X086")
    answer = requests.get(f"{address}/predict", timeout=9)
    refused(answer, 405, "SEG-X086")
    assert answer.headers["Allow"] == "POST"
    refused(requests.put(f"{address}/model", timeout=9), 405, "SEG-X086")


# Pages from elsewhere ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:80"},
        {"Host": "192.168.0.7"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_from_elsewhere_gets_no_answer(address, headers):
    refused(post(address, GOOD, PNG, headers.items()), 403, "SEG-X088")
    refused(requests.get(f"{address}/model", headers=headers, timeout=9), 403, "SEG-X088")


def test_this_machine_gets_one_and_no_other_origin_is_allowed(address):
    port = urlsplit(address).port
    for name in ("localhost", "127.0.0.1", "[::1]"):
        origin = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}
        answer = post(address, GOOD, PNG, origin.items())
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


def test_names_of_a_server_that_others_reach():
    anywhere = ServeSettings(host="0.0.0.0", allow_hosts=("maps.example.org",))
    assert not anywhere.is_loopback
    for name in ("maps.example.org", "MAPS.example.org", "10.0.0.7", "fe80::1", "localhost"):
        assert anywhere.answers_to(name)
    assert not anywhere.answers_to("evil.example")
    assert not ServeSettings().answers_to("10.0.0.7")


def test_headers_of_every_answer(address):
    for answer in (requests.get(address, timeout=9), post(address, GOOD), post(address, b"x")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in requests.get(address, timeout=9).text


# Many at once -----------------------------------------------------------------------------------


def test_twenty_at_once_get_the_answers_of_one_at_a_time(tmp_path, address, app):
    bodies = [(encoded(noise((64, 64), seed)), PNG) for seed in range(8)]
    bodies += [(encoded(noise((40, 52), seed), "JPEG"), JPEG) for seed in range(8)]
    scenes = [make_scene(tmp_path / f"{n}.tif", (90, 64 + n, 3), nodata=0) for n in range(4)]
    bodies += [(scene.read_bytes(), TIFF) for scene in scenes]
    alone = [post(address, *each).content for each in bodies]
    barrier = threading.Barrier(len(bodies))

    def ask(number):
        barrier.wait()
        return [post(address, *bodies[number]).content for _ in range(3)]

    app.batcher.batch_sizes.clear()
    with ThreadPoolExecutor(len(bodies)) as threads:
        together = list(threads.map(ask, range(len(bodies))))
    assert together == [[content] * 3 for content in alone]
    assert max(app.batcher.batch_sizes) > 1


def test_bits_do_not_depend_on_the_batch(model):
    loaded = load_model(model)
    images_BHWC = np.stack([noise((33, 41), seed) for seed in range(8)])
    batcher = Batcher(loaded.trainer, ServeSettings(batch_milliseconds=1000, batch=8))
    try:
        outputs = [batcher.submit("predict", image_HWC) for image_HWC in images_BHWC]
        together = [output.result(9) for output in outputs]
        assert batcher.batch_sizes == {8: 1}
    finally:
        batcher.close()
    for image_HWC, output in zip(images_BHWC, together, strict=True):
        np.testing.assert_array_equal(loaded.trainer.predict(image_HWC[None])[0], output)


class Gate:
    """A real trainer that predicts once it is let."""

    def __init__(self, trainer):
        self._trainer = trainer
        self.begun, self.opened = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._trainer, name)

    def predict_labels(self, images_BHWC):
        self.begun.set()
        assert self.opened.wait(30)
        return self._trainer.predict_labels(images_BHWC)


@pytest.fixture
def gated(model):
    """Return what serves a model that waits, with its gate; both end with the test."""
    loaded = load_model(model)
    gate = Gate(loaded.trainer)

    def app_of(**settings):
        return create_app(Model(loaded.card, gate), ServeSettings(**settings))

    yield gate, app_of
    gate.opened.set()


def test_an_answer_that_does_not_come_in_time(gated):
    gate, app_of = gated
    with served(app_of(timeout=0.5)) as address:
        told = refused(post(address, GOOD), 504, "SEG-R066")
        assert told["allowed"] == "0.5 seconds"
        gate.opened.set()
        assert post(address, GOOD).status_code == 200


def test_a_body_that_does_not_come_in_time(model):
    with served(create_app(load_model(model), ServeSettings(timeout=0.5))) as address:
        where = urlsplit(address)
        with socket.create_connection((where.hostname, where.port), timeout=20) as client:
            head = f"POST /predict HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: {PNG}\r\n"
            client.sendall(f"{head}Content-Length: 99\r\n\r\nabc".encode())
            with HTTPResponse(client, method="POST") as answer:
                answer.begin()
                assert answer.status == 408
                assert b"SEG-D078" in answer.read()


def test_one_request_too_many_is_told_to_come_again(gated):
    gate, app_of = gated
    app = app_of(queue=3)
    with served(app) as address, ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(post, address, GOOD) for _ in range(3)]
        while app._open < 3:
            time.sleep(0.01)
        answer = post(address, GOOD)
        refused(answer, 503, "SEG-R065")
        assert answer.headers["Retry-After"] == "1"
        gate.opened.set()
        assert {each.result().status_code for each in waiting} == {200}
        while app._open:
            time.sleep(0.01)
        assert post(address, GOOD).status_code == 200


def test_a_client_that_leaves_is_not_worked_for(gated):
    gate, app_of = gated
    app = app_of()
    with served(app) as address:
        first = threading.Thread(target=post, args=(address, GOOD))
        first.start()
        assert gate.begun.wait(20)
        where = urlsplit(address)
        with socket.create_connection((where.hostname, where.port)) as client:
            head = f"POST /predict HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: {PNG}\r\n"
            client.sendall(f"{head}Content-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD)
            while app._open < 2:
                time.sleep(0.01)
        while app._open > 1:  # the second has gone, and its place is free
            time.sleep(0.01)
        gate.opened.set()
        first.join()
        assert app.batcher.batch_sizes == {1: 1}


def test_memory_that_does_not_suffice_is_an_answer(model):
    loaded = load_model(model)

    class Small(Gate):
        def predict_labels(self, images_BHWC):
            raise MemoryError

    app = create_app(Model(loaded.card, Small(loaded.trainer)), None, lambda _: None)
    with served(app) as address:
        refused(post(address, GOOD), 503, "SEG-R006")


def test_a_fault_of_the_program_ends_one_request_and_shows_nothing(model):
    loaded, said = load_model(model), []

    class Faulty(Gate):
        def predict_labels(self, images_BHWC):
            if not self.begun.is_set():
                self.begun.set()
                raise RuntimeError("/tmp/secret.py")
            return self._trainer.predict_labels(images_BHWC)

    app = create_app(Model(loaded.card, Faulty(loaded.trainer)), None, said.append)
    with served(app) as address:
        refused(post(address, GOOD), 500, "SEG-R067")
        assert post(address, GOOD).status_code == 200
    assert "RuntimeError: /tmp/secret.py" in said[0]
