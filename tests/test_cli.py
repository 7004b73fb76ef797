"""The command `resnest-zoo`: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import resnest_zoo
from resnest_zoo.cli import main
from resnest_zoo.hub import Artifact, cache_dir
from resnest_zoo.registry import MMDETECTION, PUBLISHED, SHIPPED, Entry, Reported, info, register
from tests.servers import FileServer, Reply

ROOT = Path(__file__).parents[1]
Capture = pytest.CaptureFixture[str]


def usage_error(*argv: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


def one_error(capsys: Capture) -> str:
    """The only line on stderr, which is an error without a traceback."""
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    return shown.err


# --- list ----------------------------------------------------------------------------------------------


def test_list_shows_the_21_and_the_eight_with_their_numbers(capsys: Capture) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = "name method backbone box AP mask AP PQ params known SHA-256"
    assert " ".join(lines[0].split()) == header
    assert [line.split()[0] for line in lines[1:32]] == [*PUBLISHED, *MMDETECTION, *SHIPPED]
    assert lines[32:] == ["", "AP and PQ as reported on COCO val2017, in percent."]
    (row,) = [line for line in lines if line.startswith("faster_rcnn_resnest50 ")]
    assert row.split() == [
        "faster_rcnn_resnest50",
        "Faster",
        "R-CNN",
        "ResNeSt-50",
        "42.33",
        "45",
        "M",
        "ad123c0b…",
    ]
    (row,) = [line for line in lines if line.startswith("faster_rcnn_resnest50_dcn ")]
    assert row.endswith("  none")
    (row,) = [line for line in lines if line.startswith("mask_rcnn_resnest50_mmdet ")]
    assert row.split()[4:] == ["42.6", "38.1", "48", "M", "8a2c3d47…"]


def test_list_takes_a_pattern_and_a_task(capsys: Capture) -> None:
    assert main(["list", "mask_rcnn_*"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:] if "resne" in line]
    assert names == [name for name in (*PUBLISHED, *MMDETECTION, *SHIPPED) if name.startswith("mask_rcnn_")]
    assert main(["list", "--task", "panoptic segmentation", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [
        "panoptic_resnest200_3x",
        SHIPPED[-1],
    ]
    assert main(["list", "--backbones", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 46


def test_list_searches_for_part_of_a_name(capsys: Capture) -> None:
    def found(*words: str) -> list[str]:
        assert main(["list", "--json", *words]) == 0
        return [row["name"] for row in json.loads(capsys.readouterr().out)]

    assert found("ResNeSt200") == [name for name in PUBLISHED if "resnest200" in name]
    assert found("rcnn-resnest50") == found("*rcnn_resnest50*")
    assert found("mask_rcnn_resnest50") == ["mask_rcnn_resnest50", "mask_rcnn_resnest50_mmdet"]
    assert found("*resnest50") == [name for name in PUBLISHED if name.endswith("resnest50")]


def test_a_pattern_that_matches_nothing_is_an_error(capsys: Capture) -> None:
    for more in ([], ["--json"]):
        assert main(["list", "yolo*", *more]) == 1
        assert "no model matches 'yolo*'" in one_error(capsys)


@pytest.mark.usefixtures("own_registry")
def test_list_shows_no_number_of_another_data_set(capsys: Capture) -> None:
    reported = (Reported("Roads", "test", False, 77.7), Reported("COCO", "val2017", True, 66.6))
    register(
        Entry(
            "own",
            "object detection",
            Artifact("own.pth", sha256="a" * 64),
            config="own.yaml",
            reported=reported,
        )
    )
    assert main(["list", "own"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == ["own", "object", "detection", "full"]
    assert main(["info", "own"]) == 0
    out = capsys.readouterr().out
    assert "Roads test: box AP 77.70\n" in out
    assert "COCO val2017: box AP 66.60, with test-time augmentation\n" in out


# --- info ----------------------------------------------------------------------------------------------


def test_info_by_alias_shows_what_is_known(capsys: Capture) -> None:
    assert main(["info", "mask_cascade_rcnn_ResNeSt_200_FPN_dcn_syncBN_all_tricks_3x"]) == 0
    out = capsys.readouterr().out
    entry = info("mask_cascade_resnest200_dcn_3x")
    for text in (
        entry.name,
        entry.artifact.filename,
        *entry.artifact.urls,
        *map(str, entry.reported),
        *entry.aliases,
    ):
        assert text in out, text
    assert f"{entry.parameters:,}" in out


def test_info_says_how_much_of_the_hash_is_published(capsys: Capture) -> None:
    lines = {}
    for name in ("faster_rcnn_resnest50", "faster_rcnn_resnest50_dcn"):
        main(["info", name])
        (lines[name],) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("SHA-256")]
    assert lines["faster_rcnn_resnest50"].endswith(
        "begins with ad123c0b, which is all that is published of it"
    )
    assert lines["faster_rcnn_resnest50_dcn"].endswith("none published: the bytes cannot be verified")


@pytest.mark.usefixtures("tiny")
def test_info_shows_a_full_hash_and_a_size(capsys: Capture) -> None:
    artifact = info("tiny_mask").artifact
    assert main(["info", "tiny_mask"]) == 0
    out = capsys.readouterr().out
    assert f"SHA-256      {artifact.sha256}\n" in out
    assert f"size         {artifact.size:,} bytes\n" in out


@pytest.mark.parametrize("name", [*PUBLISHED[:2], "panoptic_resnest200_3x", "resnet50_msra"])
def test_info_as_json_holds_the_record(name: str, capsys: Capture) -> None:
    assert main(["info", name, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    entry = info(name)
    assert record["name"] == name
    assert record["artifact"]["filename"] == entry.artifact.filename
    assert record["artifact"]["urls"] == list(entry.artifact.urls)


@pytest.mark.usefixtures("own_registry")
def test_info_of_a_local_file_shows_its_path(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "own.pth"
    register(Entry("own", "object detection", Artifact("own.pth", path=path), config="own.yaml"))
    assert main(["info", "own"]) == 0
    assert f"file         {path}\n" in capsys.readouterr().out
    assert main(["info", "own", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["artifact"]["path"] == str(path)


def test_an_unknown_name_is_one_line_with_a_suggestion(capsys: Capture) -> None:
    assert main(["info", "faster_rcnn_resnst50"]) == 1
    assert "Did you mean 'faster_rcnn_resnest50'" in one_error(capsys)


# --- download ------------------------------------------------------------------------------------------


def test_download_prints_where_the_verified_files_are(mirror: FileServer, capsys: Capture) -> None:
    assert main(["download", "tiny_mask", "tiny_detection"]) == 0
    paths = [cache_dir() / info(name).artifact.filename for name in ("tiny_mask", "tiny_detection")]
    expected = [f"tiny_mask  {paths[0]}", f"tiny_detection  {paths[1]}"]
    assert capsys.readouterr().out.splitlines() == expected
    assert all(path.is_file() for path in paths)
    assert len(mirror.paths) == 2


def test_a_failed_download_is_reported_and_the_others_continue(mirror: FileServer, capsys: Capture) -> None:
    mirror.replies[f"/{info('tiny_mask').artifact.filename}"] = Reply(status=403)
    assert main(["download", "tiny_mask", "tiny_detection"]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("error: ") == 1
    assert "HTTP 403" in shown.err
    assert "Traceback" not in shown.err
    assert shown.out.startswith("tiny_detection  ")


def test_download_all_means_every_detector_and_no_backbone(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr("resnest_zoo.hub.fetch", lambda artifact, **_: fetched.append(artifact.filename))
    assert main(["download", "--all"]) == 0
    assert fetched == [info(name).artifact.filename for name in resnest_zoo.list_models()]
    assert len(fetched) == 35


def test_download_of_an_unknown_name_downloads_nothing(mirror: FileServer, capsys: Capture) -> None:
    assert main(["download", "tiny_mask", "tiny_msk"]) == 1
    assert "Did you mean 'tiny_mask'" in one_error(capsys)
    assert mirror.paths == []


def test_download_wants_names_or_all(capsys: Capture) -> None:
    usage_error("download")
    assert "NAME --all is required" in capsys.readouterr().err
    usage_error("download", "faster_rcnn_resnet50", "--all")
    assert "not allowed with" in capsys.readouterr().err


# --- usage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["dance"],
        ["predict", "a.jpg"],
        ["predict", "--model", "faster_rcnn_resnet50"],
        ["list", "--task", "knitting"],
        ["predict", "a.jpg", "--model", "m", "--set", "KEY"],
        ["predict", "a.jpg", "--model", "m", "--set", "=3"],
        ["predict", "a.jpg", "--model", "m", "TEST.DETECTIONS_PER_IMAGE"],
        ["predict", "--model", "m", "TEST.DETECTIONS_PER_IMAGE", "3"],
        ["predict", "a.jpg", "--model", "m", "--class-names", "a,,b"],
        *(
            ["predict", "a.jpg", "--model", "m", "--score-threshold", text]
            for text in ("-0.1", "1.1", "nan", "much")
        ),
    ],
)
def test_wrong_usage_is_2(argv: list[str], capsys: Capture) -> None:
    usage_error(*argv)
    assert "usage: resnest-zoo" in capsys.readouterr().err


def test_a_wrong_option_is_told_with_the_usage_of_its_command(capsys: Capture) -> None:
    usage_error("predict", "a.jpg", "--model", "m", "--score-treshold", "0.3")
    shown = capsys.readouterr().err
    assert shown.startswith("usage: resnest-zoo predict [-h]")
    assert shown.endswith("unrecognized arguments: --score-treshold 0.3; did you mean --score-threshold?\n")
    usage_error("evaluate", "--model", "m", "--json", "a", "--images", "b", "--by-nam=1")
    assert capsys.readouterr().err.startswith("usage: resnest-zoo evaluate ")
    usage_error("cache", "dir", "--jason")
    assert "usage: resnest-zoo cache dir " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "meant"),
    [("--conf", "--score-threshold"), ("--source", "INPUT"), ("--imgsz", "--set INPUT.MIN_SIZE_TEST=N")],
)
def test_options_of_other_libraries_are_recognised(option: str, meant: str, capsys: Capture) -> None:
    usage_error("predict", "a.jpg", "--model", "m", option, "1")
    assert capsys.readouterr().err.endswith(f"unrecognized arguments: {option} 1; did you mean {meant}?\n")
    usage_error("list", option, "1")  # which has none of them
    assert f"did you mean {meant}" not in capsys.readouterr().err


def test_a_mistyped_command_or_choice_is_recognised(capsys: Capture) -> None:
    usage_error("predcit", "a.jpg")
    assert capsys.readouterr().err.endswith("; did you mean predict?\n")
    usage_error("cache", "verfy")
    assert capsys.readouterr().err.endswith("; did you mean verify?\n")
    usage_error("cache", "xyz")
    assert "did you mean" not in capsys.readouterr().err


def test_pairs_behind_set_are_explained(capsys: Capture) -> None:
    usage_error("train", "--set", "SEED", "3")
    assert "expected KEY=VALUE, got 'SEED'; pairs of KEY VALUE stand at the end" in capsys.readouterr().err


def test_a_name_may_begin_like_an_option(capsys: Capture) -> None:
    assert main(["predict", "--model", "faster_rcnn_resnest50", "--", "-gone.png"]) == 1
    assert one_error(capsys) == "error: -gone.png: no such file\n"


def test_a_wrong_threshold_is_told_with_its_range(capsys: Capture) -> None:
    usage_error("predict", "a.jpg", "--model", "m", "--score-threshold", "much")
    assert "expected a number from 0 to 1, got 'much'" in capsys.readouterr().err


# --- as a process --------------------------------------------------------------------------------------


@pytest.fixture
def zoo_environment(tiny: Path, server: FileServer, tmp_path: Path) -> dict[str, str]:
    """An environment in which another process knows `tiny_mask` and finds its file on the server."""
    entry = info("tiny_mask")
    server.folder = tiny
    zoo = tmp_path / "zoo.yaml"
    zoo.write_text(
        f"tiny_mask:\n  task: {entry.task}\n  config: {entry.config}\n  sha256: '{entry.artifact.sha256}'\n"
        f"  weights: https://weights.invalid/{entry.artifact.filename}\n"
    )
    own = {"RESNEST_ZOO_FILE": str(zoo), "RESNEST_ZOO_MIRROR": server.url, "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "PYTHONPATH": str(ROOT)}


def read_terminal(end: int, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    while True:
        ready, _, _ = select.select([end], [], [], 0.1)
        if ready:
            try:
                yield os.read(end, 4096)
            except OSError:  # Linux's way to say that the other end is closed
                return
        elif process.poll() is not None:
            return


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_command_shows_bars_on_a_terminal(
    zoo_environment: dict[str, str], server: FileServer, photos: Path, tmp_path: Path
) -> None:
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))  # rows, columns
    argv = [
        photos,
        photos / "coffee.jpg",
        "--model",
        "tiny_mask",
        "--output",
        tmp_path / "found",
        "--device",
        "cpu",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "resnest_zoo", "predict", *map(str, argv)],
        cwd=tmp_path,
        env=zoo_environment,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b"".join(read_terminal(ours, process)).decode()
        assert process.stdout is not None
        lines = process.stdout.read().decode().splitlines()
    os.close(ours)
    assert process.returncode == 0, shown
    assert info("tiny_mask").artifact.filename in shown  # the bar of the download
    assert "predict: 100%" in shown
    assert "2/2" in shown  # a picture that is named twice is one
    assert "Traceback" not in shown
    assert len(lines) == 2
    document = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert document["predictions"][-1]["image_id"] == document["images"][-1]["id"]
    assert len(server.paths) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close in another way")
def test_a_closed_pipe_ends_in_silence() -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; sys.stdin.read(); from resnest_zoo.cli import main; sys.exit(main(['list']))",
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(b"go")
    assert errors == b""
    assert process.returncode == 0


def run_command(code: str, *, unbuffered: bool = False, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """A fresh interpreter that runs this after importing the command's `main`."""
    program = f"import sys; from resnest_zoo.cli import main; {code}"
    settings = {**os.environ, **options.pop("env", {}), "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, env=settings, **options)


def test_a_closed_standard_output_is_no_error() -> None:
    done = run_command("sys.stdout = None; sys.exit(main(['list']))", stdout=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
@pytest.mark.parametrize("unbuffered", [False, True])
def test_what_cannot_be_printed_fails_in_one_line(unbuffered: bool) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = run_command("sys.exit(main(['list']))", unbuffered=unbuffered, stdout=full)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"No space left" in done.stderr


def test_help_is_printed_where_the_terminal_knows_ascii_alone() -> None:
    settings = {"PYTHONIOENCODING": "ascii"}
    done = run_command("main(['predict', '--help'])", stdout=subprocess.PIPE, env=settings)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--class-names" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close in another way")
@pytest.mark.parametrize("unbuffered", [False, True])
def test_work_that_a_closed_pipe_cuts_off_is_no_success(unbuffered: bool) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = run_command("sys.exit(main(['cache', 'dir']))", unbuffered=unbuffered, stdout=pipe)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_error_of_the_system_says_where_first_and_is_cut(capsys: Capture) -> None:
    assert main(["cache", "lock", "x" * 5000]) == 1
    error = one_error(capsys)
    assert len(error) < 300
    assert error.endswith("…: File name too long\n")
