/** Parses the arguments of the command line. */
import { parseArgs } from 'node:util'

export interface Arguments {
  /** The benchmarks to run, in order. */
  readonly names: readonly string[]
  /** The file to write the results to. */
  readonly json?: string | undefined
  /** Why the arguments are invalid; absent if they are valid. */
  readonly mistake?: string
}

export function readArguments(args: readonly string[], known: readonly string[]): Arguments {
  try {
    const { positionals, values } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { json: { type: 'string' } },
    })
    const unknown = positionals.filter((name) => !known.includes(name))
    if (unknown.length > 0) {
      return {
        names: [],
        mistake: `no benchmark is named "${unknown.join('", "')}", there are: ${known.join(', ')}`,
      }
    }
    return { names: positionals.length > 0 ? positionals : known, json: values.json }
  } catch (error) {
    return { names: [], mistake: error instanceof Error ? error.message : String(error) }
  }
}
