/**
 * Node tables: names, types, defaults and meanings of the nodes in one directory, as Xen's public
 * headers describe them. One table reads, writes and documents the same nodes.
 *
 * A name that contains `{n}` is a family of nodes, numbered from 0. `ring-ref{n}` stands for
 * `ring-ref0`, `ring-ref1` and so on; `queue-{n}/mtu` for a node in each of `queue-0`, `queue-1`
 * and so on. Another node holds their number, so a family is read by a separate call.
 */
import { NegotiationError } from '@xenkit/hypervisor'
import { parseDecimal, parseFlag } from './parse.ts'
import type { XenstoreReader, XenstoreView } from './view.ts'

/** Type of a node's value. */
export type NodeType =
  /** `0` or `1`. */
  | { readonly type: 'flag'; readonly default?: boolean | undefined }
  /** A decimal number `min..max`, both inclusive; `min` is 0 by default, `max` at most 2^53 - 1. */
  | {
      readonly type: 'decimal'
      readonly min?: number
      readonly max: number
      readonly default?: number | undefined
    }
  /** One of the listed values; numbers are written in decimal. */
  | {
      readonly type: 'enum'
      readonly values: readonly (string | number)[]
      readonly default?: string | number | undefined
    }
  /** Any text of at most `maxLength` characters. */
  | { readonly type: 'text'; readonly maxLength: number; readonly default?: string | undefined }

/**
 * One node of a table. `default` is the value of an absent node, and may be undefined; without it
 * the node is required. `otherwise` replaces a decimal of wrong form or range; without it such a
 * value is an error.
 */
export type NodeDefinition = (NodeType | HintType) & {
  readonly writer: 'toolstack' | 'backend' | 'frontend'
  readonly meaning: string
}

/** A decimal whose malformed value is replaced by `otherwise`. */
type HintType = Extract<NodeType, { type: 'decimal' }> & { readonly otherwise: number }

type Definitions = Readonly<Record<string, NodeDefinition>>

type ValueOf<D> = D extends { type: 'flag' }
  ? boolean
  : D extends { type: 'decimal' }
    ? number
    : D extends { type: 'enum'; values: readonly (infer V)[] }
      ? V
      : string
type ReadValueOf<D> = D extends { default: infer Default }
  ? ValueOf<D> | Extract<Default, undefined>
  : ValueOf<D>

/** Name of a family of nodes. */
type Family = `${string}{n}${string}`

/** Values that `read` returns: one property per node, by name. */
export type NodeValuesOf<T extends Definitions> = {
  readonly [Name in keyof T as Name extends Family ? never : Name]: ReadValueOf<T[Name]>
}
/**
 * Values that `write` takes: only the nodes to write. For a family it takes a list: the values of
 * the nodes 0, 1 and so on.
 */
export type NodeValuesToWrite<T extends Definitions> = {
  readonly [Name in keyof T]?: WrittenAs<Name, ValueOf<T[Name]>> | undefined
}
/** A name of type `string`, known only at run time, may be a family's. */
type WrittenAs<Name, Value> = Name extends Family
  ? readonly Value[]
  : string extends Name
    ? Value | readonly Value[]
    : Value

/** A table of nodes, as `defineNodes` returns it. */
export interface NodeTable<T extends Definitions> {
  readonly definitions: T
  /**
   * Reads all nodes of the table except families from a directory, concurrently. The peer may have
   * written the values.
   * @throws NegotiationError naming the first node that is missing or doesn't fit its type
   * @throws XenstoreError if xenstored refuses a read
   */
  read(view: XenstoreReader, directory: string): Promise<NodeValuesOf<T>>
  /**
   * Reads one node of the table. Errors are those of `read`.
   * @throws RangeError if the table has no such node
   */
  readNode<Name extends keyof NodeValuesOf<T> & string>(
    view: XenstoreReader,
    directory: string,
    name: Name,
  ): Promise<NodeValuesOf<T>[Name]>
  /** Reads the first `count` nodes of a family. Errors are those of `readNode`. */
  readFamily<Name extends keyof T & Family>(
    view: XenstoreReader,
    directory: string,
    name: Name,
    count: number,
  ): Promise<ReadValueOf<T[Name]>[]>
  /**
   * Writes the given nodes.
   * @throws RangeError for a value outside its type; nothing is written
   * @throws XenstoreError if xenstored refuses a write
   */
  write(view: XenstoreView, directory: string, values: NodeValuesToWrite<T>): Promise<void>
  /**
   * Returns the given nodes in the form in which they are written.
   * @throws RangeError for a value outside its type
   */
  format(values: NodeValuesToWrite<T>): Record<string, string>
}

