/**
 * The features that the scenario `vbd` shows, in the order of docs/features.md. A test compares
 * this list with that page, and the scenario fails if it doesn't show one of them.
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
 * Features that are also shown in a guest with Linux 5.10. Before 5.15, blkfront frees its queue
 * when it closes, but listens to its event channel until the backend has closed too.
 */
export const featuresOfOldest = [
  'detach of an idle disk',
  'detach of a disk in use',
  'attach and detach, again and again',
] as const satisfies readonly Feature[]

export type Feature = (typeof features)[number]
