/** A domain as the backend has it, some parts of which a test looks into or changes. */
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
  /** Binds instead of `bind`, which it may call. */
  readonly bind?: (bind: Bind, ...args: Parameters<Bind>) => EvtchnBinding
  /** Takes pages instead of `allocate`, which it may call. */
  readonly allocated?: (allocate: Arena['allocate'], pages: number) => Pages
  /** Given what was mapped. */
  readonly mapped?: (mapping: GrantMapping) => GrantMapping
  /** Given pages that were mapped where there was room. */
  readonly mappedPages?: (pages: MappedPages) => MappedPages
  /** Given what was opened. */
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
