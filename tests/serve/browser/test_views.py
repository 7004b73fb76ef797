"""Models, the API's page, the keyboard, narrow and dark screens, large pictures, many objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resnest_zoo import list_models
from tests.serve.browser.conftest import Served, drop, options
from tests.serve.browser.served import MODELS, SLOW
from tests.serve.browser.test_try import _expect

pytestmark = pytest.mark.slow
Open = Callable[..., Any]


def test_the_table_sorts(open_page: Open) -> None:
    page = open_page("/models")
    rows = page.locator("tbody tr")
    _expect(rows).to_have_count(len(list_models()) + 1)
    head = page.get_by_role("columnheader", name="Parameters")

    def parameters() -> list[float]:
        column = page.locator("thead th").all_inner_texts().index(head.inner_text())
        texts = page.locator(f"tbody tr > :nth-child({column + 1})").all_inner_texts()
        return [float(text.removesuffix(" M")) for text in texts]

    assert page.get_by_role("columnheader", name="Box AP").get_attribute("aria-sort") == "descending"
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert parameters() == sorted(parameters(), reverse=True)
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert parameters() == sorted(parameters())
    page.get_by_label("Find").fill("panoptic 200")
    _expect(rows).to_have_count(sum("panoptic" in name and "200" in name for name in list_models()))


def test_the_chart_is_walked_through_by_keys(open_page: Open) -> None:
    page = open_page("/models")
    marks = page.locator("#chart .mark")
    _expect(marks.first).to_be_visible()
    marks.first.focus()
    text = page.locator("#chart-text")
    _expect(text).to_contain_text("faster_rcnn_resnet50: box AP 39.25, 43.1 M parameters")
    page.keyboard.press("ArrowRight")
    _expect(text).not_to_contain_text("faster_rcnn_resnet50:")
    page.keyboard.press("End")
    _expect(text).to_contain_text("mask_cascade_resnest200_dcn_3x: box AP 50.91")
    page.get_by_role("radio", name="Mask AP").check()
    _expect(page.locator("#chart-title")).to_have_text("Reported mask AP against parameters")


def test_a_model_is_loaded_and_its_progress_told(open_page: Open, pictures: list[Path]) -> None:
    page = open_page()
    drop(page, pictures[0])
    options(page)
    page.get_by_role("link", name="Models").click()
    used = page.get_by_role("row", name=MODELS[0]).get_by_role("cell")
    _expect(used.filter(has_text=re.compile(r"^[\d.]+ m?s$"))).to_have_count(1)
    row = page.get_by_role("row", name=SLOW)
    row.get_by_role("button", name=f"Load {SLOW}").click()
    state = row.locator(".badge")
    _expect(state).to_have_text(re.compile(r"^fetching, [1-9]\d? % of \d+ kB$"))
    _expect(row.get_by_role("progressbar")).to_be_visible()
    _expect(state).to_have_text("ready")
    _expect(row.get_by_role("button")).to_have_count(0)
    page.get_by_role("link", name="Try").click()
    _expect(page.locator("#strip > li")).to_have_count(1)
    page.locator("#model").select_option(SLOW)
    page.get_by_label("Score from").fill("0.05")
    assert options(page)


def test_the_page_of_the_api_names_all_of_it(open_page: Open, served: Served) -> None:
    page = open_page("/docs")
    _expect(page.locator(".path code").first).to_be_visible()
    assert set(page.locator(".path code").all_inner_texts()) == set(served.ask("/openapi.json")["paths"])


def test_the_keyboard_is_enough(open_page: Open) -> None:
    page = open_page()
    _expect(page.locator("#model option")).not_to_have_count(0)

    def go_to(role: str) -> Any:
        for _ in range(60):
            page.keyboard.press("Tab")
            focused = page.locator(":focus")
            width = focused.evaluate(
                """e => {
                  const seen = e.matches('.segmented input') ? e.nextElementSibling : e;
                  return parseFloat(getComputedStyle(seen).outlineWidth);
                }"""
            )
            assert width >= 2, f"focus is not seen: {focused.evaluate('e => e.outerHTML')[:200]}"
            if focused.evaluate(
                "(e, role) => (e.getAttribute('role') ?? e.id) === role || e.id === role", role
            ):
                return focused
        raise AssertionError(f"Tab does not lead to {role}")

    go_to("example")
    page.keyboard.press("Enter")
    found = options(page)
    score = go_to("score")
    page.keyboard.press("ArrowRight")
    _expect(page.locator("#score-out")).to_have_text("0.51")
    page.keyboard.press("ArrowLeft")
    assert score.input_value() == "0.5"
    things = go_to("listbox")
    chosen = page.locator(".things [aria-selected=true]")
    _expect(chosen).to_have_text(found[0].replace("\n", ""))
    page.keyboard.press("End")
    _expect(chosen).to_have_text(found[-1].replace("\n", ""))
    assert things.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    page.keyboard.press("Escape")
    _expect(chosen).to_have_count(0)


def test_pictures_are_gone_through_by_the_arrow_keys(open_page: Open, pictures: list[Path]) -> None:
    page = open_page()
    drop(page, *pictures)
    options(page)
    current = page.locator("#strip [aria-current]")
    current.focus()
    page.keyboard.press("ArrowRight")
    _expect(current).to_contain_text(pictures[1].name)
    _expect(current).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("Delete")
    _expect(page.locator("#strip > li")).to_have_count(2)
    _expect(current).to_contain_text(pictures[1].name)
    _expect(current).to_be_focused()
    page.keyboard.press("Tab")
    _expect(page.get_by_role("button", name=f"Remove {pictures[1].name}")).to_be_focused()
    page.keyboard.press("Tab")
    assert not page.locator("#strip :focus").count()


def test_every_control_has_a_name(open_page: Open, pictures: list[Path]) -> None:
    page = open_page()
    drop(page, pictures[0])
    options(page)
    for path in (None, "Models", "API"):
        if path:
            page.get_by_role("link", name=path).click()
        for control in page.locator("button, input, select, video, [tabindex='0']").all():
            if control.is_visible():
                tree = control.aria_snapshot()
                assert re.search(r'"[^"]+"', tree), tree


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_and_both_themes(open_page: Open, pictures: list[Path], scheme: str) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    drop(page, *pictures)
    options(page)
    page.get_by_label("Compare with").select_option(MODELS[1])
    options(page, 1)

    def brightness() -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return max(map(int, re.findall(r"\d+", colour)))

    for name in ("Try", "Models", "API"):
        page.get_by_role("link", name=name).click()
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    assert (brightness() > 128) == (scheme == "light")
    other = "dark" if scheme == "light" else "light"
    page.get_by_label("Colours").select_option(other)
    assert (brightness() > 128) == (other == "light")
    page.reload()
    assert (brightness() > 128) == (other == "light")


def test_a_large_picture_is_drawn_as_large_as_it_is_seen(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "wide.jpg"
    Image.new("RGB", (20_000, 800), (90, 140, 60)).save(path, quality=50)
    page = open_page()
    drop(page, path)
    options(page)
    canvas = page.locator("canvas")
    assert canvas.evaluate("e => e.width") < 2000
    assert page.locator(".stage").bounding_box()["width"] < 1280


def test_many_objects(open_page: Open, served: Served, pictures: list[Path]) -> None:
    page = open_page()
    answer = served.ask("/predict", pictures[0].read_bytes(), model=MODELS[0])
    one = answer["predictions"][0]
    rows = one["predictions"]
    one["predictions"] = [{**rows[k % len(rows)], "score": 1 - k / 1000} for k in range(300)]
    page.route("**/predict?*", lambda route: route.fulfill(json=answer))
    drop(page, pictures[0])
    assert len(options(page)) == 300
    page.get_by_label("Score from").fill("0.9")
    assert len(options(page)) == 101
    # Pointing at one after the other draws all of them each time.
    spent = page.evaluate(
        """async () => {
          const list = document.querySelector('.things');
          list.focus();
          const begin = performance.now();
          const press = () => list.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown'}));
          for (let i = 0; i < 50; i++) press();
          return (performance.now() - begin) / 50;
        }"""
    )
    assert spent < 100, "milliseconds for one of 101 objects"


def test_run_lengths_are_read_as_pycocotools_writes_them(open_page: Open) -> None:
    import numpy as np
    from pycocotools import mask as tools

    rng = np.random.default_rng(0)
    masks = [
        rng.random(size) < share
        for size in ((1, 1), (1, 9), (7, 1), (13, 29), (64, 50))
        for share in (0, 0.1, 0.5, 1)
    ]
    yy, xx = np.mgrid[:101, :397]
    masks += [(yy - 50) ** 2 + (xx - 150) ** 2 < 45**2, xx > 390, (xx // 97) % 2 == 0]
    rles = [tools.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    sent = [{"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode()} for rle in rles]
    page = open_page()
    found = page.evaluate(
        """async rles => {
          const {areaOf, decodeRle, sampleRle} = await import('/static/rle.js');
          return rles.map(rle => {
            const [height, width] = rle.size;
            const [w, h] = [Math.ceil(width / 3), Math.ceil(height / 2)];
            const patch = sampleRle(rle, w, h);
            const small = Array(w * h).fill(0);
            patch.data.forEach((value, i) => {
              small[(patch.y + Math.floor(i / patch.width)) * w + patch.x + i % patch.width] = value;
            });
            return {whole: decodeRle(rle).join(''), area: areaOf(rle), small: small.join('')};
          });
        }""",
        sent,
    )
    for mask, rle, seen in zip(masks, rles, found, strict=True):
        height, width = mask.shape
        assert np.array_equal(np.array([*map(int, seen["whole"])]).reshape(height, width), mask)
        assert seen["area"] == tools.area(rle)
        h, w = -(-height // 2), -(-width // 3)
        rows = np.minimum(height - 1, ((np.arange(h) + 0.5) * height / h).astype(int))
        columns = np.minimum(width - 1, ((np.arange(w) + 0.5) * width / w).astype(int))
        assert np.array_equal(np.array([*map(int, seen["small"])]).reshape(h, w), mask[np.ix_(rows, columns)])
