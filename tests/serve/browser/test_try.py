"""The first view, as people use it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.serve.browser.conftest import Served, drop, options, pixels
from tests.serve.browser.served import MODELS

pytestmark = pytest.mark.slow
Open = Callable[..., Any]
MASKS, PANOPTIC = MODELS


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator, "")


def _asked(page: Any) -> list[str]:
    """The addresses of pictures that are sent from now on."""
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if "/predict" in one.url else None)
    return asked


def _slide(page: Any, value: float) -> None:
    page.get_by_label("Score from").fill(str(value))
    page.wait_for_timeout(100)


def test_a_dropped_picture_the_slider_and_the_classes(
    open_page: Open, served: Served, pictures: list[Path]
) -> None:
    page = open_page()
    asked = _asked(page)
    drop(page, pictures[0])
    found = options(page)
    answer = served.ask("/predict", pictures[0].read_bytes(), model=MASKS)
    rows = answer["predictions"][0]["predictions"]
    names = {row["id"]: row["name"] for row in answer["categories"]}
    assert len(found) == sum(row["score"] >= 0.5 for row in rows) > 1
    assert found[0].split("\n") == [names[rows[0]["category_id"]], f"{round(100 * rows[0]['score'])} %"]
    _expect(page.locator("#live")).to_contain_text(f"{len(found)} objects: ")
    whole = pixels(page)
    assert whole["painted"] > 1000

    _slide(page, 0.05)
    assert len(options(page)) == len(rows) > len(found)
    limit = (rows[0]["score"] + rows[1]["score"]) / 2
    _slide(page, round(limit, 2))
    assert len(options(page)) == sum(row["score"] >= round(limit, 2) for row in rows) < len(found)
    assert pixels(page)["painted"] < whole["painted"]

    _slide(page, 0.5)
    assert pixels(page) == whole
    hidden = found[0].split("\n")[0]
    page.get_by_role("checkbox", name=hidden).uncheck()
    left = [text for text in found if not text.startswith(f"{hidden}\n")]
    assert options(page) == left
    assert pixels(page)["sum"] != whole["sum"]
    page.get_by_role("button", name="None").click()
    assert options(page) == []
    page.get_by_role("button", name="All").click()
    assert options(page) == found
    assert len(asked) == 1, "the slider and the classes ask for nothing"


def test_opacity_names_and_layers(open_page: Open, pictures: list[Path]) -> None:
    page = open_page()
    drop(page, pictures[0])
    options(page)
    seen = [pixels(page)]
    page.get_by_label("Opacity").fill("0.9")
    page.wait_for_timeout(100)
    seen.append(pixels(page))
    page.get_by_label("Names and scores").uncheck()
    page.wait_for_timeout(100)
    seen.append(pixels(page))
    page.get_by_role("radio", name="Boxes").check()
    page.wait_for_timeout(100)
    seen.append(pixels(page))
    assert len({one["sum"] for one in seen}) == 4
    _expect(page.get_by_role("radio", name="Panoptic")).to_be_disabled()


def test_what_is_taken_away(open_page: Open, served: Served, pictures: list[Path], tmp_path: Path) -> None:
    from pycocotools import mask as tools
    from pycocotools.coco import COCO

    page = open_page()
    drop(page, pictures[0])
    found = options(page)

    def take(name: str) -> Path:
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name, exact=True).click()
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    answer = served.ask("/predict", pictures[0].read_bytes(), model=MASKS)
    mine = json.loads(take("JSON").read_text())
    for key in ("model", "predictions", "categories"):
        assert mine[key] == answer[key]

    file = take("COCO JSON")
    assert file.name == f"shapes1.{MASKS}.coco.json"
    coco = COCO(str(file))
    theirs = served.ask("/predict", pictures[0].read_bytes(), model=MASKS, format="coco")
    assert coco.dataset["categories"] == theirs["categories"]
    assert len(coco.anns) == len(found)
    for mine, row in zip(coco.loadAnns(coco.getAnnIds()), theirs["annotations"], strict=False):
        assert mine["category_id"] == row["category_id"]
        assert mine["bbox"] == row["bbox"]
        assert mine["area"] == row["area"] == tools.area(coco.annToRLE(mine))

    with Image.open(take("Picture")) as drawn, Image.open(pictures[0]) as plain:
        assert drawn.size == plain.size
        assert drawn.convert("RGB").tobytes() != plain.convert("RGB").tobytes()

    page.get_by_text("JSON", exact=True).last.click()
    _expect(page.locator("pre").first).to_contain_text('"score"')


def test_the_server_s_time_and_the_round_trip(open_page: Open, pictures: list[Path]) -> None:
    page = open_page()
    drop(page, pictures[0])
    _expect(page.locator(".time")).to_have_text(
        re.compile(r"^model [\d.]+ m?s, server [\d.]+ m?s, round trip [\d.]+ m?s$")
    )


def test_hovering_tells_name_and_score(open_page: Open, served: Served, pictures: list[Path]) -> None:
    page = open_page()
    drop(page, pictures[0])
    first = options(page)[0].replace("\n", " ").replace(" %", "%")
    page.get_by_role("radio", name="Boxes").check()
    row = served.ask("/predict", pictures[0].read_bytes(), model=MASKS)["predictions"][0]["predictions"][0]
    x, y = row["bbox"][:2]
    stage = page.locator(".stage").bounding_box()
    scale = stage["width"] / 256
    # A corner of the box: in the middle a smaller one may lie over it.
    page.mouse.move(stage["x"] + (x + 1) * scale, stage["y"] + (y + 1) * scale)
    page.mouse.move(stage["x"] + (x + 2) * scale, stage["y"] + (y + 2) * scale)
    _expect(page.locator(".tip")).to_have_text(first)
    _expect(page.locator(".things [aria-selected=true]")).to_have_count(1)
    page.mouse.move(2, 2)
    _expect(page.locator(".tip")).to_be_hidden()


def test_several_pictures_and_one_that_is_none(open_page: Open, pictures: list[Path], tmp_path: Path) -> None:
    page = open_page()
    wrong = tmp_path / "wrong.jpg"
    wrong.write_text("no picture")
    drop(page, pictures[0], wrong, pictures[1])
    strip = page.locator("#strip > li")
    _expect(strip).to_have_count(3)
    for index, state in enumerate(("done", "failed", "done")):
        _expect(strip.nth(index)).to_have_attribute("data-state", state)
    page.get_by_role("button", name="wrong.jpg", exact=False).first.click()
    alert = page.get_by_role("alert").filter(visible=True)
    _expect(alert).to_contain_text("picture")
    assert len(alert.locator("p").inner_text().split(". ")) == 1, "one sentence"
    page.get_by_role("button", name="Remove wrong.jpg").click()
    _expect(strip).to_have_count(2)
    assert options(page)
    _expect(alert).to_have_count(0)


def test_a_pasted_picture_and_a_drawn_one(open_page: Open) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async () => {
          const canvas = new OffscreenCanvas(96, 64);
          canvas.getContext('2d').fillRect(0, 0, 96, 64);
          await navigator.clipboard.write([new ClipboardItem({'image/png': await canvas.convertToBlob()})]);
        }"""
    )
    page.keyboard.press("Control+V")
    _expect(page.locator("#strip > li")).to_have_count(1)
    options(page)
    page.get_by_role("button", name="Remove", exact=False).click()
    page.get_by_role("button", name="Draw an example").click()
    assert options(page), "a shape at least is found in what the page draws itself"


