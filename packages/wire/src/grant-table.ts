/**
 * Entries of grant tables, and the status codes of grant operations. Follows
 * xen/include/public/grant_table.h.
 */
import { cstruct } from './cstruct.ts'
import { u16, u32 } from './ctypes.ts'

/** An entry of a version 1 grant table. */
export const grant_entry_v1 = cstruct('grant_entry_v1', {
  /** One type and any flags of `GTF`. */
  flags: u16,
  /** Domain that may use the page. */
  domid: u16,
  frame: u32,
})

/** Types (0..3) and flags of a grant. */
export const GTF = {
  invalid: 0,
  permit_access: 1,
  accept_transfer: 2,
  transitive: 3,
  type_mask: 3,
  /** The page can't be mapped writable or copied into. */
  readonly: 1 << 2,
  /** Set by Xen while the other domain has the page mapped. */
  reading: 1 << 3,
  /** Set by Xen while the other domain has the page mapped writable. */
  writing: 1 << 4,
} as const

/** Number of entries at the start of every grant table that are reserved for the toolstack. */
export const GNTTAB_NR_RESERVED_ENTRIES = 8
/** Reserved entry that grants the console's page. */
export const GNTTAB_RESERVED_CONSOLE = 0
/** Reserved entry that grants the xenstore ring's page. */
export const GNTTAB_RESERVED_XENSTORE = 1

/** Status codes of grant operations. */
export const GNTST = {
  okay: 0,
  general_error: -1,
  bad_domain: -2,
  bad_gntref: -3,
  bad_handle: -4,
  bad_virt_addr: -5,
  bad_dev_addr: -6,
  no_device_space: -7,
  permission_denied: -8,
  bad_page: -9,
  bad_copy_arg: -10,
  address_too_big: -11,
  eagain: -12,
  no_space: -13,
} as const

/** One of the status codes of grant operations. */
export type GNTST = (typeof GNTST)[keyof typeof GNTST]

const meanings: { readonly [Status in GNTST]: string } = {
  [GNTST.okay]: 'done',
  [GNTST.general_error]: 'an error without a code of its own',
  [GNTST.bad_domain]: 'no such domain',
  [GNTST.bad_gntref]: 'the other domain has not granted this reference',
  [GNTST.bad_handle]: 'no such mapping',
  [GNTST.bad_virt_addr]: 'nothing can be mapped at that address',
  [GNTST.bad_dev_addr]: 'the device address is not that of the mapping',
  [GNTST.no_device_space]: 'the IOMMU has no free translation',
  [GNTST.permission_denied]: 'not granted to this domain, or read-only',
  [GNTST.bad_page]: 'the granted frame is not a page of memory',
  [GNTST.bad_copy_arg]: 'the copy crosses the end of a page',
  [GNTST.address_too_big]: 'the frame is beyond what the receiver can address',
  [GNTST.eagain]: 'the page is paged out and being fetched; try again',
  [GNTST.no_space]: 'the hypervisor has no handle left',
}

const names = new Map<number, string>(
  Object.entries(GNTST).map(([name, status]) => [status, `GNTST_${name}`]),
)
const meaningOf = new Map<string, string>(Object.entries(meanings))

/** Returns `GNTST_bad_gntref` for -3, or the number itself if it isn't a known status. */
export const gntstName = (status: number): string => names.get(status) ?? String(status)

/** Returns the meaning of a status for error texts, or undefined if it isn't a known status. */
export const gntstMeaning = (status: number): string | undefined => meaningOf.get(String(status))
