/**
 * Text that is printed or written to a node, whoever it came from. A guest or a server must not
 * move a terminal's cursor with it, reorder what stands beside it, or begin another line.
 */

/**
 * All of Unicode that isn't seen or acts on what is beside it: controls (C0, DEL, C1), what directs
 * bidirectional text, line and paragraph separators, lone surrogates, what is ignored by default,
 * and code points that mean nothing to this version of Unicode or are for private use.
 */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu

/** `\u` and four digits for each UTF-16 unit: JSON that passes through here is the same JSON. */
const escaped = (character: string): string =>
  character.replace(/[^]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)

/**
 * Text as one line that shows all of its characters: those that don't show are escaped, as
 * `\u009b`.
 */
export const printable = (text: string): string => text.replace(UNPRINTABLE, escaped)

/** What was thrown, as `printable` text. Never throws, whatever it was. */
export function textOf(thrown: unknown): string {
  try {
    return printable(String(thrown))
  } catch {
    return 'an object that has no text was thrown'
  }
}
