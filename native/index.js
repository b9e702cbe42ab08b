// Finds and loads the addon: a file next to this one (or next to the bundle that contains this
// code), else the package for this platform. Importing never fails; only loadNative() does. It
// tries the builds for both C libraries, because the wrong one fails to load.
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
        // After the first line, Node's message lists the requiring files.
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
