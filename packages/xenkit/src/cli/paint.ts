/** Colours for terminals. */
import type { WriteStream } from 'node:tty'

const CODES = { red: 31, green: 32, yellow: 33 } as const

/**
 * Colours a text if the stream is a terminal with colours; `hasColors` respects NO_COLOR and TERM.
 */
export const paint = (colour: keyof typeof CODES, text: string, stream: WriteStream): string =>
  stream.isTTY && stream.hasColors() ? `\x1b[${CODES[colour]}m${text}\x1b[39m` : text
