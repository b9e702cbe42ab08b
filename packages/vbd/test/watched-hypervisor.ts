/** A domain whose hypercalls are counted. */
import type { GrantMapping, Hypervisor } from '@xenkit/hypervisor'

export class WatchedHypervisor {
  /** Pages that are mapped now. */
  pages = 0
  /** Calls so far. */
  maps = 0
  copies = 0
  /** Pages that were mapped at each notification. */
  readonly pagesAtNotify: number[] = []

  readonly through = (hv: Hypervisor): Hypervisor => ({
    name: hv.name,
    domid: hv.domid,
    arena: hv.arena,
    xenstore: hv.xenstore,
    evtchn: {
      bindUnbound: (o, onEvent) => hv.evtchn.bindUnbound(o, onEvent),
      bindInterdomain: (o, onEvent) => {
        const binding = hv.evtchn.bindInterdomain(o, onEvent)
        const notify = binding.notify.bind(binding)
        binding.notify = () => {
          this.pagesAtNotify.push(this.pages)
          notify()
        }
        return binding
      },
    },
    grants: {
      map: (refs, o) => this.#count(hv.grants.map(refs, o)),
      share: (o) => hv.grants.share(o),
      openCopyBatch: (o) => {
        const batch = hv.grants.openCopyBatch(o)
        for (const direction of ['copyIn', 'copyOut'] as const) {
          const copy = batch[direction].bind(batch)
          batch[direction] = (count) => {
            this.copies++
            return copy(count)
          }
        }
        return batch
      },
    },
    close: () => hv.close(),
    [Symbol.asyncDispose]: () => hv.close(),
  })

  #count(mapping: GrantMapping): GrantMapping {
    const pages = mapping.bytes.length / 4096
    const close = mapping.close.bind(mapping)
    let open = true
    this.maps++
    this.pages += pages
    mapping.close = () => {
      if (open) this.pages -= pages
      open = false
      close()
    }
    return mapping
  }
}
