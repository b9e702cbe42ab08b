import { openTapWith, type TapLink, type TapOptions } from '@xenkit/links'
import { openTapDevice } from '@xenkit/xen'

/**
 * Returns a link that gives each card a TAP device: a network interface of the host, which may join
 * a bridge. TCP segments of up to 64 KiB and frames with a blank checksum pass unchanged. Plugging
 * a card in fails with a LinkError that says what to do if its interface can't be opened. If the
 * interface is deleted, the card has no carrier until it is open again.
 * @throws NotAvailableError without the addon
 */
export const openTap = (o: TapOptions = {}): TapLink =>
  openTapWith({ openTapDevice: openTapDevice() }, o)
