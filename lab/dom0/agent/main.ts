/**
 * The lab's hand in dom0: does what the host asks over a virtio port and reports what comes of it.
 * Ends when the host hangs up.
 */
import { createReadStream, createWriteStream, openSync, readFileSync, readdirSync } from 'node:fs'
import { type Channel, openTerminal, startProcess } from './channels.ts'
import { encodeLine, lineReader } from './json-lines.ts'
import { PORT_NAME, type Report, type Request } from './messages.ts'

// The kernel lets a virtio port be open once: both directions share the descriptor.
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
    // The channel may have ended while the request was under way: then there is nobody to tell.
    case 'write':
      channels.get(id)?.write(request.text)
      break
    case 'signal':
      channels.get(id)?.signal(request.signal)
      break
  }
}

/** No udev here: /dev/virtio-ports, which would link the name to the device, doesn't exist. */
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
