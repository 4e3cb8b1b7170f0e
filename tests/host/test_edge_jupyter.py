"""What opens a sandbox's Jupyter server, and what does not."""

from __future__ import annotations

import pytest

from code_interpreter.host.edge_http import Framing, RequestHead
from code_interpreter.host.edge_jupyter import credentials, login_cookie, login_value

ID = "i1"
LOGIN = f"{login_cookie(ID)}={login_value(ID, 'secret')}"


def proves(method: str, headers: dict[str, str], query: str = "") -> bool:
    pairs = tuple((name.encode(), value.encode()) for name, value in headers.items())
    head = RequestHead(method.encode(), b"/", "1.1", pairs, Framing.NONE, True, False)
    return credentials(head, query, ID).prove(ID, ["other", "secret"])


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_token_needs_nothing_else(method: str) -> None:
    assert proves(method, {"Authorization": "token secret"})
    assert proves(method, {"authorization": "Bearer secret"})
    assert proves(method, {}, "token=secret")
    assert not proves(method, {"Authorization": "token secre"})
    assert not proves(method, {"Authorization": "Basic secret"})
    assert not proves(method, {}, "token=")
    assert not proves(method, {})


def test_a_wrong_token_is_not_made_good_by_a_cookie() -> None:
    assert not proves("GET", {"Cookie": LOGIN}, "token=wrong")


def test_a_cookie_alone_may_look_and_not_change() -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        assert proves(method, {"Cookie": LOGIN})
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert not proves(method, {"Cookie": LOGIN})
        assert not proves(method, {"Cookie": f"{LOGIN}; _xsrf="}, "_xsrf=")
        assert not proves(method, {"Cookie": f"{LOGIN}; _xsrf=a", "X-XSRFToken": "b"})
        assert not proves(method, {"Cookie": LOGIN, "X-XSRFToken": "b"})


@pytest.mark.parametrize("header", ["X-XSRFToken", "X-CSRFToken", ""])
def test_what_repeats_the_other_cookie_may_change(header: str) -> None:
    headers = {"Cookie": f"_xsrf=abc; {LOGIN}"} | ({header: "abc"} if header else {})
    assert proves("POST", headers, "" if header else "_xsrf=abc")


@pytest.mark.parametrize(
    "cookie",
    [
        f"{login_cookie(ID)}=secret",
        f"{login_cookie(ID)}={login_value('i2', 'secret')}",
        f"{login_cookie('i2')}={login_value(ID, 'secret')}",
        f"{login_cookie(ID)}={login_value(ID, 'wrong')}",
        "=;;\xff",
    ],
)
def test_cookies_of_others(cookie: str) -> None:
    assert not proves("GET", {"Cookie": cookie})
