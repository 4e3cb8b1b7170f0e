"""Which file system holds a path."""

from __future__ import annotations

import re

NETWORK_FILE_SYSTEMS = frozenset(
    "9p afs ceph cifs fuse.rclone fuse.s3fs fuse.sshfs gfs2 lustre nfs nfs4 smb3".split()
)
"""Those whose changes inotify(7) sees only if they are made on this machine."""
_ESCAPED = re.compile(r"\\(\d{3})")


def file_system(path: str) -> str:
    """The type of the mount that holds an absolute path without links."""
    best, kind = "", ""
    with open("/proc/self/mounts", encoding=None, errors="surrogateescape") as lines:
        for line in lines:
            point, name = line.split()[1:3]
            point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), point)
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, name
    return kind


def is_on_network(path: str) -> bool:
    return file_system(path) in NETWORK_FILE_SYSTEMS
