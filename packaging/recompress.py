"""Compress what is in a deb or an rpm as well as xz can: `python packaging/recompress.py FILE [PRESET]`, in place.

nfpm compresses in Go, which makes packages a quarter larger.
"""

import hashlib
import lzma
import struct
import sys
import zlib
from pathlib import Path

PRESET = 9

# https://rpm-software-management.github.io/rpm/manual/format_v4.html, and its tags:
# https://rpm-software-management.github.io/rpm/manual/tags.html and .../signatures_digests.html
LEAD = 96
PAYLOAD_COMPRESSOR, PAYLOAD_FLAGS, PAYLOAD_DIGEST = 1125, 1126, 5092
SIZE, MD5, SHA1, SHA256 = 1000, 1004, 269, 273


def main(path: Path, preset: int) -> None:
    """Recompress a package, which is replaced once it is complete."""
    made = (_deb if path.suffix == ".deb" else _rpm)(path.read_bytes(), preset)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(made)
    unfinished.rename(path)


def _xz(gzipped: bytes, preset: int) -> bytes:
    return lzma.compress(zlib.decompress(gzipped, wbits=31), preset=preset)


def _deb(package: bytes, preset: int) -> bytes:
    """Return a deb, an archive of three members (deb(5), ar(5)), with its last one as data.tar.xz."""
    start = package.index(b"data.tar.gz")
    header, data = package[start : start + 60], package[start + 60 :]
    size = int(header[48:58])
    compressed = _xz(data[:size], preset)
    name = f"{'data.tar.xz':<16}".encode()
    padding = b"\n" * (len(compressed) % 2)
    return (
        package[:start] + name + header[16:48] + f"{len(compressed):<10}".encode() + header[58:] + compressed + padding
    )


class _Header:
    """A header of an rpm, whose values are overwritten where they are: rpm accepts no gaps."""

    def __init__(self, package: bytes, start: int) -> None:
        magic, count, size = struct.unpack_from(">8sII", package, start)
        assert magic[:4] == b"\x8e\xad\xe8\x01", "no header of an rpm"
        self._store = 16 + 16 * count
        self.bytes = bytearray(package[start : start + self._store + size])
        index = struct.iter_unpack(">IIII", self.bytes[16 : self._store])
        # Where each tag's entry has its offset, and that offset.
        self._tags = {tag: (24 + 16 * number, offset) for number, (tag, _, offset, _) in enumerate(index)}

    def set(self, tag: int, value: bytes) -> None:
        """Overwrite what a tag says with something of the same length."""
        start = self._store + self._tags[tag][1]
        self.bytes[start : start + len(value)] = value

    def say_xz(self, preset: int) -> None:
        """Name the compression: `xz` and `9T1`, a preset and a thread, take the room of `gzip` and its flags, 9."""
        _, compressor = self._tags[PAYLOAD_COMPRESSOR]
        place, flags = self._tags[PAYLOAD_FLAGS]
        start = self._store + compressor
        assert self.bytes[start : start + 7] == b"gzip\x009\x00", "not packed by gzip -9"
        assert flags == compressor + 5
        self.bytes[start : start + 7] = b"xz\x00%dT1\x00" % preset
        struct.pack_into(">I", self.bytes, place, compressor + 3)


def _rpm(package: bytes, preset: int) -> bytes:
    signature = _Header(package, LEAD)
    start = LEAD + len(signature.bytes) + -len(signature.bytes) % 8
    header = _Header(package, start)
    payload = _xz(package[start + len(header.bytes) :], preset)
    header.say_xz(preset)
    header.set(PAYLOAD_DIGEST, hashlib.sha256(payload).hexdigest().encode())
    signature.set(SIZE, struct.pack(">I", len(header.bytes) + len(payload)))
    signature.set(SHA1, hashlib.sha1(header.bytes, usedforsecurity=False).hexdigest().encode())
    signature.set(SHA256, hashlib.sha256(header.bytes).hexdigest().encode())
    signature.set(MD5, hashlib.md5(header.bytes + payload, usedforsecurity=False).digest())
    return (
        package[:LEAD] + bytes(signature.bytes) + package[LEAD + len(signature.bytes) : start] + header.bytes + payload
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else PRESET)
