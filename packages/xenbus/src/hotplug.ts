/**
 * Hotplug scripts. A toolstack runs the device's `script` when its backend is in InitWait, and
 * gives the device up if that fails (libxl_device.c). The scripts of Xen prepare what is served,
 * then tell the backend by `hotplug-status`, `connected` or `error` with the reason in
 * `hotplug-error` (xen-hotplug-common.sh). Where there is nothing to prepare the backend writes
 * these nodes itself.
 */

/**
 * - `none`: no script, or one that does nothing: the backend decides alone
 * - `reports`: `xenkit-hotplug`, which tells the toolstack what the backend wrote
 * - `prepares`: any other, whose word the backend waits for
 */
export type HotplugScript = 'none' | 'reports' | 'prepares'

/** Comes with the package xenkit. */
const REPORTING_SCRIPT = 'xenkit-hotplug'

/** @param script what the node of that name holds: a path */
export function hotplugScript(script: string | undefined): HotplugScript {
  const name = script?.slice(script.lastIndexOf('/') + 1)
  if (name === undefined || name === '' || name === 'true') return 'none'
  return name === REPORTING_SCRIPT ? 'reports' : 'prepares'
}
