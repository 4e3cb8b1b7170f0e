"""Cells of JavaScript and TypeScript, in Deno's kernel."""

from __future__ import annotations

import json

import pytest

from code_interpreter.protocol.executions import Cause, ExecutionStatus, KernelState
from tests import npm
from tests.gateway.world import ROOT, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("code", "text", "stdout", "stderr"),
    [
        ("1 + 1", "2", "", ""),
        ("'a' + 'b'", '"ab"', "", ""),
        ("({ a: 1, b: [1, { c: 2 }] })", "{ a: 1, b: [ 1, { c: 2 } ] }", "", ""),
        ("undefined", None, "", ""),
        ("console.log('x', 1); console.error('e')", None, "x 1\n", "e\n"),
        ("await new Promise((done) => setTimeout(() => done(5), 10))", "5", "", ""),
        ("import fs from 'node:fs'; fs.existsSync('/')", "true", "", ""),
        ("import path from 'path'; path.basename('/a/b')", '"b"', "", ""),
        ("const os = require('os'); typeof os.cpus", '"function"', "", ""),
        ("Buffer.from('hi').toString('hex')", '"6869"', "", ""),
        (
            "process.stdout.write('raw\\n'); process.stderr.write('bad\\n'); 1",
            "1",
            "raw\n",
            "bad\n",
        ),
        ("Deno.stdout.writeSync(new TextEncoder().encode('ü'))", "2", "ü", ""),
        ("function f() { return 3 }\nf()", "3", "", ""),
        ("f() + 1", "4", "", ""),
        ("let n: number = 1; interface A { x: number }; const a: A = { x: n }; a.x", "1", "", ""),
    ],
)
async def test_cells(shared: World, code: str, text: str | None, stdout: str, stderr: str) -> None:
    outcome = await shared.run(code, language="javascript")
    assert outcome.error is None, outcome.error
    assert (outcome.text, outcome.stdout, outcome.stderr) == (text, stdout, stderr)


async def test_typescript_has_a_context_of_its_own(shared: World) -> None:
    await shared.run("const where: string = 'ts'", language="ts")
    assert (await shared.run("where", language="typescript")).text == '"ts"'
    assert (await shared.run("typeof where", language="javascript")).text == '"undefined"'


async def test_packages_that_are_installed_into_the_directory(shared: World) -> None:
    """Also while the kernel lives. The ``deno.json`` of a sandbox's root asks for it."""
    (shared.directory / "deno.json").write_text((ROOT / "template/root/deno.json").read_text())
    async with shared.client() as client:
        made = (await client.post("/contexts", json={"language": "javascript"})).json()
    await shared.run("1", context_id=made["id"])
    for name, kind, source in (
        ("common", "commonjs", "module.exports = { answer: 42 }"),
        ("modern", "module", "export const answer = 43"),
    ):
        package = shared.home / "node_modules" / name
        package.mkdir(parents=True)
        fields = {"name": name, "version": "1.0.0", "type": kind, "exports": "./index.js"}
        (package / "package.json").write_text(json.dumps(fields))
        (package / "index.js").write_text(source)
    versions = {"dependencies": {"common": "^1.0.0", "modern": "^1.0.0"}}
    (shared.home / "package.json").write_text(json.dumps(versions))
    for code, text in (
        ("require('common').answer", "42"),
        ("import common from 'common'; common.answer", "42"),
        ("import { answer } from 'modern'; answer", "43"),
        ("(await import('modern')).answer", "43"),
        ("import again from 'npm:common'; again.answer", "42"),
    ):
        outcome = await shared.run(code, context_id=made["id"])
        assert (outcome.error, outcome.text) == (None, text)


@pytest.mark.npm
@pytest.mark.timeout(npm.INSTALL_SECONDS + 60)
async def test_packages_of_npm_that_npm_installs(shared: World) -> None:
    """As they are: ``npm pack`` makes the files, so that ``npm install`` needs no network."""
    modules = npm.installed("ms@2.1.3", "nanoid@5.1.5").directory / "node_modules"
    (shared.directory / "deno.json").write_text((ROOT / "template/root/deno.json").read_text())
    project = shared.home / "project"
    project.mkdir()
    async with shared.client() as client:
        fields = {"language": "javascript", "cwd": str(project)}
        made = (await client.post("/contexts", json=fields)).json()
        shell = await client.post("/contexts", json={"language": "bash", "cwd": str(project)})
    install = f"""
npm pack --silent {modules}/ms {modules}/nanoid
npm init --yes > /dev/null
npm install --offline --no-audit --no-fund ./*.tgz
"""
    done = await shared.run(install, context_id=shell.json()["id"], deadline=120)
    assert (done.error, "added 2 packages" in done.stdout) == (None, True), done.stderr
    for code, text in (
        ("require('ms')('2 days')", "172800000"),
        ("import ms from 'ms'; ms('1m')", "60000"),
        ("import { nanoid } from 'nanoid'; nanoid(12).length", "12"),
        ("(await import('nanoid')).customAlphabet('a', 3)()", '"aaa"'),
    ):
        outcome = await shared.run(code, context_id=made["id"])
        assert (outcome.error, outcome.text) == (None, text)


