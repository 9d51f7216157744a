"""The page at work in a real browser."""

import json
import re
from dataclasses import replace

import numpy as np
import pages
import pytest
from waiting import until

from lab.web.items import Item
from lab.web.page import Page
from shared.artifacts.media import write_image


def cards(page):
    """The prompts of the cards, in the order they stand in."""
    return page.locator(".card .prompt").all_inner_texts()


def card(page, text):
    return page.locator(".card", has_text=text).first


def pixels_of(locator):
    """What a part of the page looks like, as PNG: equal pictures are equal bytes."""
    return locator.screenshot(animations="disabled")


def test_items_appear_while_the_page_is_open(tmp_path, visit):
    page = Page(tmp_path, "Growing")
    items = [Item(f"cube/{seed}", "queued", "image", f"cube number {seed}", seed=seed) for seed in range(3)]
    page.update(items)
    with visit(tmp_path) as shown:
        assert shown.locator("#summary").inner_text() == "0 of 3 done\n3 queued"
        items[0] = replace(items[0], state="running", done_share=0.5)
        page.update(items)
        shown.wait_for_selector(".card[data-state=running]")
        assert shown.locator(".card[data-state=running] .plate-words").inner_text() == "50 %"
        assert shown.locator("#progress").get_attribute("aria-valuenow") == "17"
        write_image(tmp_path / "0.png", np.full((64, 64, 3), 90, np.uint8))
        items[0] = replace(items[0], state="done", output="0.png", done_share=None)
        page.update([*items, Item("late", "failed", "image", "one more", error="InputError: too late")])
        shown.wait_for_selector(".card[data-state=done] img")
        assert shown.locator("#summary").inner_text() == "1 of 4 done\n2 queued\n1 failed"
        assert sorted(cards(shown)) == ["cube number 0", "cube number 1", "cube number 2", "one more"]
        natural = shown.locator(".card[data-state=done] img").evaluate("image => [image.naturalWidth, image.className]")
        assert natural == [64, "picture tiny"]
        page.update([replace(items[0], prompt="only this is left")])
        until(shown, "document.querySelectorAll('.card').length === 1")
        assert shown.locator("#summary").inner_text() == "1 result"
        assert not shown.locator("#progress").is_visible()


