/** `xenkit net serve` and `xenkit net attach`. */
import { type PlugVifOptions, cardLog, plugVif, serveVif, unplugVif } from '@xenkit/vif'
import { domainHome } from '@xenkit/xenbus'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { openHypervisor } from '../open-hypervisor.ts'
import { Abandoned, attach } from './attach.ts'
import { CardLinks, type LinkChoice } from './card-links.ts'
import { expectNoKernelBackend } from './expect-no-kernel-backend.ts'
import { interrupted } from './interrupted.ts'

export interface NetServeOptions extends LinkChoice {
  /** Serve the cards of this domain only. */
  readonly domid?: number
  /** Serve the cards of this number only. */
  readonly devid?: number
  readonly queues: number
}

/** Serves the network cards that a toolstack gives to this domain, until interrupted. */
export async function netServe(o: NetServeOptions): Promise<void> {
  await using hv = await openHypervisor()
  await expectNoKernelBackend(hv, 'vif')
  await using links = await CardLinks.open(o)
  const abandoned = new Abandoned()
  console.log('waiting for a network card')
  await serveVif(hv, {
    link: (card) =>
      (o.domid ?? card.frontendDomid) === card.frontendDomid &&
      (o.devid ?? card.devid) === card.devid
        ? links.link(card)
        : 'decline',
    watch: links.watch,
    queues: o.queues,
    signal: interrupted(),
    onEvent(event) {
      print(event)
      abandoned.note(event)
    },
  })
  abandoned.exitIfAny()
}

export interface NetAttachOptions extends LinkChoice, Pick<PlugVifOptions, 'mac' | 'rate' | 'mtu'> {
  readonly ip?: readonly string[]
  /** Number of the card. Default: the first that the domain doesn't have. */
  readonly devid?: number
  readonly queues: number
}

/**
 * Plugs a network card into a running domain and serves it, until the card is unplugged or the
 * command is interrupted. An interrupted command unplugs the card.
 */
export async function netAttach(domid: number, o: NetAttachOptions): Promise<void> {
  await using hv = await openHypervisor()
  await expectNoKernelBackend(hv, 'vif')
  await using links = await CardLinks.open(o)
  using xs = await openXenstore(hv.xenstore)
  const devid = o.devid ?? (await freeDevid(xs, domid))
  const address = { frontendDomid: domid, backendDomid: hv.domid, devid }
  const { mac, ip, rate, mtu, bridge } = o
  const plugged = {
    ...address,
    ...(mac && { mac }),
    ...(ip && { ips: ip }),
    ...(rate && { rate }),
    ...(mtu !== undefined && { mtu }),
    ...(bridge !== undefined && { bridge }),
  }
  const abandoned = new Abandoned()
  await attach({
    xs,
    domid,
    serve: ({ onEvent, ...serving }) =>
      serveVif(hv, {
        ...serving,
        xs,
        link: links.link,
        watch: links.watch,
        queues: o.queues,
        onEvent(event) {
          print(event)
          abandoned.note(event)
          onEvent(event)
        },
      }),
    plug: (reservation) => plugVif(xs, { ...plugged, reservation }),
    unplug: (how) => unplugVif(xs, address, how),
  })
  abandoned.exitIfAny()
}

const print = cardLog((line, { failed }) => (failed ? console.error(line) : console.log(line)))

/** The first number that no card of the domain has. */
async function freeDevid(xs: XenstoreClient, domid: number): Promise<number> {
  const directory = `${domainHome(domid)}/device/vif`
  const names = new Set((await xs.exists(directory)) ? await xs.list(directory) : [])
  let devid = 0
  while (names.has(String(devid))) devid++
  return devid
}
