// Finds and loads the addon: a file beside this one (or beside the bundle this was bundled into),
// else the package of this platform. Importing never fails; only loadNative() does. Both C
// libraries are tried instead of told apart: the wrong one doesn't load.
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
let loaded

export function loadNative() {
  return (loaded ??= find())
}

function find() {
  const target = `${process.platform}-${process.arch}`
  const reasons = []
  for (const libc of process.platform === 'linux' ? ['gnu', 'musl'] : []) {
    for (const name of [`./xenkit.${target}-${libc}.node`, `@xenkit/native-${target}-${libc}`]) {
      try {
        return require(name)
      } catch (error) {
        // A loader's message lists the requiring files after the first line.
        if (error.code !== 'MODULE_NOT_FOUND') {
          reasons.push(`"${name}": ${error.message.split('\n')[0]}`)
        }
      }
    }
  }
  const why =
    reasons.length > 0
      ? reasons.join('; ')
      : `there is no build for ${target}, Node ${process.versions.node}`
  throw Object.assign(new Error(`the native addon of xenkit can't be loaded: ${why}`), {
    code: 'ERR_XENKIT_NATIVE',
  })
}
