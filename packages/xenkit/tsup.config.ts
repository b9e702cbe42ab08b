import { library } from '../../tsup.base.ts'

export default library([
  'src/index.ts',
  'src/device.ts',
  'src/cli/main.ts',
  'src/sim/guest.ts',
  'src/threads/shared-file-store.ts',
  'src/threads/shared-memory-store.ts',
  'src/threads/ring-thread.ts',
  'src/threads/thread.mjs',
])
