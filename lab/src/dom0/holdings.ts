/** Lists the resources that a backend holds, to compare them before and after a scenario. */
import type { Dom0 } from './dom0.ts'

/**
 * Returns the resources that a leaking backend would keep: in the hypervisor, in its process and in
 * xenstore.
 */
export async function holdings(dom0: Dom0, pid: string): Promise<Record<string, string>> {
  return {
    // Port numbers are left out, because new channels get new ones.
    eventChannels: await dom0.run(
      `lsevtchn 0 | sed 's/[0-9]*: //; s/Port [0-9]*//' | sort | uniq -c`,
    ),
    grantMappings: await dom0.run(`grep -c gntdev /proc/${pid}/maps || true`),
    // Socket numbers are left out, because a reopened connection gets another one.
    files: await dom0.run(
      `ls -l /proc/${pid}/fd | awk '{print $NF}' | sed 's/[[][0-9]*]//' | sort`,
    ),
    nodes: await dom0.run('xenstore-ls -f /local/domain/0/backend || true'),
    domains: await dom0.run('xl list | wc -l'),
  }
}
