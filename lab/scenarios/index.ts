/** The scenarios by the names that the command line takes. */
import type { Scenario } from '../src/scenario.ts'
import * as bench from './bench.ts'
import * as benchNet from './bench-net.ts'
import * as blkback from './blkback.ts'
import * as loopback from './loopback.ts'
import * as netback from './netback.ts'
import * as reboot from './reboot.ts'
import * as smoke from './smoke.ts'
import * as vbd from './vbd/index.ts'
import * as vif from './vif/index.ts'
import * as vbd3 from './vbd3.ts'
import * as xenstore from './xenstore.ts'

export const scenarios: Readonly<Record<string, Scenario>> = {
  smoke,
  loopback,
  blkback,
  netback,
  reboot,
  xenstore,
  vbd,
  vbd3,
  vif,
  bench,
  'bench-net': benchNet,
}
