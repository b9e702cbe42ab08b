/**
 * A node's children, as DIRECTORY answers: their names in the order of their making, each with a
 * NUL. A string is a snapshot for free, is made longer without a copy, and has the size that quotas
 * count.
 */

export const withChild = (children: string, name: string): string => `${children}${name}\0`

/** Without the first of that name. @returns undefined if there is none */
export function withoutChild(children: string, name: string): string | undefined {
  if (children.startsWith(`${name}\0`)) return children.slice(name.length + 1)
  const at = children.indexOf(`\0${name}\0`)
  return at < 0 ? undefined : `${children.slice(0, at + 1)}${children.slice(at + name.length + 2)}`
}

export function* childNames(children: string): Generator<string> {
  for (
    let start = 0, end = children.indexOf('\0');
    end >= 0;
    start = end + 1, end = children.indexOf('\0', start)
  ) {
    yield children.slice(start, end)
  }
}
