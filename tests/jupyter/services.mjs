// What VS Code's Jupyter extension asks of a server, through the package that it is built on.
import services from '@jupyterlab/services'
import WebSocket from 'ws'

const { JUPYTER_URL: url, JUPYTER_TOKEN: token, CONTEXT_ID: contextId } = process.env
const { KernelAPI, KernelManager, KernelSpecManager, ServerConnection, SessionManager } = services
console.debug = console.warn = () => {}
const seen = { probes: {} }

// Does the server want a password, and is it a hub? Asked without the token.
for (const path of ['hub/api', 'tree?', 'login?']) {
  seen.probes[path] = (await fetch(`${url}/${path}`, { redirect: 'manual' })).status
}

const serverSettings = ServerConnection.makeSettings({
  baseUrl: `${url}/`, appUrl: '', wsUrl: `${url}/`.replace('http', 'ws'), token, WebSocket,
})
const kernelManager = new KernelManager({ serverSettings })
const specManager = new KernelSpecManager({ serverSettings })
const sessions = new SessionManager({ kernelManager, serverSettings })
await Promise.all([sessions.ready, specManager.ready])
const running = async () => (await KernelAPI.listRunning(serverSettings)).map((each) => each.id)

async function run(kernel, code) {
  const outputs = []
  const future = kernel.requestExecute({ code, allow_stdin: true, stop_on_error: false }, false)
  future.onIOPub = ({ header, content }) => {
    if (header.msg_type === 'stream') outputs.push(content.text)
    if (header.msg_type === 'error') outputs.push(content.ename)
    if (header.msg_type === 'execute_result') outputs.push(content.data['text/plain'])
  }
  future.onStdin = ({ header }) => kernel.sendInputReply({ status: 'ok', value: 'typed' }, header)
  return [(await future.done).content.status, ...outputs]
}

seen.specs = Object.keys(specManager.specs.kernelspecs)
seen.running = await running()

// "Existing Jupyter Server" lists the sessions: the agent's context is one of them.
await sessions.refreshRunning()
const model = [...sessions.running()].find((each) => each.kernel.id === contextId)
const live = sessions.connectTo({ model })
seen.live = await run(live.kernel, 'made_by_human = made_by_agent + 1; made_by_human')
await sessions.refreshRunning()
seen.stillThere = [live.isDisposed, ...(await run(live.kernel, 'made_by_human'))]

// A new session for a notebook.
const options = { path: 'a-1.ipynb', name: 'a-1.ipynb', type: 'notebook' }
const session = await sessions.startNew({ ...options, kernel: { name: 'python3' } })
seen.input = await run(session.kernel, 'kept = 1\nprint(input("who? "))')
const busy = run(session.kernel, 'print("begun", flush=True); import time; time.sleep(60)')
await new Promise((resolve) => session.kernel.iopubMessage.connect((_, { content }) => {
  if (content.text?.includes('begun')) resolve()
}))
await session.kernel.interrupt()
seen.interrupted = await busy
seen.completion = (await session.kernel.requestComplete({ code: 'kep', cursor_pos: 3 })).content
await session.kernel.restart()
seen.restarted = await run(session.kernel, '"kept" in globals()')
const again = await sessions.startNew({ ...options, kernel: { name: 'python3' } })
seen.sameSession = again.id === session.id
await session.setPath('b-1.ipynb')
seen.path = session.path
const before = session.kernel.id
await session.changeKernel({ name: 'bash' })
seen.changed = await run(session.kernel, 'echo $((20 + 22))')
seen.oldKernelRuns = (await running()).includes(before)
const last = session.kernel.id
await session.shutdown()
seen.left = (await running()).filter((id) => [before, last].includes(id))

// What is not there is refused in a way that the package can read.
const missing = await ServerConnection.makeRequest(`${url}/api/contents`, {}, serverSettings)
seen.missing = [missing.status, (await missing.json()).message]
console.log(JSON.stringify(seen))
process.exit(0)
