"""Packages and templates: what is installed in a sandbox stays in it, and so does what it spoils.

Templates are made of this project's own lists; there are none that clients build.
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import CommandExitException, Sandbox

import code_interpreter
from code_interpreter.host import templates
from code_interpreter.host.runtimes.base import TemplateMissing
from code_interpreter.host.templates import TemplateStore, resources
from tests.service import Service, cache_directory

pytestmark = pytest.mark.security
MARK = f"hostile-{secrets.token_hex(8)}"
SETUP = """
import glob, os, pathlib, setuptools
for place in sum(map(glob.glob, {places}), []):
    try:
        pathlib.Path(place, {mark!r}).write_text(str(dict(os.environ)))
    except OSError:
        pass
setuptools.setup(name="hostile", version="1", py_modules=["numpy_evil"])
"""
PLACES = (
    "/tmp /usr/local/bin /usr/local/lib /usr/bin /etc /root /var/tmp /run /dev/shm /home/user "
    "/opt/code-interpreter /opt/python/lib /usr/local/lib/python3*/site-packages/numpy"
).split()


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    with Sandbox.create(timeout=300, **service.options) as sandbox:
        yield sandbox


def _run(box: Sandbox, command: str, user: str = "root") -> str:
    """Output of both streams, whatever the exit code."""
    try:
        result = box.commands.run(command, user=user, timeout=60)
    except CommandExitException as error:
        return f"{error.stdout}{error.stderr}"
    return f"{result.stdout}{result.stderr}"


_CACHES = ("__pycache__", "ldconfig")


def _project(mark: str, places: list[str]) -> dict[str, str]:
    """Files of a package whose installation writes to all these places."""
    setup = SETUP.format(mark=mark, places=places)
    return {"setup.py": setup, "numpy_evil.py": "installed = True\n"}


async def _outside() -> list[Path]:
    """What sandboxes are made of, that is of this project."""
    store = TemplateStore(cache_directory() / "templates")
    prepared = await store.prepare("code-interpreter-v1", print)
    package = Path(code_interpreter.__file__).parent
    return [prepared.local, prepared.root, package, resources("kernels")]


def _state(places: list[Path]) -> dict[str, tuple[int, ...]]:
    """Of every file: what a change to it or to its attributes would change.

    Hosts that start have ldconfig(8) write its caches anew.
    """
    found: dict[str, tuple[int, ...]] = {}
    for top in places:
        for place, directories, names in os.walk(top):
            directories[:] = [each for each in directories if each not in _CACHES]
            for name in names:
                if not name.startswith("ld.so.cache"):
                    about = os.lstat(f"{place}/{name}")
                    found[f"{place}/{name}"] = (about.st_ino, about.st_size, about.st_ctime_ns)
            about = os.lstat(place)
            found[place] = (about.st_ino, about.st_mode, about.st_uid)
    return found


# --- packages ---------------------------------------------------------------------------


async def test_an_installed_package_runs_and_stays_in_its_sandbox(
    box: Sandbox, service: Service
) -> None:
    outside = await _outside()
    before = _state(outside)
    marked = " ".join(f"{place}/{MARK}" for place in PLACES)
    options = "--no-index --no-build-isolation --no-input --disable-pip-version-check --no-deps"
    for user in ("user", "root"):
        for name, text in _project(MARK, PLACES).items():
            box.files.write(f"/tmp/of-{user}/{name}", text, user=user)
        box.commands.run(f"pip install --force-reinstall {options} /tmp/of-{user}", user=user)
        written = _run(box, f"cat {marked} 2>/dev/null; rm -f {marked}")
        assert "'PATH'" in written, "its code ran"
        assert service.key not in written
    assert _run(box, "python3 -c 'import numpy_evil; print(numpy_evil.installed)'") == "True\n"
    assert _state(outside) == before
    assert not [place for place in PLACES if Path(place, MARK).exists()]
    with Sandbox.create(timeout=60, **service.options) as other:
        assert _run(other, f"ls {marked} 2>/dev/null") == ""
        assert "ModuleNotFoundError" in _run(other, "python3 -c 'import numpy_evil'")


def test_no_cache_of_the_host_is_shared(box: Sandbox) -> None:
    """Nor is there an index that a name could be taken from: sandboxes have no network."""
    mounts = _run(box, "cut -d' ' -f5 /proc/self/mountinfo").split()
    assert not [mount for mount in mounts if "cache" in mount or "pip" in mount]
    assert _run(box, "ls -A /root/.cache /home/user/.cache 2>/dev/null").strip() == ""
    refused = _run(box, "pip download --no-input --retries 0 --timeout 3 requests -d /tmp/x")
    assert "No matching distribution" in refused


# --- templates --------------------------------------------------------------------------

SPOIL = """
cd /
for file in $(readlink -f $(which python3)) /usr/bin/env /etc/hosts \
    /usr/local/lib/python3*/site-packages/numpy/__init__.py \
    /usr/local/lib/python3*/site-packages/pip/__init__.py \
    /opt/code-interpreter/code_interpreter/__init__.py \
    /opt/code-interpreter/kernels/python3/kernel.json; do
    chmod 4777 $file; chown user $file; echo '# {mark}' >> $file; touch -d 1999-01-01 $file
    setfattr -n user.{mark} -v x $file; ln $file /usr/local/{mark}-link; mv $file $file.{mark}
