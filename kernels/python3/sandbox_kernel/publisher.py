"""Sends to the kernel's IOPub socket, from any thread, without a thread of its own.

ipykernel hands every message to a thread; that costs two switches a message. Here the
sender sends, under a lock. Two things need care:

* A KeyboardInterrupt between the parts of a message would glue its head to the next
  message. So the kernel's SIGINT handler asks `interrupt_later` first.
* The socket blocks when its reader is slow (XPUB_NODROP), so a cell that prints faster than
  the gateway reads is slowed down, and nothing is dropped.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import zmq


class Publisher:
    """Has the one method of a socket that `Session.send` uses."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._lock = threading.RLock()
        self._sending_in_main = False
        self._interrupted = False
        self._main = threading.main_thread()
        os.register_at_fork(after_in_child=self._forked)
        self._in_child = False

    def send_multipart(self, parts: list[Any], *_: Any, **__: Any) -> None:
        if self._in_child:
            return
        in_main = threading.current_thread() is self._main
        if in_main:
            self._sending_in_main = True
        try:
            with self._lock:
                self._socket.send_multipart(parts)
        finally:
            if in_main:
                self._sending_in_main = False
        if in_main and self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def interrupt_later(self) -> bool:
        """True if the main thread is sending; it will raise KeyboardInterrupt after that."""
        self._interrupted = self._sending_in_main
        return self._sending_in_main

    def wait_for_subscriber(self, seconds: float) -> None:
        """Return once somebody listens, or after ``seconds``."""
        with self._lock:
            if self._socket.poll(int(seconds * 1000)):
                self._socket.recv()

    def _forked(self) -> None:
        """A child of the kernel shares the socket's descriptors: it must not touch them."""
        self._in_child = True
