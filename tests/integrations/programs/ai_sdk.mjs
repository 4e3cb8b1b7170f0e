// What a program with the Vercel AI SDK does; prints what it saw as one line of JSON.
import { readFileSync } from 'node:fs'
import { Sandbox } from '@e2b/code-interpreter'
import { generateText, stepCountIs, streamText, tool } from 'ai'
import * as test from 'ai/test'
import { z } from 'zod'

const sandbox = await Sandbox.create()
const runPython = tool({
  description: 'Run Python in a Jupyter kernel that keeps its variables',
  inputSchema: z.object({ code: z.string() }),
  execute: async ({ code }, { abortSignal }) => {
    const { text, logs, error, results } = await sandbox.runCode(code, { signal: abortSignal })
    return { text, stdout: logs.stdout.join(''), error: error?.value, png: results[0]?.png }
  },
})

const codes = [
  "rain = {'Bergen': 7, 'Oslo': 3}; print('read')",
  'max(rain, key=rain.get)',
  "rain['Rome']",
  'import matplotlib.pyplot as plt; plt.bar(rain.keys(), rain.values()); plt.show()',
]
const seen = {}
try {
  const model = scripted(codes)
  const done = await generateText({
    model,
    tools: { runPython },
    stopWhen: stepCountIs(10),
    prompt: 'Where does it rain most?',
  })
  const outputs = done.steps.flatMap((step) => step.toolResults.map((each) => each.output))
  seen.outputs = outputs.map(({ png, ...rest }) => ({ ...rest, png: png?.slice(0, 8) }))
  seen.answer = done.text
  seen.told = JSON.stringify(model.doGenerateCalls.at(-1).prompt).includes('Bergen')
  seen.streamed = await streamed()
  seen.stopped = await stopped()
} finally {
  seen.killed = await sandbox.kill()
}
seen.versions = Object.fromEntries(['ai', '@e2b/code-interpreter', 'e2b'].map(version))
console.log(JSON.stringify(seen))

// The same over streamText.
async function streamed() {
  const told = streamText({
    model: scripted(['sum(rain.values())']),
    tools: { runPython },
    stopWhen: stepCountIs(3),
    prompt: 'How much in all?',
  })
  const kinds = []
  for await (const part of told.fullStream) {
    kinds.push(part.type === 'tool-result' ? `tool-result ${part.output.text}` : part.type)
  }
  return kinds.filter((kind) => kind.startsWith('tool-result') || kind === 'finish')
}

// Who stops the agent stops the cell, and the kernel is free again.
async function stopped() {
  const options = { abortSignal: AbortSignal.timeout(1500) }
  const waiting = generateText({
    model: scripted(['import time; time.sleep(60)']),
    tools: { runPython },
    stopWhen: stepCountIs(3),
    prompt: 'Wait',
    ...options,
  })
  const ended = await waiting.then(
    (done) => done.steps[0].content.at(-1).type,
    (error) => error.name,
  )
  return [ended, (await sandbox.runCode("rain['Oslo']", { timeoutMs: 20_000 })).text]
}

// A model that has its calls ready; the tool is what is tried here.
function scripted(codes) {
  const Model = test.MockLanguageModelV4 ?? test.MockLanguageModelV3
  const usage = { inputTokens: { total: 1 }, outputTokens: { total: 1 } }
  const steps = codes.map((code, number) => [
    {
      type: 'tool-call',
      toolCallId: `call-${number}`,
      toolName: 'runPython',
      input: JSON.stringify({ code }),
    },
  ])
  steps.push([{ type: 'text', text: 'In Bergen.' }])
  const reason = (content) => {
    const unified = content[0].type === 'text' ? 'stop' : 'tool-calls'
    return { unified, raw: unified }
  }
  const next = () => steps.shift()
  return new Model({
    doGenerate: async () => {
      const content = next()
      return { content, finishReason: reason(content), usage, warnings: [] }
    },
    doStream: async () => {
      const content = next()
      const parts = content[0].type === 'text' ? text(content[0].text) : content
      const end = { type: 'finish', finishReason: reason(content), usage }
      const chunks = [{ type: 'stream-start', warnings: [] }, ...parts, end]
      return { stream: test.simulateReadableStream({ chunks }) }
    },
  })
}

function text(delta) {
  return [
    { type: 'text-start', id: 't' },
    { type: 'text-delta', id: 't', delta },
    { type: 'text-end', id: 't' },
  ]
}

function version(name) {
  const manifest = new URL(`node_modules/${name}/package.json`, import.meta.url)
  return [name, JSON.parse(readFileSync(manifest)).version]
}
