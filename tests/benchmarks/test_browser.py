"""What a browser is served, and what comes back, without the browser."""

import base64
import io
import json
import shutil
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from benchmarks.browser import Studio, served, take_pictures
from shared.errors import KinoformError


def get(address):
    with urllib.request.urlopen(address) as answer:
        return answer.read(), answer.headers["Content-Type"]


def post(address, body):
    with urllib.request.urlopen(urllib.request.Request(address, data=body, method="POST")):
        pass


def data_url(pixels):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return b"data:image/png;base64," + base64.b64encode(data.getvalue())


@pytest.fixture
def studio(tmp_path):
    files, modules = tmp_path / "files", tmp_path / "modules"
    (modules / "three").mkdir(parents=True)
    files.mkdir()
    (modules / "three" / "three.module.js").write_text("export {};")
    (files / "a chair.glb").write_bytes(b"glTF")
    (tmp_path / "page.html").write_text("<!doctype html>")
    (tmp_path / "secret").write_text("not to be served")
    return Studio(tmp_path / "page.html", files.resolve(), modules.resolve(), [{"name": "a chair.glb-lit-0"}])


def test_the_page_is_served_and_its_pictures_come_back(studio):
    picture = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
    with served(studio) as address:
        assert get(address) == (b"<!doctype html>", "text/html")
        assert json.loads(get(address + "jobs")[0]) == studio.jobs
        assert get(address + "files/a%20chair.glb")[0] == b"glTF"
        assert get(address + "modules/three/three.module.js") == (b"export {};", "text/javascript")
        for outside in ("files/../secret", "files/..%2Fsecret", "files/%2Fetc/passwd", "files/none", "other"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(address + outside)
        post(address + "done/a%20chair.glb-lit-0", data_url(picture))
        assert not studio.ended.is_set()
        post(address + "done/end", b"")
    assert studio.ended.is_set()
    assert not studio.error
    assert np.array_equal(studio.pictures["a chair.glb-lit-0"], picture)


def test_an_error_of_the_page_ends_it(studio):
    with served(studio) as address:
        post(address + "done/error", b"no WebGL")
    assert studio.ended.is_set()
    assert studio.error == "no WebGL"


def test_a_browser_that_ends_is_not_waited_for(studio):
    with pytest.raises(KinoformError, match=r"expected pictures, got nothing \(exit code 1\)"):
        take_pictures(studio, shutil.which("false"))
