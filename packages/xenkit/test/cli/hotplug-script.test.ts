/** The hotplug script that xl runs, with a fake xenstore-read. */
import { execFile } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'

const script = join(import.meta.dirname, '../../hotplug/xenkit-hotplug')
let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xenkit-hotplug-'))
  const reader = join(folder, 'xenstore-read')
  writeFileSync(
    reader,
    '#!/bin/sh\n[ "$1" = /backend/hotplug-status ] && [ -n "$STATUS" ] && echo "$STATUS"\n',
  )
  chmodSync(reader, 0o755)
})
afterAll(() => rmSync(folder, { recursive: true }))

const run = (action: string, status: string): Promise<number> =>
  new Promise((resolve) => {
    const env = {
      PATH: `${folder}:${process.env['PATH'] ?? ''}`,
      XENBUS_PATH: '/backend',
      STATUS: status,
    }
    execFile(script, action.split(' '), { env }, (error) =>
      resolve(typeof error?.code === 'number' ? error.code : 0),
    )
  })

test.each([
  ['add', 'connected', 0],
  ['add', 'error', 1],
  ['add', '', 1],
  ['remove', 'error', 0],
  ['online type_if=vif', 'connected', 0],
  ['online type_if=vif', 'error', 1],
  ['offline type_if=vif', 'error', 0],
  ['add type_if=tap', 'error', 0],
])('%s, status "%s": exit code %i', async (action, status, code) =>
  expect(await run(action, status)).toBe(code),
)