async def test_all_output_comes_before_the_end(shared: World) -> None:
    code = "for (let i = 0; i < 20_000; i++) console.log(i); 'end'"
    outcome = await shared.run(code, language="javascript")
    assert outcome.stdout == "".join(f"{n}\n" for n in range(20_000))
    assert outcome.text == '"end"'


@pytest.mark.parametrize(
    ("code", "name", "value"),
    [
        ("throw new TypeError('bad')", "TypeError", "bad"),
        ("nonesuch", "ReferenceError", "nonesuch is not defined"),
        ("await Promise.reject(new Error('later'))", "Error", "later"),
        ("x =", "SyntaxError", "Expression expected"),
        ("import x from './none.js'", "TypeError", "Module not found"),
        ("require('nonesuch')", "Error", "Cannot find module 'nonesuch'"),
    ],
)
async def test_errors(shared: World, code: str, name: str, value: str) -> None:
    outcome = await shared.run(code, language="javascript")
    assert outcome.error is not None
    assert outcome.error.name == name
    assert outcome.error.value.startswith(value)
    assert name in outcome.error.traceback


async def test_a_syntax_error_names_the_place(shared: World) -> None:
    outcome = await shared.run("const fine = 1;\nlet let = 3", language="javascript")
    assert outcome.error is not None
    assert "2 | let let = 3\n" in outcome.error.traceback
    assert "<anonymous>:2:5" in outcome.error.traceback


@pytest.mark.parametrize(
    "code",
    [
        "setTimeout(() => { throw new Error('late') }, 5)",
        "Promise.reject(new Error('late'))",
    ],
)
async def test_errors_beside_the_cell_are_printed(shared: World, code: str) -> None:
    code += "; await new Promise((done) => setTimeout(done, 50)); 'done'"
    outcome = await shared.run(code, language="javascript", timeout=10)
    assert (outcome.text, outcome.error) == ('"done"', None)
    assert "Uncaught Error: late" in outcome.stderr


async def test_displays(shared: World) -> None:
    png = "iVBORw0KGgo="
    code = f"""
await Deno.jupyter.display(Deno.jupyter.html`<b>h</b>`)
const raw = {{ 'image/png': '{png}', 'application/x-own': {{ a: 1 }} }}
await Deno.jupyter.display(raw, {{ raw: true }})
Deno.jupyter.md`*m*`
"""
    outcome = await shared.run(code, language="javascript")
    assert outcome.error is None
    html, picture, markdown = outcome.results
    assert (html.bundle.html, html.is_main_result) == ("<b>h</b>", False)
    assert (picture.bundle.png, picture.bundle.extra) == (png, {"application/x-own": {"a": 1}})
    assert (markdown.bundle.markdown, markdown.is_main_result) == ("*m*", True)


async def test_an_interrupt_keeps_the_state(shared: World) -> None:
    await shared.run("var kept = 1", language="javascript")
    end = (await shared.run("while (true) {}", language="javascript", timeout=0.3)).end
    assert (end.status, end.kernel_state) == (ExecutionStatus.INTERRUPTED, KernelState.PRESERVED)
    assert (await shared.run("kept", language="javascript")).text == "1"


async def test_a_cell_that_awaits_for_ever_is_ended(shared: World) -> None:
    code = "await new Promise((done) => setTimeout(done, 60_000))"
    end = (await shared.run(code, language="javascript", timeout=0.3)).end
    assert (end.kernel_state, end.cause) == (KernelState.RESET, Cause.TIMEOUT)
    assert (await shared.run("1", language="javascript")).text == "1"


async def test_an_exit_is_told(shared: World) -> None:
    end = (await shared.run("process.exit(4)", language="javascript")).end
    assert (end.status, end.exit_code) == (ExecutionStatus.LOST, 4)
    assert (await shared.run("require('os') !== null", language="javascript")).text == "true"
