/** Lists a backend domain's disks from xenstore, whichever program serves them. */
import { type ListedDevice, backendPath, lenient, listDevices } from '@xenkit/xenbus'
import type { XenstoreReader } from '@xenkit/xenstore-client'
import { diskNodes } from './nodes.ts'
import { type RequestedDisk, VBD_BACKEND_TYPES, readRequestedDisk } from './requested-disk.ts'

/** A disk in xenstore, with the state of both sides. */
export interface ListedDisk extends RequestedDisk, ListedDevice {
  /**
   * Size in units of 512 bytes, 0 for a drive without a medium. Undefined before the disk is
   * offered.
   */
  readonly sectors: number | undefined
}

/**
 * Lists the disks of one backend domain, of all backend types, ordered by the guests' domids and
 * then by devid.
 *
 * @param backendDomid the domain that serves the disks, 0..32751
 * @throws XenstoreError, XenstoreClosedError if xenstored refuses or is lost
 */
export function listVbds(view: XenstoreReader, backendDomid: number): Promise<ListedDisk[]> {
  return listDevices(view, {
    backendDomid,
    type: 'vbd',
    backendTypes: VBD_BACKEND_TYPES,
    read: async (device) => {
      const [requested, sectors] = await Promise.all([
        readRequestedDisk(view, device),
        lenient<number | undefined>(
          diskNodes.readNode(view, backendPath(device), 'sectors'),
          undefined,
        ),
      ])
      return { ...requested, sectors }
    },
  })
}
