"""What a program with ``langchain-e2b-selfhost`` does; prints what it saw as JSON."""

import json
from importlib.metadata import version

from e2b import Sandbox
from langchain_e2b_selfhost import E2BSelfHostedSandbox

sandbox = Sandbox.create()
try:
    backend = E2BSelfHostedSandbox(sandbox=sandbox)
    done = backend.execute("echo out; echo err >&2")
    failed = backend.execute("echo why >&2; exit 3")
    slow = backend.execute("sleep 30", timeout=1)
    up = backend.upload_files([("/tmp/a/b.bin", b"\x00\xff"), ("/tmp", b""), ("relative", b"")])
    down = backend.download_files(["/tmp/a/b.bin", "/tmp/none", "/tmp"])
    backend.write("/tmp/notes.txt", "first\nsecond\n")
    edited = backend.edit("/tmp/notes.txt", "second", "third")
    seen = {
        "id": backend.id == sandbox.sandbox_id,
        "done": (done.exit_code, done.output),
        "failed": (failed.exit_code, failed.output.partition("\n")[0]),
        "slow": slow.exit_code,
        "uploaded": [each.error for each in up],
        "downloaded": [(each.content or b"").hex() or each.error for each in down],
        "edited": (edited.error, edited.occurrences),
        "read": backend.read("/tmp/notes.txt").file_data["content"],
        "listed": [each["path"] for each in backend.ls("/tmp/a").entries],
        "matched": [each["text"] for each in backend.grep("third", "/tmp").matches],
    }
finally:
    sandbox.kill()
seen["versions"] = {name: version(name) for name in ("langchain-e2b-selfhost", "deepagents", "e2b")}
print(json.dumps(seen))
