"""Results for the hub: its library reads them, measured and reported never mixed, numbers that are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from resnest_zoo import Measured, Reported, get
from resnest_zoo.errors import ConfigError
from resnest_zoo.integrations.results import CONDITIONS, Place, eval_entries, model_index

HERE = {"device": "cpu", "dtype": "float32", "resolution": "800, at most 1333", "versions": "torch 2"}
MEASURED = Measured("COCO", "val2017", "2026-11-27", HERE, box=42.1, mask=37.5)
REPORTED = Reported("COCO", "val2017", True, 42.81, 38.14)
PLACE = Place({}, "https://huggingface.co/org/net", "https://host/paper")


def test_the_hubs_library_reads_what_was_measured_with_its_conditions() -> None:
    rows = yaml.safe_load(yaml.safe_dump(eval_entries([MEASURED], PLACE)))
    entries = parse_eval_result_entries(rows)
    assert [(entry.task_id, entry.value) for entry in entries] == [("box_ap", 42.1), ("mask_ap", 37.5)]
    for entry in entries:
        assert entry.dataset_id == "detection-datasets/coco"
        assert entry.date == "2026-11-27"
        assert (entry.source_url, entry.source_name) == ("https://huggingface.co/org/net", "Measured")
        assert entry.notes is not None
        assert "in percent on val2017; measured; device cpu; dtype float32; resolution 800" in entry.notes
        assert entry.verify_token is None


def test_what_is_reported_says_so_and_by_whom_and_has_no_date_of_ours() -> None:
    for entry in parse_eval_result_entries(eval_entries([REPORTED], PLACE)):
        assert (entry.source_url, entry.source_name) == ("https://host/paper", "Reported by its authors")
        assert entry.date is None
        assert entry.notes is not None
        assert "reported by the source, not measured again, with test-time augmentation" in entry.notes


def test_a_data_set_without_a_name_on_the_hub_stands_in_the_model_index_alone() -> None:
    own = Measured("My helmets", "val", "2026-11-27", HERE, box=50.0)
    assert eval_entries([own], PLACE) == []
    (record,) = model_index("net", [own], PLACE)[0]["results"]
    assert record["dataset"] == {"type": "my-helmets", "name": "My helmets", "split": "val"}
    named = Place({"My helmets": "me/helmets"})
    assert eval_entries([own], named)[0]["dataset"] == {"id": "me/helmets", "task_id": "box_ap"}
    assert "source" not in eval_entries([own], named)[0]  # a folder has no page


def test_the_model_index_keeps_every_number_with_its_own_source() -> None:
    """Which huggingface_hub's own writer does not: it joins what is of one data set."""
    index = yaml.safe_load(yaml.safe_dump(model_index("net", [MEASURED, REPORTED], PLACE)))
    name, results = model_index_to_eval_results(index)
    assert name == "net"
    assert [(r.metric_name, r.metric_value, r.source_url) for r in results] == [
        ("box AP (measured)", 42.1, PLACE.repository_url),
        ("mask AP (measured)", 37.5, PLACE.repository_url),
        ("box AP (reported)", 42.81, PLACE.reported_source),
        ("mask AP (reported)", 38.14, PLACE.reported_source),
    ]
    assert [r.task_type for r in results] == ["object-detection", "image-segmentation"] * 2
    assert results[0].metric_args == HERE
    assert results[2].metric_args == {"tta": True}
    joined = eval_results_to_model_index("net", results)[0]["results"]
    assert len(joined) < len(index[0]["results"])


def test_numpys_numbers_become_plain_ones() -> None:
    measured = Measured("COCO", "val", "2026-11-27", HERE, box=np.float32(42.5), pq=np.float64(1))
    assert type(measured.box) is type(measured.pq) is float
    reported = Reported("COCO", "val", None, np.float32(42.5))  # type: ignore[arg-type]
    for text in (eval_entries([measured, reported], PLACE), model_index("net", [measured, reported], PLACE)):
        assert "python" not in yaml.safe_dump(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 100.1, "much", [1]])
def test_what_is_no_percentage_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="measured results on COCO: box: expected percent"):
        Measured("COCO", "val", "2026-11-27", HERE, box=value)  # type: ignore[arg-type]


def test_a_number_without_its_conditions_is_refused() -> None:
    for missing in CONDITIONS:
        with pytest.raises(ConfigError, match=f"a number carries its conditions; missing: {missing}"):
            Measured("COCO", "val", "2026-11-27", {**HERE, missing: " "}, box=1.0)
    with pytest.raises(ConfigError, match="expected a number for box, mask or pq"):
        Measured("COCO", "val", "2026-11-27", HERE)
    for date in ("yesterday", "", None):
        with pytest.raises(ConfigError, match="date: expected one such as 2026-11-27"):
            Measured("COCO", "val", date, HERE, box=1.0)  # type: ignore[arg-type]


@pytest.mark.usefixtures("mirror")
def test_what_was_measured_here_carries_the_conditions_of_this_process() -> None:
    model = get("tiny_panoptic")
    metrics = {"bbox/AP": 12.5, "segm/AP": 10.0, "panoptic_seg/PQ": None, "bbox/AP50": 30.0}
    measured = Measured.of(model, metrics, "COCO", "val2017")
    assert (measured.box, measured.mask, measured.pq) == (12.5, 10.0, None)
    assert measured.conditions["device"] == "cpu"
    assert measured.conditions["dtype"] == "float32"
    assert measured.conditions["resolution"] == "shorter side 64, longer at most 96"
    assert "torch " in measured.conditions["versions"]
    with pytest.raises(ConfigError, match="box: expected percent from 0 to 100, got nan"):
        Measured.of(model, {"bbox/AP": math.nan}, "COCO", "val2017")
    with pytest.raises(ConfigError, match="expected a number for box, mask or pq"):
        Measured.of(model, {"AP": 1.0}, "COCO", "val2017")
    model.config = None
    with pytest.raises(ConfigError, match="put together by hand"):
        Measured.of(model, metrics, "COCO", "val2017")
