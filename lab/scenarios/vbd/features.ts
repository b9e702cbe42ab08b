/**
 * The rows of the table, in their order. The README's table of features is held against this list, and the
 * scenario fails if it has no row for one of them.
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
  'detach of a disk in use',
  'a block device, libxl\'s script',
  'attach and detach, again and again',
  'forced detach',
  'xl save, xl restore',
  'crash with requests in flight',
  'several queues',
  'queues in threads',
  'largest rings and requests',
] as const

export type Feature = (typeof features)[number]
