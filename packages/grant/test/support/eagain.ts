/** A grant port whose first calls answer GNTST_eagain; later calls reach the real port. */
import { GrantError, type GrantCopyBatch, type GrantPort } from '@xenkit/hypervisor'
import { GNTST } from '@xenkit/wire'

export interface Shortage {
  /** Number of further calls that answer GNTST_eagain, as for a paged-out page. */
  calls: number
}

const away = (): GrantError =>
  new GrantError('cannot map gref 9 of domain 1: GNTST_eagain', { status: GNTST.eagain })

export const withShortage = (port: GrantPort, shortage: Shortage): GrantPort => ({
  map(refs, o) {
    if (shortage.calls-- > 0) throw away()
    return port.map(refs, o)
  },
  mapPages(refs, o) {
    if (shortage.calls-- > 0) throw away()
    return port.mapPages(refs, o)
  },
  share: (o) => port.share(o),
  openCopyBatch: (o) => starved(port.openCopyBatch(o), shortage),
})

/** A batch whose next runs fail at the first operation, as if its page were paged out. */
function starved(batch: GrantCopyBatch, shortage: Shortage): GrantCopyBatch {
  const after = (failed: number): number => {
    if (shortage.calls-- <= 0) return failed
    const before = batch.status[0]
    batch.status[0] = GNTST.eagain
    return failed + (before === GNTST.okay ? 1 : 0)
  }
  return Object.assign(Object.create(batch), {
    copyIn: (count: number) => after(batch.copyIn(count)),
    copyOut: (count: number) => after(batch.copyOut(count)),
    close: () => batch.close(),
  })
}
