"""Files that may be gzipped."""

from __future__ import annotations

import gzip
import io
import zlib

MAX_BYTES = 2**31 - 1  # of one protobuf message
EXPANSION = 64  # how much longer a gzipped file may get


def unpacked(data: bytes, *, limit: int = MAX_BYTES) -> bytes | None:
    """The file's bytes, out of gzip where they are in it.

    None where that is damaged, grows beyond `limit`, or out of proportion, as no file of numbers
    does.
    """
    if data[:2] != b"\x1f\x8b":
        return data
    limit = min(limit, EXPANSION * len(data))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            found = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error):
        return None
    return found if len(found) <= limit else None
