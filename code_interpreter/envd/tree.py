"""The files that clients may reach, by descriptors: checked and used are the same file.

envd has more rights than user code: to the supervisors' own directory, and to what
/proc shows of them. User code can plant symbolic links that lead there, and swap them at
any moment. So a path is followed once, to a descriptor without rights (O_PATH); where it
came out is checked; and the work is done on the descriptor or below it. FIFOs and devices
are never opened, so nothing hangs on them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from code_interpreter.envd.openat2 import (
    AT_FDCWD,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)
from code_interpreter.guest.config import GuestConfig
from code_interpreter.guest.users import User

_PROCESS = re.compile(r"/proc/(\d+)(?:/|$)")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_MOST_TRIES = 40
"""As many as Linux follows links."""


class Tree:
    """All paths are absolute. All methods raise OSError with the path they were given."""

    def __init__(self, config: GuestConfig) -> None:
        self._private = os.path.realpath(config.state_directory)
        self._owns_files = config.isolated
        self._user_namespace: int | None = None
        if config.user_namespace_fd is not None:
            self._user_namespace = os.fstat(config.user_namespace_fd).st_ino

    # --- looking --------------------------------------------------------------------------

    @contextmanager
    def find(self, path: str) -> Iterator[int]:
        """An O_PATH descriptor of what the path leads to, through links."""
        descriptor = _follow(path)
        try:
            self._check(descriptor, path)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def directory(self, path: str) -> Iterator[int]:
        """A descriptor for listing and for working below it."""
        with self.find(path) as found:
            descriptor = _reopen(found, os.O_RDONLY | os.O_DIRECTORY, path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The directory above, and the path's last name; that one may be a link, or nothing."""
        above, name = os.path.split(path)
        with self.directory(above) as descriptor:
            yield descriptor, name or "."

    def where(self, descriptor: int) -> str:
        """The path that a descriptor has now, without links."""
        return os.readlink(f"/proc/self/fd/{descriptor}")

    def _check(self, descriptor: int, path: str) -> None:
        if self._is_supervisors(descriptor):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    def _is_supervisors(self, descriptor: int) -> bool:
        """Whether it is in the supervisors' own directory, or what /proc shows of one of them."""
        try:
            place = self.where(descriptor)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # as deep as only user code makes directories
                return False
            raise
        if place == self._private or place.startswith(self._private + "/"):
            return True
        process = _PROCESS.match(place)
        return process is not None and not self._is_user_code(int(process[1]))

    def _is_user_code(self, pid: int) -> bool:
        if self._user_namespace is None:
            return pid != os.getpid()
        try:
            return os.stat(f"/proc/{pid}/ns/user").st_ino == self._user_namespace
        except OSError:
            return False

    def behind(self, directory: int, name: str) -> tuple[str, int]:
        """Where a symbolic link in an open directory leads, and the mode of what is there.

        Of a link to nowhere, or to the supervisors' own, what the link itself says and mode 0.
        """
        with contextlib.suppress(OSError):
            found = _follow(name, directory)
            try:
                if not self._is_supervisors(found):
                    return self.where(found), os.fstat(found).st_mode
            finally:
                os.close(found)
        text = os.readlink(name, dir_fd=directory)
        return os.path.normpath(os.path.join(self.where(directory), text)), 0

    # --- contents -------------------------------------------------------------------------

    def open_to_read(self, path: str) -> int:
        """A descriptor of a regular file."""
        with self.find(path) as found:
            _require_file(found, path)
            return _reopen(found, os.O_RDONLY | _OPEN, path)

    def open_to_write(self, path: str, user: User) -> int:
        """A descriptor of a regular file, made if need be, the user's now, and empty."""
        descriptor = self._open_or_make(path, user)
        try:
            self.give(descriptor, user)
            if os.fstat(descriptor).st_size:
                os.ftruncate(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _open_or_make(self, path: str, user: User) -> int:
        target = path
        for _ in range(_MOST_TRIES):
            try:
                return self._open_existing(target, path)
            except FileNotFoundError:
                pass
            self.make_directories(os.path.dirname(target), user)
            try:
                with self.parent(target) as (above, name):
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN
                    return os.open(name, flags, 0o644, dir_fd=above)
            except FileExistsError:  # made meanwhile, or a link to nowhere: make it there
                target = os.path.realpath(target)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _open_existing(self, path: str, named: str) -> int:
        with self.find(path) as found:
            _require_file(found, named)
            if self.is_virtual(found):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), named)
            return _reopen(found, os.O_WRONLY | _OPEN, named)

    def is_virtual(self, descriptor: int) -> bool:
        """Whether its size and content are made up by the kernel as it is read."""
        return self.where(descriptor).startswith(("/proc/", "/sys/"))

    # --- directories ----------------------------------------------------------------------

    def is_closed(self, descriptor: int) -> bool:
        """Whether a directory is made up by the kernel, or the supervisors' own."""
        place = self.where(descriptor) + "/"
        return place.startswith(("/proc/", "/sys/", self._private + "/"))

    def enter(self, path: str, directory: int = AT_FDCWD) -> int:
        """A descriptor of a directory, reached without any link; for walks from the top down."""
        descriptor = _open_without_links(path, directory)
        try:
            self._check(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def make_directories(self, path: str, user: User) -> None:
        """The directory and what is missing above it, the user's, mode 0755."""
        missing: list[str] = []
        above = path
        while True:
            try:
                with self.directory(above) as found:
                    self._make_below(found, missing, user)
                    return
            except FileNotFoundError:
                above, name = os.path.split(above)
                missing.insert(0, name)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error

    def _make_below(self, directory: int, names: list[str], user: User) -> None:
        above = os.dup(directory)
        try:
            for name in names:
                made = self._make_one(above, name, user)
                os.close(above)
                above = made
        finally:
            os.close(above)

    def _make_one(self, above: int, name: str, user: User) -> int:
        try:
            os.mkdir(name, 0o755, dir_fd=above)
        except FileExistsError:  # somebody was faster
            return os.open(name, _DIRECTORY, dir_fd=above)
        made = os.open(name, _DIRECTORY, dir_fd=above)
        try:
            self.give(made, user)
        except BaseException:
            os.close(made)
            raise
        return made

    def give(self, descriptor: int, user: User) -> None:
        """Make it the user's. Without isolation it is so already, or never can be."""
        if self._owns_files or os.fstat(descriptor).st_uid == user.uid:
            os.fchown(descriptor, user.uid, user.gid)

    def give_link(self, above: int, name: str, user: User) -> None:
        """As `give`, a symbolic link in an open directory."""
        if self._owns_files:
            os.chown(name, user.uid, user.gid, dir_fd=above, follow_symlinks=False)


def _follow(path: str, directory: int = AT_FDCWD) -> int:
    try:
        return openat2(path, os.O_PATH, RESOLVE_NO_MAGICLINKS, directory)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=_or_none(directory))


def _open_without_links(path: str, directory: int) -> int:
    try:
        return openat2(path, _DIRECTORY, RESOLVE_NO_SYMLINKS, directory)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return os.open(path, _DIRECTORY, dir_fd=_or_none(directory))


def _or_none(directory: int) -> int | None:
    return None if directory == AT_FDCWD else directory


def _reopen(descriptor: int, flags: int, path: str) -> int:
    try:
        return os.open(f"/proc/self/fd/{descriptor}", flags | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _require_file(descriptor: int, path: str) -> None:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)
