"""What a run of `verify` keeps is read again whatever became of its lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.verify.prediction import Records
from tests.mutations import mutated_bytes, mutated_trees


def kept(image_id: int) -> dict[str, object]:
    row = {"image_id": image_id, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    return {
        "image_id": image_id,
        "detections": [row],
        "panoptic": {"image_id": image_id, "file_name": "a.png", "segments_info": []},
        "matches": {"image_id": image_id, "categories": []},
        "confusion": {"image_id": image_id, "pixels": [0, 0, 5]},
    }


def test_damaged_lines_do_not_count_and_the_others_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = Records(tmp_path, 0)
    records.append([kept(1), kept(2)])
    whole = (tmp_path / "pictures.0.jsonl").read_bytes()
    assert set(records.read()) == {1, 2}
    assert not caplog.records
    lines = [f"{2} {json.dumps(tree)}\n".encode() for tree in mutated_trees(kept(2), 60)]
    lines += [
        b"x {}\n",
        b"3\n",
        b"3 \n",
        b"\n",
        b"3 " + b"[" * 20_000 + b"\n",
        b"3 7\n",
        b"\xff\n",
        b"9" * 5000 + b" {}\n",
    ]
    for line in lines:
        (tmp_path / "pictures.0.jsonl").write_bytes(whole.split(b"\n")[0] + b"\n" + line)
        read = records.read()
        assert set(read) in ({1}, {1, 2})
        assert all(json.loads(content)["image_id"] == image_id for image_id, content in read.items())
    assert "line 2 is damaged and left out" in caplog.text
    for content in mutated_bytes(whole, 60):
        (tmp_path / "pictures.0.jsonl").write_bytes(content)
        assert all(isinstance(json.loads(line)["detections"], list) for line in records.read().values())
