/** `xenkit xenstored`: a xenstored for programs that need one and nothing else of Xen. */
import { once } from 'node:events'
import { Xenstored } from '@xenkit/sim'
import { listenXenstored } from '@xenkit/sim/socket'
import { interrupted } from './interrupted.ts'

/**
 * Serves until interrupted. One line on stdout tells that clients may connect; what goes wrong with
 * one is told on stderr.
 */
export async function xenstored({ socket: path }: { readonly socket: string }): Promise<void> {
  const stop = interrupted()
  await using socket = await listenXenstored(
    new Xenstored({ log: (line) => console.error(`xenstored: ${line}`) }),
    path,
  )
  console.log(`xenstored listens on ${socket.path}`)
  if (!stop.aborted) await once(stop, 'abort')
}
