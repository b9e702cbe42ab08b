import { GrantError } from '@xenkit/hypervisor'
import { expect, test } from 'vitest'
import { packError, unpackError } from '@xenkit/backend'

test.each([
  ['text', 'no disk', 'no disk'],
  ['nothing', undefined, 'undefined'],
  [
    "an object that can't be made text",
    Object.create(null),
    'an object that has no text was thrown',
  ],
])('%s that was thrown crosses as an error that says so', (_, thrown, message) => {
  expect(unpackError(structuredClone(packError(thrown)))).toMatchObject({ name: 'Error', message })
})

test('an error keeps its class, code and details', () => {
  const crossed = unpackError(structuredClone(packError(new GrantError('refused', { status: -1 }))))
  expect(crossed).toBeInstanceOf(GrantError)
  expect(crossed).toMatchObject({
    message: 'refused',
    code: 'ERR_XEN_GRANT',
    details: { status: -1 },
    status: -1,
  })
})
