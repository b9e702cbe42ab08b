/** `xenkit disk list`. */
import { printable } from '@xenkit/hypervisor'
import { type ListedDisk, listVbds, vdevName } from '@xenkit/vbd'
import { openXenstore } from '@xenkit/xenstore-client'
import { openControl } from '../open-hypervisor.ts'
import { printableLines } from './printable-lines.ts'
import { table } from './table.ts'

/** Prints the disks of this domain's backends, whichever program serves them. */
export async function diskList(o: { readonly json: boolean }): Promise<void> {
  await using control = await openControl()
  using xs = await openXenstore(control.xenstore)
  const disks = await listVbds(xs, control.domid)
  console.log(
    o.json ? printableLines(JSON.stringify(disks.map(asJson), undefined, 2)) : asTable(disks),
  )
}

export const asJson = (disk: ListedDisk): object => ({ ...disk, vdev: vdevName(disk.devid) })

export function asTable(disks: readonly ListedDisk[]): string {
  const rows = disks.map((disk) => [
    String(disk.frontendDomid),
    vdevName(disk.devid),
    disk.backendType,
    disk.backendState ?? 'none',
    disk.frontendState ?? 'none',
    disk.sectors === undefined ? '-' : String(disk.sectors),
    `${disk.cdrom ? 'cdrom,' : ''}${disk.readOnly ? 'r' : 'w'}`,
    disk.claim === undefined ? 'no' : 'yes',
    printable(
      disk.error === undefined ? disk.params || '-' : `${disk.params || '-'} (${disk.error})`,
    ),
  ])
  return table([
    ['domid', 'vdev', 'type', 'backend', 'frontend', 'sectors', 'mode', 'xenkit', 'params'],
    ...rows,
  ])
}
