// Drives the host with @e2b/code-interpreter; prints what it saw as one line of JSON.
import { Sandbox } from '@e2b/code-interpreter'

const sandbox = await Sandbox.create()
const seen = {}
try {
  await sandbox.runCode('x = 20')
  seen.state = (await sandbox.runCode('x += 1\nx')).text

  await sandbox.runCode('const a = 40; let b = 1', { language: 'javascript' })
  seen.javascript = (await sandbox.runCode('b += 1; a + b', { language: 'javascript' })).text

  const plot = await sandbox.runCode(
    'import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4])\nplt.title("Line")\nplt.show()',
  )
  seen.png = plot.results[0].png.slice(0, 8)
  seen.chart = plot.results[0].chart

  const failed = await sandbox.runCode('{}["missing"]')
  seen.error = failed.error
  seen.afterError = (await sandbox.runCode('x')).text

  const lines = []
  await sandbox.runCode('for i in range(3): print(i)', { onStdout: (m) => lines.push(m.line) })
  seen.stdout = lines.join('')

  const context = await sandbox.createCodeContext({ cwd: '/tmp' })
  seen.cwd = (await sandbox.runCode('import os; os.getcwd()', { context })).text
  await sandbox.removeCodeContext(context)

  seen.command = (await sandbox.commands.run('echo hello from a shell')).stdout
  await sandbox.files.write('note.txt', 'written by node')
  seen.file = await sandbox.files.read('note.txt')
} finally {
  seen.killed = await sandbox.kill()
}
seen.running = await sandbox.isRunning()
console.log(JSON.stringify(seen))
