"""What clients note down about files: extended attributes ``user.e2b.*``."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping

PREFIX = "user.e2b."
HEADER = "x-metadata-"
LONGEST_KEY = 246
LONGEST_IN_ALL = 4096
_NO_ATTRIBUTES = (errno.ENOTSUP, errno.EPERM, errno.EACCES)

_NO_ROOM = (errno.ENOSPC, errno.E2BIG, errno.ERANGE)


class BadMetadata(ValueError):
    """Cannot be kept; the message names the key."""


def metadata_of_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """From ``X-Metadata-<key>: value``. Raises `BadMetadata`."""
    found = {
        name.lower().removeprefix(HEADER): value
        for name, value in headers
        if name.lower().startswith(HEADER)
    }
    for name, value in found.items():
        if not 0 < len(name) <= LONGEST_KEY:
            raise BadMetadata(
                f"metadata key '{name[:50]}' has {len(name)} bytes; 1 to {LONGEST_KEY} are allowed"
            )
        if not ((name + value).isascii() and (name + value).isprintable()):
            raise BadMetadata(f"metadata '{name[:50]}' must be printable ASCII")
    size = sum(len(name) + len(value) for name, value in found.items())
    if size > LONGEST_IN_ALL:
        raise BadMetadata(f"metadata has at most {LONGEST_IN_ALL} bytes in all, this has {size}")
    return found


def read_metadata(path: str) -> dict[str, str]:
    """Empty where there can be none. Does not follow a link in the last place."""
    try:
        return {
            name.removeprefix(PREFIX): os.getxattr(path, name, follow_symlinks=False).decode(
                errors="replace"
            )
            for name in os.listxattr(path, follow_symlinks=False)
            if name.startswith(PREFIX)
        }
    except OSError:
        return {}


def replace_metadata(descriptor: int, metadata: Mapping[str, str]) -> None:
    """Raises `BadMetadata` where the file system has no room for it, or OSError."""
    try:
        present = [name for name in os.listxattr(descriptor) if name.startswith(PREFIX)]
    except OSError:
        present = []
    for name in present:
        os.removexattr(descriptor, name)
    for name, value in metadata.items():
        try:
            os.setxattr(descriptor, PREFIX + name, value.encode())
        except OSError as error:
            if error.errno in _NO_ATTRIBUTES:
                raise BadMetadata("metadata cannot be kept on this file system") from error
            if error.errno in _NO_ROOM:
                raise BadMetadata("the file system has no room for that much metadata") from error
            raise
