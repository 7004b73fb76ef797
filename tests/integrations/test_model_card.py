"""Cards: what readers and the hub's library find in them, and what is refused."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard as TheirCard

from resnest_zoo import Measured, ModelCard, Reported, build_model, get, load_config
from resnest_zoo.categories import COCO_PANOPTIC
from resnest_zoo.errors import ConfigError
from resnest_zoo.integrations.model_card import card_text, is_card
from resnest_zoo.models import GeneralizedRCNN
from tests.integrations.test_results import HERE

MEASURED = Measured("COCO", "val2017", "2026-11-27", HERE, box=42.1)


def text_of(model: GeneralizedRCNN, card: ModelCard | None = None) -> str:
    card = card or ModelCard()
    return card_text(model, card, "net", "hf://org/net", card.place("https://host/org/net"))


@pytest.mark.usefixtures("mirror")
def test_the_hubs_library_reads_the_head() -> None:
    card = ModelCard(
        name="Helmets",
        licence="Apache-2.0",
        datasets={"COCO": "detection-datasets/coco", "mine": "me/helmets"},
        measured=(MEASURED,),
    )
    data = TheirCard(text_of(get("tiny_mask"), card)).data
    assert data.license == "apache-2.0"
    assert data.library_name == "resnest_zoo"
    assert data.pipeline_tag == "image-segmentation"
    assert data.tags == ["instance-segmentation", "pytorch", "resnest-14"]
    assert data.datasets == ["detection-datasets/coco", "me/helmets"]
    assert data.model_name == "Helmets"
    assert [(r.metric_type, r.metric_value) for r in data.eval_results] == [("box_ap", 42.1)]


@pytest.mark.parametrize(
    ("kind", "tag", "task", "words"),
    [
        ("detection", "object-detection", "object-detection", "Faster R-CNN on ResNeSt-14-FPN, deformable"),
        ("mask", "instance-segmentation", "image-segmentation", "Mask R-CNN on ResNeSt-14-FPN; 129,640 par"),
        ("cascade", "instance-segmentation", "image-segmentation", "Cascade Mask R-CNN on ResNeSt-14-FPN;"),
        (
            "panoptic",
            "panoptic-segmentation",
            "image-segmentation",
            "Panoptic FPN with Cascade Mask R-CNN on",
        ),
    ],
)
@pytest.mark.usefixtures("mirror")
def test_a_card_says_what_a_model_is(kind: str, tag: str, task: str, words: str) -> None:
    text = text_of(get(f"tiny_{kind}"))
    data = TheirCard(text).data
    assert data.tags[0] == tag
    assert data.pipeline_tag == task
    assert words in text
    assert "80: `person`, `bicycle`" in text
    assert ("Stuff: `banner`" in text) == (kind == "panoptic")
    assert "Not stated." in text
    assert "Results" not in text
    assert "widget" not in text
    assert 'from_pretrained("hf://org/net")' in text


def test_every_published_config_is_described() -> None:
    import torch

    with torch.device("meta"):
        cfg = load_config("COCO-PanopticSegmentation/panoptic_ResNeSt_200_FPN_syncBN_tricks_3x.yaml")
        text = text_of(build_model(cfg, COCO_PANOPTIC))
    assert "Panoptic FPN with Cascade Mask R-CNN on ResNeSt-200-FPN" in text


@pytest.mark.usefixtures("mirror")
def test_measured_and_reported_results_stand_in_tables_of_their_own() -> None:
    card = ModelCard(
        measured=(MEASURED,),
        reported=(Reported("COCO", "val2017", False, 42.81, decimals=1),),
        reported_source="https://host/paper",
    )
    measured, reported = text_of(get("tiny_mask"), card).split("## Results")[1:]
    assert measured.startswith(", measured with these weights")
    assert "| COCO | val2017 | 2026-11-27 | box AP 42.10 | measured; device cpu; dtype float32" in measured
    assert reported.startswith(", reported elsewhere\n\nSource: <https://host/paper>")
    assert "| COCO | val2017 | box AP 42.8 | reported by the source, not measured again |" in reported
    assert "42.8" not in measured


@pytest.mark.usefixtures("mirror")
def test_names_that_are_markup_stay_names() -> None:
    model = get("tiny_mask", categories=["a|b", "`c`", "d\ne", "<script>"], pretrained=False)
    text = text_of(model, ModelCard(name="one\ntwo: 'three'"))
    assert "4: `a/b`, `'c'`, `d e`, `<script>`." in text
    assert "# one two: 'three'" in text
    assert TheirCard(text).data.library_name == "resnest_zoo"


def test_what_cannot_stand_in_a_card_is_refused() -> None:
    for licence in ("", "Apache License, 2.0", "mit\nx: y"):
        with pytest.raises(ConfigError, match=r"licence: expected an identifier such as apache-2\.0"):
            ModelCard(licence=licence)
    reported = Reported("COCO", "val2017", False, 42.81)
    for source in ("", "paper", "https://host/a b"):
        with pytest.raises(ConfigError, match="reported results need their source"):
            ModelCard(reported=(reported,), reported_source=source)
    with pytest.raises(ConfigError, match="measured: expected Measured results alone; they are not mixed"):
        ModelCard(measured=(reported,))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="reported: expected Reported results alone"):
        ModelCard(reported=(MEASURED,), reported_source="https://host")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("---\nlibrary_name: resnest_zoo\n---\n# x", True),
        ("---\r\nlibrary_name: resnest_zoo\r\n---\r\n", True),
        ("---\nlibrary_name: transformers\n---\n", False),
        ("---\n- resnest_zoo\n---\n", False),
        ("---\n{\n---\n", False),
        ("# resnest_zoo\n", False),
        ("", False),
    ],
)
def test_a_card_of_ours_is_known_by_its_head(text: str, ours: bool) -> None:
    assert is_card(text) is ours
