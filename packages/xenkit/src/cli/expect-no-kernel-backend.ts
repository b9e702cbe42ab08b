import type { Hypervisor } from '@xenkit/hypervisor'
import { type KernelBackendType, kernelBackend } from '@xenkit/xen'
import { UsageError } from './usage-error.ts'

/** @throws UsageError if Linux's own backend would serve the devices of this type */
export async function expectNoKernelBackend(
  { name }: Hypervisor,
  type: KernelBackendType,
): Promise<void> {
  const loaded = name === 'xen' ? await kernelBackend(type) : undefined
  if (loaded) throw new UsageError(`${loaded.found}: ${loaded.fix}`)
}
