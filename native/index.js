// Finds and loads the addon: a file next to this one (or next to the bundle that contains this
// code), else the package for this platform. Importing never fails; only loadNative() does. It
// tries the builds for both C libraries, because the wrong one fails to load.
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
/**
 * Must equal the addon's `ABI` (src/lib.rs). Raise both when a declaration in index.d.ts changes.
 */
const ABI = 2
let loaded

export function loadNative() {
  return (loaded ??= find())
}

function find() {
  const target = `${process.platform}-${process.arch}`
  const reasons = []
  for (const libc of process.platform === 'linux' ? ['gnu', 'musl'] : []) {
    for (const name of [`./xenkit.${target}-${libc}.node`, `@xenkit/native-${target}-${libc}`]) {
      const addon = tryToLoad(name, reasons)
      if (addon?.ABI === ABI) return addon
      if (addon) {
        throw failure(
          'ERR_XENKIT_NATIVE_ABI',
          `"${name}" has ABI ${addon.ABI ?? 0}, this version needs ${ABI}: build it again ` +
            '(npm run build in native/), or install the same version of both packages',
        )
      }
    }
  }
  throw failure(
    'ERR_XENKIT_NATIVE',
    reasons.length > 0
      ? reasons.join('; ')
      : `there is no build for ${target}, Node ${process.versions.node}`,
  )
}

function tryToLoad(name, reasons) {
  try {
    return require(name)
  } catch (error) {
    // A loader's message lists the requiring files after the first line.
    if (error.code !== 'MODULE_NOT_FOUND') {
      reasons.push(`"${name}": ${error.message.split('\n')[0]}`)
    }
    return undefined
  }
}

const failure = (code, why) =>
  Object.assign(new Error(`the native addon of xenkit can't be loaded: ${why}`), { code })
