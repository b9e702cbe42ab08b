/** The scenarios, by the names they are called by. */
import type { Scenario } from '../src/scenario.ts'

export const scenarios: Readonly<Record<string, Scenario>> = {}
