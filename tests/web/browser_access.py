"""The page for everybody: by keyboard alone, on a phone, in light and dark, by the rules that axe knows."""

from pathlib import Path

import pytest
from waiting import until

AXE = Path(__file__).resolve().parents[2] / ".venv-web/node_modules/axe-core/axe.min.js"
THEMES = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"width": 390, "height": 844, "has_touch": True, "is_mobile": True, "device_scale_factor": 3},
}


def faults(page):
    """What axe finds that is serious or critical. Run through the debugger, which the page's policy does not bind."""
    page.evaluate(f"(() => {{ if (!window.axe) {{ {AXE.read_text('utf-8')} }} }})()")
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{fault['impact']} {fault['id']}: {[node['html'][:160] for node in fault['nodes'][:3]]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]


def open_card(page, text):
    page.locator(".card", has_text=text).filter(has=page.locator(".badge")).locator(".open").first.click()


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_serious(batch, visit, shot, theme):
    with visit(batch, reduced_motion="reduce", **THEMES[theme]) as page:
        page.wait_for_timeout(400)
        shot(page, f"page-{theme}")
        assert faults(page) == []
        open_card(page, "Asset")
        page.locator("dialog canvas").wait_for()
        page.wait_for_timeout(400)
        shot(page, f"asset-{theme}")
        assert faults(page) == []
        page.keyboard.press("Escape")
        open_card(page, "Clip")
        page.wait_for_timeout(600)
        shot(page, f"clip-{theme}")
        assert faults(page) == []
        page.keyboard.press("Escape")
        page.locator("[data-chip='state:failed']").click()
        page.locator("[data-chip='state:poisoned']").click()
        page.wait_for_timeout(300)
        shot(page, f"failures-{theme}")
        page.locator(".card .open").first.click()
        page.wait_for_timeout(300)
        shot(page, f"failure-{theme}")
        assert faults(page) == []
        page.keyboard.press("Escape")
        page.locator("text=Clear filters").click()
        for text in ("a blue chair", "moving right", "moving up"):
            page.locator(".card", has_text=text).locator(".open").first.focus()
            page.keyboard.press("c")
        page.wait_for_timeout(300)
        shot(page, f"chosen-{theme}")
        assert faults(page) == []
        page.keyboard.press("v")
        page.locator("dialog canvas").wait_for()
        page.wait_for_timeout(800)
        shot(page, f"compare-{theme}")
        assert faults(page) == []


def test_all_is_reached_by_the_keyboard(batch, visit):
    def focused(script="element.innerText"):
        return page.evaluate(f"(element => {script})(document.activeElement)")

    with visit(batch) as page:
        page.keyboard.press("/")
        assert focused("element.id") == "search"
        page.keyboard.type("moving")
        page.keyboard.press("ArrowDown")
        assert "moving" in focused()
        first = focused()
        page.keyboard.press("ArrowRight")
        second = focused()
        assert second != first
        page.keyboard.press("ArrowLeft")
        assert focused() == first
        page.keyboard.press("End")
        last = focused()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowUp")
        assert focused() == first
        page.keyboard.press("s")
        page.keyboard.press("c")
        page.keyboard.press("End")
        assert focused() == last
        page.keyboard.press("c")
        assert page.locator(".card [aria-pressed=true]").count() == 3
        page.keyboard.press("Enter")
        assert page.evaluate("document.getElementById('detail').open")
        for _ in range(14):
            page.keyboard.press("Tab")
            assert page.evaluate(
                "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
            )
        page.keyboard.press("Escape")
        assert focused() == last
        page.keyboard.press("v")
        until(page, "document.getElementById('compare').open")
        assert focused("!!element.closest('dialog')")
        page.keyboard.press("Escape")
        assert not page.evaluate("document.getElementById('compare').open")
        assert "moving" in focused()
        page.keyboard.press("Enter")
        place = page.locator(".detail-place").inner_text()
        page.locator(".detail-close").focus()
        page.keyboard.press("ArrowLeft")
        assert page.locator(".detail-place").inner_text() != place


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1920])
def test_nothing_is_wider_than_the_window(batch, visit, width):
    with visit(batch, width=width, height=700) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator(".card .open").nth(2).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.querySelector('dialog[open]').scrollWidth") <= width
        box = page.locator(".detail-close").bounding_box()
        assert 0 <= box["x"] <= width - box["width"]
        assert 0 <= box["y"] < 200
        page.keyboard.press("Escape")
        for number in (2, 6, 7, 8):
            page.locator(".card .open").nth(number).focus()
            page.keyboard.press("c")
        page.keyboard.press("v")
        until(page, "document.getElementById('compare').open")
        assert page.evaluate("document.querySelector('.compare-bar').scrollWidth") <= width
        box = page.locator(".compare-close").bounding_box()
        assert 0 <= box["x"] <= width - box["width"]


def test_small_results_are_shown_by_whole_pixels(batch, visit):
    for scale in (1, 2, 3):
        with visit(batch, width=1440 // scale, device_scale_factor=scale) as page:
            sides = page.evaluate(
                "[...document.querySelectorAll('.card img.tiny')].map(image => image.getBoundingClientRect().width)"
            )
            assert sides
            assert all(
                abs(side * scale / 64 - round(side * scale / 64)) < 1e-3 for side in sides if side * scale >= 64
            ), sides
