/**
 * What a file run by `startThread` needs: its domain, its orders, and a way to report to the test.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { attachDomain, type SimDomain } from '../../../src/index.ts'
import type { ThreadData } from './start-thread.ts'

export const data = workerData as ThreadData // set by startThread

export const thisDomain = (): SimDomain => attachDomain(data.domain)

export function report(message: unknown): void {
  parentPort?.postMessage(message)
}
