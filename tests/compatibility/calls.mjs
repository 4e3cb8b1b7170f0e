// Every call of the npm package e2b that acts in a sandbox, once; prints what came of each.
// The calls have the names that calls.py gives them. The last line is JSON:
// call → "ok", "absent" (not in that release), or what went wrong.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Sandbox } from 'e2b'

const calls = {}
class Absent extends Error {}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function until(isTrue, what) {
  const deadline = Date.now() + 10_000
  while (!(await isTrue())) {
    assert(Date.now() < deadline, what())
    await sleep(20)
  }
}

async function fails(kind, action) {
  try {
    await action()
  } catch (error) {
    const names = []
    for (let each = error; each?.constructor?.name; each = Object.getPrototypeOf(each)) {
      names.push(each.constructor.name)
    }
    assert(names.includes(kind), `${names[0]}: ${error.message}`)
    return error
  }
  assert.fail(`no ${kind}`)
}

function part(whole, name) {
  if (whole?.[name] === undefined) throw new Absent(name)
  return whole[name].bind ? whole[name].bind(whole) : whole[name]
}

// --- commands ---------------------------------------------------------------------------

calls['commands.run'] = async (s) => {
  const done = await s.commands.run('echo out; echo err >&2')
  assert.deepEqual([done.stdout, done.stderr, done.exitCode], ['out\n', 'err\n', 0])
}

calls['commands.run, an exit code'] = async (s) => {
  const error = await fails('CommandExitError', () => s.commands.run('echo before; exit 3'))
  assert.deepEqual([error.exitCode, error.stdout], [3, 'before\n'])
}

calls['commands.run, envs, cwd and user'] = async (s) => {
  const options = { envs: { A: "it's" }, cwd: '/tmp', user: 'root' }
  const done = await s.commands.run('echo "$A $PWD $(whoami)"', options)
  assert.equal(done.stdout, "it's /tmp root\n")
}

calls['commands.run, an unknown user'] = async (s) => {
  const run = () => s.commands.run('true', { user: 'nobody-here' })
  assert.match((await fails('AuthenticationError', run)).message, /invalid username: 'nobody-here'/)
}

calls['commands.run, a directory that is not there'] = async (s) => {
  await fails('InvalidArgumentError', () => s.commands.run('true', { cwd: '/not/there' }))
}

calls['commands.run, a time-out'] = async (s) => {
  await fails('TimeoutError', () => s.commands.run('sleep 77', { timeoutMs: 500 }))
  const ask = "pgrep -f '[s]leep 77' || echo none"
  await until(async () => (await s.commands.run(ask)).stdout === 'none\n', () => 'it runs on')
}

calls['commands.run, output that is not UTF-8'] = async (s) => {
  assert.equal((await s.commands.run("printf 'a\\xff\\xfeb'")).stdout, 'a\ufffd\ufffdb')
}

calls['commands.run, output as it comes'] = async (s) => {
  const times = []
  await s.commands.run('echo 1; sleep 0.4; echo 2', { onStdout: () => times.push(Date.now()) })
  assert(times.at(-1) - times[0] > 200)
}

calls['commands.run, in the background'] = async (s) => {
  const handle = await s.commands.run('sleep 0.2; echo done', { background: true })
  assert.equal((await handle.wait()).stdout, 'done\n')
}

calls['commands.list'] = async (s) => {
  const handle = await s.commands.run('sleep 30', { background: true })
  const found = (await s.commands.list()).filter((each) => each.pid === handle.pid)
  assert(found[0].args.includes('sleep 30'))
  await handle.kill()
  await handle.wait().catch(() => {})
}

calls['commands.kill'] = async (s) => {
  const handle = await s.commands.run('sleep 30', { background: true })
  assert.equal(await s.commands.kill(handle.pid), true)
  const error = await fails('CommandExitError', () => handle.wait())
  assert.deepEqual([error.exitCode, error.error], [-1, 'signal: killed'])
  assert.equal(await s.commands.kill(999_999), false)
}

calls['commands.connect'] = async (s) => {
  const handle = await s.commands.run('sleep 0.5; echo late', { background: true })
  await handle.disconnect()
  assert.equal((await (await s.commands.connect(handle.pid)).wait()).stdout, 'late\n')
}

calls['commands.send_stdin'] = async (s) => {
  const options = { background: true, stdin: true }
  const handle = await s.commands.run('read line; echo got $line', options)
  await s.commands.sendStdin(handle.pid, 'words\n')
  assert.equal((await handle.wait()).stdout, 'got words\n')
}

calls['commands.close_stdin'] = async (s) => {
  const close = part(s.commands, 'closeStdin')
  const handle = await s.commands.run('cat; echo end', { background: true, stdin: true })
  await close(handle.pid)
  assert.equal((await handle.wait()).stdout, 'end\n')
}

