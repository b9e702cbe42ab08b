import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { answerPattern, kernelFault, requestLine } from '../../src/guest/console.ts'

/**
 * The request loop of the guest's init.sh. The tests run it by bash, because it needs pipefail,
 * which the guest's busybox has and dash lacks.
 */
const init = readFileSync(join(import.meta.dirname, '../../guest/init.sh'), 'utf8')
const loop = /\n(#[^]*)\npoweroff -f\n/.exec(init.split('echo "guest ready"')[1] ?? '')?.[1] ?? ''

function answer(...scripts: string[]): string {
  const input = scripts.map((script, i) => requestLine(i + 1, script)).join('')
  return spawnSync('bash', ['-c', `${loop}\ntrue`], { input, encoding: 'utf8' }).stdout
}

test.each([
  ['output and status', 'echo one; exit 3', 'one\n', '3'],
  ['no output', 'true', '', '0'],
  ['several lines and quotes', `printf '%s\n' "a 'b'" \\\n  'c "d"'`, `a 'b'\nc "d"\n`, '0'],
  ['output without a line feed', 'printf half', 'half', '0'],
  ['a long script', `echo ${'x'.repeat(9000)}`, `${'x'.repeat(9000)}\n`, '0'],
])('%s', (_, script, output, status) => {
  expect(answerPattern(1).exec(answer(script))?.groups).toEqual({ output, status })
})

test('an answer is matched to its request by id', () => {
  const text = answer('echo first', 'echo second')
  expect(answerPattern(2).exec(text)?.groups).toEqual({ output: 'second\n', status: '0' })
})

test('a script neither reads the next request nor ends the guest', () => {
  expect(answer('cat; exit 1', 'echo still here')).toContain('still here')
})

test("not the first process reads requests, because an orphan's end would cut its read", () => {
  // The script prints the parent of its own shell, and then the outermost shell.
  const text = answer('cut -d " " -f 4 /proc/$BASHPID/stat; echo $$')
  const output = answerPattern(1).exec(text)?.groups?.['output']
  const [reader, first] = output?.trim().split('\n').map(Number) ?? []
  expect(reader).toBeGreaterThan(0)
  expect(reader).not.toBe(first)
})

/** Messages of a kernel panic as Linux 5.10 logs them. */
const panic = [
  '[   20.1] BUG: kernel NULL pointer dereference, address: 0000000000000050',
  '[   20.1] #PF: supervisor read access in kernel mode',
  '[   20.1] Oops: 0000 [#1] SMP NOPTI',
  '[   20.1] RIP: e030:blk_mq_start_stopped_hw_queues+0x5/0x60',
  '[   20.1]  blkif_interrupt+0x40/0x60 [xen_blkfront]',
  '[   20.1] RIP: e030:xen_hypercall_sched_op+0xa/0x20',
  '[   20.1] ---[ end trace 0123456789abcdef ]---',
  '[   20.1] Kernel panic - not syncing: Fatal exception in interrupt',
  '',
]
const fault =
  'BUG: kernel NULL pointer dereference, address: 0000000000000050; ' +
  'RIP: e030:blk_mq_start_stopped_hw_queues+0x5/0x60'

test('a kernel fault is found in the output of a guest once its report is complete', () => {
  const upTo = (lines: number): string => panic.slice(0, lines).join('\r\n')
  expect(kernelFault(upTo(6))).toBeUndefined()
  expect(kernelFault(upTo(7))).toBe(fault)
  const panicked = 'Kernel panic - not syncing: Fatal exception in interrupt'
  expect(kernelFault(upTo(panic.length))).toBe(`${fault}; ${panicked}`)
})

test('a panic without a fault before it is found', () => {
  const text = '[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs'
  expect(kernelFault(text)).toBeUndefined()
  expect(kernelFault(`${text}\r\n`)).toBe(
    'Kernel panic - not syncing: VFS: Unable to mount root fs',
  )
})

test('other output of a guest is no fault', () => {
  const text = 'guest ready\r\n\x021\n[   12.3] random: crng init done\n\x031 0\n'
  expect(kernelFault(text)).toBeUndefined()
})
