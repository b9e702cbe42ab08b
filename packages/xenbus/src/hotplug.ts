/**
 * Hotplug scripts. A toolstack runs the device's `script` when the backend is in InitWait, and
 * removes the device if the script fails (libxl_device.c). Xen's scripts prepare what is served.
 * Then they write `hotplug-status`: `connected`, or `error` with the reason in `hotplug-error`
 * (xen-hotplug-common.sh). If there is nothing to prepare, the backend writes these nodes itself.
 */

/**
 * Kind of hotplug script:
 * - `none`: no script, or one that does nothing; the backend decides alone
 * - `reports`: `xenkit-hotplug`, which passes the backend's result to the toolstack
 * - `prepares`: any other; the backend waits for its result
 */
export type HotplugScript = 'none' | 'reports' | 'prepares'

/** Name of the script that the package xenkit installs. */
const REPORTING_SCRIPT = 'xenkit-hotplug'

/** Returns the kind of a hotplug script. @param script value of the node `script`: a path */
export function hotplugScript(script: string | undefined): HotplugScript {
  const name = script?.slice(script.lastIndexOf('/') + 1)
  if (name === undefined || name === '' || name === 'true') return 'none'
  return name === REPORTING_SCRIPT ? 'reports' : 'prepares'
}
