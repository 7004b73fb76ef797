"""The record of `predict`: names that follow the pictures, and runs that are killed, resumed, and refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import resnest_zoo.api
from resnest_zoo.cli import demo, main
from resnest_zoo.cli.inputs import Input
from resnest_zoo.cli.predictions import Named, name_pictures
from tests.predict_stub import StubPredictor
from tests.test_cli import Capture, one_error

ROOT = Path(__file__).parent.parent
MODEL = "faster_rcnn_resnest50"  # whose name counts alone


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of four pictures, in which a stub of the model finds something."""
    monkeypatch.setattr(resnest_zoo.api, "Predictor", StubPredictor)
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png", "d.png"):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / name)
    return folder


def predict(*argv: str | Path) -> int:
    return main(["predict", *map(str, argv), "--model", MODEL])


def document(output: Path) -> Any:
    return json.loads((output / "predictions.json").read_text())


def files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("[!.]*")}


# --- names ------------------------------------------------------------------------------------


def named(*paths: str, known: dict[str, Named] | None = None) -> list[tuple[int, str]]:
    return [(found.image_id, found.stem) for found in name_pictures(map(Input, paths), known or {})]


def test_a_number_is_the_id_and_another_name_gives_one_that_every_reader_keeps() -> None:
    (coco, name) = named("x/000000000139.jpg", "x/shot.jpg")
    assert coco == (139, "000000000139")
    assert name[1] == "shot"
    assert 2**52 <= name[0] < 2**53
    assert float(name[0]) == name[0]


def test_what_a_picture_is_called_does_not_depend_on_strays() -> None:
    names = [f"{k:012d}.jpg" for k in range(5)] + ["b.jpg", "c.jpg"]
    alone = dict(zip(names, named(*names), strict=True))
    more = ["a stray.jpg", *names, "notes.png", "zz.jpg"]
    beside = dict(zip(more, named(*more), strict=True))
    assert {name: beside[name] for name in names} == alone
    assert len({image_id for image_id, _ in beside.values()}) == len(more)


def test_pictures_of_one_name_are_told_apart() -> None:
    found = named("a/7.jpg", "b/7.jpg", "b/007.jpg", "a/shot.jpg", "b/Shot.png", "b/shot-2.jpg")
    assert found[0] == (7, "7")
    assert len({image_id for image_id, _ in found}) == 6
    assert [stem for _, stem in found] == ["7", "7-2", "007", "shot", "Shot-2", "shot-2-2"]


def test_pictures_of_earlier_runs_keep_their_names() -> None:
    known = {"b/shot.jpg": Named(Input("b/shot.jpg"), 5, "shot")}
    first, second = named("a/shot.jpg", "b/shot.jpg", known=known)
    assert second == (5, "shot")
    assert first[1] == "shot-2"


def test_names_stay_short_enough_for_a_disk() -> None:
    (found,) = name_pictures([Input("ä" * 125 + ".jpg")], {})
    assert len(found.panoptic.encode()) <= 255


# --- results that are there already -------------------------------------------------------------