def test_two_models_side_by_side_and_the_panoptic_map(
    open_page: Open, served: Served, pictures: list[Path]
) -> None:
    page = open_page()
    drop(page, pictures[0])
    page.get_by_label("Compare with").select_option(PANOPTIC)
    _expect(page.locator(".pane h2")).to_have_text([MASKS, PANOPTIC])
    options(page)
    answer = served.ask("/predict", pictures[0].read_bytes(), model=PANOPTIC)
    segments = answer["predictions"][0]["panoptic"]["segments_info"]
    listed = options(page, 1)
    assert len(listed) == len(segments)
    largest = max(segments, key=lambda one: one["area"])
    assert listed[0].endswith(f"{round(100 * largest['area'] / (192 * 256))} %")
    page.wait_for_timeout(200)
    map_ = pixels(page, 1)
    assert map_["painted"] > 0.9 * map_["width"] * map_["height"], "the map covers the picture"
    stage = page.locator(".stage").nth(1).bounding_box()
    page.mouse.move(stage["x"] + stage["width"] / 2, stage["y"] + 4)
    page.mouse.move(stage["x"] + stage["width"] / 2, stage["y"] + 5)
    _expect(page.locator(".tip").nth(1)).to_contain_text("of the picture")
    page.get_by_label("Compare with").select_option("")
    _expect(page.locator(".pane h2")).to_have_text([MASKS])


