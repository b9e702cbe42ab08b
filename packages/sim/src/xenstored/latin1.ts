/**
 * Bytes as strings of the same length, one character each. Requests are split as strings; tokens may be
 * any bytes and have to come back unchanged. (`TextDecoder('latin1')` is windows-1252, which isn't that.)
 */

export function latin1(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += String.fromCharCode(byte)
  return text
}

export const latin1Bytes = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0))
