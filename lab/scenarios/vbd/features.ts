/**
 * The rows of the table, in order. A test compares the table of docs/features.md with this list,
 * and the scenario fails if a feature has no row.
 */
export const features = [
  'read, write, flush',
  'indirect',
  'discard',
  'discard by a file system',
  'secure discard',
  'ring of 4 pages',
  'persistent grants',
  'mapped grants',
  'read-only',
  'sectors of 4096 bytes',
  'resize',
  'CD-ROM',
  'store: overlay',
  'store: encrypted',
  'store: throttled',
  'store: faulty',
  'store: NBD',
  'xl block-attach, -detach',
  'xenkit disk list, detach',
  "a block device, libxl's script",
  'forced detach',
  'detach of an idle disk',
  'detach of a disk in use',
  'attach and detach, again and again',
  'xl save, xl restore',
  'crash with requests in flight',
  'several queues',
  'queues in threads',
  'largest rings and requests',
] as const

/**
 * Rows that also run in a guest with Linux 5.10. Before 5.15, blkfront frees its queue when it
 * closes, but listens to its event channel until the backend has closed too.
 */
export const featuresOfOldest = [
  'detach of an idle disk',
  'detach of a disk in use',
  'attach and detach, again and again',
] as const satisfies readonly Feature[]

export type Feature = (typeof features)[number]