def test_a_busy_server_is_asked_again(open_page: Open, pictures: list[Path]) -> None:
    page = open_page()
    refusals = [1, 1]

    def answer(route: Any) -> None:
        if not refusals:
            route.continue_()
            return
        refusals.pop()
        error = {"error": {"kind": "busy", "message": "all places of the queue are taken"}}
        route.fulfill(status=503, headers={"Retry-After": "1"}, json=error)

    page.route("**/predict?*", answer)
    drop(page, pictures[0])
    _expect(page.locator(".note")).to_contain_text("busy; asking again in 1 s")
    assert options(page)


def test_a_picture_that_is_there_before_the_models_waits_for_them(
    open_page: Open, pictures: list[Path]
) -> None:
    page = open_page()
    held: list[Any] = []
    page.route("**/api/models", lambda route: held.append(route))
    page.reload()
    drop(page, pictures[0])
    _expect(page.locator("#strip > li")).to_have_attribute("data-state", "waiting")
    held.pop().continue_()
    assert options(page)


def test_a_server_that_is_gone_and_back(open_page: Open, served: Served, pictures: list[Path]) -> None:
    page = open_page()
    drop(page, pictures[0])
    found = options(page)
    served.stop()
    drop(page, pictures[1])
    banner = page.locator("#banner")
    _expect(banner).to_contain_text("does not answer")
    page.locator("#strip button.thumb").first.click()
    assert options(page) == found, "what is there stays"
    _slide(page, 1)
    assert len(options(page)) < len(found)
    _slide(page, 0.5)
    served.start()
    _expect(banner).to_contain_text("is back")
    _expect(page.locator("#strip > li").nth(1)).to_have_attribute("data-state", "done")
    page.locator("#strip button.thumb").nth(1).click()
    assert options(page)


def test_two_tabs_know_nothing_of_each_other(open_page: Open, pictures: list[Path]) -> None:
    first = open_page()
    second = open_page(beside=first)
    drop(first, pictures[0])
    drop(second, pictures[1], pictures[2])
    _expect(second.locator("#strip > li")).to_have_count(2)
    options(second)
    second.get_by_label("Score from").fill("0.99")
    _expect(first.locator("#score-out")).to_have_text("0.50")
    _expect(first.locator("#strip > li")).to_have_count(1)
    assert options(first)


@pytest.mark.parametrize(("ending", "codec"), [("webm", "libvpx"), ("avi", "mpeg4")])
def test_a_film_is_drawn_in_time(open_page: Open, tmp_path: Path, ending: str, codec: str) -> None:
    """Also one that this browser cannot show."""
    av = pytest.importorskip("av", reason="needs the extra `video`")
    from resnest_zoo.data import shapes

    path = tmp_path / f"shapes.{ending}"
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=4)
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for index in range(4):
            picture = shapes.draw(1, index // 2 + 1, size=(128, 192)).image
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    page = open_page()
    drop(page, path)
    page.get_by_label("Every nth frame").fill("1")
    page.get_by_label("Every nth frame").blur()
    options(page)
    _expect(page.locator(".time")).to_contain_text("4 frames in")
    assert not re.search(r"class \d", page.locator(".things").inner_text())
    page.get_by_label("Score from").fill("0.3")
    seen = []
    for seconds in ("0.05", "0.75"):
        page.get_by_label("Position in").fill(seconds)
        page.wait_for_timeout(200)
        seen.append((options(page), pixels(page)["sum"]))
    assert seen[0] != seen[1]
    assert all(found for found, _ in seen)
    play = page.get_by_role("button", name="Play")
    if ending == "avi":
        _expect(play).to_be_disabled()
        return
    page.get_by_label("Compare with").select_option(PANOPTIC)
    options(page, 1)
    page.get_by_label("Position in").first.fill("0.1")
    _expect(page.get_by_label("Position in").nth(1)).to_have_value("0.1")
    play.first.click()
    _expect(page.get_by_label("Position in").first).not_to_have_value("0.1")
