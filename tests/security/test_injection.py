"""Names, directories and ids that would be code if anything spliced them into some.

More examples: ``pytest -m slow tests/security/test_injection.py``, some five minutes.
"""

from __future__ import annotations

import contextlib
import posixpath
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from e2b.exceptions import AuthenticationException, SandboxException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from code_interpreter import Sandbox
from tests.service import Service

pytestmark = pytest.mark.security
CANARY = f"/tmp/canary-{secrets.token_hex(8)}"
"""What is run makes this file, in the sandbox or on the host."""
SHELL = f"touch {CANARY}"
PAYLOADS = (
    f"$({SHELL})",
    f"`{SHELL}`",
    f"; {SHELL};",
    f"&& {SHELL} #",
    f"| {SHELL}",
    f"\n{SHELL}\n",
    f"\n!{SHELL}\n",
    f"\n%sx {SHELL}\n",
    f"() {{ :; }}; {SHELL}",
    f"a[$({SHELL})]",
    f"__import__('os').system('{SHELL}')",
    f'__import__("os").system("{SHELL}")',
    f"open('{CANARY}', 'w')",
    f"{{open('{CANARY}', 'w')}}",
    f"${{Deno.writeTextFileSync('{CANARY}', '')}}",
    f'Deno.writeTextFileSync("{CANARY}", "")',
    f'system("{SHELL}")',
    f'new java.io.FileOutputStream("{CANARY}")',
    "\\u0022+new java.io.FileOutputStream(\\u0022" + CANARY + "\\u0022)+\\u0022",
    f"--{SHELL}",
    f"-c {SHELL}",
)
ENDS = ("'", '"', "`", "\n", "\r", "\\", ")", "}", "]", ";", '"""', "'''", "*/", "#", "\u2028", " ")
end = st.lists(st.sampled_from(ENDS), max_size=3).map("".join)
texts = st.tuples(end, st.sampled_from(PAYLOADS), end).map("".join)
languages = st.sampled_from(("python", "bash", "javascript"))


@dataclass(frozen=True)
class Aim:
    box: Sandbox
    http: httpx.Client

    def check(self) -> None:
        """Nothing was run, neither inside nor outside."""
        assert not self.box.files.exists(CANARY)
        assert not Path(CANARY).exists()


@pytest.fixture(scope="module")
def aim(service: Service) -> Iterator[Aim]:
    with Sandbox.create(timeout=3600, **service.options) as box:
        gateway = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49999"}
        with httpx.Client(
            base_url=service.url, headers=gateway, timeout=60, trust_env=False
        ) as http:
            yield Aim(box, http)


def some(count: int, *, slow: int) -> list[object]:
    """How many examples."""
    marks = [pytest.mark.slow, pytest.mark.timeout(1200)]
    return [
        pytest.param(count, id="some", marks=pytest.mark.timeout(120)),
        pytest.param(slow, id="many", marks=marks),
    ]


def fuzzed(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=count < 100,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


def test_the_canary_is_found_when_something_runs(aim: Aim) -> None:
    aim.box.commands.run(SHELL)
    with pytest.raises(AssertionError):
        aim.check()
    aim.box.files.remove(CANARY)
    aim.check()


@pytest.mark.parametrize("count", some(15, slow=400))
def test_what_names_a_context_is_data(aim: Aim, count: int) -> None:
    """A language, a context's id, a directory that is not there."""

    @fuzzed(count)
    @given(texts)
    def fuzz(text: str) -> None:
        for body in ({"language": text}, {"cwd": text}, {"cwd": "/tmp/" + text}):
            assert aim.http.post("/contexts", json=body).status_code == 400
        for body in ({"context_id": text}, {"language": text}):
            asked = aim.http.post("/execute", json={"code": "1", **body})
            assert asked.status_code in (400, 404)
        path = f"/contexts/{quote(text, safe='')}"
        for method, url in (("DELETE", path), ("POST", path + "/restart")):
            assert aim.http.request(method, url).status_code in (400, 404)
        for kernel in ({"name": text}, {"name": "python3", "path": text}):
            made = aim.http.post("/api/kernels", json=kernel)
            if made.status_code == 201:  # a path that is none leaves the kernel at home
                aim.http.delete(f"/api/kernels/{made.json()['id']}")
        aim.check()

    fuzz()


@pytest.mark.parametrize("count", some(8, slow=100))
def test_a_directory_that_is_there_is_data(aim: Aim, count: int) -> None:
    """Whatever its name is, cells and commands run in it."""

    @fuzzed(count)
    @given(texts, languages)
    def fuzz(text: str, language: str) -> None:
        path = f"/tmp/directories/{text.replace('/', '_')}"
        aim.box.files.make_dir(path)
        ran = aim.box.commands.run("pwd; ls -A", cwd=path).stdout
        assert ran == f"{path}\n"
        context = aim.box.create_code_context(cwd=path, language=language)
        try:
            shown = aim.box.run_code(WHERE[language], context=context)
        finally:
            aim.box.remove_code_context(context)
        assert shown.error is None
        assert "".join(shown.logs.stdout) == path
        # A payload without its slashes would have made its file here.
        assert aim.box.files.list(path) == []
        aim.box.files.remove(path)
        aim.check()

    fuzz()


WHERE = {
    "python": "import os; print(os.getcwd(), end='')",
    "bash": 'printf %s "$PWD"',
    "javascript": "await Deno.stdout.write(new TextEncoder().encode(Deno.cwd())), 0",
}


@pytest.mark.parametrize("count", some(15, slow=400))
def test_a_file_name_is_data(aim: Aim, count: int) -> None:
    @fuzzed(count)
    @given(texts)
    def fuzz(text: str) -> None:
        files, path = aim.box.files, posixpath.normpath(f"/home/user/files/{text}")
        files.write(path, text)
        assert files.read(path) == text
        assert files.get_info(path).path == path
        files.rename(path, path + "~")
        assert [each.path for each in files.list(posixpath.dirname(path))] == [path + "~"]
        files.remove("/home/user/files")
        with contextlib.suppress(SandboxException, AuthenticationException):
            aim.box.commands.run(text, timeout=1, user=text)
        aim.check()

    fuzz()


@pytest.mark.parametrize("count", some(8, slow=150))
def test_names_and_values_of_variables_are_data(aim: Aim, count: int) -> None:
    @fuzzed(count)
    @given(texts, texts, languages)
    def fuzz(name: str, value: str, language: str) -> None:
        envs = {name.replace("=", "-"): value, "VALUE": value}
        shown = aim.box.run_code(VALUE[language], language=language, envs=envs)
        assert shown.error is None
        assert "".join(shown.logs.stdout) == value
        assert aim.box.commands.run('printf %s "$VALUE"', envs=envs).stdout == value
        aim.check()

    fuzz()


VALUE = {
    "python": "import os; print(os.environ['VALUE'], end='')",
    "bash": 'printf %s "$VALUE"',
    "javascript": "await Deno.stdout.write(new TextEncoder().encode(Deno.env.get('VALUE'))), 0",
}