done
mount -o remount,rw /; mount -o remount,rw /opt/code-interpreter; mount -o remount,rw /usr
mount -o bind / /mnt; umount /; umount -l /usr /usr/local
rm -rf /usr/local/lib/python3*/site-packages/pandas /opt/code-interpreter /usr/bin
"""


async def test_a_sandbox_cannot_spoil_what_others_are_made_of(service: Service) -> None:
    """Not by writing, changing attributes, linking, moving, removing or mounting."""
    outside = await _outside()
    before = _state(outside)
    with Sandbox.create(timeout=120, **service.options) as spoiler:
        _run(spoiler, SPOIL.format(mark=MARK))
        assert not spoiler.files.exists("/usr/bin/env"), "something was spoiled: its own"
    assert _state(outside) == before
    assert not list(Path("/usr/bin").glob(f"*{MARK}*"))
    with Sandbox.create(timeout=60, **service.options) as other:
        assert _run(other, f"ls /usr/local /usr/bin /etc | grep {MARK}") == ""
        assert "root:" in _run(other, "cat /etc/passwd")
        assert _run(other, "python3 -c 'import numpy, pandas, pip; print(1)'") == "1\n"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A template of no packages so far; add them to its list."""
    made = tmp_path / "recipe"
    shutil.copytree(resources("template") / "root", made / "root")
    (made / "python-packages.txt").write_text("")
    monkeypatch.setattr(templates, "resources", lambda name: made if name == "template" else None)
    monkeypatch.setattr(templates, "_digest", lambda: "0123456789abcdef")
    return made


BACKEND = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


async def test_making_a_template_runs_no_package_s_code(recipe: Path, tmp_path: Path) -> None:
    """It would run with the host's rights, and could leave a back door to every sandbox."""
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: hostile\nVersion: 1\n",
        "pyproject.toml": BACKEND,
        "backend.py": f"import pathlib\npathlib.Path({str(tmp_path / MARK)!r}).touch()\n",
    }
    with tarfile.open(tmp_path / "hostile-1.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            about = tarfile.TarInfo(f"hostile-1/{name}")
            about.size = len(text)
            archive.addfile(about, io.BytesIO(text.encode()))
    listed = f"--no-index\n--find-links {tmp_path}\nhostile\n"
    (recipe / "python-packages.txt").write_text(listed)
    with pytest.raises(TemplateMissing, match="hostile"):
        await TemplateStore(tmp_path / "templates").prepare("base", print)
    assert not (tmp_path / MARK).exists()
    assert [path.name for path in (tmp_path / "templates").iterdir()] == ["lock"]


async def test_no_secret_of_the_host_is_in_a_template(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its key nor what pip was told, its environment, its cache or its user's files."""
    canary = f"canary{secrets.token_hex(16)}"
    home = tmp_path / canary
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = http://u:{canary}@x/\n")
    monkeypatch.setenv("HOME", str(home))
    for name in ("CODE_INTERPRETER_API_KEY", "E2B_API_KEY", "SECRET", "PIP_TRUSTED_HOST"):
        monkeypatch.setenv(name, canary)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://user:{canary}@127.0.0.1:1/simple")
    wheel = _wheel(tmp_path)
    zipfile.ZipFile(wheel).extractall(tmp_path / "elsewhere")  # "installed already", to pip
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    (recipe / "python-packages.txt").write_text(f"harmless == 1\n--find-links {tmp_path}\n")
    prepared = await TemplateStore(tmp_path / "templates").prepare("base", print)
    assert list(prepared.local.rglob("harmless.py"))
    files = [path for path in prepared.directory.rglob("*") if not path.is_symlink()]
    assert len(files) > 50
    for path in files:
        assert canary not in path.name
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path
    assert "CODE_INTERPRETER_API_KEY" not in templates._environment()


def _wheel(directory: Path) -> Path:
    about = "harmless-1.dist-info"
    path = directory / "harmless-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("harmless.py", "there = True\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: harmless\nVersion: 1\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    return path
