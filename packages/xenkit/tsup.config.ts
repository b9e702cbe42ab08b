import { library } from '../../tsup.base.ts'

export default library(['src/index.ts', 'src/cli/main.ts', 'src/sim/guest.ts', 'src/sim/thread.mjs'])
