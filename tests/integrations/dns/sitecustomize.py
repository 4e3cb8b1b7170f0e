"""Stands for a DNS zone in which every name below the domain is this machine.

Python runs it at its start where this folder is on its path.
"""

import os
import socket
from typing import Any

_ask = socket.getaddrinfo
_domain = os.environ["E2B_DOMAIN"].partition(":")[0]


def _answer(host: Any, *arguments: Any, **options: Any) -> Any:
    if isinstance(host, bytes):
        host = host.decode()
    if isinstance(host, str) and host.endswith(_domain):
        host = "127.0.0.1"
    return _ask(host, *arguments, **options)


socket.getaddrinfo = _answer
