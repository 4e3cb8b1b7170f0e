"""What one sandbox can see of others, and take from them, through E2B's unmodified client."""

from __future__ import annotations

import ast
import time

import httpx
import pytest
from e2b import CommandExitException, Sandbox

from code_interpreter.guest.box import MOST_TERMINALS
from tests.security.in_a_box import python, run
from tests.service import Service

pytestmark = pytest.mark.security


def test_names_of_other_boxes_are_not_shown(box: Sandbox, service: Service) -> None:
    shown = run(box, "cat /sys/block/*/loop/backing_file /proc/self/mountinfo /proc/*/cmdline")
    assert box.sandbox_id not in shown
    assert "disk.img" not in shown


def test_neighbours_do_not_meet(box: Sandbox, service: Service) -> None:
    other = Sandbox.create(timeout=120, **service.options)
    try:
        box.files.write("/tmp/mine", "secret")
        box.commands.run("python3 -m http.server 8123", background=True, timeout=30)
        python(box, "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0box')")
        assert not other.files.exists("/tmp/mine")
        assert "Failed to connect" in run(other, "curl -sS -m 3 http://127.0.0.1:8123/")
        assert "box" not in run(other, "cat /proc/net/unix")
        assert run(other, "ipcs -m | grep -c 0x") == "0\n"
    finally:
        other.kill()


TAKE = """
import ctypes, mmap, os, socket, time
libc = ctypes.CDLL(None)
open("/dev/shm/meeting", "w").write("secret")
open("/var/tmp/meeting", "w").write("secret")
segment = libc.shmget(0x43490002, 4096, 0o1666)
assert segment >= 0 and libc.semget(0x43490002, 1, 0o1666) >= 0
assert libc.msgget(0x43490002, 0o1666) >= 0
servers = [socket.socket(socket.AF_UNIX) for _ in range(2)]
for server, name in zip(servers, ("\\0meeting", "/tmp/meeting.sock")):
    server.bind(name)
    server.listen()
servers += [socket.create_server(("", 8124)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
servers[-1].bind(("", 8124))
print("there", flush=True)
time.sleep(300)
"""


MEET = """
import ctypes, glob, os, socket
libc, met = ctypes.CDLL(None), []
met += [path for path in ("/dev/shm/meeting", "/var/tmp/meeting") if os.path.exists(path)]
met += [name for name in ("shmget", "semget", "msgget")
        if getattr(libc, name)(0x43490002, *((4096, 0) if name == "shmget" else
                               (1, 0) if name == "semget" else (0,))) >= 0]
addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
addresses |= {"127.0.0.1", "127.0.0.2", "::1"}
places = [(socket.AF_UNIX, name) for name in ("\\0meeting", "/tmp/meeting.sock")]
places += [(socket.AF_INET6 if ":" in each else socket.AF_INET, (each, 8124)) for each in addresses]
for family, address in places:
    try:
        with socket.socket(family) as peer:
            peer.settimeout(2)
            peer.connect(address)
            met.append(str(address))
    except OSError:
        pass
met += [name for _, name in socket.if_nameindex() if name != "lo"]
for path in glob.glob("/proc/[0-9]*/cmdline"):
    if b"take.py" in open(path, "rb").read():
        met.append(path)
for pid in range(2, 3000):
    if pid != os.getpid() and not os.path.exists(f"/proc/{pid}"):
        try:
            os.kill(pid, 0)
            met.append(f"signal to {pid}")
        except ProcessLookupError:
            pass
try:
    met += [line for line in open("/proc/net/nf_conntrack") if "8124" in line]
except OSError:
    pass
print(met)
"""


def test_neighbours_share_nothing(box: Sandbox, service: Service) -> None:
    """Neither files, memory, queues, sockets, addresses, processes nor any namespace."""
    namespaces = "cd /proc/self/ns && readlink cgroup ipc mnt net pid user uts"
    box.files.write("/tmp/take.py", TAKE)
    box.files.write("/tmp/meet.py", MEET)
    taking = box.commands.run("python3 /tmp/take.py", user="root", background=True, timeout=0)
    deadline = time.monotonic() + 20
    there = {"/dev/shm/meeting", "shmget", "semget", "msgget", "/tmp/meeting.sock"}
    while not there <= set(met := ast.literal_eval(run(box, "python3 /tmp/meet.py"))):
        assert time.monotonic() < deadline, met
    other = Sandbox.create(timeout=120, **service.options)
    try:
        for user in ("root", "user"):
            assert python(other, MEET, user) == "[]\n"
        of_one, of_other = (run(each, namespaces).split() for each in (box, other))
        assert len(of_one) == 7
        assert not set(of_one) & set(of_other)
    finally:
        other.kill()
        taking.kill()


def test_one_box_does_not_take_every_inotify_instance(box: Sandbox, service: Service) -> None:
    source = """
import ctypes
libc = ctypes.CDLL(None)
print(sum(libc.inotify_init1(0) >= 0 for _ in range(1000)))
"""
    assert int(python(box, source)) <= 256
    other = Sandbox.create(timeout=60, **service.options)
    try:
        other.files.make_dir("/home/user/watched")
        other.files.watch_dir("/home/user/watched").stop()
    finally:
        other.kill()


@pytest.mark.parametrize("user", ["user", "root"])
def test_one_box_does_not_take_every_terminal(box: Sandbox, service: Service, user: str) -> None:
    """The machine has one supply of them (pty(7))."""
    probe = (
        "import os\nopened = []\ntry:\n"
        "    while len(opened) < 1000: opened.append(os.openpty())\n"
        "except OSError as error: print(error)\nprint(len(opened))"
    )
    reason, count = python(box, probe, user).splitlines()
    assert "No space left" in reason
    assert 100 < int(count) <= MOST_TERMINALS
    assert run(box, "script -qec 'echo there' /dev/null").split() == ["there"]


def test_fork_bomb_stays_inside(service: Service) -> None:
    bomber = Sandbox.create(timeout=120, **service.options)
    try:
        bomb = "while True:\n    try:\n        import os; os.fork()\n    except OSError: pass\n"
        bomber.files.write("/tmp/bomb.py", bomb)
        bomber.commands.run("python3 /tmp/bomb.py", background=True, timeout=60)
        time.sleep(2)
        waits = []
        for _ in range(20):
            start = time.monotonic()
            assert httpx.get(f"{service.url}/health", timeout=10).status_code == 204
            waits.append(time.monotonic() - start)
        assert sorted(waits)[-2] < 2, "the host answers while the bomb goes off"
    finally:
        assert bomber.kill()


def test_memory_bomb_ends_the_bomber_alone(service: Service) -> None:
    box = Sandbox.create(timeout=120, **service.options)
    try:
        source = "data = []\nwhile True: data.append(bytearray(50_000_000))\n"
        box.files.write("/tmp/bomb.py", source)
        with pytest.raises(CommandExitException) as caught:
            box.commands.run("exec python3 /tmp/bomb.py", timeout=60)
        assert caught.value.error == "signal: killed"
        assert box.is_running()
        assert box.commands.run("echo alive").stdout == "alive\n"
    finally:
        box.kill()
