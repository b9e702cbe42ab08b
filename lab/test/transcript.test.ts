import { expect, test } from 'vitest'
import { Transcript } from '../src/transcript.ts'

test('finds earlier text, and later text that arrives in pieces', async () => {
  const transcript = new Transcript()
  transcript.append('one tw')
  const later = transcript.find(/two (\d+);/, 5)
  transcript.append('o 4')
  transcript.append('2;')
  expect((await later)[1]).toBe('42')
  expect((await transcript.find(/one/, 5))[0]).toBe('one')
})

test('at the end, pending and later waits reject', async () => {
  const transcript = new Transcript()
  transcript.append('something')
  const waiting = transcript.find(/never/, 5)
  transcript.end(new Error('gone'))
  await expect(waiting).rejects.toThrow('gone')
  await expect(transcript.find(/never/, 5)).rejects.toThrow('gone')
  expect((await transcript.find(/some/, 5))[0]).toBe('some')
})

test('waiting times out', async () => {
  await expect(new Transcript().find(/never/, 0.01, 'the lamp to burn')).rejects.toThrow(
    'the lamp to burn: not within 0.01 s',
  )
})
