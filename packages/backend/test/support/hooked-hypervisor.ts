/** A backend's hypervisor, some calls of which a test observes or replaces. */
import type {
  Arena,
  EvtchnBinding,
  EvtchnPort,
  GrantCopyBatch,
  GrantMapping,
  Hypervisor,
  MappedPages,
  Pages,
} from '@xenkit/hypervisor'

type Bind = EvtchnPort['bindInterdomain']

export interface Hooks {
  /** Replaces `bind`, which it may call. */
  readonly bind?: (bind: Bind, ...args: Parameters<Bind>) => EvtchnBinding
  /** Replaces `allocate`, which it may call. */
  readonly allocated?: (allocate: Arena['allocate'], pages: number) => Pages
  /** Wraps each mapping. */
  readonly mapped?: (mapping: GrantMapping) => GrantMapping
  /** Wraps each set of pages that was mapped into the arena. */
  readonly mappedPages?: (pages: MappedPages) => MappedPages
  /** Wraps each batch of grant copies. */
  readonly opened?: (batch: GrantCopyBatch) => GrantCopyBatch
}

export function hooked(
  hv: Hypervisor,
  {
    bind = (own, ...args) => own(...args),
    allocated = (own, pages) => own(pages),
    mapped = (mapping) => mapping,
    mappedPages = (pages) => pages,
    opened = (batch) => batch,
  }: Hooks,
): Hypervisor {
  return {
    name: hv.name,
    domid: hv.domid,
    arena: {
      ...hv.arena,
      allocate: (pages) => allocated((count) => hv.arena.allocate(count), pages),
    },
    loop: hv.loop,
    xenstore: hv.xenstore,
    evtchn: {
      bindUnbound: (o, onEvent) => hv.evtchn.bindUnbound(o, onEvent),
      bindVirq: (o, onEvent) => hv.evtchn.bindVirq(o, onEvent),
      bindInterdomain: (o, onEvent) =>
        bind((...args) => hv.evtchn.bindInterdomain(...args), o, onEvent),
    },
    grants: {
      map: (refs, o) => mapped(hv.grants.map(refs, o)),
      mapPages: (refs, o) => mappedPages(hv.grants.mapPages(refs, o)),
      share: (o) => hv.grants.share(o),
      openCopyBatch: (o) => opened(hv.grants.openCopyBatch(o)),
    },
    close: () => hv.close(),
    [Symbol.asyncDispose]: () => hv.close(),
  }
}
