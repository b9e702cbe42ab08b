/** Colours, where there is somebody to see them. */
import type { WriteStream } from 'node:tty'

const CODES = { red: 31, green: 32, yellow: 33 } as const

/** Colours a text for a terminal that has colours: `hasColors` minds NO_COLOR and TERM. */
export const paint = (colour: keyof typeof CODES, text: string, stream: WriteStream): string =>
  stream.isTTY && stream.hasColors() ? `\x1b[${CODES[colour]}m${text}\x1b[39m` : text