def test_the_record_holds_a_line_for_each_picture(pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "found"
    assert predict(pictures, "--output", output, "--json") == 0
    head, *lines = map(json.loads, (output / "predictions.jsonl").read_text().splitlines())
    whole = document(output)
    assert json.loads(capsys.readouterr().out) == whole
    assert whole == {
        **head,
        "images": [line["image"] for line in lines],
        "predictions": [row for line in lines for row in line["predictions"]],
        "panoptic": [line["panoptic"] for line in lines],
    }
    names = [f"{name}_panoptic.png" for name in "abcd"]
    assert [row["file_name"] for row in whole["panoptic"]] == names
    assert set(names) < set(files(output))


def test_another_run_in_the_folder_is_refused(pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "found"
    assert predict(pictures, "--output", output) == 0
    before = files(output)
    capsys.readouterr()
    assert predict(pictures / "a.png", "--output", output) == 1
    assert "holds the results of another run (predictions.jsonl): --resume goes on" in one_error(capsys)
    assert predict(pictures, "--output", output, "--resume", "--weights", "1") == 1
    assert "were made otherwise: weights: expected {'weights': 'crc32:" in capsys.readouterr().err
    assert files(output) == before
    (output / "predictions.jsonl").unlink()
    for more in ([], ["--resume"]):
        assert predict(pictures, "--output", output, *more) == 1
        message = one_error(capsys)
        assert "another run (predictions.json): without predictions.jsonl nothing goes on; choose" in message


def test_files_of_no_run_are_not_replaced(pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "found"
    output.mkdir()
    (output / "c.jpg").write_bytes(b"of the user")
    assert predict(pictures, "--output", output) == 1
    assert "holds c.jpg already, and no record of a run" in one_error(capsys)
    assert files(output) == {"c.jpg": b"of the user"}


def test_resume_takes_further_pictures(pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    whole, output = tmp_path / "whole", tmp_path / "found"
    assert predict(pictures, "--output", whole) == 0
    assert predict(pictures / "a.png", pictures / "b.png", "--output", output, "--resume") == 0
    capsys.readouterr()
    assert predict(pictures, "--output", output, "--resume") == 0
    shown = capsys.readouterr()
    assert [line.partition(":")[0] for line in shown.out.splitlines()] == [
        str(pictures / "c.png"),
        str(pictures / "d.png"),
    ]
    assert shown.err == "2 of 4 pictures are done\n"
    assert files(output) == files(whole)


def test_a_line_that_a_kill_cut_off_is_done_again(pictures: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole", tmp_path / "found"
    for folder in (whole, output):
        assert predict(pictures, "--output", folder) == 0
    record = output / "predictions.jsonl"
    for cut in (-1, -30):  # without its end, and in its midst
        record.write_bytes(record.read_bytes()[:cut])
        (output / "predictions.json").unlink()
        (output / ".d.jpg.0123abcd.tmp").write_bytes(b"half")
        assert predict(pictures, "--output", output, "--resume") == 0
        assert files(output) == files(whole)
        assert not list(output.glob(".*.tmp"))


def test_a_line_damaged_otherwise_is_named(pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "found"
    assert predict(pictures, "--output", output) == 0
    record = output / "predictions.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    for wrong in (b"\0\0\0\n", b"[]\n", b'{"image": 1}\n'):
        record.write_bytes(b"".join([*lines[:2], wrong, *lines[3:]]))
        capsys.readouterr()
        assert predict(pictures, "--output", output, "--resume") == 1
        assert "predictions.jsonl, line 3: damaged" in one_error(capsys)


# --- odd paths and full disks ---------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and named pipes")
def test_no_odd_path_ends_a_batch(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    import os

    monkeypatch.chdir(tmp_path)
    Path("~nobody.png").write_bytes((pictures / "a.png").read_bytes())
    Path("loop.png").symlink_to("loop.png")
    Path("empty").mkdir()
    os.mkfifo(pictures / "pipe.jpg")
    (pictures / "folder.jpg").mkdir()
    (pictures / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    long = "x" * 300 + ".png"
    odd = ["loop.png", long, "empty", "/dev/null", "~nobody/b.png", "gone.png"]
    assert predict("~nobody.png", *odd, pictures, "--output", "found") == 1
    shown = capsys.readouterr()
    assert [line.partition(":")[0] for line in shown.out.splitlines()] == [
        "~nobody.png",
        *(str(pictures / f"{name}.png") for name in "abcd"),
    ]
    told = [line.split(": ", 2)[1:] for line in shown.err.splitlines()]
    assert [path for path, _ in told] == [
        *odd,
        *(str(pictures / name) for name in ("folder.jpg", "pipe.jpg", "torn.jpg")),
    ]
    assert [problem.partition(":")[0] for _, problem in told][:-1] == [
        "cannot be read",
        "cannot be read",
        "no pictures in this folder",
        "is a device, not a picture",
        "no such file",
        "no such file",
        "is a folder, not a picture",
        "is a pipe, not a picture",
    ]
    assert len(document(Path("found"))["images"]) == 5


def test_a_folder_that_cannot_be_listed_is_one_line(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "closed").mkdir()
    iterate = Path.iterdir

    def refuse(self: Path) -> Iterator[Path]:
        if self.name == "closed":
            raise PermissionError(13, "Permission denied", str(self))
        return iterate(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert predict(tmp_path / "closed", pictures) == 1
    shown = capsys.readouterr()
    assert shown.err == f"error: {tmp_path / 'closed'}: cannot be listed: Permission denied\n"
    assert len(shown.out.splitlines()) == 4


def test_a_name_that_the_outputs_disk_cannot_keep_is_one_line(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target.name == "b.jpg":
            raise OSError(22, "Invalid argument", str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    output = tmp_path / "found"
    assert predict(pictures, "--output", output) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {pictures / 'b.png'}: not kept: ")
    assert str(output / "b.jpg") in error
    assert len(document(output)["images"]) == 3


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As a quota: what is longer is written in part, and then refused."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("size", "name", "done"), [(100, "predictions.jsonl", 0), (900, "a.jpg", 0), (6000, "d.jpg", 3)]
)
def test_a_full_disk_is_an_error_that_names_the_file_and_loses_nothing(
    size: int, name: str, done: int, pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pictures / "d.png")  # the drawings of the others have 3000 bytes
    whole, output = tmp_path / "whole", tmp_path / "found"
    assert predict(pictures, "--output", whole) == 0
    capsys.readouterr()
    with largest_file(size):
        assert predict(pictures, "--output", output) == 1
    error = capsys.readouterr().err
    assert str(output / name) in error
    assert "File too large" in error
    assert error.count("\n") == 1
    assert sorted(output.glob("*.jpg")) == [output / f"{name}.jpg" for name in "abc"[:done]]
    assert not list(output.glob(".*.tmp"))
    assert predict(pictures, "--output", output, "--resume") == 0
    assert files(output) == files(whole)


def test_a_full_disk_fails_plot_by_name(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib.figure")
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"iteration": 1, "loss": 1.0, "lr": 0.1}) + "\n")
    output = tmp_path / "curves.png"
    with largest_file(2000):
        assert main(["plot", str(tmp_path), "--output", str(output)]) == 1
    assert str(output) in one_error(capsys)
    assert [path.name for path in tmp_path.glob("*.*")] == ["metrics.jsonl"]


def test_a_full_disk_fails_demo_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (90, 90, 3), dtype=np.uint8))
    monkeypatch.setattr(resnest_zoo.api, "get", lambda *_, **__: None)
    monkeypatch.setattr(demo, "_detect", lambda *_: None)
    monkeypatch.setattr(demo, "_table", lambda *_: ["numbers"])
    monkeypatch.setattr(demo, "_show", lambda *_: [noise])
    output = tmp_path / "demo.png"
    with largest_file(2000):
        assert main(["demo", "--count", "1", "--output", str(output)]) == 1
    assert capsys.readouterr().err == f"error: {output}: File too large\n"
    assert not list(tmp_path.iterdir())


# --- kills ----------------------------------------------------------------------------------------

# Runs `predict` in forked processes, of which each ends itself before its Nth step on the disk.
_KILLED = """
import os, signal, sys
from pathlib import Path
import resnest_zoo.api
import resnest_zoo.inference.visualize
from tests.predict_stub import StubPredictor
from resnest_zoo.cli import demo, main

resnest_zoo.api.Predictor = StubPredictor
pictures, folder, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
argv = ["predict", pictures, "--model", "faster_rcnn_resnest50", "--resume", "--output"]

def run(output, fatal=0):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    steps = 0
    def count(of):
        def step(*args, **kwargs):
            nonlocal steps
            steps += 1
            if steps == fatal:
                os.kill(os.getpid(), number)
            return of(*args, **kwargs)
        return step
    os.fsync, Path.replace, Path.open = count(os.fsync), count(Path.replace), count(Path.open)
    sys.stdout = sys.stderr = open(os.devnull, "w")
    os._exit(main([*argv, str(output)]))

assert run(folder / "whole") == 0
for fatal in range(1, 100):
    if run(folder / str(fatal), fatal) == 0:
        break
    assert run(folder / str(fatal)) == 0
print(fatal)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_at_any_step_costs_one_picture_at_most(pictures: Path, tmp_path: Path, number: int) -> None:
    for name in ("c.png", "d.png"):
        (pictures / name).unlink()
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, pictures, tmp_path, str(int(number))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert int(done.stdout) > 2 * 5  # steps of a run
    whole = files(tmp_path / "whole")
    for fatal in range(1, int(done.stdout)):
        assert files(tmp_path / str(fatal)) == whole, fatal
        assert not list((tmp_path / str(fatal)).glob(".*.tmp"))


# In a process of its own, where nothing that other tests loaded or left running is counted. `held` is what is
# allocated before each picture; the third argument is how many bytes are lost on purpose with each.
_MEASURED = """
import array, gc, json, sys, tracemalloc
import resnest_zoo.api
from resnest_zoo.cli import main
from tests.predict_stub import StubPredictor

pictures, output, lost = sys.argv[1], sys.argv[2], int(sys.argv[3])
held, count, kept = array.array("q", bytes(8 * 1000)), 0, []

class Measured(StubPredictor):
    def __call__(self, picture):
        global count
        if count % 100 == 0:
            gc.collect()  # which also frees what the interpreter keeps of freed tuples, up to 2000
        held[count] = tracemalloc.get_traced_memory()[0]
        count += 1
        if lost:
            kept.append(bytes(lost - sys.getsizeof(b"")))
        return super().__call__(picture)

resnest_zoo.api.Predictor = Measured
sys.stdout, shown = open(sys.argv[2] + ".out", "w"), sys.stdout
tracemalloc.start()
code = main(["predict", pictures, "--model", "faster_rcnn_resnest50", "--output", output, "--json"])
tracemalloc.stop()
json.dump([code, held[:count].tolist()], shown)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 200])
def test_memory_stays_flat_over_many_pictures(pictures: Path, tmp_path: Path, lost: int) -> None:
    """Nothing is kept of a picture but its name in the list of work; 200 bytes lost with each are seen.

    The growth is the smallest of any hundred pictures but the first: once in a while the interpreter enlarges
    its table of interned strings, to which pathlib adds each new name, by megabytes at once.
    """
    data = (pictures / "a.png").read_bytes()
    count = 401
    for number in range(count - 4):
        (pictures / f"{number:06d}.png").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, pictures, tmp_path / "found", str(lost)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    code, held = json.loads(done.stdout)
    assert code == 0
    assert len(held) == len(document(tmp_path / "found")["images"]) == count
    growth = min(held[k + 100] - held[k] for k in (100, 200, 300)) / 100
    assert (growth < 220) is (lost == 0), (
        f"{growth} bytes with each picture"
    )  # 138, and 325 of which 200 are lost