// --- terminals --------------------------------------------------------------------------

const bytes = (text) => new TextEncoder().encode(text)

async function terminal(s) {
  const seen = []
  const onData = (data) => seen.push(Buffer.from(data))
  const handle = await s.pty.create({ cols: 80, rows: 24, onData })
  return { handle, onData, text: () => Buffer.concat(seen).toString() }
}

calls['pty.create'] = async (s) => {
  const { handle, text } = await terminal(s)
  await s.pty.sendInput(handle.pid, bytes('echo $TERM-$((40 + 2)); exit\n'))
  await handle.wait()
  assert(text().includes('xterm-256color-42'), text())
}

calls['pty.resize'] = async (s) => {
  const { handle, text } = await terminal(s)
  await s.pty.resize(handle.pid, { cols: 111, rows: 33 })
  await s.pty.sendInput(handle.pid, bytes('stty size; exit\n'))
  await handle.wait()
  assert(text().includes('33 111'), text())
}

calls['pty.connect'] = async (s) => {
  const connect = part(s.pty, 'connect')
  const { handle, onData, text } = await terminal(s)
  await handle.disconnect()
  const again = await connect(handle.pid, { onData })
  await s.pty.sendInput(handle.pid, bytes('echo $((40 + 3)); exit\n'))
  await again.wait()
  assert(text().includes('43'), text())
}

calls['pty.kill'] = async (s) => {
  const { handle } = await terminal(s)
  assert.equal(await s.pty.kill(handle.pid), true)
  const error = await fails('CommandExitError', () => handle.wait())
  assert.deepEqual([error.exitCode, error.error], [-1, 'signal: killed'])
}

// --- files ------------------------------------------------------------------------------

calls['files.write and files.read, text'] = async (s) => {
  const written = await s.files.write('deep/er/text.txt', 'läuft\n')
  assert.deepEqual([written.path, written.name], ['/home/user/deep/er/text.txt', 'text.txt'])
  assert.equal(await s.files.read('deep/er/text.txt'), 'läuft\n')
}

calls['files.write and files.read, bytes'] = async (s) => {
  const content = new Uint8Array(5_000_000).map((_, place) => place % 251)
  await s.files.write('bytes', content.buffer)
  const read = await s.files.read('bytes', { format: 'bytes' })
  assert(Buffer.from(read).equals(Buffer.from(content)))
}

calls['files.write and files.read, streams'] = async (s) => {
  const piece = bytes('piece'.repeat(10_000))
  let left = 50
  const source = new ReadableStream({
    pull: (controller) => (left-- ? controller.enqueue(piece) : controller.close()),
  })
  await s.files.write('stream', source)
  let length = 0
  for await (const each of await s.files.read('stream', { format: 'stream' })) length += each.length
  assert.equal(length, 2_500_000)
}

calls['files.write and files.read, gzip'] = async (s) => {
  await s.files.write('zipped', 'again '.repeat(10_000), { gzip: true })
  assert.equal(await s.files.read('zipped', { gzip: true }), 'again '.repeat(10_000))
}

calls['files.write, several'] = async (s) => {
  const files = Array.from({ length: 12 }, (_, n) => ({ path: `many/${n}`, data: `${n}` }))
  const made = await s.files.write(files)
  assert.deepEqual(made.map((each) => each.name), files.map((_, n) => `${n}`))
  assert.equal(await s.files.read('many/7'), '7')
}

calls['files.read, what is not there'] = async (s) => {
  await fails('NotFoundError', () => s.files.read('none'))
}

calls['files.read, a directory'] = async (s) => {
  await fails('InvalidArgumentError', () => s.files.read('/tmp'))
}

calls['files.read, procfs'] = async (s) => {
  assert.equal((await s.files.read('/proc/sys/kernel/random/boot_id')).length, 37)
}

calls['files.list'] = async (s) => {
  await s.files.write('tree/a/b/c', '')
  await s.files.write('tree/d', '')
  const names = async (options) => (await s.files.list('tree', options)).map((each) => each.name)
  assert.deepEqual(await names(), ['a', 'd'])
  assert.deepEqual(await names({ depth: 2 }), ['a', 'b', 'd'])
}

calls['files.exists'] = async (s) => {
  assert.equal(await s.files.exists('/etc/passwd'), true)
  assert.equal(await s.files.exists('/etc/none'), false)
}

calls['files.get_info'] = async (s) => {
  await s.files.write('info', 'four')
  const info = await part(s.files, 'getInfo')('info')
  const seen = [info.size, info.mode, info.permissions, info.owner, info.group]
  assert.deepEqual(seen, [4, 0o644, '-rw-r--r--', 'user', 'user'])
}

calls['files.make_dir'] = async (s) => {
  assert.equal(await s.files.makeDir('new/dir'), true)
  assert.equal(await s.files.makeDir('new/dir'), false)
}

