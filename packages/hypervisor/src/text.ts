/**
 * Makes text of any origin safe to print or to write to a node. Text of a guest or a server must
 * not move a terminal's cursor, reorder its neighbours, or start another line.
 */

/**
 * Code points that are invisible or affect their neighbours: controls (C0, DEL, C1), bidirectional
 * controls, line and paragraph separators, lone surrogates, and default-ignorable ones. Also those
 * that are unassigned in this version of Unicode or for private use.
 */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu

/** Escapes each UTF-16 unit as `\u` and four digits. JSON stays the same JSON. */
const escaped = (character: string): string =>
  character.replace(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)

/**
 * Returns the text as one line in which every character shows: invisible ones are escaped, as
 * `\u009b`.
 */
export const printable = (text: string): string => text.replace(UNPRINTABLE, escaped)

/** Returns a thrown value as `printable` text. It never throws, whatever the value is. */
export function textOf(thrown: unknown): string {
  try {
    return printable(String(thrown))
  } catch {
    return 'an object that has no text was thrown'
  }
}
