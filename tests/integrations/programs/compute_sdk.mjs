// What a program with ComputeSDK does; prints what it saw as one line of JSON.
import { readFileSync } from 'node:fs'
import { compute } from 'computesdk'
import { e2b } from '@computesdk/e2b'

compute.setConfig({ provider: e2b({ apiKey: process.env.E2B_API_KEY }) })
const sandbox = await compute.sandbox.create({ envs: { WHERE: 'Bergen' }, timeout: 600_000 })

const seen = {}
try {
  const python = await sandbox.runCommand(`python - <<'PY'
import pandas as pd
print(pd.DataFrame({'A': [1, 2, 3]}).A.sum())
PY`)
  seen.python = [python.exitCode, python.stdout]
  const failed = await sandbox.runCommand('echo before; echo why >&2; exit 3')
  seen.failed = [failed.exitCode, failed.stdout, failed.stderr]
  const options = { cwd: '/tmp', env: { DAY: 'Monday' } }
  seen.options = (await sandbox.runCommand("sh -c 'echo $PWD $WHERE $DAY'", options)).stdout
  const slow = await sandbox.runCommand('sleep 30', { timeout: 500 })
  seen.slow = [slow.exitCode, slow.stderr]

  await sandbox.filesystem.mkdir('/tmp/rain')
  await sandbox.filesystem.writeFile('/tmp/rain/a.txt', 'seven\n')
  seen.read = await sandbox.filesystem.readFile('/tmp/rain/a.txt')
  seen.names = (await sandbox.filesystem.readdir('/tmp/rain')).map((each) => [each.name, each.size])
  await sandbox.filesystem.remove('/tmp/rain/a.txt')
  seen.exists = await sandbox.filesystem.exists('/tmp/rain/a.txt')
  seen.missing = await sandbox.filesystem.readFile('/tmp/none').catch((error) => error.message)

  await sandbox.runCommand('python -m http.server 3000 --directory /etc', { background: true })
  seen.url = await sandbox.getUrl({ port: 3000, protocol: 'http' })
  seen.served = await served(seen.url)

  const again = await compute.sandbox.getById(sandbox.sandboxId)
  seen.again = [again.sandboxId === sandbox.sandboxId, (await again.runCommand('echo $WHERE')).stdout]
  seen.nobody = await compute.sandbox.getById('i00000000000000000000')
  seen.listed = (await compute.sandbox.list()).some((each) => each.sandboxId === sandbox.sandboxId)
  await sandbox.getInstance().pause()
  seen.resumed = (await (await compute.sandbox.getById(sandbox.sandboxId)).runCommand('ls /tmp')).stdout
  seen.snapshot = await e2b({}).snapshot.create(sandbox.sandboxId).catch((error) => error.message)
} finally {
  await sandbox.destroy()
}
seen.gone = await compute.sandbox.getById(sandbox.sandboxId)
seen.versions = Object.fromEntries(['computesdk', '@computesdk/e2b', 'e2b'].map(version))
console.log(JSON.stringify(seen))

// The host's name is <port>-<id>.localhost:<port>, which browsers and curl know to be this machine.
async function served(url) {
  const { host, port } = new URL(url)
  for (let left = 50; left > 0; left -= 1) {
    const got = await request(port, host)
    if (got.status === 200) return got.text
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  return 'never'
}

async function request(port, host) {
  const { get } = await import('node:http')
  return new Promise((resolve, reject) => {
    const asked = get({ port, host: '127.0.0.1', path: '/hostname', headers: { host } }, (answer) => {
      let text = ''
      answer.on('data', (chunk) => (text += chunk))
      answer.on('end', () => resolve({ status: answer.statusCode, text }))
    })
    asked.on('error', reject)
  })
}

function version(name) {
  const manifest = new URL(`node_modules/${name}/package.json`, import.meta.url)
  return [name, JSON.parse(readFileSync(manifest)).version]
}