/**
 * Defines a table of nodes.
 *
 * @example
 * const { sectors, mode } = await defineNodes({
 *   sectors: { type: 'decimal', max: 2 ** 40, writer: 'backend', meaning: 'size in 512 bytes' },
 *   mode: { type: 'enum', values: ['r', 'w'], default: 'r', writer: 'toolstack', meaning: '...' },
 * }).read(xs, backendPath)
 */
export function defineNodes<const T extends Definitions>(definitions: T): NodeTable<T> {
  const names = Object.keys(definitions)
  const definitionOf = (name: string): NodeDefinition => {
    const definition = definitions[name]
    if (!definition) throw new RangeError(`"${name}" is not a node of this table`)
    return definition
  }
  const format = (values: NodeValuesToWrite<T>): Record<string, string> => {
    const given: Readonly<Record<string, unknown>> = values
    return Object.fromEntries(
      names.flatMap((name) => {
        const value = given[name]
        const all: readonly unknown[] = Array.isArray(value) ? value : [value]
        return all.flatMap((each, n) => {
          const node = member(name, n)
          return each === undefined ? [] : [[node, formatNode(node, definitionOf(name), each)]]
        })
      }),
    )
  }
  const readNode = async (
    view: XenstoreReader,
    directory: string,
    name: string,
    n = 0,
  ): Promise<NodeValue | undefined> => {
    const node = `${directory}/${member(name, n)}`
    return parseNode(node, definitionOf(name), await view.readOptional(node))
  }
  // The assertions hold because `parseNode` returns the type that the definition states.
  return {
    definitions,
    format,
    async read(view, directory) {
      const read = names
        .filter((name) => !isFamily(name))
        .map(async (name) => [name, await readNode(view, directory, name)] as const)
      return Object.fromEntries(await Promise.all(read)) as NodeValuesOf<T>
    },
    async readNode(view, directory, name) {
      return (await readNode(view, directory, name)) as NodeValuesOf<T>[typeof name]
    },
    async readFamily(view, directory, name, count) {
      const read = Array.from({ length: count }, (_, n) => readNode(view, directory, name, n))
      return (await Promise.all(read)) as ReadValueOf<T[typeof name]>[]
    },
    async write(view, directory, values) {
      await Promise.all(
        Object.entries(format(values)).map(([name, value]) =>
          view.write(`${directory}/${name}`, value),
        ),
      )
    },
  }
}

const isFamily = (name: string): boolean => name.includes('{n}')

/** Returns the name of node `n` of a family. A name that is no family's is returned unchanged. */
const member = (name: string, n: number): string => name.replace('{n}', String(n))

type NodeValue = boolean | number | string

function parse(definition: NodeType, value: string): NodeValue | undefined {
  switch (definition.type) {
    case 'flag':
      return parseFlag(value)
    case 'decimal':
      return parseDecimal(value, definition)
    case 'enum':
      return definition.values.find((known) => String(known) === value)
    case 'text':
      return value.length <= definition.maxLength ? value : undefined
  }
}

function expected(definition: NodeType): string {
  switch (definition.type) {
    case 'flag':
      return '0 or 1'
    case 'decimal':
      return `a number ${definition.min ?? 0}..${definition.max}`
    case 'enum':
      return definition.values.join(' or ')
    case 'text':
      return `at most ${definition.maxLength} characters`
  }
}

/** Quotes a value that another domain wrote: at most 64 characters, control characters escaped. */
const quote = (value: string): string => JSON.stringify(value.slice(0, 64))

function parseNode(
  node: string,
  definition: NodeDefinition,
  value: string | undefined,
): NodeValue | undefined {
  if (value === undefined && 'default' in definition) return definition.default
  const parsed = value === undefined ? undefined : parse(definition, value)
  if (parsed !== undefined) return parsed
  if (value !== undefined && 'otherwise' in definition) return definition.otherwise
  const found = value === undefined ? 'is missing' : `holds ${quote(value)}`
  throw new NegotiationError(`node "${node}" ${found}, expected ${expected(definition)}`, {
    node,
    value,
    expected: expected(definition),
  })
}

function formatNode(name: string, definition: NodeDefinition, value: unknown): string {
  const formatted = typeof value === 'boolean' ? String(Number(value)) : String(value)
  if (parse(definition, formatted) !== value) {
    throw new RangeError(`"${name}" expected ${expected(definition)}, got ${quote(formatted)}`)
  }
  return formatted
}
