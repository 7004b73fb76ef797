"""Whatever holds a picture becomes the RGB uint8 tensor it shows, or one clear error."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnest_zoo.data.pictures import read_frames, read_picture, read_size
from resnest_zoo.errors import ConfigError, ImageError
from tests.servers import FileServer

# Four pixels, no two alike, two rows of two: red, green / blue, grey.
RGB = np.array([[[250, 0, 10], [0, 200, 30]], [[5, 15, 240], [120, 130, 140]]], dtype=np.uint8)


def encoded(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()


def shown(source: Any) -> list[Any]:
    """The picture as rows of pixels, once the invariants of every result are checked."""
    tensor = read_picture(source)
    assert tensor.dtype == torch.uint8
    assert tensor.dim() == 3
    assert len(tensor) == 3
    assert tensor.is_contiguous()
    return tensor.permute(1, 2, 0).tolist()


# --- sources -------------------------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_picture(tmp_path: Path) -> None:
    picture = Image.fromarray(RGB)
    path = tmp_path / "four.png"
    picture.save(path)
    for source in (path, str(path), path.read_bytes(), picture, RGB, torch.from_numpy(RGB).permute(2, 0, 1)):
        assert read_picture(source).permute(1, 2, 0).tolist() == RGB.tolist()


def test_a_path_may_start_at_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RGB).save(tmp_path / "four.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert shown("~/four.png") == RGB.tolist()


def test_a_tensor_is_returned_as_it_is() -> None:
    tensor = torch.zeros(3, 4, 5, dtype=torch.uint8)
    assert read_picture(tensor) is tensor


@pytest.mark.gpu
def test_a_tensor_on_a_gpu_stays_there() -> None:
    tensor = torch.zeros(3, 4, 5, dtype=torch.uint8, device="cuda")
    assert read_picture(tensor).is_cuda


def test_the_result_shares_no_memory_with_the_source() -> None:
    array = RGB.copy()
    tensor = read_picture(array)
    array[:] = 0
    assert tensor.permute(1, 2, 0).tolist() == RGB.tolist()


# --- arrays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-1, ::-1],
        lambda a: a.transpose(1, 0, 2),
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    ],
    ids=["bottom up", "BGR mirrored", "transposed", "by columns", "every second pixel"],
)
def test_arrays_may_lie_in_memory_in_any_way(view: Any) -> None:
    assert shown(view(RGB)) == view(RGB).tolist()


def test_a_read_only_array_makes_no_warning() -> None:
    array = RGB.copy()
    array.flags.writeable = False
    assert shown(array) == RGB.tolist()


def test_grey_arrays_become_three_equal_channels_and_alpha_is_dropped() -> None:
    grey = RGB[:, :, 0]
    assert shown(grey) == shown(grey[:, :, None]) == [[[v, v, v] for v in row] for row in grey.tolist()]
    assert shown(np.dstack([RGB, grey])) == RGB.tolist()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3)), r"uint8 or uint16, got float64; a float picture in 0-1 becomes one by"),
        (np.zeros((4, 4, 3), np.float32), "got float32"),
        (np.zeros((4, 4), bool), "got bool$"),
        (np.zeros((4, 4, 3), np.int64), "got int64$"),
        (np.zeros((4, 4, 3), object), "got object"),
        (np.zeros((4, 4, 2), np.uint8), r"got \(4, 4, 2\)"),
        (np.zeros((3, 4, 4), np.uint8)[:, :, :, None], r"got \(3, 4, 4, 1\)"),
        (np.zeros((7,), np.uint8), r"got \(7,\)"),
        (np.zeros((4, 4, 0), np.uint8), r"got \(4, 4, 0\)"),
        (np.zeros((0, 4, 3), np.uint8), r"no pixels: \(H, W\) is \(0, 4\)"),
        (np.zeros((4, 0), np.uint16), r"no pixels: \(H, W\) is \(4, 0\)"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_picture(array)


def test_opencvs_order_is_said_by_the_caller() -> None:
    bgr = np.ascontiguousarray(RGB[:, :, ::-1])
    for source in (bgr, np.dstack([bgr, bgr[:, :, 0]]), torch.from_numpy(bgr).permute(2, 0, 1)):
        assert read_picture(source, channel_order="BGR").permute(1, 2, 0).tolist() == RGB.tolist()
    assert (
        read_picture(encoded(Image.fromarray(RGB)), channel_order="BGR").tolist()
        == read_picture(RGB).tolist()
    )
    grey = RGB[:, :, 0]
    assert read_picture(grey, channel_order="BGR").tolist() == read_picture(grey).tolist()
    with pytest.raises(ConfigError, match=r'channel_order: expected "RGB" or "BGR", got \'bgr\''):
        read_picture(RGB, channel_order="bgr")  # type: ignore[arg-type]


# --- addresses -----------------------------------------------------------------------------------------


def test_a_picture_comes_from_an_address(server: FileServer) -> None:
    assert server.folder is not None
    (server.folder / "four.png").write_bytes(encoded(Image.fromarray(RGB)))
    url = f"{server.url}/four.png"
    assert shown(url) == RGB.tolist()
    assert len(list(read_frames(url))) == 1
    with pytest.raises(ImageError, match=r"^http://127\.0\.0\.1:\d+/gone\.png: cannot be read: HTTP 404"):
        read_picture(f"{server.url.replace('://', '://user:secret@')}/gone.png")


# --- colours of files ----------------------------------------------------------------------------------


def test_one_pixel_is_a_picture() -> None:
    assert shown(encoded(Image.fromarray(RGB[:1, :1]))) == [[[250, 0, 10]]]


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_colour_modes_become_rgb(mode: str) -> None:
    picture = Image.fromarray(RGB).convert(mode, palette=Image.Palette.ADAPTIVE)
    got = np.array(shown(picture))
    assert (
        np.abs(got - RGB.astype(int)).max() <= 6
    )  # HSV and YCbCr round; the palette holds four colours well


@pytest.mark.parametrize(("mode", "form"), [("RGBA", "PNG"), ("CMYK", "TIFF"), ("P", "PNG"), ("P", "GIF")])
def test_colour_files_become_rgb(mode: str, form: str) -> None:
    data = encoded(Image.fromarray(RGB).convert(mode, palette=Image.Palette.ADAPTIVE), form)
    assert np.abs(np.array(shown(data)) - RGB.astype(int)).max() <= 6


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    orange = Image.new("RGB", (16, 16), (230, 120, 40)).convert("CMYK")
    got = np.array(shown(encoded(orange, "JPEG", quality=95)))
    assert np.abs(got - (230, 120, 40)).max() <= 6


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_files_become_three_equal_channels(mode: str) -> None:
    grey = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert(mode)
    black, white = [0, 0, 0], [255, 255, 255]
    assert shown(encoded(grey)) == [[black, white], [white, black]]


def test_what_is_transparent_shows_its_colour() -> None:
    clear = np.dstack([RGB, np.zeros((2, 2), np.uint8)])
    assert shown(encoded(Image.fromarray(clear))) == RGB.tolist()


def test_a_palette_with_transparency_makes_no_warning() -> None:
    picture = Image.fromarray(RGB).quantize(4)
    data = encoded(picture, transparency=bytes([0, 100, 200, 255]))
    assert shown(data) == shown(picture)


SIXTEEN = np.array([[0, 129, 32768], [40000, 65406, 65535]], dtype=np.uint16)
UPPER = [[0, 0, 128], [156, 255, 255]]


def png16(array: np.ndarray[Any, Any]) -> bytes:
    """A PNG of 16 bits, which Pillow cannot write in colour: (H, W, C)."""
    height, width, channels = array.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def ppm16(array: np.ndarray[Any, Any], most: int = 65535) -> bytes:
    height, width, channels = array.shape
    kind = 5 if channels == 1 else 6
    return f"P{kind} {width} {height} {most}\n".encode() + array.astype(">u2").tobytes()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_become_their_upper_8_in_grey_as_in_colour(channels: int) -> None:
    deep = np.repeat(SIXTEEN[:, :, None], channels, axis=2)
    grey = [[[v, v, v] for v in row] for row in UPPER]
    assert shown(png16(deep)) == grey
    if channels != 2:
        assert shown(deep) == grey
        assert shown(deep.astype(">u2")) == grey


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_files_of_pillow_become_their_upper_8_bits(form: str) -> None:
    assert shown(encoded(Image.fromarray(SIXTEEN), form)) == [[[v, v, v] for v in row] for row in UPPER]


@pytest.mark.parametrize("channels", [1, 3])
def test_ppm_files_round_by_the_white_they_state_in_grey_as_in_colour(channels: int) -> None:
    deep = np.repeat(SIXTEEN[:, :, None], channels, axis=2)
    assert shown(ppm16(deep)) == [[[v, v, v] for v in row] for row in [[0, 1, 128], [156, 254, 255]]]
    assert shown(ppm16(np.full((1, 1, channels), 4095), 4095)) == [[[255, 255, 255]]]


@pytest.mark.parametrize("most", [1, 255, 1023, 4095, 16000])
def test_16_bits_that_would_be_nearly_black_are_refused(most: int, tmp_path: Path) -> None:
    grey = np.array([[[0], [most]]], dtype=np.uint16)
    colour = np.repeat(grey, 3, axis=2)
    for source in (grey, colour):
        with pytest.raises(ImageError, match=r"^16-bit pixels, all below 16384, would be nearly black"):
            read_picture(source)
    path = tmp_path / "deep.tiff"
    for data in (
        encoded(Image.fromarray(grey[:, :, 0]), "TIFF"),
        encoded(Image.fromarray(grey[:, :, 0].astype(np.int32)), "TIFF"),
        png16(grey),
        png16(colour),
        ppm16(colour),
    ):
        path.write_bytes(data)
        with pytest.raises(ImageError, match=r"deep\.tiff: 16-bit pixels, all below 16384"):
            read_picture(path)


def test_a_black_16_bit_picture_is_black() -> None:
    assert shown(np.zeros((1, 1), np.uint16)) == [[[0, 0, 0]]]


def test_32_bit_pixels_pass_while_they_fit_16_bits() -> None:
    fits = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))
    assert shown(fits) == shown(encoded(fits, "TIFF")) == [[[0, 0, 0], [255, 255, 255]]]
    for value in (-1, 65536):
        with pytest.raises(ImageError, match="PIL image: holds 32-bit pixels beyond 0-65535"):
            read_picture(Image.fromarray(np.array([[0, value]], dtype=np.int32)))


@pytest.mark.parametrize("form", ["EPS", "PDF", "ICO", "TGA", "PCX"])
def test_formats_that_hold_no_photographs_are_not_opened(form: str) -> None:
    data = encoded(Image.fromarray(RGB).resize((16, 16)), form)
    with pytest.raises(ImageError, match=r"not a picture in a format read here .*JPEG.*, or empty"):
        read_picture(data)


@pytest.mark.parametrize("form", ["BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"])
def test_formats_of_photographs_are_opened(form: str) -> None:
    assert len(shown(encoded(Image.fromarray(RGB).resize((16, 16)), form))) == 16


def test_floating_point_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "depth.tiff"
    Image.fromarray(np.zeros((4, 4), np.float32)).save(path)
    with pytest.raises(ImageError, match=r"depth\.tiff: holds floating-point pixels"):
        read_picture(path)


def test_a_mode_without_a_way_to_rgb_is_refused() -> None:
    with pytest.raises(ImageError, match=r"PIL image: cannot be read: .*La"):
        read_picture(Image.new("La", (2, 2)))


# --- orientation and frames ----------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(orientation: int) -> None:
    # What a camera held that way stores: the inverse of the turn that viewers apply.
    upright = np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(stored))
    expected = [[[v, v, v] for v in row] for row in upright.tolist()]
    assert shown(encoded(picture, exif=exif)) == expected


COLOURS = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def several(form: str, **options: Any) -> bytes:
    frames = [Image.new("RGB", (4, 4), tuple(colour)) for colour in COLOURS]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)


def corners(source: Any) -> list[list[int]]:
    return [frame[:, 0, 0].tolist() for frame in read_frames(source)]


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_pictures_in_a_file_the_first_counts_and_the_log_says_so(
    form: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert shown(several(form, lossless=True))[0][0] == [255, 0, 0]
    assert "bytes given: holds several pictures, the first is taken" in caplog.text
    caplog.clear()
    assert shown(encoded(Image.fromarray(RGB), form, lossless=True)) == RGB.tolist()
    assert caplog.text == ""


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF", "WEBP"])
def test_all_pictures_of_a_file_come_in_order(form: str, tmp_path: Path) -> None:
    path = tmp_path / "several"
    path.write_bytes(several(form, lossless=True))
    assert corners(path) == COLOURS
    assert corners(encoded(Image.new("RGB", (4, 4), (255, 0, 0)), form, lossless=True)) == COLOURS[:1]


def test_what_a_phone_puts_behind_a_picture_is_none(caplog: pytest.LogCaptureFixture) -> None:
    data = several("MPO")
    assert len(list(read_frames(data))) == 1
    read_picture(data)
    assert caplog.text == ""


def test_smaller_copies_of_a_page_are_left_out() -> None:
    pages = [
        Image.new("RGB", (8, 8), "red"),
        Image.new("RGB", (4, 4), "lime"),
        Image.new("RGB", (6, 6), "blue"),
    ]
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert corners(data) == [COLOURS[0], COLOURS[2]]


def test_a_broken_page_is_one_error_after_those_before_it() -> None:
    data = several("PNG")
    frames = read_frames(data[: len(data) * 2 // 3])
    assert next(frames)[:, 0, 0].tolist() == COLOURS[0]
    with pytest.raises(ImageError, match=r"bytes given, picture \d: cannot be read"):
        list(frames)


# --- what cannot be read -------------------------------------------------------------------------------


def damaged(name: str) -> bytes:
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    png, jpeg = encoded(Image.fromarray(photo)), encoded(Image.fromarray(photo), "JPEG")
    return {
        "empty": b"",
        "text": b"this is no picture",
        "page": b"<!DOCTYPE html><html></html>",
        "half a PNG": png[: len(png) // 2],
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "a PNG's signature": png[:8],
        "a JPEG's first bytes": jpeg[:20],
        "a PNG with a wrong byte": png[:60] + bytes([png[60] ^ 0xFF]) + png[61:],
        "half a GIF": encoded(Image.fromarray(photo), "GIF")[:500],
        "half a TIFF": encoded(Image.fromarray(photo), "TIFF")[:500],
        "half a WebP": encoded(Image.fromarray(photo), "WEBP")[:500],
        "half a BMP": encoded(Image.fromarray(photo), "BMP")[:500],
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "text",
        "page",
        "half a PNG",
        "half a JPEG",
        "a PNG's signature",
        "a JPEG's first bytes",
        "a PNG with a wrong byte",
        "half a GIF",
        "half a TIFF",
        "half a WebP",
        "half a BMP",
    ],
)
def test_damaged_files_are_one_error_that_names_them(name: str, tmp_path: Path) -> None:
    data = damaged(name)
    path = tmp_path / "broken.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"broken\.jpg: "):
        read_picture(path)
    with pytest.raises(ImageError, match=f"the {len(data)} bytes given: "):
        read_picture(data)


@pytest.mark.parametrize("seed", range(30))
def test_random_damage_never_ends_in_another_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    photo = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        data = bytearray(encoded(photo, form))
        for at in rng.integers(0, len(data), 4):
            data[at] = rng.integers(0, 256)
        with contextlib.suppress(ImageError):
            assert read_picture(bytes(data)).dtype == torch.uint8


def test_a_picture_of_a_billion_pixels_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encoded(Image.new("1", (300, 300)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses twice this
    with pytest.raises(ImageError, match=r"bytes given: .*decompression bomb"):
        read_picture(data)


def test_what_is_no_file_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"missing\.jpg: no such file"):
        read_picture(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match=": is a folder, not a picture"):
        read_picture(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices_are_refused_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    for name in ("pipe.jpg", "link.jpg"):
        with pytest.raises(ImageError, match=rf"{name}: is a pipe, not a picture"):
            read_picture(tmp_path / name)
    with pytest.raises(ImageError, match=r"^/dev/zero: is a device, not a picture"):
        read_picture("/dev/zero")


def test_odd_names_are_read_or_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("~nobody.png").write_bytes(encoded(Image.fromarray(RGB)))
    assert shown("~nobody.png") == RGB.tolist()
    with pytest.raises(ImageError, match=r"^~nobody/a\.png: no such file$"):
        read_picture("~nobody/a.png")
    Path("loop.png").symlink_to("loop.png")
    with pytest.raises(ImageError, match=r"^loop\.png: cannot be read: Too many levels of symbolic links$"):
        read_picture("loop.png")
    Path("folder.jpg").mkdir()
    with pytest.raises(ImageError, match=r"^folder\.jpg: is a folder, not a picture$"):
        read_picture(Path("folder.jpg"))
    with pytest.raises(ImageError, match=r"^a+\.png: cannot be read: File name too long$"):
        read_picture("a" * 300 + ".png")


@pytest.mark.parametrize("address", ["ftp://host/a.png", "s3://bucket/a.png", "file:///a.png"])
def test_addresses_of_other_kinds_are_told(address: str) -> None:
    with pytest.raises(
        ImageError, match=f"begin with {address.partition('/')[0]} are not read; http and https are"
    ):
        read_picture(address)


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ("my photo.jpg", "my%20photo.jpg"),
        ("my%20photo.jpg", "my photo.jpg"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("A.JPG", "a.jpg"),
    ],
)
def test_a_missing_file_is_told_from_one_that_is_written_otherwise(
    there: str, asked: str, tmp_path: Path
) -> None:
    (tmp_path / there).write_bytes(encoded(Image.fromarray(RGB)))
    if (tmp_path / asked).exists():
        pytest.skip("this file system takes both for one name")
    with pytest.raises(ImageError) as caught:
        read_picture(tmp_path / asked)
    assert str(caught.value) == f"{tmp_path / asked}: no such file; there is {there!r}"


class Stream(io.RawIOBase):
    """As a socket or a pipe gives it: it can be read, and nothing else."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        return self.data


