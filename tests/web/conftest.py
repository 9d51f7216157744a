"""A real browser, pages in it, and what every page must keep to: no error, and nothing asked of any network."""

import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "out" / "web"
FLAGS = [
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--force-color-profile=srgb",
]
SLOW_GL = "GL Driver Message (OpenGL, Performance"  # of a browser without a graphics card, which it is
sys.path.insert(0, str(Path(__file__).parent))  # tests here share `pages`


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if path is None:
        pytest.exit("expected a browser, got none: apt-get install chromium, or CHROMIUM=FILE make test-web", 2)
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """A context manager: (folder, width=..., ...) -> its page, open. At its end nothing may have gone wrong."""

    @contextmanager
    def opened(folder, *, width=1440, height=900, ready=".card", **options):
        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
        context.set_default_timeout(30_000)  # a machine may have other work
        page = context.new_page()
        wrong = []
        page.on("console", lambda said: None if said.type == "log" or SLOW_GL in said.text else wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(("file:", "data:", "blob:")) else wrong.append(asked.url),
        )
        page.goto((folder / "index.html").as_uri())
        if ready:
            page.wait_for_selector(ready)
        try:
            yield page
        finally:
            context.close()
        assert not wrong, "\n".join(wrong)

    return opened


@pytest.fixture(scope="session")
def shot():
    """(page, name): a picture of what the page shows, into out/web/."""
    SHOTS.mkdir(parents=True, exist_ok=True)

    def take(page, name, **options):
        page.screenshot(path=SHOTS / f"{name}.png", **options)

    return take


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """A folder with twelve results, and their items."""
    import pages

    folder = tmp_path_factory.mktemp("results")
    return folder, pages.write_results(folder)


@pytest.fixture
def batch(results, tmp_path):
    """A folder with the page of a batch that is under way."""
    import pages

    from lab.web.page import Page

    folder = tmp_path / "batch"
    shutil.copytree(results[0], folder)
    Page(folder, "Autumn studies").update(pages.batch(results[1]))
    return folder
