/** `connectMessages`: connects a device that has one ring of small messages. */
import type { Hypervisor } from '@xenkit/hypervisor'
import { BackRing } from '@xenkit/ring'
import type { Fields } from '@xenkit/wire'
import {
  type BackendConnection,
  type BackendDevice,
  type NodeValues,
  type PublishedRing,
  type RingNodes,
  attachRing,
  isStillPublished,
  readRings,
} from '@xenkit/xenbus'
import { type AnsweredMessages, MessageWork } from './message-work.ts'
import type { DriverContext } from './serve-devices.ts'
import { ServedRings } from './served-rings.ts'

/** Options of `connectMessages`: the ring, and the function that answers its messages. */
export interface ConnectMessagesOptions<Request extends Fields, Response extends Fields>
  extends DriverContext, AnsweredMessages<Request, Response> {
  /** Nodes in which the frontend publishes the ring. Default: `ring-ref` and `event-channel`. */
  readonly ring?: RingNodes
  /** Nodes to publish with the state Connected. Default: none. */
  readonly nodes?: NodeValues
}

/**
 * Attaches to the ring that a device's frontend has published, and answers its requests in fair
 * turns until the connection is closed: for `BackendDriver.connect`.
 *
 * A guest that breaks the ring's rules, and an `answer` that throws, close this device alone.
 * Requests in flight are answered before the connection is closed.
 * @throws NegotiationError for a node that is missing or malformed
 * @throws GrantError, EvtchnError if the published page can't be mapped or the port can't be bound
 */
export async function connectMessages<Request extends Fields, Response extends Fields>(
  hv: Hypervisor,
  device: BackendDevice,
  o: ConnectMessagesOptions<Request, Response>,
): Promise<BackendConnection> {
  const { frontendDomid: domid, frontendPath } = device
  const { xs, abandon, ring: where = {}, nodes = {} } = o
  const read = (): Promise<readonly [PublishedRing]> => readRings(xs, frontendPath, [where])
  const rings = await read()
  const failed = (error: unknown): void => device.fail(error)
  const served = new ServedRings(hv, { domid, abandon, failed })
  const { grants, guestTurn } = served
  try {
    const attach = (bytes: Uint8Array): BackRing =>
      BackRing.attach({ bytes, slotSize: o.messages.slotSize })
    const { ring, channel } = served.rings.own(
      await attachRing(hv, { ...rings[0], domid, grants, attach }),
    )
    const { server } = new MessageWork({ ring, channel, guestTurn, loop: hv.loop, failed }, o)
    served.add(server, channel)
  } catch (error) {
    throw await served.closeAfter(error)
  }
  served.begin()
  return {
    nodes,
    isCurrent: () => isStillPublished(rings, read()),
    close: (how) => served.close(how),
  }
}
