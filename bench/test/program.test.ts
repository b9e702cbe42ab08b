import { readFileSync } from 'node:fs'
import { afterEach, expect, test } from 'vitest'
import { usableCpus } from '../src/cpus.ts'
import { Program } from '../src/program.ts'

const [cpu = 0] = (await usableCpus()).slice(-1)
let program: Program

const start = async (script: string): Promise<void> => {
  program = await Program.start(cpu, [process.execPath, '-e', script])
}
afterEach(() => program[Symbol.asyncDispose]())

const ECHO = `
  console.log('ready')
  require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
    if (line === 'end') process.exit(3)
    console.log(JSON.stringify({ line }))
  })`

test('answers, on its processor', async () => {
  await start(ECHO)
  expect(readFileSync(`/proc/${program.pid}/status`, 'latin1')).toMatch(
    new RegExp(`^Cpus_allowed_list:\\t${cpu}$`, 'm'),
  )
  expect(await program.ask('a b')).toEqual({ line: 'a b' })
  expect(await program.ask()).toEqual({ line: '' })
})

test('ends when its input ends', async () => {
  await start(ECHO)
  await program[Symbol.asyncDispose]()
  await expect(program.ask('late')).rejects.toThrow('ended with 0')
})

test('is killed if it does not end', async () => {
  await start("console.log('ready'); setInterval(() => {}, 1000)")
  await program[Symbol.asyncDispose]()
  await expect(program.ask('late')).rejects.toThrow('ended with SIGKILL')
})

test('rejects the request in flight when it ends', async () => {
  await start(ECHO)
  await expect(program.ask('end')).rejects.toThrow('ended with 3')
})

test('reports that it did not start', async () => {
  await expect(Program.start(cpu, ['false'])).rejects.toThrow('"false" ended with 1')
})
