/**
 * The lab's agent in dom0. It runs the commands that the host requests over a virtio port, and
 * reports their output and their ends. It exits when the host closes the port.
 */
import { createReadStream, createWriteStream, openSync, readFileSync, readdirSync } from 'node:fs'
import { type Channel, openTerminal, startProcess } from './channels.ts'
import { encodeLine, lineReader } from './json-lines.ts'
import { PORT_NAME, type Report, type Request } from './messages.ts'

// The kernel allows a virtio port to be open once, so both directions share the descriptor.
const fd = openSync(portDevice(), 'r+')
const port = createWriteStream('', { fd })
const channels = new Map<number, Channel>()

const report = (message: Report): void => {
  port.write(encodeLine(message))
}

function handle(request: Request): void {
  const { id } = request
  const onEnd = (status: number): void => {
    channels.delete(id)
    report({ type: 'end', id, status })
  }
  switch (request.type) {
    case 'spawn':
      channels.set(
        id,
        startProcess(
          request.command,
          (stream, text) => report({ type: 'output', id, stream, text }),
          onEnd,
        ),
      )
      break
    case 'open':
      try {
        channels.set(
          id,
          openTerminal(
            request.path,
            (text) => report({ type: 'output', id, stream: 'stdout', text }),
            onEnd,
          ),
        )
      } catch (error) {
        report({ type: 'output', id, stream: 'stderr', text: String(error) })
        onEnd(1)
      }
      break
    // The channel may have ended before the request arrived. Then the request is ignored.
    case 'write':
      channels.get(id)?.write(request.text)
      break
    case 'signal':
      channels.get(id)?.signal(request.signal)
      break
  }
}

/**
 * Finds the agent's virtio port by its name in sysfs: without udev there is no /dev/virtio-ports.
 */
function portDevice(): string {
  const ports = '/sys/class/virtio-ports'
  const found = readdirSync(ports).find(
    (name) => readFileSync(`${ports}/${name}/name`, 'utf8').trim() === PORT_NAME,
  )
  if (found === undefined) throw new Error(`no virtio port is named "${PORT_NAME}"`)
  return `/dev/${found}`
}

createReadStream('', { fd })
  .on(
    'data',
    lineReader((line) => handle(JSON.parse(line))),
  )
  .on('end', () => process.exit(0))
report({ type: 'ready' })
