/** Checks what a machine offers xenkit; `xenkit doctor` prints the result. */
import { open, readFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { loadNative } from '@xenkit/native'
import { blockEngineKind } from './block-engine.ts'
import { DEVICES, fixFor, USE_SIM, type XenDevice } from './devices.ts'
import { KERNEL_BACKENDS, type KernelBackendType, kernelBackend } from './kernel-backend.ts'
import { codeOf } from './native-error.ts'
import { isControlDomain } from './own-domid.ts'
import { findXenstored, xenstoredPaths } from './xenstore.ts'

/** Result of one check. */
export interface XenCheck {
  /**
   * `hypervisor`, `native`, `disks`, `xenstored`, `domain`, `xen-blkback`, `xen-netback`, or a
   * device's path.
   */
  readonly name: string
  readonly ok: boolean
  /**
   * Whether `openXen` fails if this check does. Otherwise only the feature in `detail` is affected.
   */
  readonly required: boolean
  /** The result of the check, for the user. */
  readonly detail: string
  /** What to do, if something is missing. */
  readonly fix?: string
}

/** Results of all checks. */
export interface XenProbe {
  /** Whether `openXen` can be expected to succeed. */
  readonly usable: boolean
  readonly checks: readonly XenCheck[]
}

/** Runs all checks. It opens devices only to close them again, and never throws. */
export async function probeXen(): Promise<XenProbe> {
  const hypervisor = await checkHypervisor()
  const checks = [
    hypervisor,
    checkNative(),
    checkBlockEngine(),
    await checkDevice(DEVICES.gntdev, true),
    await checkDevice(DEVICES.evtchn, true),
    await checkDevice(DEVICES.gntalloc, false),
    await checkDevice(DEVICES.xenbus, false),
    await checkDevice(DEVICES.tun, false),
    await checkXenstored(),
    ...(hypervisor.ok
      ? [await checkDomain(), await checkKernelBackend('vbd'), await checkKernelBackend('vif')]
      : []),
  ]
  return { usable: checks.every((check) => check.ok || !check.required), checks }
}

async function checkHypervisor(): Promise<XenCheck> {
  const type = await readFile('/sys/hypervisor/type', 'latin1').catch(() => '')
  const ok = type.trim() === 'xen'
  const check = {
    name: 'hypervisor',
    ok,
    required: true,
    detail: ok ? 'this is a domain of Xen' : 'this machine is not a domain of Xen',
  }
  return ok ? check : { ...check, fix: USE_SIM }
}

function checkNative(): XenCheck {
  const glibc = glibcVersion()
  const platform = `${process.platform}-${process.arch}, Node ${process.versions.node}${glibc === undefined ? '' : `, glibc ${glibc}`}`
  try {
    loadNative()
    return { name: 'native', ok: true, required: true, detail: `the addon loads on ${platform}` }
  } catch (error) {
    const detail = `${error instanceof Error ? error.message : String(error)} (${platform})`
    return {
      name: 'native',
      ok: false,
      required: true,
      detail,
      fix: 'x86_64 Linux with glibc has a build; in a clone, run: npm run build in native/',
    }
  }
}

function checkBlockEngine(): XenCheck {
  const check = { name: 'disks', required: false }
  try {
    const { kind, refused } = blockEngineKind()
    if (refused === undefined) {
      return { ...check, ok: true, detail: `images beyond the page cache are read by ${kind}` }
    }
    return {
      ...check,
      ok: false,
      detail: `images beyond the page cache are read by ${kind}: ${refused}`,
      fix: "faster with io_uring: see the sysctl kernel.io_uring_disabled, or the container's seccomp rules",
    }
  } catch {
    return {
      ...check,
      ok: false,
      detail: "images are read on Node's thread pool",
      fix: 'they need the addon: see the check "native"',
    }
  }
}

function glibcVersion(): string | undefined {
  const report: unknown = process.report.getReport()
  if (typeof report !== 'object' || report === null || !('header' in report)) return undefined
  const { header } = report
  if (typeof header !== 'object' || header === null || !('glibcVersionRuntime' in header)) {
    return undefined
  }
  return typeof header.glibcVersionRuntime === 'string' ? header.glibcVersionRuntime : undefined
}

async function checkDevice(device: XenDevice, required: boolean): Promise<XenCheck> {
  const check = { name: device.path, required }
  try {
    await (await open(device.path, 'r+')).close()
    return { ...check, ok: true, detail: `for ${device.purpose}` }
  } catch (error) {
    const code = codeOf(error) ?? 'unknown error'
    return {
      ...check,
      ok: false,
      detail: `${code}; for ${device.purpose}`,
      fix: fixFor(device, code),
    }
  }
}

async function checkXenstored(): Promise<XenCheck> {
  const check = { name: 'xenstored', required: true }
  try {
    const found = await findXenstored()
    if (found instanceof Socket) {
      found.destroy()
      return { ...check, ok: true, detail: 'answers on its socket' }
    }
    const none = `no socket at ${xenstoredPaths().join(' or ')}`
    const device = await checkDevice(found, true)
    if (device.ok) return { ...check, ok: true, detail: `${none}: ${found.path} is used` }
    const fix = 'start xenstored; in a domain without it, see the check of the xenbus device'
    return { ...check, ok: false, detail: none, fix }
  } catch (error) {
    return {
      ...check,
      ok: false,
      detail: error instanceof Error ? error.message : String(error),
      fix: 'start xenstored',
    }
  }
}

/**
 * Checks whether Linux's own backend of a type is loaded.
 * @param drivers directory of the backends' drivers in sysfs
 */
export async function checkKernelBackend(
  type: KernelBackendType,
  drivers?: string,
): Promise<XenCheck> {
  const check = { name: KERNEL_BACKENDS[type].module, required: false }
  const loaded = await kernelBackend(type, drivers)
  if (!loaded) return { ...check, ok: true, detail: 'is not loaded' }
  return { ...check, ok: false, detail: loaded.found, fix: loaded.fix }
}

async function checkDomain(): Promise<XenCheck> {
  const detail = (await isControlDomain())
    ? 'dom0'
    : 'not dom0 according to /proc/xen/capabilities: a driver domain needs its nodes from dom0'
  return { name: 'domain', ok: true, required: false, detail }
}
