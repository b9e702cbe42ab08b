/** The xenstore client in a domain of Debian's xenstored, over the domain's ring page. */
import { openXenstore, type XenstoreClient } from '@xenkit/xenstore-client'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { whyNoXenstored } from '../../src/xenstored/program.ts'
import { XenstoredProcess } from '../../src/xenstored/xenstored-process.ts'

const absent = await whyNoXenstored()

describe.skipIf(absent !== undefined)(
  `a domain of Debian's xenstored${absent === undefined ? '' : `: ${absent}`}`,
  () => {
    let xenstored: XenstoredProcess
    let dom0: XenstoreClient
    let guest: XenstoreClient

    beforeEach(async () => {
      xenstored = await XenstoredProcess.start()
      dom0 = await openXenstore(xenstored)
      guest = await openXenstore(await introduced(5))
      await dom0.write('/local/domain/5/data', '')
      for (const path of ['/local/domain/5', '/local/domain/5/data']) {
        await dom0.setPerms(path, { owner: 5, access: 'none', acl: [] })
      }
    })
    afterEach(async () => {
      guest.close()
      dom0.close()
      await xenstored.close()
    })

    async function introduced(
      domid: number,
    ): Promise<Awaited<ReturnType<XenstoredProcess['createDomain']>>> {
      const domain = await xenstored.createDomain(domid)
      await dom0.introduceDomain({ domid, gfn: 1, port: 1 })
      return domain
    }

    test('uses relative paths in requests and in events', async () => {
      await guest.write('data/x', '1')
      expect(await dom0.read('/local/domain/5/data/x')).toBe('1')
      const watch = guest.watch('data')
      const deep = guest.watch('data', { depth: 1 })
      expect([(await watch.next()).value, (await deep.next()).value]).toEqual(['data', 'data'])
      await dom0.write('/local/domain/5/data/y/z', '1')
      await dom0.write('/local/domain/5/data/y', '1')
      expect([(await watch.next()).value, (await deep.next()).value]).toEqual([
        'data/y/z',
        'data/y',
      ])
      await Promise.all([watch.return?.(), deep.return?.()])
    })

    test('a thousand concurrent messages of 2 KiB pass through the ring of 1 KiB', async () => {
      const values = Array.from({ length: 500 }, (_, i) => String(i).padStart(1900, '.'))
      const answers = await Promise.all(
        values.flatMap((value) => [guest.write('data/big', value), guest.read('data/big')]),
      )
      expect(answers.filter((_, i) => i % 2 === 1)).toEqual(values)
    })

    test('has only its own rights, until a target gives it further ones', async () => {
      const model = await openXenstore(await introduced(6))
      await expect(model.read('/local/domain/5/data')).rejects.toMatchObject({ errno: 'EACCES' })
      await expect(model.introduceDomain({ domid: 7, gfn: 1, port: 1 })).rejects.toMatchObject({
        errno: 'EACCES',
      })
      await dom0.setTarget({ domid: 6, target: 5 })
      expect(await model.read('/local/domain/5/data')).toBe('')
      model.close()
    })

    test('may be permitted to watch other domains', async () => {
      await dom0.setPerms('@releaseDomain', {
        owner: 0,
        access: 'none',
        acl: [{ domid: 5, access: 'read' }],
      })
      await introduced(7)
      const watch = guest.watch('@releaseDomain')
      await watch.next()
      expect(await dom0.isDomainIntroduced(7)).toBe(true)
      await dom0.releaseDomain(7)
      expect((await watch.next()).value).toBe('@releaseDomain')
      expect(await dom0.isDomainIntroduced(7)).toBe(false)
      await watch.return?.()
    })

    test('is released when it is destroyed, which other watchers learn', async () => {
      const watch = dom0.watch('@releaseDomain')
      await watch.next()
      await xenstored.destroyDomain(5)
      expect((await watch.next()).value).toBe('@releaseDomain')
      expect(await dom0.isDomainIntroduced(5)).toBe(false)
      await watch.return?.()
    })

    test('resets the watches of an earlier user of its ring, and keeps its own', async () => {
      const watch = guest.watch('data')
      await watch.next()
      await guest.resetWatches()
      expect((await watch.next()).value).toBe('data')
      await guest.transaction(async (view) => view.write('data/x', '1'))
      expect((await watch.next()).value).toBe('data/x')
      await watch.return?.()
    })
  },
)
