/**
 * A node's list of children as a string, in the form of DIRECTORY's reply: names in the order of
 * creation, each with a NUL. A string can be kept as a snapshot at no cost, and its length is what
 * quotas count.
 */

/** Adds a child. */
export const withChild = (children: string, name: string): string => `${children}${name}\0`

/**
 * Removes the first child with the name.
 * @returns undefined if there is none
 */
export function withoutChild(children: string, name: string): string | undefined {
  if (children.startsWith(`${name}\0`)) return children.slice(name.length + 1)
  const at = children.indexOf(`\0${name}\0`)
  return at < 0 ? undefined : `${children.slice(0, at + 1)}${children.slice(at + name.length + 2)}`
}

/** Yields the names in order. */
export function* childNames(children: string): Generator<string> {
  for (
    let start = 0, end = children.indexOf('\0');
    end >= 0;
    start = end + 1, end = children.indexOf('\0', start)
  ) {
    yield children.slice(start, end)
  }
}
