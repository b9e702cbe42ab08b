/**
 * Connections to xenstored from another thread. Each has a MessagePort of its own, of which one end
 * goes through the link, the MessagePort that a domain's handle carries. What goes over a
 * connection is a Uint8Array; at its end xenstored may send an Error, the reason. The other thread
 * answers with numbers, of bytes that it has taken: one that is busy isn't sent more than a port
 * should hold.
 */
import type { XenstoreConnector, XenstoreStream } from './xenstore-port.ts'

/** Bytes on their way at which xenstored stops sending. */
const FULL = 256 * 1024
/** Bytes that are acknowledged together. */
const TAKEN = 64 * 1024

export type Link = InstanceType<typeof MessagePort>

/** The side with xenstored. Serving doesn't keep the process running. */
export function serveLink(link: Link, connect: XenstoreConnector<XenstoreStream>): void {
  link.on('message', (port: unknown) => {
    if (port instanceof MessagePort) serveConnection(port, connect)
  })
  link.unref()
}

function serveConnection(port: Link, connect: XenstoreConnector<XenstoreStream>): void {
  const end = (reason: unknown): void => {
    port.postMessage(reason)
    port.close()
  }
  try {
    let onTheWay = 0
    const stream = connect({
      data(bytes) {
        onTheWay += bytes.length
        if (onTheWay >= FULL) stream.pause()
        send(port, bytes)
      },
      closed: end,
    })
    port.on('message', (message: unknown) => {
      if (message instanceof Uint8Array) stream.write(message)
      if (typeof message !== 'number') return
      onTheWay -= message
      if (onTheWay < FULL) stream.resume()
    })
    port.on('close', () => stream.close())
    port.unref()
  } catch (error) {
    end(error)
  }
}

/** The other thread's side. */
export function connectThrough(link: Link): XenstoreConnector<XenstoreStream> {
  return (receiver) => {
    const { port1: port, port2: remote } = new MessageChannel()
    let reason = new Error('the thread with xenstored ended')
    let taken = 0
    let isPaused = false
    const acknowledge = (): void => {
      if (isPaused || taken < TAKEN) return
      port.postMessage(taken)
      taken = 0
    }
    port.on('message', (message: unknown) => {
      if (message instanceof Error) reason = message
      if (!(message instanceof Uint8Array)) return
      receiver.data(message)
      taken += message.length
      acknowledge()
    })
    port.on('close', () => receiver.closed(reason))
    link.postMessage(remote, [remote])
    return {
      write: (bytes) => send(port, bytes),
      close: () => port.close(),
      pause: () => {
        isPaused = true
      },
      resume() {
        isPaused = false
        acknowledge()
      },
    }
  }
}

/** The receiver of a message owns it, while the sender of a stream may use its buffer again. */
function send(port: Link, bytes: Uint8Array): void {
  const copy = Uint8Array.from(bytes)
  port.postMessage(copy, [copy.buffer])
}
