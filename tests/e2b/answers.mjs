// Does one thing with a sandbox; prints the name and the message of the error as JSON.
import { Sandbox } from 'e2b'

const sandbox = await Sandbox.create()
const actions = {
  get_info: () => sandbox.getInfo(),
  kill: () => sandbox.kill(),
  pause: () => sandbox.pause(),
  set_timeout: () => sandbox.setTimeout(60_000),
  read: () => sandbox.files.read('file'),
  write: () => sandbox.files.write('file', 'x'),
  list: () => sandbox.files.list('.'),
  make_dir: () => sandbox.files.makeDir('d'),
  run: () => sandbox.commands.run('true'),
  is_running: () => sandbox.isRunning(),
}
for await (const line of (await import('node:readline')).createInterface({ input: process.stdin })) {
  try {
    console.log(JSON.stringify({ value: (await actions[line]()) ?? null }))
  } catch (error) {
    console.log(JSON.stringify({ name: error.constructor.name, message: error.message }))
  }
}
process.exit(0)
