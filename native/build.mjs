// Builds the addon with cargo and moves it next to index.js, under the name that index.js loads.
// The move is a rename, so a process that has loaded the old file keeps using that.
import { execFileSync } from 'node:child_process'
import { copyFileSync, renameSync } from 'node:fs'

const profile = process.argv.includes('--debug') ? 'debug' : 'release'
execFileSync(
  'cargo',
  ['build', '--quiet', '--locked', ...(profile === 'release' ? ['--release'] : [])],
  {
    cwd: import.meta.dirname,
    stdio: 'inherit',
  },
)
const libc = process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'
const name = `${import.meta.dirname}/xenkit.linux-${process.arch}-${libc}.node`
copyFileSync(`${import.meta.dirname}/target/${profile}/libxenkit.so`, `${name}.new`)
renameSync(`${name}.new`, name)
