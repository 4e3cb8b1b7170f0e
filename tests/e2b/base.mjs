// Drives the host with the npm package e2b; prints what it saw as one line of JSON.
import { Sandbox } from 'e2b'

const sandbox = await Sandbox.create({ metadata: { from: 'node' }, envs: { GREETING: 'hello' } })
const seen = { id: sandbox.sandboxId }
try {
  seen.listed = (await Sandbox.list({ query: { metadata: { from: 'node' } } }).nextItems())
    .map((each) => each.sandboxId)
  seen.environment = (await sandbox.commands.run('echo $GREETING')).stdout

  try {
    await sandbox.commands.run('echo before; exit 7')
  } catch (error) {
    seen.failure = { name: error.name, exitCode: error.exitCode, stdout: error.stdout }
  }

  const pieces = []
  const command = await sandbox.commands.run('echo one; sleep 0.3; echo two', {
    background: true,
    onStdout: (text) => pieces.push(text),
  })
  await command.wait()
  seen.streamed = pieces.join('')

  await sandbox.files.write('dir/data.bin', new Uint8Array([0, 1, 254, 255]).buffer)
  seen.bytes = Array.from(await sandbox.files.read('dir/data.bin', { format: 'bytes' }))
  seen.names = (await sandbox.files.list('dir')).map((each) => each.name)
  seen.exists = await sandbox.files.exists('dir/none')
  await sandbox.setTimeout(120_000)
  seen.runningBefore = await sandbox.isRunning()
} finally {
  seen.killed = await sandbox.kill()
}
seen.running = await sandbox.isRunning()
console.log(JSON.stringify(seen))
