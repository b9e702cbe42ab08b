/**
 * A simple model of xenstored: a tree of plain objects, without generations or copies. A
 * transaction is the list of its requests and replies. When one commits, the same requests must
 * give the same replies if they are all made again at that moment.
 */

type Letter = 'n' | 'r' | 'w' | 'b'

interface ModelNode {
  value: string
  owner: number
  others: Letter
  acl: [number, Letter][]
  children: Record<string, ModelNode>
}

export type Operation =
  | { readonly kind: 'read' | 'list' | 'mkdir' | 'rm' | 'getPerms'; readonly path: string }
  | { readonly kind: 'write'; readonly path: string; readonly value: string }
  | {
      readonly kind: 'setPerms'
      readonly path: string
      readonly owner: number
      readonly others: Letter
      readonly acl: [number, Letter][]
    }

export interface Applied {
  readonly answer: string
  /** The nodes that a request changed, each with the domains that may be notified of that. */
  readonly changes: readonly {
    readonly path: string
    readonly subtree: boolean
    readonly readers: (domid: number) => boolean
  }[]
}

const ALL: Record<Letter, string> = { n: '', r: 'r', w: 'w', b: 'rw' }
const node = (owner: number, others: Letter, acl: [number, Letter][]): ModelNode => ({
  value: '',
  owner,
  others,
  acl,
  children: {},
})
const steps = (path: string): string[] => path.split('/').slice(1)

const answer = (text: string): Applied => ({ answer: text, changes: [] })

export class XenstoreModel {
  root: ModelNode = node(0, 'n', [])

  #find(path: string): ModelNode | undefined {
    return steps(path).reduce<ModelNode | undefined>((at, name) => at?.children[name], this.root)
  }

  #parent(path: string): ModelNode {
    return this.#find(path.slice(0, path.lastIndexOf('/'))) ?? this.root
  }

  #deepest(path: string): ModelNode {
    let at = this.root
    for (const name of steps(path)) {
      const next = at.children[name]
      if (!next) return at
      at = next
    }
    return at
  }

  #may(domid: number, at: ModelNode, need: 'r' | 'w'): boolean {
    if (domid === 0 || at.owner === domid) return true
    return ALL[at.acl.find(([id]) => id === domid)?.[1] ?? at.others].includes(need)
  }

  #readers(at: ModelNode, parent: ModelNode): (domid: number) => boolean {
    const [now, above] = [structuredClone(at), structuredClone(parent)]
    return (domid) => this.#may(domid, now, 'r') || this.#may(domid, above, 'r')
  }

  apply(domid: number, operation: Operation): Applied {
    const { kind, path } = operation
    const need = kind === 'read' || kind === 'list' || kind === 'getPerms' ? 'r' : 'w'
    const found = this.#find(path)
    if (!this.#may(domid, found ?? this.#deepest(path), need)) return answer('EACCES')
    const changed = (): Applied => ({
      answer: 'OK|',
      changes: [
        {
          path,
          subtree: true,
          readers: this.#readers(this.#find(path) ?? this.root, this.#parent(path)),
        },
      ],
    })

    switch (operation.kind) {
      case 'read':
        return answer(found ? found.value : 'ENOENT')
      case 'list':
        return answer(
          found
            ? Object.keys(found.children)
                .map((name) => `${name}|`)
                .join('')
            : 'ENOENT',
        )
      case 'getPerms':
        return answer(
          found
            ? [[found.owner, found.others] as const, ...found.acl]
                .map(([id, letter]) => `${letter}${id}|`)
                .join('')
            : 'ENOENT',
        )
      case 'mkdir':
        if (found) return answer('OK|')
        this.#make(domid, path)
        return changed()
      case 'write':
        this.#make(domid, path).value = operation.value
        return changed()
      case 'rm': {
        if (!found) {
          return answer(
            path.lastIndexOf('/') === 0 || this.#find(path.slice(0, path.lastIndexOf('/')))
              ? 'OK|'
              : 'ENOENT',
          )
        }
        const changes = this.#removed(path, found, this.#parent(path), true)
        delete this.#parent(path).children[path.slice(path.lastIndexOf('/') + 1)]
        return { answer: 'OK|', changes }
      }
      case 'setPerms': {
        if (!found) return answer('ENOENT')
        if (domid !== 0 && found.owner !== domid) return answer('EACCES')
        if (domid !== 0 && operation.owner !== domid) return answer('EPERM')
        const former = structuredClone(found)
        Object.assign(found, {
          owner: operation.owner,
          others: operation.others,
          acl: operation.acl,
        })
        const { changes } = changed()
        return {
          answer: 'OK|',
          changes: changes.map((change) => ({
            ...change,
            readers: (id) => this.#may(id, former, 'r') || change.readers(id),
          })),
        }
      }
    }
  }

  #make(domid: number, path: string): ModelNode {
    let at = this.root
    for (const name of steps(path)) {
      at = at.children[name] ??= node(domid === 0 ? at.owner : domid, at.others, at.acl)
    }
    return at
  }

  #removed(path: string, at: ModelNode, parent: ModelNode, subtree: boolean): Applied['changes'] {
    return [
      ...Object.entries(at.children).flatMap(([name, child]) =>
        this.#removed(`${path}/${name}`, child, at, false),
      ),
      { path, subtree, readers: this.#readers(at, parent) },
    ]
  }
}

/** Returns the changed paths of which a domain's watch on `watched` gets an event. */
export const heard = (watched: string, domid: number, { changes }: Applied): string[] =>
  changes
    .filter(
      ({ path, subtree, readers }) =>
        (path === watched || (subtree && path.startsWith(`${watched}/`))) && readers(domid),
    )
    .map(({ path }) => path)
