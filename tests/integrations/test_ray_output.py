"""The folder of results: begun, refused, resumed and never with a row twice."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pip install 'resnest-zoo[ray]'")

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from resnest_zoo.errors import ConfigError, DataError, LockedError
from resnest_zoo.integrations.ray.output import (
    JOB,
    Known,
    Writer,
    begin,
    open_store,
    parts,
    read_part,
    sole_writer,
)
from resnest_zoo.integrations.ray.rows import error_row, schema, to_table

JOB_OF_ONE = {"model": "m", "weights": "w", "score_threshold": 0.5}


def table(*ids: str) -> Any:
    return to_table([error_row(name, "x") for name in ids], "m", "w")


def ids_in(output: str | Path) -> list[str]:
    store = open_store(output)
    return [name for part in parts(store) for name in read_part(store, part)["id"].to_pylist()]


def write(output: str | Path, *tables: Any, rows: int = 2) -> Writer:
    store = open_store(output)
    with sole_writer(output, store):
        writer = Writer(store, begin(output, store, JOB_OF_ONE, resume=True), rows)
        for one in tables:
            writer.add(one)
        writer.flush()
    return writer


@pytest.fixture(params=["folder", "address"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "folder":
        yield tmp_path / "out"
        return
    import fsspec

    yield "memory://of_a_test/out"
    store = fsspec.filesystem("memory")
    store.rm("/of_a_test", recursive=True)


def test_known_ids_are_those_that_were_added() -> None:
    known = Known()
    names = [f"picture {k}" for k in range(500)]
    assert all(known.add(name) for name in names[:300])
    known.settle()
    assert not any(known.add(name) for name in names[:300])
    assert all(known.add(name) for name in names[300:])
    known.settle()
    assert all(name in known for name in names)
    assert "another" not in known
    assert len(known) == 500


def test_parts_are_numbered_and_go_on_after_a_resume(output: Any) -> None:
    done = write(output, table("a"), table("b"), table("c"))
    assert (done.rows, done.failed, done.parts) == (3, 3, 2)
    assert ids_in(output) == ["a", "b", "c"]
    write(output, table("d"))
    assert parts(open_store(output)) == [f"part-00000{k}.parquet" for k in range(3)]
    assert sorted(open_store(output).names())[-1] == "part-000002.parquet"


def test_a_row_that_comes_twice_is_dropped(output: Any, caplog: pytest.LogCaptureFixture) -> None:
    write(output, table("a", "b"))
    with caplog.at_level(logging.WARNING):
        done = write(output, table("b", "c"), table("c"))
    assert ids_in(output) == ["a", "b", "c"]
    assert done.rows == 1
    assert "came a second time" in caplog.text


def test_a_folder_that_holds_something_is_refused(output: Any) -> None:
    store = open_store(output)
    with sole_writer(output, store):
        begin(output, store, JOB_OF_ONE, resume=False)
        with pytest.raises(ConfigError, match=r"is not empty \(_job.json\): --resume goes on with it"):
            begin(output, store, JOB_OF_ONE, resume=False)
        store.remove(JOB)
        store.write("notes.txt", b"mine")
        for resume in (False, True):
            with pytest.raises(
                ConfigError, match=r"is not empty \(notes.txt\): it holds no _job.json of a job"
            ):
                begin(output, store, JOB_OF_ONE, resume=resume)


@pytest.mark.parametrize("changed", [{"weights": "other"}, {"score_threshold": 0.3}, {"more": 1}])
def test_a_job_that_was_run_otherwise_is_not_resumed(tmp_path: Path, changed: dict[str, Any]) -> None:
    store = open_store(tmp_path)
    begin(tmp_path, store, JOB_OF_ONE, resume=True)
    with pytest.raises(ConfigError, match=f"were made otherwise: {next(iter(changed))}: expected"):
        begin(tmp_path, store, {**JOB_OF_ONE, **changed}, resume=True)


def test_what_a_kill_leaves_is_removed(output: Any, caplog: pytest.LogCaptureFixture) -> None:
    write(output, table("a"))
    store = open_store(output)
    store.write(".part-000001.parquet.0123abcd.tmp", b"half")
    store.write("part-000007.parquet", b"PAR1 and then nothing")
    with caplog.at_level(logging.WARNING):
        write(output, table("b"))
    assert ids_in(output) == ["a", "b"]
    assert not any(name.endswith(".tmp") for name in store.names())
    assert "part-000007.parquet: cannot be read" in caplog.text


def test_two_rows_of_a_picture_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, table("a"))
    (tmp_path / "part-000009.parquet").write_bytes((tmp_path / "part-000000.parquet").read_bytes())
    with pytest.raises(DataError, match="a has more than one row; the second is in part-000009"):
        write(tmp_path)


def test_one_job_at_a_time_writes_into_a_folder(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with (
        sole_writer(tmp_path, store),
        pytest.raises(LockedError, match="is at work here"),
        sole_writer(tmp_path, store),
    ):
        pass


def test_a_part_without_a_mask_or_an_error_reads_together_with_others(tmp_path: Path) -> None:
    """It stands first, which is where readers take the columns from."""
    write(tmp_path, table("a"))
    found = {**error_row("b", "x"), "error": None, "width": 4, "height": 2, "boxes": [[0.0, 1, 2, 3]]}
    found |= {"scores": [0.5], "classes": [0], "category_ids": [7], "names": ["cat"]}
    found["masks"] = [{"size": [2, 4], "counts": "08"}]
    found["segments"] = [{"id": 1, "category_id": 7, "name": "cat", "isthing": True, "area": 8, "mask": None}]
    write(tmp_path, to_table([found], "m", "w"))
    whole = pyarrow.dataset.dataset(tmp_path, format="parquet").to_table()
    assert whole.schema == schema()
    assert whole["masks"].to_pylist() == [None, found["masks"]]
    import pandas

    assert list(pandas.read_parquet(tmp_path)["id"]) == ["a", "b"]
    assert pa.types.is_string(
        pyarrow.parquet.read_schema(tmp_path / "part-000000.parquet").field("error").type
    )


def test_a_file_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        open_store(tmp_path / "x")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted where Linux lists them")
def test_reading_leaves_no_thread_that_holds_a_file_as_the_interpreter_ends(tmp_path: Path) -> None:
    """Such a one releases it when Python's lock can no longer be had, which aborts the process."""
    write(tmp_path, table("a"), table("b"))
    program = """
import sys
from pathlib import Path
from resnest_zoo.integrations.ray import read_predictions

def threads():
    names = (path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
    return sum(not name.startswith("jemalloc") for name in names)

results = read_predictions(sys.argv[1])
before = threads()
assert len(list(results.rows())) == 2
print(threads() - before)
"""
    (tmp_path / "_job.json").write_text(
        json.dumps({**JOB_OF_ONE, "things": {}, "stuff": {}}), encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0"
