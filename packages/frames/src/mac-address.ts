/** MAC addresses as text. */

/** Returns the six bytes of an address such as `00:16:3e:01:02:03`; undefined if it is none. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[\da-f]{2}(:[\da-f]{2}){5}$/i.test(text)) return undefined
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16))
}

/** Returns the text of an address of six bytes. */
export const formatMac = (mac: Uint8Array): string =>
  Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':')
