from __future__ import annotations

import gzip
import zlib

import pytest

from resnest_zoo.hub.packing import Unpacker

BODY = bytes(3 << 20)  # packs to a few kilobytes


@pytest.mark.parametrize("step", [1 << 20, 100, 7])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_any_slicing_unpacks_to_the_same_in_small_blocks(encoding: str, step: int) -> None:
    packed = gzip.compress(BODY) if encoding == "gzip" else zlib.compress(BODY)
    unpacker = Unpacker(encoding)
    blocks = []
    for start in range(0, len(packed), step):
        assert not unpacker.is_whole
        blocks += unpacker.feed(packed[start : start + step])
    assert unpacker.is_whole
    assert b"".join(blocks) == BODY
    assert max(map(len, blocks)) <= 1 << 20


def test_a_second_member_must_be_whole_too() -> None:
    unpacker = Unpacker("gzip")
    assert list(unpacker.feed(gzip.compress(b"a") + gzip.compress(b"b")[:-1])) == [b"a", b"b"]
    assert not unpacker.is_whole
