"""``sandbox.files``: E2B's, and whole directories in one call."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import e2b.sandbox_async.filesystem.filesystem as asynchronous
import e2b.sandbox_sync.filesystem.filesystem as synchronous

from code_interpreter.directories import OnProgress, TransferProgress, Transferred
from code_interpreter.transfer import AnyPath, Transfer

OnProgressWithAsync = OnProgress | Callable[[TransferProgress], Awaitable[Any]]


class Files(synchronous.Filesystem):
    """E2B's calls for files, and `upload_dir` and `download_dir`."""

    def __init__(self, url: str, *args: Any) -> None:
        super().__init__(url, *args)
        self._url = url

    def upload_dir(
        self,
        local: AnyPath,
        remote: str,
        *,
        exclude: Sequence[str] = (),
        on_progress: OnProgress | None = None,
        user: str | None = None,
        request_timeout: float | None = None,
    ) -> Transferred:
        """Put what is in a directory of this machine into one of the sandbox, which is made.

        What is there already is replaced file by file. Symbolic links stay links and are not
        followed. Memory stays flat, however much it is.

        :param local: a directory here
        :param remote: its path in the sandbox; a relative one starts at the user's home
        :param exclude: shell patterns of what stays behind, with all that is below: without
            a slash for names at any depth (``node_modules``, ``*.pyc``), with one for paths
            below ``local`` (``data/raw*``)
        :param on_progress: called with each entry, and with each MiB of a large file; what it
            raises ends the transfer
        :param user: whose the files will be, the sandbox's default user if not given
        :param request_timeout: seconds that all of it may take; if not given it may take any
            time, as long as it goes on
        :raises InvalidArgumentException: ``local`` is not a directory, or something in the way
        :raises NotEnoughSpaceException: the sandbox's disk is full
        :raises RequestTimeoutException: it took too long, or did not go on
        :raises OSError: a file here cannot be read
        """
        options = (exclude, on_progress, user, request_timeout)
        return Transfer.to(self._connection_config, self._url, *options).upload(local, remote)

    def download_dir(
        self,
        remote: str,
        local: AnyPath,
        *,
        exclude: Sequence[str] = (),
        on_progress: OnProgress | None = None,
        user: str | None = None,
        request_timeout: float | None = None,
    ) -> Transferred:
        """Put what is in a directory of the sandbox into one of this machine, which is made.

        What is there already is replaced file by file. Nothing outside of ``local`` is
        touched, whatever the sandbox sends: what a symbolic link leads to is not written,
        and links that lead out are left out and told in ``skipped``.

        :param exclude: as in `upload_dir`, of paths below ``remote``
        :raises FileNotFoundException: there is no such directory
        :raises ArchiveException: the sandbox sent something that has no place in ``local``
        :raises OSError: a file here cannot be written

        The other parameters are those of `upload_dir`.
        """
        options = (exclude, on_progress, user, request_timeout)
        transfer = Transfer.to(self._connection_config, self._url, *options)
        return transfer.download(remote, local, exclude)


class AsyncFiles(asynchronous.Filesystem):
    """E2B's calls for files, and `upload_dir` and `download_dir`, for asyncio."""

    def __init__(self, url: str, *args: Any) -> None:
        super().__init__(url, *args)
        self._url = url

    async def upload_dir(
        self,
        local: AnyPath,
        remote: str,
        *,
        exclude: Sequence[str] = (),
        on_progress: OnProgressWithAsync | None = None,
        user: str | None = None,
        request_timeout: float | None = None,
    ) -> Transferred:
        """As `Files.upload_dir`; ``on_progress`` is called in the event loop."""
        options = (exclude, on_progress, user, request_timeout)
        return await self._transfer(lambda transfer: transfer.upload(local, remote), *options)

    async def download_dir(
        self,
        remote: str,
        local: AnyPath,
        *,
        exclude: Sequence[str] = (),
        on_progress: OnProgressWithAsync | None = None,
        user: str | None = None,
        request_timeout: float | None = None,
    ) -> Transferred:
        """As `Files.download_dir`; ``on_progress`` is called in the event loop."""
        options = (exclude, on_progress, user, request_timeout)
        return await self._transfer(
            lambda transfer: transfer.download(remote, local, exclude), *options
        )

    async def _transfer(
        self,
        run: Callable[[Transfer], Transferred],
        exclude: Sequence[str],
        on_progress: OnProgressWithAsync | None,
        user: str | None,
        request_timeout: float | None,
    ) -> Transferred:
        """In a thread, which ends with its next piece when the caller is cancelled."""
        left = threading.Event()
        transfer = Transfer.to(
            self._connection_config,
            self._url,
            exclude,
            _in_loop(on_progress) if on_progress else None,
            user,
            request_timeout,
            abandoned=left.is_set,
        )
        try:
            return await asyncio.to_thread(run, transfer)
        finally:
            left.set()


def _in_loop(call: OnProgressWithAsync) -> OnProgress:
    """``call`` in the event loop that runs now, from any thread, which waits for it."""
    loop = asyncio.get_running_loop()

    async def tell(progress: TransferProgress) -> None:
        answer = call(progress)
        if inspect.isawaitable(answer):
            await answer

    return lambda progress: asyncio.run_coroutine_threadsafe(tell(progress), loop).result()
