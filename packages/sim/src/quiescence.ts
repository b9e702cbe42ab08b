/** Lists a machine's open resources, one per line, from the hypervisor's own tables. */
import { GNTTAB_NR_RESERVED_ENTRIES } from '@xenkit/wire'
import type { Hypervisor } from './hypervisor.ts'
import { type MachineState, ownersOf } from './machine-state.ts'

/** Whether a reference is one of the toolstack's, whose grants exist as long as the domain. */
const isReserved = (gref: number): boolean => gref < GNTTAB_NR_RESERVED_ENTRIES

/** Returns one line per open mapping, grant and port, and per domain with allocated pages. */
export function openResources({ state, grants, events, frames }: Hypervisor): string[] {
  const granted = grants.list()
  const mappings = ownersOf(state.maptrack).flatMap(([row, domid]) => {
    const { maptrack } = state
    const [gref, grantor] = [maptrack.get(row, 'gref'), maptrack.get(row, 'grantor')]
    if (isReserved(gref) && state.isAlive(grantor)) return []
    return [
      `domain ${domid} maps gref ${gref} of domain ${grantor} ${maptrack.get(row, 'writable') === 0 ? 'read-only' : 'writable'}`,
    ]
  })
  const grantedFrames = new Set(granted.map(({ frame }) => frame))
  const pages = new Map<number, number>()
  for (const [frame, domid] of ownersOf(state.frames)) {
    if (grantedFrames.has(frame) || frames.isMapped(frame) || frames.isView(frame)) continue
    pages.set(domid, (pages.get(domid) ?? 0) + 1)
  }
  return [
    ...storesToReadOnly(state),
    ...mappings,
    ...granted
      .filter(({ gref }) => !isReserved(gref))
      .map(
        ({ grantor, gref, grantee }) =>
          `domain ${grantor} grants gref ${gref} to domain ${grantee}`,
      ),
    ...events
      .list()
      .map(({ domid, port, text }) => `port ${port} of domain ${domid} is open: ${text}`),
    ...[...pages].map(([domid, count]) => `domain ${domid} has ${count} pages allocated`),
  ]
}

/** Reports a store through a read-only mapping, which on Xen would have ended the process. */
function storesToReadOnly({ header }: MachineState): string[] {
  const by = header.get(0, 'storedBy')
  if (by === 0) return []
  const [gref, grantor] = [header.get(0, 'storedGref'), header.get(0, 'storedGrantor')]
  const byte = header.get(0, 'storedByte')
  const page = `the page of gref ${gref} of domain ${grantor}`
  const why = 'which it mapped read-only: on Xen that is a SIGSEGV'
  return [`domain ${by - 1} stored to byte ${byte} of ${page}, ${why}`]
}