def test_the_size_is_told_before_anything_is_decoded() -> None:
    data = encoded(Image.fromarray(RGB))
    assert read_size(data) == RGB.shape[:2]
    assert read_size(data[:60]) == RGB.shape[:2]  # of which nothing could be decoded
    with pytest.raises(ImageError, match="not a picture"):
        read_size(b"no picture")


def test_open_files_and_streams_are_read(tmp_path: Path) -> None:
    expected = read_picture(RGB)
    data = encoded(Image.fromarray(RGB))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        for source in (file, io.BytesIO(data), bytearray(data), Stream(data)):
            assert torch.equal(read_picture(source), expected)
    for empty in (io.BytesIO(), bytearray()):
        with pytest.raises(ImageError, match=r"not a picture in a format read here .*JPEG.*, or empty"):
            read_picture(empty)
    with (
        path.open(errors="replace") as text,
        pytest.raises(ImageError, match=r"a\.png: cannot be read: .*str"),
    ):
        read_picture(text)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"a\.png: cannot be read: .*closed"):
        read_picture(file)


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", ""])
def test_names_that_no_file_can_have_are_one_error(name: str) -> None:
    with pytest.raises(ImageError):
        read_picture(name)


@pytest.mark.parametrize("source", [None, 5, 2.5, ["a.jpg"], ("a.jpg",), {"a": 1}])
def test_other_types_are_refused_by_name(source: Any) -> None:
    said = f"got {type(source).__name__}; for several pictures pass a list, or any iterable to stream"
    with pytest.raises(ImageError, match=said):
        read_picture(source)
