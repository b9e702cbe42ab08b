import { expect, test } from 'vitest'
import { sourcesOf } from '../../src/image/package-lists.ts'

test("another release is on the host's mirrors, with its updates and security updates, each once", () => {
  const mirrors = [
    'http://mirror.example.org/debian bookworm',
    'http://mirror.example.org/debian bookworm',
    'http://mirror.example.org/debian bookworm-updates',
    'http://security.example.org/debian-security bookworm-security',
  ].join('\n')
  expect(sourcesOf(mirrors, 'trixie').replaceAll(/\[.*?\] /g, '')).toBe(
    [
      'deb http://mirror.example.org/debian trixie main',
      'deb http://mirror.example.org/debian trixie-updates main',
      'deb http://security.example.org/debian-security trixie-security main',
      '',
    ].join('\n'),
  )
})

test("fetched lists are checked with Debian's keys", () => {
  expect(sourcesOf('http://mirror.example.org/debian bookworm', 'trixie')).toContain(
    'signed-by=/usr/share/keyrings/debian-archive-keyring.gpg',
  )
})

test.each(['', 'http://mirror.example.org/debian sid\n'])(
  'a host without Debian 12 in its lists is refused (%j)',
  (mirrors) => {
    expect(() => sourcesOf(mirrors, 'trixie')).toThrow('apt knows no mirror of Debian 12')
  },
)
