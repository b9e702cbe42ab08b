/** Bytes of xenstore as text. They are UTF-8 at most; a byte order mark is part of the value. */

const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

export const text = (bytes: Uint8Array): string => decoder.decode(bytes)

/** NUL-terminated strings, as replies list them. */
export const strings = (bytes: Uint8Array): string[] => text(bytes).split('\0').slice(0, -1)
