import { defineConfig } from 'vitest/config'

// Every package's exports name its TypeScript source under the condition `xenkit-source`: tests run
// on sources, so nothing has to be built before a test.
const conditions = ['xenkit-source', 'node', 'import', 'default']

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: [
      'packages/*/test/**/*.test.ts',
      'native/test/**/*.test.ts',
      'examples/**/*.test.ts',
      'lab/test/**/*.test.ts',
      'bench/test/**/*.test.ts',
      'test/**/*.test.ts',
    ],
    pool: 'forks',
    testTimeout: 30_000,
  },
})
