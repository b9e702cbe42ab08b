/**
 * Debian's xenstored runs without Xen, and uses our ring pages and events like those of real
 * domains.
 */
import { XS } from '@xenkit/wire'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { whyNoXenstored } from '../../src/xenstored/program.ts'
import { XenstoredProcess } from '../../src/xenstored/xenstored-process.ts'
import { RawClient } from '../support/xenstored/raw-client.ts'

const why = await whyNoXenstored()
if (why !== undefined) console.log(`skipped: ${why}`)

describe.skipIf(why !== undefined)('xenstored', () => {
  let xenstored: XenstoredProcess
  let dom0: RawClient

  beforeEach(async () => {
    xenstored = await XenstoredProcess.start()
    dom0 = await RawClient.connect(xenstored)
  })
  afterEach(() => xenstored.close())

  async function introduce(domid: number): Promise<RawClient> {
    const domain = await xenstored.createDomain(domid)
    expect(await dom0.ask(XS.INTRODUCE, `${domid}|0|1|`)).toBe('OK|')
    expect(await dom0.ask(XS.MKDIR, `/local/domain/${domid}|`)).toBe('OK|')
    expect(await dom0.ask(XS.SET_PERMS, `/local/domain/${domid}|n${domid}|`)).toBe('OK|')
    return RawClient.connect(domain)
  }

  test("gives its socket domain 0's rights", async () => {
    expect(
      await Promise.all([
        dom0.ask(XS.DIRECTORY, '/|'),
        dom0.ask(XS.WRITE, '/a|1'),
        dom0.ask(XS.READ, '/a|'),
      ]),
    ).toEqual(['tool|', 'OK|', '1'])
  })

  test('gives a domain its own rights', async () => {
    const dom5 = await introduce(5)
    expect(
      await Promise.all([
        dom5.ask(XS.WRITE, 'data|1'),
        dom5.ask(XS.WRITE, '/a|1'),
        dom5.ask(XS.RELEASE, '5|'),
      ]),
    ).toEqual(['OK|', '!EACCES|', '!EACCES|'])
    expect(await dom0.ask(XS.READ, '/local/domain/5/data|')).toBe('1')
  })

  test('transfers more than a ring page holds at a time', async () => {
    const dom5 = await introduce(5)
    const value = (i: number): string => String(i).repeat(1500)
    const answers = await Promise.all(
      [1, 2, 3].flatMap((i) => [dom5.ask(XS.WRITE, `big|${value(i)}`), dom5.ask(XS.READ, 'big|')]),
    )
    expect(answers).toEqual(['OK|', value(1), 'OK|', value(2), 'OK|', value(3)])
  })

  test('refuses to introduce a domain that does not exist', async () => {
    expect(await dom0.ask(XS.INTRODUCE, '6|0|1|')).toBe('!EINVAL|')
  })

  test('notices the death of a domain', async () => {
    const dom5 = await introduce(5)
    await dom0.ask(XS.WATCH, '@releaseDomain|t|')
    // The watch's first event arrives between the watch's reply and this read's reply.
    await dom0.ask(XS.READ, '/tool|')
    dom0.takeEvents()
    await xenstored.destroyDomain(5)
    expect(await dom5.ask(XS.READ, 'data|')).toBe('ended: the domain was destroyed')
    expect(
      await Promise.all([
        dom0.ask(XS.DIRECTORY, '/local/domain|'),
        dom0.ask(XS.IS_DOMAIN_INTRODUCED, '5|'),
      ]),
    ).toEqual(['', 'F|'])
    expect(dom0.takeEvents()).toEqual(['@releaseDomain|t|'])
  })

  test('treats a later domain with the same id as a new one', async () => {
    await introduce(5)
    await xenstored.destroyDomain(5)
    const dom5 = await introduce(5)
    expect(await dom5.ask(XS.READ, 'data|')).toBe('!ENOENT|')
  })

  test('does not limit the rate of writes', async () => {
    const dom5 = await introduce(5)
    // Open a transaction, because the limit only counts writes while one is open.
    await dom0.ask(XS.TRANSACTION_START, '|')
    const begun = performance.now()
    for (let i = 0; i < 2000; i++) await dom5.ask(XS.WRITE, 'data|1')
    expect(performance.now() - begun).toBeLessThan(5000) // at 200 a second they would take 10 s
  })

  test('logs complaints, and closes connections when it ends', async () => {
    await dom0.ask(99, '')
    expect(xenstored.log()).toContain('Client unknown operation 99')
    await xenstored.close()
    expect(await dom0.ask(XS.READ, '/tool|')).toBe('ended: xenstored ended the connection')
  })
})