calls['files.rename'] = async (s) => {
  await s.files.write('old', 'x')
  assert.equal((await s.files.rename('old', 'moved/new')).path, '/home/user/moved/new')
  await fails('NotFoundError', () => s.files.rename('old', 'other'))
}

calls['files.remove'] = async (s) => {
  await s.files.write('gone/a', 'x')
  await s.files.remove('gone')
  assert.equal(await s.files.exists('gone'), false)
}

calls['files.write, metadata'] = async (s) => {
  await s.files.write('tagged', 'x', { metadata: { kind: 'note' } })
  const { metadata } = await part(s.files, 'getInfo')('tagged')
  if (metadata === undefined) throw new Absent('metadata')
  assert.deepEqual(metadata, { kind: 'note' })
}

calls['files.watch_dir'] = async (s) => {
  await s.files.makeDir('watched')
  const seen = []
  const handle = await s.files.watchDir('watched', (event) => seen.push([event.type, event.name]))
  await s.files.write('watched/new', 'x')
  await until(() => seen.length >= 3, () => JSON.stringify(seen))
  await sleep(100)
  assert.deepEqual(seen, [['create', 'new'], ['chmod', 'new'], ['write', 'new']])
  await handle.stop()
}

calls['files.watch_dir, recursive'] = async (s) => {
  await s.files.makeDir('above')
  const seen = []
  const note = (event) => seen.push(`${event.type} ${event.name}`)
  const handle = await s.files.watchDir('above', note, { recursive: true })
  await s.files.write('above/just/made/new', 'x')
  await until(() => seen.includes('write just/made/new'), () => JSON.stringify(seen))
  await handle.stop()
}

calls['upload_url and download_url'] = async (s) => {
  const up = await s.uploadUrl('signed/file.txt', { useSignatureExpiration: 60 })
  const form = new FormData()
  form.append('file', new Blob(['signed']), 'f')
  assert.equal((await fetch(up, { method: 'POST', body: form })).status, 200)
  assert.equal(await (await fetch(await s.downloadUrl('signed/file.txt'))).text(), 'signed')
}

// --- git --------------------------------------------------------------------------------

calls['git.init, add, commit, status, branches'] = async (s) => {
  if (s.git === undefined) throw new Absent('git')
  await s.git.init('repo', { initialBranch: 'main' })
  await s.git.configureUser('A', 'a@example.org')
  await s.files.write('repo/a', '1')
  await s.git.add('repo')
  await s.git.commit('repo', 'first')
  assert.equal((await s.git.status('repo')).isClean, true)
  await s.git.createBranch('repo', 'side')
  assert.deepEqual((await s.git.branches('repo')).branches.sort(), ['main', 'side'])
}

calls['git.clone, push, pull, remotes'] = async (s) => {
  if (s.git === undefined) throw new Absent('git')
  const there = { remote: 'hub', branch: 'main' }
  await s.git.init('hub.git', { bare: true, initialBranch: 'main' })
  await s.git.remoteAdd('repo', 'hub', '/home/user/hub.git')
  await s.git.checkoutBranch('repo', 'main')
  await s.git.push('repo', there)
  await s.git.clone('/home/user/hub.git', { path: 'copy' })
  await s.git.commit('repo', 'second', { allowEmpty: true })
  await s.git.push('repo', there)
  await s.git.pull('copy', { remote: 'origin', branch: 'main' })
  const log = await s.commands.run('git -C copy log --format=%s')
  assert.equal(log.stdout, 'second\nfirst\n')
}

// --- sandboxes --------------------------------------------------------------------------

calls['get_info'] = async (s) => {
  assert.equal((await s.getInfo()).sandboxId, s.sandboxId)
}

calls['set_timeout'] = (s) => s.setTimeout(300_000)

calls['connect'] = async (s) => {
  const again = await Sandbox.connect(s.sandboxId)
  assert.equal((await again.commands.run('echo same')).stdout, 'same\n')
}

calls['is_running and kill'] = async (s) => {
  assert.equal(await s.isRunning(), true)
  assert.notEqual(await s.kill(), false) // nothing, before it told
  assert.equal(await s.isRunning(), false)
}

const sandbox = await Sandbox.create()
const seen = {}
try {
  for (const [name, call] of Object.entries(calls)) {
    try {
      await call(sandbox)
      seen[name] = 'ok'
    } catch (error) {
      seen[name] = error instanceof Absent ? 'absent' : `${error.name}: ${error.message}`.slice(0, 300)
    }
  }
} finally {
  await sandbox.kill().catch(() => {})
}
const manifest = new URL('node_modules/e2b/package.json', import.meta.url)
const { version } = JSON.parse(readFileSync(manifest, 'utf8'))
console.log(JSON.stringify({ version, calls: seen }))
process.exit(0)
