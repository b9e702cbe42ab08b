/**
 * CONTROL requests as the program `xenstore-control` sends them: commands, texts and errors of C
 * xenstored 4.17.
 */
import { XS } from '@xenkit/wire'
import { beforeEach, describe, expect, test } from 'vitest'
import type { Xenstored } from '../../src/xenstored/index.ts'
import { type RawXenstore, startXenstored } from '../support/raw-xenstore.ts'

let xenstored: Xenstored
let log: string[]
let dom0: RawXenstore
let dom5: RawXenstore

beforeEach(async () => {
  log = []
  ;({ xenstored, dom0, dom5 } = await startXenstored({ log: (line) => log.push(line) }))
})

const control = (payload: string): Promise<string> => dom0.ask(XS.CONTROL, payload)

test('help lists the commands', async () => {
  expect(await control('help|')).toBe(`\
check	
log	on|off
memreport	
print	<string>
quota	[set <name> <val>|<domid>]
quota-soft	[set <name> <val>]
help	
|`)
})

test.each([
  '',
  '|',
  'help',
  'help|x|',
  'nope|',
  'live-update|-s|',
  'logfile|x|',
  'constructor|',
  'check|x|',
  'print|',
  'print|a|b|',
  'log|',
  'log|maybe|',
  'log|on|off|',
  'memreport|file|',
  'quota|set|',
  'quota|set|nodes|',
  'quota|set|nodes|0|',
  'quota|set|nodes|-1|',
  'quota|set|nodes|x|',
  'quota|set|nope|5|',
  'quota|set|node-permissions|5|',
  'quota|set|nodes|5|6|',
  'quota|0|1|',
  'quota-soft|0|',
  'quota-soft|set|nodes|5|',
])('"%s" is EINVAL', async (payload) => {
  expect(await control(payload)).toBe('EINVAL')
})

describe('quota', () => {
  test('shows the limits', async () => {
    expect(await control('quota|')).toBe(`\
Quota settings:
nodes            :     1000 Nodes per domain
watches          :      128 Watches per domain
transactions     :       10 Transactions per domain
outstanding      :       20 Outstanding requests per domain
transaction-nodes:     1024 Max. number of accessed nodes per transaction
memory           :  2621440 Total Xenstore memory per domain (error level)
node-size        :     2048 Max. size of a node
path-max         :     2048 Max. length of a node path
permissions      :        5 Max. number of permissions per node
|`)
    expect(await control('quota-soft|')).toBe(`\
Quota settings:
memory           :  2097152 Total Xenstore memory per domain (warning level)
|`)
  })

  test('sets them, for existing domains too', async () => {
    expect(
      await Promise.all(
        ['quota|set|permissions|7|', 'quota|set|nodes|2x|', 'quota-soft|set|memory|4096|'].map(
          control,
        ),
      ),
    ).toEqual(['OK|', 'OK|', 'OK|'])
    expect(
      await Promise.all([
        dom0.ask(XS.GET_QUOTA, 'node-permissions|'),
        dom0.ask(XS.GET_QUOTA, '5|nodes|'),
        dom0.ask(XS.GET_QUOTA, '5|soft-memory|'),
      ]),
    ).toEqual(['7|', '2|', '4096|'])
    expect(await Promise.all([dom5.mkdir('a'), dom5.mkdir('b')])).toEqual(['OK|', 'ENOSPC'])
  })

  test('shows the usage of a domain', async () => {
    await dom5.write('a', 'value')
    await dom5.watch('a', 't')
    await dom5.begin()
    await dom5.events()
    expect(await control('quota|5x|')).toBe(`\
Domain 5:
nodes           :        2
watches         :        1
transactions    :        1
outstanding     :        0
memory          :      121
|`)
    expect(await control('quota|9|')).toBe('ENOENT')
  })
})

test('check finds nothing wrong with any store', async () => {
  await dom0.write('/a/b/c', '')
  await dom0.rm('/a/b')
  expect(await control('check|')).toBe('OK|')
})

test('check finds a node that is missing', async () => {
  await dom0.write('/a/b', '')
  xenstored.store.erase('/a/b')
  expect(await control('check|')).toBe('EIO')
})

describe('in the log', () => {
  test('print writes one line, whatever the text', async () => {
    expect(await control('print|hello\nworld|')).toBe('OK|')
    expect(log).toEqual(['control: "hello\\nworld"'])
  })

  test('log on writes every request', async () => {
    expect(await control('log|on|')).toBe('OK|')
    await dom5.write('a', 'b\n')
    expect(await control('log|off|')).toBe('OK|')
    await dom5.write('a', 'c')
    expect(log).toEqual([
      'domain 5: WRITE "a\\u0000b\\n"',
      'domain 0: CONTROL "log\\u0000off\\u0000"',
    ])
  })

  test('memreport writes the usage of each domain', async () => {
    expect(await control('memreport|')).toBe('OK|')
    expect(log).toEqual([
      expect.stringMatching(
        /^domain 0: nodes 5, watches 0, transactions 0, outstanding 0, memory \d+$/,
      ),
      expect.stringMatching(
        /^domain 5: nodes 1, watches 0, transactions 0, outstanding 0, memory 47$/,
      ),
    ])
  })
})
