/** Decodes bytes of xenstore as UTF-8. A byte order mark is part of the value. */

const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

export const text = (bytes: Uint8Array): string => decoder.decode(bytes)

/** Splits NUL-terminated strings, the form in which replies list them. */
export const strings = (bytes: Uint8Array): string[] => text(bytes).split('\0').slice(0, -1)
