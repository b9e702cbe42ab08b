/** `xenkit xenstored`: a xenstored for programs that need nothing else of Xen. */
import { once } from 'node:events'
import { Xenstored } from '@xenkit/sim'
import { listenXenstored } from '@xenkit/sim/socket'
import { interrupted } from './interrupted.ts'

/**
 * Serves xenstore until interrupted. Prints one line on stdout when clients may connect; clients'
 * errors go to stderr.
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
