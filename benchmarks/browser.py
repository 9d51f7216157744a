"""Pictures that a page of ours takes in a real browser: Chromium without a window, and without a graphics card."""

from __future__ import annotations

import base64
import http.server
import io
import json
import mimetypes
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from shared.errors import KinoformError

PATIENCE = 600  # seconds for all pictures


@dataclass
class Studio:
    """A page, what it needs, and what came back from it.

    page: an HTML file, served at /. files, modules: folders, with no links out of them, served below /files/ and
    /modules/. jobs: what is at /jobs, one object a picture. The page posts each picture as a PNG's data URL to
    /done/NAME, and at last to /done/end, or to /done/error what went wrong.
    """

    page: Path
    files: Path
    modules: Path
    jobs: list[dict[str, Any]]
    pictures: dict[str, UInt8[np.ndarray, "h w 4"]] = field(default_factory=dict)
    error: str = ""
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def served(studio: Studio) -> Iterator[str]:
    """The address, on this machine alone, of the page, what it needs, and where it sends its pictures."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            folder, _, rest = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
            roots = {"files": studio.files, "modules": studio.modules}
            if folder == "jobs":
                self._answer(json.dumps(studio.jobs).encode(), "application/json")
            elif not folder:
                self._answer(studio.page.read_bytes(), "text/html")
            elif folder in roots and (file := (roots[folder] / rest).resolve()).is_relative_to(roots[folder]):
                if not file.is_file():
                    return self.send_error(404)
                kind = "text/javascript" if file.suffix == ".js" else mimetypes.guess_type(file.name)[0]
                self._answer(file.read_bytes(), kind or "application/octet-stream")
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            name, body = (
                unquote(self.path).rpartition("/")[2],
                self.rfile.read(int(self.headers["Content-Length"] or 0)),
            )
            if name == "error":
                studio.error = body.decode()
            elif name != "end":
                png = base64.b64decode(body.partition(b",")[2])
                studio.pictures[name] = np.array(Image.open(io.BytesIO(png)).convert("RGBA"))
            self._answer(b"", "text/plain")
            if name in ("error", "end"):
                studio.ended.set()

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()


def take_pictures(studio: Studio, chromium: str) -> None:
    """Let a browser without a window run the page, and wait for its pictures. KinoformError when they do not come."""
    flags = ["--headless=new", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars"]
    flags += ["--force-color-profile=srgb", "--no-first-run"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, served(studio) as address:
        command = [chromium, *flags, f"--user-data-dir={profile}", address]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        try:
            while not studio.ended.wait(0.2):
                if browser.poll() is not None or time.monotonic() > until:
                    studio.error = f"nothing (exit code {browser.poll()})"
                    break
        finally:
            browser.terminate()
            browser.wait(20)
    if studio.error:
        raise KinoformError("page", expected="pictures", got=studio.error)
