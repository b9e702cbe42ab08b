/** `xenkit doctor`: what this machine offers of Xen, what is missing, and what to do. */
import { probeXen } from '@xenkit/xen'
import { paint } from './paint.ts'

const OK = ['green', 'ok'] as const
const MISSING = ['red', 'no'] as const
const ABSENT = ['yellow', '--'] as const

export async function doctor({ json }: { readonly json: boolean }): Promise<void> {
  const probe = await probeXen()
  if (json) {
    console.log(JSON.stringify(probe, null, 2))
  } else {
    const width = Math.max(...probe.checks.map(({ name }) => name.length))
    for (const { name, ok, required, detail, fix } of probe.checks) {
      const [colour, word] = ok ? OK : required ? MISSING : ABSENT
      const mark = paint(colour, word, process.stdout)
      console.log(
        `${mark}  ${name.padEnd(width)}  ${detail}${fix === undefined ? '' : `\n    ${' '.repeat(width)}  ${fix}`}`,
      )
    }
    console.log(
      probe.usable
        ? '\nxenkit can serve devices here'
        : '\nxenkit can\'t serve devices here; "xenkit sim" and "xenkit demo" run anywhere',
    )
  }
  if (!probe.usable) process.exitCode = 1
}
