"""What clients are told about a file."""

from __future__ import annotations

import grp
import os
import pwd
import stat

from e2b.envd.filesystem.filesystem_pb import EntryInfo, FileType
from protobuf.wkt import Timestamp

METADATA_PREFIX = "user.e2b."
_LETTERS = (
    (stat.S_ISDIR, "d"),
    (stat.S_ISLNK, "L"),
    (stat.S_ISFIFO, "p"),
    (stat.S_ISSOCK, "S"),
    (stat.S_ISBLK, "D"),
    (stat.S_ISCHR, "Dc"),
)


def entry_info(path: str) -> EntryInfo:
    """Of the file itself; ``type`` is that of what a symbolic link leads to. Raises OSError."""
    own = os.lstat(path)
    is_link = stat.S_ISLNK(own.st_mode)
    entry = EntryInfo(
        name=os.path.basename(path) or "/",
        type=_type(path, own),
        path=path,
        size=own.st_size,
        mode=stat.S_IMODE(own.st_mode) & 0o777,
        permissions=permissions(own.st_mode),
        owner=_user_name(own.st_uid),
        group=_group_name(own.st_gid),
        modified_time=_timestamp(own.st_mtime_ns),
        metadata=read_metadata(path),
        is_symlink=is_link,
    )
    if is_link:
        entry.symlink_target = os.path.realpath(path)
    return entry


def _timestamp(nanoseconds: int) -> Timestamp:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=rest)


def _type(path: str, own: os.stat_result) -> FileType:
    mode = own.st_mode
    if stat.S_ISLNK(mode):
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return FileType.UNSPECIFIED
    if stat.S_ISDIR(mode):
        return FileType.DIRECTORY
    return FileType.FILE if stat.S_ISREG(mode) else FileType.UNSPECIFIED


def permissions(mode: int) -> str:
    """As Go's ``fs.FileMode.String`` prints it."""
    letters = "".join(letter for test, letter in _LETTERS if test(mode))
    for bit, letter in ((stat.S_ISUID, "u"), (stat.S_ISGID, "g"), (stat.S_ISVTX, "t")):
        if mode & bit:
            letters += letter
    bits = "".join(
        letter if mode & (1 << (8 - place)) else "-" for place, letter in enumerate("rwxrwxrwx")
    )
    return (letters or "-") + bits


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def read_metadata(path: str) -> dict[str, str]:
    """The ``user.e2b.*`` extended attributes; empty where there can be none."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {
            name.removeprefix(METADATA_PREFIX): os.getxattr(
                path, name, follow_symlinks=False
            ).decode(errors="replace")
            for name in names
            if name.startswith(METADATA_PREFIX)
        }
    except OSError:
        return {}


def replace_metadata(descriptor: int, metadata: dict[str, str]) -> None:
    """Raises OSError where the file system takes no extended attributes."""
    try:
        present = [name for name in os.listxattr(descriptor) if name.startswith(METADATA_PREFIX)]
    except OSError:
        present = []
    for name in present:
        os.removexattr(descriptor, name)
    for name, value in metadata.items():
        os.setxattr(descriptor, METADATA_PREFIX + name, value.encode())


_NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "fuse.rclone")


def is_on_network(path: str) -> bool:
    """Whether the mount that holds ``path`` is one that inotify cannot follow."""
    best, kind = "", ""
    for mount, kinds in _mounts():
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, kinds
    return kind in _NETWORK_FILE_SYSTEMS


def _mounts() -> list[tuple[str, str]]:
    with open("/proc/self/mounts") as lines:
        return [(line.split()[1], line.split()[2]) for line in lines]
