// What a program with Mastra's E2B sandbox does; prints what it saw as one line of JSON.
import { readFileSync } from 'node:fs'
import { Agent } from '@mastra/core/agent'
import { createCodeMode, createTool } from '@mastra/core/tools'
import { Workspace } from '@mastra/core/workspace'
import { E2BCodeModeTransport, E2BSandbox } from '@mastra/e2b'
import { z } from 'zod'

const sandbox = new E2BSandbox({ id: 'rain', template: 'code-interpreter-v1', timeout: 600_000 })
const workspace = new Workspace({ sandbox })
await workspace.init()

const seen = { status: sandbox.status }
try {
  const python = await sandbox.executeCommand('python3', ['-c', 'print(6 * 7)'])
  seen.python = [python.success, python.exitCode, python.stdout]
  const failed = await sandbox.executeCommand('echo before; echo why >&2; exit 3')
  seen.failed = [failed.success, failed.exitCode, failed.stdout, failed.stderr]
  const options = { cwd: '/tmp', env: { DAY: 'Monday' } }
  seen.options = (await sandbox.executeCommand('pwd; printenv DAY', [], options)).stdout
  const slow = await sandbox.executeCommand('sleep 30', [], { timeout: 1000 })
  seen.slow = [slow.success, slow.exitCode]

  const cat = await sandbox.processes.spawn('head -n 1')
  seen.running = (await sandbox.processes.list()).some((each) => each.pid === cat.pid)
  await cat.sendStdin('typed\n')
  seen.typed = (await cat.wait()).stdout
  const endless = await sandbox.processes.spawn('sleep 600')
  seen.killed = [await endless.kill(), (await endless.wait()).success]

  await sandbox.writeFiles([
    { path: '/tmp/rain.txt', content: 'seven\n' },
    { path: '/tmp/rain.bin', content: Buffer.from([0, 255]) },
  ])
  seen.files = (await sandbox.executeCommand('cat /tmp/rain.txt; wc -c < /tmp/rain.bin')).stdout
  seen.url = await sandbox.networking.getPortUrl(3000)
  seen.agent = await agent()

  await sandbox.stop()
  const later = new E2BSandbox({ id: 'rain', template: 'code-interpreter-v1' })
  await later.start()
  seen.resumed = (await later.executeCommand('cat /tmp/rain.txt')).stdout
  seen.same = later.e2b.sandboxId
  await later.e2b.kill()
  seen.anew = (await later.executeCommand('ls /tmp/rain.txt')).exitCode
  seen.same = later.e2b.sandboxId === seen.same
  await later.destroy()
} finally {
  await sandbox.destroy()
}
seen.noTemplate = await new E2BSandbox({ id: 'other' }).start().catch((error) => error.message)
seen.versions = Object.fromEntries(['@mastra/e2b', '@mastra/core', 'e2b'].map(version))
console.log(JSON.stringify(seen))

// An agent with the sandbox's tools and one that runs its own programs there, and calls back.
async function agent() {
  const getRain = createTool({
    id: 'getRain',
    description: 'Rain of a city',
    inputSchema: z.object({ city: z.string() }),
    outputSchema: z.object({ days: z.number() }),
    execute: async ({ city }) => ({ days: city.length }),
  })
  const { tool } = createCodeMode({ tools: { getRain }, sandbox }, new E2BCodeModeTransport())
  const code = `
    const both = await Promise.all(['Oslo', 'Bergen'].map((city) => external_getRain({ city })))
    console.log('asked')
    return both[0].days + both[1].days
  `
  const model = scripted([
    ['mastra_workspace_execute_command', { command: 'echo told; exit 3' }],
    ['execute_typescript', { code }],
  ])
  const options = { id: 'rain', name: 'Rain', instructions: 'Ask', model, workspace }
  const made = new Agent({ ...options, tools: { execute_typescript: tool } })
  const done = await made.generate('How much?', { maxSteps: 5 })
  const results = done.steps.flatMap((step) => step.toolResults.map((each) => each.payload.result))
  return [done.text, ...results]
}

// A model that has its calls ready; the tools are what is tried here.
function scripted(calls) {
  const steps = calls.map(([toolName, input], number) => ({
    content: [
      { type: 'tool-call', toolCallId: `call-${number}`, toolName, input: JSON.stringify(input) },
    ],
    finishReason: 'tool-calls',
  }))
  steps.push({ content: [{ type: 'text', text: 'Ten days.' }], finishReason: 'stop' })
  const usage = { inputTokens: 1, outputTokens: 1, totalTokens: 2 }
  const doGenerate = async () => ({ ...steps.shift(), usage, warnings: [] })
  const of = { specificationVersion: 'v2', provider: 'scripted', modelId: 'scripted' }
  return { ...of, supportedUrls: {}, doGenerate }
}

function version(name) {
  const manifest = new URL(`node_modules/${name}/package.json`, import.meta.url)
  return [name, JSON.parse(readFileSync(manifest)).version]
}