def test_what_a_card_says_of_its_result_fits(tmp_path, visit):
    """On a phone, its kind or its state; elsewhere also the time that it took."""
    write_image(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    times = {0.0: "< 0.1 s", 0.06: "0.1 s", 9.97: "10 s", 59.7: "1 min 00 s", 119.6: "2 min 00 s", 3725: "1 h 02 min"}
    done = [Item(f"{n}", "done", "upscale", f"took {n}.", output="a.png", seconds=n) for n in times]
    Page(tmp_path, "Times").update([*done, Item("late", "running", "upscale", "not yet")])
    with visit(tmp_path) as shown:
        for seconds, words in times.items():
            assert card(shown, f"took {seconds}.").locator(".meta").inner_text().split("\n") == ["Upscale", words]
    with visit(tmp_path, width=390, height=844, has_touch=True, is_mobile=True) as shown:
        assert card(shown, "took 0.0.").locator(".meta").inner_text() == "Upscale"
        assert card(shown, "not yet").locator(".meta").inner_text() == "Running"
        cut = "spans => spans.filter(span => span.scrollWidth > span.clientWidth).map(span => span.textContent)"
        assert shown.locator(".card .meta > *").evaluate_all(cut) == []


def test_new_results_wait_while_others_are_looked_at(tmp_path, visit):
    page = Page(tmp_path, "Growing")
    write_image(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    items = [Item(f"{number}", "queued", "image", f"number {number}") for number in range(200)]
    page.update(items)
    with visit(tmp_path) as shown:
        shown.evaluate("scrollTo(0, 4000)")
        until(shown, "!document.querySelector('.card').innerText.startsWith('number 0\\n')")
        shown.wait_for_timeout(200)
        before = cards(shown)
        items[150] = replace(items[150], state="done", output="a.png")
        page.update(items)
        shown.wait_for_selector("#pending:not([hidden])")
        assert cards(shown) == before
        shown.locator("#pending").click()
        assert cards(shown)[0] == "number 150"


def test_clips_play_when_pointed_at(batch, results, visit):
    prompts = {item.output.rpartition(".")[2]: item.prompt for item in results[1] if item.step == "clip"}
    with visit(batch) as page:
        film = card(page, prompts["mp4"])
        film.hover()
        until(page, "document.querySelector('.card video')?.currentTime > 0.3")
        at = page.evaluate(
            "(() => { const v = document.querySelector('.card video'); return [v.paused, v.muted, v.videoWidth]; })()"
        )
        assert at == [False, True, 64]
        page.locator("#title").hover()
        until(page, "!document.querySelector('.card video')")
        for ending in ("webp", "gif"):
            card(page, prompts[ending]).hover()
            page.wait_for_selector(f".card img.playing[src*='.{ending}']")
        frames = card(page, next(prompt for end, prompt in prompts.items() if "/" in end))
        frames.hover()
        until(page, "/frame_0000[3-9]|frame_0001/.test(document.querySelector('.card img.playing')?.src)")
        page.locator("#search").focus()
        page.keyboard.press("ArrowDown")
        while "Turntable" not in page.evaluate("document.activeElement.innerText"):
            page.keyboard.press("ArrowRight")
        until(page, "document.querySelector('.card video')?.currentTime > 0.2")


def test_nothing_moves_where_less_motion_is_wanted(batch, results, visit):
    prompt = next(item.prompt for item in results[1] if item.output.endswith(".mp4"))
    with visit(batch, reduced_motion="reduce") as page:
        card(page, prompt).hover()
        page.wait_for_timeout(500)
        assert not page.locator(".card video").count()
        card(page, prompt).locator(".open").click()
        page.wait_for_timeout(500)
        assert page.locator(".playbar .round").get_attribute("aria-label") == "Play"
        page.locator(".playbar .round").click()
        until(page, "document.querySelector('dialog video')?.currentTime > 0.3")


def test_an_asset_turns_by_mouse_touch_and_keys(batch, visit, shot):
    with visit(batch, reduced_motion="reduce") as page:
        card(page, re.compile("a red mushroom.*Asset", re.DOTALL)).locator(".open").click()
        canvas = page.locator("dialog canvas")
        canvas.wait_for()
        page.wait_for_timeout(300)
        first = pixels_of(canvas)
        red = canvas.evaluate(COUNT_RED)
        assert red > 0.05, "no red mushroom to be seen"
        box = canvas.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 120, y + 60, steps=5)
        page.mouse.up()
        assert pixels_of(canvas) != first
        seen = []
        for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "ArrowLeft"):
            canvas.press(key)
            seen.append(pixels_of(canvas))
        assert seen[0] != seen[1] == seen[3] != seen[2]
        assert seen[4] == seen[0]
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(200)
        assert canvas.evaluate(COUNT_RED) > 1.5 * red
        canvas.press("0")
        page.wait_for_timeout(200)
        assert canvas.evaluate(COUNT_RED) == pytest.approx(red, rel=0.02)
        assert page.locator("dialog").first.evaluate("dialog => dialog.open")
        page.set_viewport_size({"width": 700, "height": 900})
        page.wait_for_timeout(300)
        assert canvas.evaluate("c => Math.abs(c.width - c.clientWidth) < 2")
        page.keyboard.press("Escape")
        until(page, "!document.querySelector('canvas')")


# The share of a viewer's picture that is red, read where WebGL keeps it: drawn again just before.
COUNT_RED = """async canvas => {
  const copy = Object.assign(document.createElement("canvas"), { width: 200, height: 200 });
  const picture = await createImageBitmap(await new Promise(done => requestAnimationFrame(() => {
    canvas.dispatchEvent(new PointerEvent("pointerdown", { pointerId: 1 }));
    canvas.dispatchEvent(new PointerEvent("pointerup", { pointerId: 1 }));
    requestAnimationFrame(() => canvas.toBlob(done));
  })));
  const context = copy.getContext("2d");
  context.drawImage(picture, 0, 0, 200, 200);
  const { data } = context.getImageData(0, 0, 200, 200);
  let red = 0;
  for (let i = 0; i < data.length; i += 4) red += data[i] > 2 * data[i + 1] + 30 && data[i + 3] > 200;
  return red / 40000;
}"""


def test_a_glb_unlike_ours_is_shown(tmp_path, visit):
    """Without normals, its colours in a picture."""
    import trimesh
    from PIL import Image

    box = trimesh.creation.box()
    picture = Image.new("RGB", (4, 4), (220, 20, 20))
    box.visual = trimesh.visual.TextureVisuals(np.zeros((len(box.vertices), 2)), image=picture)
    scene = box.export(file_type="glb", include_normals=False)
    assert b"TEXCOORD_0" in scene
    assert b"NORMAL" not in scene
    (tmp_path / "box.glb").write_bytes(scene)
    Page(tmp_path, "Foreign").update([Item("box", "done", "asset", "a box", output="box.glb")])
    with visit(tmp_path, reduced_motion="reduce") as page:
        page.locator(".card .open").click()
        canvas = page.locator("dialog canvas")
        canvas.wait_for()
        page.wait_for_timeout(500)
        assert canvas.evaluate(COUNT_RED) > 0.1


