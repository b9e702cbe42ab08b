/** What is still open in a machine, one line each, from the hypervisor's own tables: whoever forgot it. */
import type { Hypervisor } from './hypervisor.ts'
import { ownersOf } from './machine-state.ts'

export function openResources({ state, grants, events, frames }: Hypervisor): string[] {
  const granted = grants.list()
  const mappings = ownersOf(state.maptrack).map(([row, domid]) => {
    const { maptrack } = state
    const page = `gref ${maptrack.get(row, 'gref')} of domain ${maptrack.get(row, 'grantor')}`
    return `domain ${domid} maps ${page} ${maptrack.get(row, 'writable') === 0 ? 'read-only' : 'writable'}${maptrack.get(row, 'pinned') === 0 ? '' : ', pinned'}`
  })
  const grantedFrames = new Set(granted.map(({ frame }) => frame))
  const pages = new Map<number, number>()
  for (const [frame, domid] of ownersOf(state.frames)) {
    if (!grantedFrames.has(frame) && !frames.isMapped(frame)) pages.set(domid, (pages.get(domid) ?? 0) + 1)
  }
  return [
    ...mappings,
    ...granted.map(({ grantor, gref, grantee }) => `domain ${grantor} grants gref ${gref} to domain ${grantee}`),
    ...events.list().map(({ domid, port, text }) => `port ${port} of domain ${domid} is open: ${text}`),
    ...[...pages].map(([domid, count]) => `domain ${domid} has ${count} pages allocated`),
  ]
}
