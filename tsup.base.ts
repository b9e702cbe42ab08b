import { defineConfig } from 'tsup'

/** Build of a published package: ESM, one file per entry, `using` lowered for Node 20. */
export const library = (entry: string[]) =>
  defineConfig({
    entry,
    // A JavaScript entry has no types to give, and TypeScript refuses it now and then (TS6504, by
    // the order of its files).
    dts: { entry: entry.filter((name) => name.endsWith('.ts')) },
    format: 'esm',
    target: 'node20',
    platform: 'neutral',
    sourcemap: true,
    clean: true,
    outDir: 'dist',
    tsconfig: '../../tsconfig.json',
  })
