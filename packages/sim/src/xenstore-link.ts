/**
 * Connections to xenstored from another thread. The link is a MessagePort that a domain's handle
 * carries; each connection sends one end of its own MessagePort through it. Data is sent as
 * Uint8Array. At the end, xenstored may send an Error, the reason. The other thread acknowledges
 * bytes with numbers: a busy thread isn't sent more than a port should queue.
 */
import type { XenstoreConnector, XenstoreStream } from './xenstore-port.ts'

/** Unacknowledged bytes at which xenstored stops sending to the other thread. */
const FULL = 256 * 1024
/** Bytes after which the other thread sends an acknowledgement. */
const TAKEN = 64 * 1024

/** The MessagePort over which connections are opened. */
export type Link = InstanceType<typeof MessagePort>

/** Serves the link in the thread with xenstored. It doesn't keep the process running. */
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

/** Returns a function that connects through the link, for the other thread. */
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

/**
 * Copies the bytes, because a message's buffer moves to the receiver and the sender reuses its own.
 */
function send(port: Link, bytes: Uint8Array): void {
  const copy = Uint8Array.from(bytes)
  port.postMessage(copy, [copy.buffer])
}
