"""A TLS proxy before a host, as a server has it that is reached from elsewhere."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.service import Service, running_service

DOMAIN = "sandboxes.test"
CHUNK = 1 << 16


@contextmanager
def service_behind_tls(folder: Path) -> Iterator[dict[str, str]]:
    """The variables that E2B's oldest clients need for a host behind such a proxy."""
    certificate = _certificate(folder)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        domain = f"{DOMAIN}:{listener.getsockname()[1]}"
        service = stack.enter_context(running_service(CODE_INTERPRETER_DOMAIN=domain))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        serving = threading.Thread(target=_serve, args=(listener, context, service), daemon=True)
        serving.start()
        yield {
            "E2B_DOMAIN": domain,
            "E2B_API_KEY": service.key,
            "SSL_CERT_FILE": str(certificate),
            "PYTHONPATH": str(Path(__file__).parent / "dns"),
        }
        listener.shutdown(socket.SHUT_RDWR)
        serving.join(10)
        service.check_nothing_is_left()


def _certificate(folder: Path) -> Path:
    """One for the domain and all names below it, signed by itself."""
    made = folder / "certificate.pem"
    names = f"subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN}"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    options = ["-subj", f"/CN={DOMAIN}", "-addext", names, "-out", str(made)]
    key = ["-keyout", str(made.with_suffix(".key"))]
    subprocess.run([*command, *options, *key], check=True, capture_output=True, timeout=60)
    return made


def _serve(listener: socket.socket, context: ssl.SSLContext, service: Service) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(
                target=_pass_on, args=(connection, context, service), daemon=True
            ).start()


def _pass_on(connection: socket.socket, context: ssl.SSLContext, service: Service) -> None:
    with suppress(OSError), connection:
        host, _, port = service.url.removeprefix("http://").partition(":")
        with (
            context.wrap_socket(connection, server_side=True) as outside,
            socket.create_connection((host, int(port)), 10) as inside,
        ):
            inside.settimeout(None)
            back = threading.Thread(target=_copy, args=(inside, outside), daemon=True)
            back.start()
            _copy(outside, inside)
            back.join(10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(CHUNK):
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
