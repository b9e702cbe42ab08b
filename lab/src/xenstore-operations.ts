/**
 * Checks of every operation of the xenstore client, for any xenstored: the embedded one, Debian's
 * without Xen, and in the lab a running machine's, by its socket and by the kernel's device. A
 * xenstored that lacks an operation must refuse it, with an error that names it.
 */
import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert'
import type { XenstoreClient } from '@xenkit/xenstore-client'

export interface Operation {
  readonly name: string
  run(xs: XenstoreClient): Promise<void>
}

/** The node below which all checks write. */
const HOME = '/xenkit-operations'
/** Names whose list is longer than the 4096 bytes of one message. */
const MANY = Array.from({ length: 900 }, (_, i) => `child-with-a-long-name-${i}`)

const refusal =
  (errno: string, operation: string) =>
  (error: unknown): boolean => {
    ok(error instanceof Error && 'errno' in error)
    strictEqual(error.errno, errno)
    ok(error.message.startsWith(`xenstore ${operation} "`), error.message)
    return true
  }

/** Resolves to the answer, or to undefined if xenstored refuses the operation as unknown. */
async function ifKnown<T>(operation: string, answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer
  } catch (error) {
    refusal('ENOSYS', operation)(error)
    return undefined
  }
}

export const operations: readonly Operation[] = [
  {
    name: 'values may have any bytes, and any length up to the limit',
    async run(xs) {
      for (const length of [0, 1, 256, 4000]) {
        const value = Uint8Array.from({ length }, (_, i) => i)
        await xs.write(`${HOME}/value`, value)
        deepStrictEqual(await xs.readBytes(`${HOME}/value`), value)
      }
      await rejects(xs.write(`${HOME}/value`, new Uint8Array(4096)), RangeError)
    },
  },
  {
    name: 'the longest message gets through, or is refused where the kernel has no room for it',
    async run(xs) {
      const value = new Uint8Array(4096 - HOME.length - '/value'.length - 1)
      await xs
        .write(`${HOME}/value`, value)
        .then(
          async () => strictEqual((await xs.readBytes(`${HOME}/value`)).length, value.length),
          refusal('E2BIG', 'WRITE'),
        )
    },
  },
  {
    name: 'nodes are created with their parents, listed, and removed with their children',
    async run(xs) {
      await xs.mkdir(`${HOME}/a/b/c`)
      await xs.write(`${HOME}/a/d`, '1')
      deepStrictEqual((await xs.list(`${HOME}/a`)).toSorted(), ['b', 'd'])
      strictEqual(await xs.read(`${HOME}/a/b`), '')
      await xs.rm(`${HOME}/a`)
      strictEqual(await xs.exists(`${HOME}/a/b/c`), false)
      await rejects(xs.read(`${HOME}/a`), refusal('ENOENT', 'READ'))
    },
  },
  {
    name: 'a directory that exceeds one message is listed whole, in a transaction as well',
    async run(xs) {
      await Promise.all(MANY.map((name) => xs.mkdir(`${HOME}/many/${name}`)))
      const listed = await xs.list(`${HOME}/many`)
      deepStrictEqual(listed.toSorted(), MANY.toSorted())
      await xs.transaction(async (view) => {
        await view.mkdir(`${HOME}/many/one-more`)
        strictEqual((await view.list(`${HOME}/many`)).length, MANY.length + 1)
      })
      await xs.rm(`${HOME}/many`)
    },
  },
  {
    name: 'permissions come back as they were set',
    async run(xs) {
      const permissions = {
        owner: 0,
        access: 'none',
        acl: [
          { domid: 0, access: 'read' },
          { domid: 0, access: 'both' },
        ],
      } as const
      await xs.mkdir(`${HOME}/perms`)
      await xs.setPerms(`${HOME}/perms`, permissions)
      deepStrictEqual(await xs.getPerms(`${HOME}/perms`), permissions)
    },
  },
  {
    name: 'a watch yields its path, then changed nodes below it, and nothing after its end',
    async run(xs) {
      const watch = xs.watch(`${HOME}/watched`)
      strictEqual((await watch.next()).value, `${HOME}/watched`)
      await xs.write(`${HOME}/watched/x/y`, '1')
      strictEqual((await watch.next()).value, `${HOME}/watched/x/y`)
      await xs.rm(`${HOME}/watched`)
      strictEqual((await watch.next()).value, `${HOME}/watched`)
      await watch.return?.()
      await xs.write(`${HOME}/watched`, '1')
      strictEqual((await watch.next()).done, true)
    },
  },
  {
    name: 'a watch respects its depth, whether or not xenstored supports depths',
    async run(xs) {
      const watch = xs.watch(`${HOME}/deep`, { depth: 1 })
      await watch.next()
      await xs.write(`${HOME}/deep/1/2`, '1')
      await xs.write(`${HOME}/deep/1`, '1')
      strictEqual((await watch.next()).value, `${HOME}/deep/1`)
      await watch.return?.()
    },
  },
  {
    name: 'special watches can be set',
    async run(xs) {
      for (const special of ['@introduceDomain', '@releaseDomain']) {
        const watch = xs.watch(special)
        strictEqual((await watch.next()).value, special)
        await watch.return?.()
      }
    },
  },
  {
    name: 'transactions in parallel all take effect, conflicting ones one after the other',
    async run(xs) {
      await xs.write(`${HOME}/count`, '0')
      await Promise.all(
        Array.from({ length: 8 }, (_, i) =>
          xs.transaction(async (view) => {
            await view.write(`${HOME}/own/${i}`, String(i))
            await view.write(`${HOME}/count`, String(Number(await view.read(`${HOME}/count`)) + 1))
          }),
        ),
      )
      strictEqual(await xs.read(`${HOME}/count`), '8')
      strictEqual((await xs.list(`${HOME}/own`)).length, 8)
    },
  },
  {
    name: 'a transaction whose body throws has no effect',
    async run(xs) {
      const failing = xs.transaction(async (view) => {
        await view.write(`${HOME}/aborted`, '1')
        throw new Error('no')
      })
      await rejects(failing, /^Error: no$/)
      strictEqual(await xs.exists(`${HOME}/aborted`), false)
    },
  },
  {
    name: 'wait runs again when a node that it has read changes',
    async run(xs) {
      const waiting = xs.wait(
        async (view) => (await view.readOptional(`${HOME}/flag`)) === 'up' || undefined,
      )
      await xs.write(`${HOME}/flag`, 'down')
      await xs.write(`${HOME}/flag`, 'up')
      strictEqual(await waiting, true)
    },
  },
  {
    name: 'a thousand requests at once are answered in order',
    async run(xs) {
      const paths = Array.from({ length: 500 }, (_, i) => `${HOME}/pipeline/${i % 50}`)
      const answers = await Promise.all(
        paths.flatMap((path, i) => [xs.write(path, String(i)), xs.read(path)]),
      )
      deepStrictEqual(
        answers.filter((_, i) => i % 2 === 1),
        paths.map((_, i) => String(i)),
      )
    },
  },
  {
    name: 'an invalid path is refused before it is sent',
    async run(xs) {
      for (const path of [
        '',
        '/a/',
        '/a//b',
        '/ü',
        '/a b',
        '/a\0b',
        `/${'x'.repeat(3072)}`,
        'x'.repeat(2049),
        '@releaseDomain',
      ]) {
        await rejects(xs.read(path), RangeError)
      }
      await rejects(xs.control('help', 'a\0b'), RangeError)
      await rejects(xs.releaseDomain(40_000), RangeError)
    },
  },
  {
    name: 'domains: home, introduced or not',
    async run(xs) {
      strictEqual(await xs.getDomainPath(7), '/local/domain/7')
      strictEqual(await xs.isDomainIntroduced(0), true)
      strictEqual(await xs.isDomainIntroduced(32_000), false)
    },
  },
  {
    name: 'domains that are not introduced can not be released, resumed or targeted',
    async run(xs) {
      await rejects(xs.releaseDomain(32_000), refusal('ENOENT', 'RELEASE'))
      await rejects(xs.resumeDomain(32_000), refusal('ENOENT', 'RESUME'))
      await rejects(xs.setTarget({ domid: 32_000, target: 0 }), refusal('ENOENT', 'SET_TARGET'))
    },
  },
  {
    name: 'control answers, and refuses what it does not know',
    async run(xs) {
      ok((await xs.control('help')).includes('check'))
      await rejects(xs.control('no-such-command'), refusal('EINVAL', 'CONTROL'))
    },
  },
  {
    name: 'features can be read, or GET_FEATURE and SET_FEATURE are refused by name',
    async run(xs) {
      const features = await ifKnown('GET_FEATURE', xs.getFeatures())
      if (features === undefined) {
        return rejects(xs.setFeatures({ domid: 0, features: 1 }), refusal('ENOSYS', 'SET_FEATURE'))
      }
      strictEqual(await xs.getFeatures(0), features)
      await rejects(xs.setFeatures({ domid: 0, features: 1 }), refusal('EBUSY', 'SET_FEATURE'))
    },
  },
  {
    name: 'quotas can be read and set, or GET_QUOTA and SET_QUOTA are refused by name',
    async run(xs) {
      const quotas = await ifKnown('GET_QUOTA', xs.listQuotas())
      if (quotas === undefined) {
        return rejects(xs.setQuota({ quota: 'nodes', value: 1 }), refusal('ENOSYS', 'SET_QUOTA'))
      }
      ok(quotas.includes('nodes'))
      const value = await xs.getQuota({ quota: 'nodes' })
      await xs.setQuota({ quota: 'nodes', value: value + 1 })
      strictEqual(await xs.getQuota({ quota: 'nodes' }), value + 1)
      await xs.setQuota({ quota: 'nodes', value })
      await rejects(xs.getQuota({ quota: 'no-such-quota' }), refusal('EINVAL', 'GET_QUOTA'))
    },
  },
  {
    name: 'RESTRICT, which is gone, is refused by name',
    run: (xs) => rejects(xs.restrict(5), refusal('ENOSYS', 'RESTRICT')),
  },
  { name: 'nothing is left', run: (xs) => xs.rm(HOME) },
]

/**
 * Checks `resetWatches`. Don't run this on the kernel's device, which refuses the request: the
 * watches of its connection belong to the kernel.
 */
export const resetWatches: Operation = {
  name: 'resetting watches removes foreign ones and keeps those of the client',
  async run(xs) {
    const watch = xs.watch(HOME)
    await watch.next()
    await xs.resetWatches()
    strictEqual((await watch.next()).value, HOME) // the client has set its own watch again
    const next = watch.next()
    await xs.write(`${HOME}/after`, '1')
    strictEqual((await next).value, `${HOME}/after`)
    await watch.return?.()
    await xs.rm(HOME)
  },
}
