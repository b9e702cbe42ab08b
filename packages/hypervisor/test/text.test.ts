/** `printable`: text from others can't affect a terminal, a log or a node. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GrantError, PeerError, XenError, printable, textOf } from '../src/index.ts'

/**
 * Ranges of code points that `printable` must escape, listed by number. The implementation uses
 * Unicode classes, so the two lists check each other.
 */
const HARMFUL: readonly (readonly [what: string, first: number, last: number])[] = [
  ['C0 controls', 0x00, 0x1f],
  ['DEL and C1 controls', 0x7f, 0x9f],
  ['the soft hyphen', 0xad, 0xad],
  ['the Arabic letter mark', 0x061c, 0x061c],
  ['zero-width characters and marks of direction', 0x200b, 0x200f],
  ['separators of lines and paragraphs, embeddings and overrides of direction', 0x2028, 0x202e],
  ['isolates of direction and invisible operators', 0x2060, 0x206f],
  ['surrogates', 0xd800, 0xdfff],
  ['the byte order mark', 0xfeff, 0xfeff],
  ['annotations', 0xfff9, 0xfffb],
  ['tags', 0xe0000, 0xe007f],
]

const escapeOf = (text: string): string =>
  Array.from(
    { length: text.length },
    (_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`,
  ).join('')

describe('printable', () => {
  test.each(HARMFUL)('escapes %s', (_, first, last) => {
    for (let code = first; code <= last; code++) {
      const character = String.fromCodePoint(code)
      expect(printable(`a${character}b`)).toBe(`a${escapeOf(character)}b`)
    }
  })

  test('leaves each code point of Unicode as it is, or escapes it', () => {
    let kept = 0
    for (let code = 0; code <= 0x10ffff; code++) {
      const character = String.fromCodePoint(code)
      const shown = printable(character)
      if (shown === character) kept++
      else if (shown !== escapeOf(character)) {
        expect.fail(`U+${code.toString(16)} is shown as ${shown}`)
      }
    }
    // The number of characters left as they are: Unicode 15 has 149,813 visible ones, and later
    // versions have more.
    expect(kept).toBeGreaterThan(149_000)
  })

  test('keeps text in any script, and the meaning of JSON', () => {
    const readable = 'disk "vm-1" 磁盘 диск ディスク قرص é ñ 🙂 50 % €'
    expect(printable(readable)).toBe(readable)
    const full = fc.string({ unit: 'binary' })
    fc.assert(
      fc.property(full, full, (name, value) => {
        expect(JSON.parse(printable(JSON.stringify({ [name]: value })))).toEqual({ [name]: value })
      }),
    )
  })

  test('escapes harmful characters anywhere, and is idempotent', () => {
    const harmful = new RegExp(
      `[${HARMFUL.map(([, first, last]) => `\\u{${first.toString(16)}}-\\u{${last.toString(16)}}`).join('')}]`,
      'u',
    )
    fc.assert(
      fc.property(
        fc.string({
          unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)),
        }),
        (text) => {
          const shown = printable(text)
          expect(shown).not.toMatch(harmful)
          expect(printable(shown)).toBe(shown)
        },
      ),
    )
  })
})

test('the message and the stack of an error are printable', () => {
  const error = new PeerError('ERR_XEN_TEST', 'the guest says "\x9b31m\u202e"')
  expect(error.message).toBe('the guest says "\\u009b31m\\u202e"')
  expect(error.stack).not.toMatch(/[\x9b\u202e]/)
  expect(new GrantError('\x7f', { status: -1 }).message).toBe('\\u007f')
})

describe('textOf', () => {
  test.each([
    [new XenError('ERR_XEN_TEST', 'text'), 'XenError: text'],
    [new TypeError('\x1b[2J'), 'TypeError: \\u001b[2J'],
    ['\u2066', '\\u2066'],
    [undefined, 'undefined'],
    [Symbol('s'), 'Symbol(s)'],
  ])('of %s', (thrown, text) => expect(textOf(thrown)).toBe(text))

  test('describes a value whose conversion to text throws', () => {
    const worst = {
      toString: () => {
        throw new Error('none')
      },
    }
    expect([textOf(Object.create(null)), textOf(worst)]).toEqual(
      Array(2).fill('an object that has no text was thrown'),
    )
  })
})
