// Does one thing a line that it reads; prints the name and the message of the error as JSON.
import { Secret, Template, Volume } from 'e2b'
import { Sandbox } from '@e2b/code-interpreter'

const sandbox = await Sandbox.create()
const volume = new Volume('v', 'volume', 'token')
const actions = {
  get_info: () => sandbox.getInfo(),
  kill: () => sandbox.kill(),
  pause: () => sandbox.pause(),
  resume: () => sandbox.connect(),
  set_timeout: () => sandbox.setTimeout(60_000),
  read: () => sandbox.files.read('file'),
  write: () => sandbox.files.write('file', 'x'),
  list: () => sandbox.files.list('.'),
  make_dir: () => sandbox.files.makeDir('d'),
  run: () => sandbox.commands.run('true'),
  connect: async () => (await sandbox.commands.connect(7)).wait(),
  pty: async () => (await sandbox.pty.connect(7, { onData() {} })).wait(),
  is_running: () => sandbox.isRunning(),
  alias: () => Template.aliasExists('name'),
  tags: () => Template.getTags('name'),
  build: () => Template.build(Template().fromBaseImage(), 'name'),
  volume: () => Volume.getInfo('none'),
  volume_read: () => volume.readFile('/file'),
  secret: () => Secret.getInfo('none'),
  run_code: () => sandbox.runCode('1', { timeoutMs: 500 }),
  context: () => sandbox.createCodeContext(),
}
for await (const line of (await import('node:readline')).createInterface({ input: process.stdin })) {
  try {
    console.log(JSON.stringify({ value: (await actions[line]()) ?? null }))
  } catch (error) {
    console.log(JSON.stringify({ name: error.constructor.name, message: error.message }))
  }
}
process.exit(0)
