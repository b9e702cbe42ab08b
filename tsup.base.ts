import { defineConfig } from 'tsup'

/** Build of a published package: ESM, one file per entry, `using` lowered for Node 20. */
export const library = (entry: string[]) =>
  defineConfig({ entry, format: 'esm', target: 'node20', platform: 'neutral', sourcemap: true, clean: true, outDir: 'dist', tsconfig: '../../tsconfig.json' })