def test_two_fingers_zoom(batch, visit):
    with visit(batch, width=390, height=844, has_touch=True, is_mobile=True, reduced_motion="reduce") as page:
        card(page, re.compile("a red mushroom.*Asset", re.DOTALL)).locator(".open").tap()
        canvas = page.locator("dialog canvas")
        canvas.wait_for()
        page.wait_for_timeout(300)
        first, box = pixels_of(canvas), canvas.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        touch = page.context.new_cdp_session(page)

        def fingers(kind, *places):
            points = [{"x": x + dx, "y": y, "id": number} for number, dx in enumerate(places)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        fingers("touchStart", -20)
        fingers("touchMove", 30)
        fingers("touchEnd")
        page.wait_for_timeout(200)
        turned = pixels_of(canvas)
        assert turned != first
        fingers("touchStart", -20, 20)
        for apart in (30, 45, 60):
            fingers("touchMove", -apart, apart)
        fingers("touchEnd")
        page.wait_for_timeout(200)
        assert pixels_of(canvas) != turned


def test_filters_search_and_order(batch, visit):
    with visit(batch) as page:
        page.locator("[data-chip='step:asset']").click()
        assert len(cards(page)) == 4
        page.locator("[data-chip='state:failed']").click()
        assert not cards(page)
        assert page.locator("#empty").inner_text().startswith("Nothing here fits")
        page.locator("#empty button").click()
        assert len(cards(page)) == 19
        assert page.locator("[data-chip='state:done'] .chip-count").inner_text() == "12"
        page.locator("[data-chip='tag:heroes']").click()
        assert page.locator("[data-chip='state:done'] .chip-count").inner_text() == "4"
        assert len(cards(page)) == 4
        page.reload()
        page.wait_for_selector(".card")
        assert len(cards(page)) == 4
        page.locator("text=Clear filters").click()
        page.locator("#search").fill("GREEN car")
        assert len(cards(page)) == 3
        page.locator("#search").fill("")
        page.locator("#sort").select_option("prompt")
        assert cards(page) == sorted(cards(page), key=str.casefold)
        page.locator("#sort").select_option("score:clip")
        scores = [float(text) for text in page.locator(".meta-score[title=clip]").all_inner_texts()]
        assert len(scores) == 12
        assert scores == sorted(scores, reverse=True)
        page.locator("#sort").select_option("time")
        page.locator("#sort").select_option("name")
        assert cards(page)[-1] == "a purple lamp"


def test_compare_shows_clips_in_step_and_what_differs(batch, results, visit, shot):
    with visit(batch) as page:
        for item in [item for item in results[1] if item.step == "clip"][:4:3]:
            card(page, item.prompt).hover()
            card(page, item.prompt).get_by_role("button", name="Compare").click()
        page.locator("#tray >> text=Compare 2").click()
        until(page, "document.querySelector('dialog video')?.currentTime > 0.2")
        until(page, "document.querySelector('dialog figure img[src*=frame_]')")
        apart = page.evaluate(
            """() => {
              const film = document.querySelector("dialog video").currentTime;
              const frame = Number(document.querySelector("dialog figure img").src.match(/frame_(\\d+)/)[1]) / 8;
              return Math.abs(film - frame);
            }"""
        )
        assert apart < 0.35
        rows = page.locator(".compare-table tbody tr")
        names = page.locator(".compare-table tbody th").all_inner_texts()
        assert set(names) == {"seconds", "score: clip", "prompt", "seed", "guidance_scale"}
        assert rows.count() == page.locator(".compare-table .differs").count()
        page.locator("text=Only what differs").click()
        assert rows.count() > 12
        assert page.locator(".compare-table .differs").count() == 5
        page.locator(".playbar .round").click()
        page.locator(".playbar input").focus()
        page.locator(".playbar input").fill("1.5")
        until(page, "Math.abs(document.querySelector('dialog video').currentTime - 1.5) < 0.05")
        shot(page, "compare")


def test_assets_are_turned_together(batch, visit):
    with visit(batch, reduced_motion="reduce") as page:
        for prompt in (re.compile("a red mushroom.*Asset", re.DOTALL), "a blue chair"):
            card(page, prompt).locator(".open").focus()
            page.keyboard.press("c")
        page.keyboard.press("v")
        until(page, "document.querySelectorAll('dialog canvas').length === 2")
        page.wait_for_timeout(300)
        before = pixels_of(page.locator("dialog canvas").nth(1))
        page.locator("dialog canvas").first.press("ArrowRight")
        assert pixels_of(page.locator("dialog canvas").nth(1)) != before


def test_stars_are_kept_and_written_to_a_file(batch, visit):
    with visit(batch) as page:
        card(page, "a blue chair").locator(".open").focus()
        page.keyboard.press("s")
        page.reload()
        page.wait_for_selector(".card")
        page.locator("[data-chip='starred']").click()
        assert cards(page) == ["a blue chair"]
        with page.expect_download() as waited:
            page.get_by_label("Write the stars to a file").click()
        written = json.loads(waited.value.path().read_text())
        assert [star["output"] for star in written["starred"]] == ["assets/a-blue-chair.glb"]
        assert written["starred"][0]["command"] == "kinoform rerun assets/a-blue-chair.glb"


def test_all_that_is_known_of_an_item_is_shown(batch, results, visit):
    item = next(item for item in results[1] if item.output.endswith(".gif"))
    with visit(batch) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        card(page, item.prompt).locator(".open").click()
        words = page.locator(".detail-words").inner_text()
        for text in (
            item.prompt,
            "world",
            "64 × 64",
            "16 frames, 8 a second",
            "guidance_scale",
            "memory.decode",
            item.command,
        ):
            assert text in words
        assert "a {red|blue|green} {thing}" in words
        page.get_by_label("Copy the command").click()
        assert page.evaluate("navigator.clipboard.readText()") == item.command
        assert page.locator(".facts a").get_attribute("href") == item.output
        with page.context.expect_page() as other:
            page.locator("text=Open file").click()
        assert other.value.url == (batch / item.output).as_uri()
        page.keyboard.press("Escape")
        card(page, "a blue chair").locator(".open").click()
        with page.expect_download() as waited:
            page.locator("text=Download").click()
        assert waited.value.path().read_bytes() == (batch / "assets" / "a-blue-chair.glb").read_bytes()


def test_texts_of_others_are_texts(tmp_path, visit, shot):
    Page(tmp_path, pages.HOSTILE).update(pages.hostile(tmp_path))
    with visit(tmp_path) as page:
        until(page, "[...document.images].every(image => image.complete)")
        shot(page, "hostile")
        assert page.evaluate(
            "document.title.includes('<script>') && document.getElementById('title').textContent.includes('<script>')"
        )
        assert page.evaluate("typeof window.hacked") == "undefined"
        assert page.evaluate("document.querySelectorAll('main script, main img[onerror]').length") == 0
        said = page.locator(".card .plate-words").all_inner_texts()
        assert sum("cannot be shown" in text for text in said) == 2
        assert any("outside of this page" in text for text in said)
        natural = page.evaluate("[...document.querySelectorAll('.card img')].map(image => image.naturalWidth)")
        assert natural == [96, 96, 96]
        rtl = page.locator(".prompt", has_text=pages.TURNED_ROUND)
        assert rtl.evaluate("element => getComputedStyle(element).direction") == "rtl"
        card(page, "</script>").locator(".open").click()
        page.keyboard.press("Escape")
        long = page.locator(".card", has_text="a very long prompt").first
        assert len(long.locator(".prompt").text_content()) < 300
        long.locator(".open").click()
        more = page.locator("dialog h2 .more")
        assert more.inner_text() == "Show all 100,000 characters"
        more.click()
        assert len(page.locator("dialog h2 span").text_content()) == 100_000
        page.keyboard.press("Escape")
        page.locator(".card", has_text="onerror").filter(has=page.locator("img")).locator(".open").click()
        assert str(2**62 + 1) in page.locator(".facts").inner_text()
        assert "__proto__" in page.locator(".recipe").inner_text()
        page.evaluate("Object.keys({}).length === 0 && ({}).x === undefined || fail()")
        with page.context.expect_page() as other:
            page.locator("text=Open file").click()
        assert other.value.url.endswith("/odd%20%23%3F%25%20names/50%20%25%20%E2%80%9Coff%E2%80%9D.png")
        assert page.evaluate("typeof window.hacked") == "undefined"


def test_a_page_without_results_says_so(tmp_path, visit):
    Page(tmp_path, "Empty").update([])
    with visit(tmp_path, ready="#empty:not([hidden])") as shown:
        assert "appear here" in shown.locator("#empty").inner_text()
