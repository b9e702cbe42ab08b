import { expect, test } from 'vitest'
import { createMachine } from '../src/index.ts'

test('a new domain has the nodes that a toolstack creates', async () => {
  await using machine = createMachine()
  machine.createDomain()
  const { domid } = machine.createDomain({ name: 'guest' })
  const node = (path: string) => machine.xenstored.store.get(path)
  const text = (path: string) => new TextDecoder().decode(node(path)?.value)
  const readable = { owner: 0, access: 'none', acl: [{ domid, access: 'read' }] }
  const owned = { owner: domid, access: 'none', acl: [] }
  expect(text('/local/domain/0/name')).toBe('Domain-0')
  expect(text('/local/domain/1/name')).toBe('guest')
  expect(text('/local/domain/1/domid')).toBe('1')
  expect(text(`${text('/local/domain/1/vm')}/name`)).toBe('guest')
  for (const name of ['', '/name', '/memory', '/device', '/control']) {
    expect(node(`/local/domain/1${name}`)?.perms).toEqual(readable)
  }
  for (const name of ['data', 'error', 'control/shutdown', 'feature']) {
    expect(node(`/local/domain/1/${name}`)?.perms).toEqual(owned)
  }
  expect(machine.xenstored.introduced(domid)).toBeDefined()
})
