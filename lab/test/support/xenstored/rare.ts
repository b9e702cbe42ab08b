/**
 * Sequences of requests that random runs seldom reach. `tx` sends a request in the transaction that
 * the client started last.
 */
import { XS } from '@xenkit/wire'
import { Ask, BuildDomain, type Command, DestroyDomain } from './commands.ts'
import type { ClientName } from './pair.ts'

const ask = (client: ClientName, type: number, payload: string): Command =>
  new Ask(client, { type, payload })
const tx = (client: ClientName, type: number, payload: string): Command =>
  new Ask(client, { type, payload }, 'latest')
const begin = (client: ClientName): Command => ask(client, XS.TRANSACTION_START, '|')
const end = (client: ClientName): Command => tx(client, XS.TRANSACTION_END, 'T|')
const quota = (name: string, value: number): Command =>
  ask('0', XS.CONTROL, `quota|set|${name}|${value}|`)
const reborn = (domid: 5 | 6): Command[] => [
  ask('0', XS.RELEASE, `${domid}|`),
  ask('0', XS.INTRODUCE, `${domid}|0|1|`),
]

export const rare: Readonly<Record<string, readonly Command[]>> = {
  'a commit node by node, the parent last': [
    ask('0', XS.MKDIR, '/a/b|'),
    ask('0', XS.SET_PERMS, '/a|n0|'),
    ask('0', XS.SET_PERMS, '/a/b|n0|'),
    ask('5', XS.WATCH, '/a/b|t|'),
    begin('0'),
    tx('0', XS.WRITE, '/a/b|1'),
    tx('0', XS.SET_PERMS, '/a|r0|'),
    end('0'),
  ],
  'a commit node by node, the parent first': [
    ask('0', XS.MKDIR, '/a/b|'),
    ask('0', XS.SET_PERMS, '/a|n0|'),
    ask('0', XS.SET_PERMS, '/a/b|n0|'),
    ask('5', XS.WATCH, '/a/b|t|'),
    begin('0'),
    tx('0', XS.SET_PERMS, '/a|r0|'),
    tx('0', XS.WRITE, '/a/b|1'),
    end('0'),
  ],
  'a commit of a node that was removed and created again': [
    ask('0', XS.WRITE, '/a/b/c|1'),
    ask('0', XS.WATCH, '/a|t|'),
    begin('0'),
    tx('0', XS.RM, '/a/b|'),
    tx('0', XS.MKDIR, '/a/b/c|'),
    end('0'),
  ],
  'a commit over quota that creates no node': [
    ask('5', XS.WRITE, 'x|'),
    ask('5', XS.WRITE, 'y|'),
    quota('nodes', 2),
    begin('5'),
    tx('5', XS.RM, 'x|'),
    end('5'),
  ],
  'a commit over quota that tried to create a node': [
    ask('5', XS.WRITE, 'x|'),
    ask('5', XS.WRITE, 'y|'),
    quota('nodes', 2),
    begin('5'),
    tx('5', XS.MKDIR, 'z|'),
    tx('5', XS.RM, 'x|'),
    end('5'),
    ask('5', XS.DIRECTORY, '|'),
  ],
  'a commit over quota that sets permissions of a target': [
    new BuildDomain(7),
    ask('0', XS.SET_TARGET, '7|5|'),
    ask('5', XS.MKDIR, 'x|'),
    ask('5', XS.MKDIR, 'y|'),
    quota('nodes', 3),
    begin('7'),
    tx('7', XS.MKDIR, 'y|'),
    tx('7', XS.SET_PERMS, '/local/domain/5|n5|r7|'),
    end('7'),
  ],
  'a transaction in which the parent of a node is missing': [
    ask('0', XS.WRITE, '/b/c|1'),
    begin('0'),
    ask('0', XS.RM, '/b|'),
    tx('0', XS.READ, '/b|'),
    ask('0', XS.WRITE, '/b/c|1'),
    tx('0', XS.RM, '/b/c|'),
    end('0'),
  ],
  'a transaction that sees a node its parent does not list': [
    begin('0'),
    tx('0', XS.DIRECTORY, '/a|'),
    ask('0', XS.WRITE, '/a/d|1'),
    tx('0', XS.RM, '/a/d|'),
    tx('0', XS.READ, '/a/d|'),
    tx('0', XS.DIRECTORY, '/a|'),
    end('0'),
  ],
  'a transaction that sees a listed child that does not exist': [
    ask('0', XS.WRITE, '/a/b/x|1'),
    ask('0', XS.WRITE, '/a/c|1'),
    ask('0', XS.WRITE, '/a/d|1'),
    begin('0'),
    tx('0', XS.DIRECTORY, '/a|'),
    ask('0', XS.RM, '/a/c|'),
    tx('0', XS.RM, '/a|'),
    tx('0', XS.DIRECTORY, '/a|'),
    tx('0', XS.READ, '/a/b|'),
    end('0'),
  ],
  'a transaction that lists a child twice': [
    ask('0', XS.WRITE, '/a/b|1'),
    ask('0', XS.WRITE, '/a/c|1'),
    begin('0'),
    tx('0', XS.DIRECTORY, '/a|'),
    ask('0', XS.RM, '/a/b|'),
    tx('0', XS.MKDIR, '/a/b|'),
    tx('0', XS.DIRECTORY, '/a|'),
    tx('0', XS.RM, '/a/b|'),
    tx('0', XS.DIRECTORY, '/a|'),
    end('0'),
  ],
  'a domain id that is reused during a transaction': [
    ask('0', XS.SET_PERMS, '/a|n0|r5|'),
    begin('0'),
    tx('0', XS.READ, '/a|'),
    ...reborn(5),
    tx('0', XS.MKDIR, '/a/b|'),
    end('0'),
    ask('5', XS.READ, '/a|'),
    ask('5', XS.READ, '/a/b|'),
  ],
  'a domain id that is reused while no node changes': [
    ask('0', XS.RM, '/local/domain/5|'),
    ask('0', XS.SET_PERMS, '/a|n0|r5|'),
    ...reborn(5),
    ask('5', XS.READ, '/a|'),
  ],
  'a domain id that is reused before the node is written': [
    ask('0', XS.SET_PERMS, '/a|n0|r5|'),
    ask('0', XS.MKDIR, '/b|'),
    ...reborn(5),
    ask('5', XS.READ, '/a|'),
    ask('0', XS.WRITE, '/a|1'),
    ask('5', XS.READ, '/a|'),
    ask('0', XS.GET_PERMS, '/a|'),
  ],
  'a domain that dies without having been introduced': [
    ask('0', XS.WATCH, '@releaseDomain|t|'),
    ask('0', XS.MKDIR, '/b/c|'),
    ask('0', XS.SET_PERMS, '/b|n7|'),
    new DestroyDomain(7),
    ask('0', XS.READ, '/b/c|'),
  ],
  'special permissions whose new owner is released': [
    ask('0', XS.SET_PERMS, '@introduceDomain|n5|r6|'),
    ask('5', XS.SET_PERMS, '@introduceDomain|n5|r6|r5|'),
    ask('6', XS.WATCH, '@introduceDomain|t|'),
    ...reborn(5),
    ask('5', XS.WATCH, '@introduceDomain|t|'),
    ask('5', XS.SET_PERMS, '@introduceDomain|n5|'),
    new BuildDomain(7),
  ],
  'special permissions in a transaction': [
    begin('0'),
    tx('0', XS.SET_PERMS, '@releaseDomain|r0|'),
    ask('5', XS.WATCH, '@releaseDomain|t|'),
    tx('0', XS.TRANSACTION_END, 'F|'),
    ask('0', XS.RELEASE, '6|'),
  ],
}
