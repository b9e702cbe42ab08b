/**
 * Debian's C xenstored as a process of this machine, which needn't have Xen: what it asks of the
 * hypervisor is answered by stub.c from a folder. The domains that it is introduced to are made,
 * and die, here.
 *
 * Two things are unlike xenstored on Xen. No domain is ever delayed by the limit on its rate of
 * writes (see the stub's clock), and a watch event waits for its domain for ever, not for 20
 * seconds.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs'
import { mkdir, mkdtemp } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ByteStream, ByteStreamReceiver, XenstorePort } from '@xenkit/hypervisor'
import { atExit } from '../at-exit.ts'
import { withResolvers, within } from '../deadline.ts'
import { Domain } from './domain.ts'
import { EventChannel } from './event-channel.ts'
import { openXenstoredProgram, type XenstoredProgram } from './program.ts'

/** Some hundred times what either takes. */
const START_SECONDS = 10
const VIRQ_SECONDS = 10

/** As a port it gives domain 0's rights. */
export class XenstoredProcess implements XenstorePort, AsyncDisposable {
  readonly #directory: string
  readonly #virq: EventChannel
  readonly #domains = new Map<number, Domain>()
  readonly #process: ChildProcess
  /** Resolves with the reason. */
  readonly #ended: Promise<Error>
  #onVirqDone = (): void => {}

  /**
   * Starts one, with a store of its own. @throws Error with what it had to say if it doesn't start
   */
  static async start(): Promise<XenstoredProcess> {
    const program = await openXenstoredProgram()
    // In /tmp: a path of a unix socket is at most 107 bytes long, and a checkout may lie deeper
    // than that.
    const directory = await mkdtemp(join(tmpdir(), 'xenkit-xenstored-'))
    await mkdir(join(directory, 'domains'))
    const ready = withResolvers<void>()
    const dom0 = await Domain.create(join(directory, 'domains/0'), () => ready.resolve())
    const virq = await EventChannel.open(join(directory, 'virq'), () => xenstored.#onVirqDone())
    const xenstored = new XenstoredProcess(directory, program, { dom0, virq })
    try {
      await within(START_SECONDS, 'xenstored to be ready', xenstored.#whileRunning(ready.promise))
    } catch (error) {
      await xenstored.close()
      throw error
    }
    return xenstored
  }

  private constructor(
    directory: string,
    program: XenstoredProgram,
    { dom0, virq }: { dom0: Domain; virq: EventChannel },
  ) {
    this.#directory = directory
    this.#virq = virq
    this.#domains.set(0, dom0)
    const log = openSync(this.#logPath, 'w')
    // setpriv becomes xenstored and has the kernel end it with this process: that covers even
    // SIGKILL.
    this.#process = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', program.xenstored, '--no-fork', '--timeout', 'watch-event=0'],
      {
        env: { PATH: process.env['PATH'], LD_PRELOAD: program.stub, XENSTORED_RUNDIR: directory },
        stdio: ['ignore', log, log],
      },
    )
    closeSync(log)
    const forget = atExit(() => this.#removeDirectory())
    this.#ended = new Promise<string>((resolve) => {
      this.#process.once('error', (error) => resolve(error.message))
      this.#process.once('close', (status, signal) =>
        resolve(`${signal ?? `status ${status}`}. ${this.log()}`),
      )
    }).then((why) => {
      forget()
      return new Error(`xenstored has ended: ${why}`)
    })
  }

  get pid(): number {
    // It has started, and so it has one.
    return this.#process.pid ?? Number.NaN
  }

  /** Its unix socket. */
  get socketPath(): string {
    return join(this.#directory, 'socket')
  }

  /** What it has complained of. */
  log(): string {
    return readFileSync(this.#logPath, 'utf8')
  }

  async connect(receiver: ByteStreamReceiver): Promise<ByteStream> {
    const socket = createConnection(this.socketPath)
    let open = true
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.once('connect', resolve)
    })
    socket.on('data', (bytes) => receiver.data(bytes))
    socket.on('close', () => {
      if (open) receiver.closed(new Error('xenstored ended the connection'))
    })
    return {
      write: (bytes) => void socket.write(Uint8Array.from(bytes)),
      close: () => {
        open = false
        socket.destroy()
      },
    }
  }

  /** Makes a domain, whose port gives its own rights once it is introduced. */
  async createDomain(domid: number): Promise<Domain> {
    const domain = await Domain.create(join(this.#directory, 'domains', String(domid)))
    this.#domains.set(domid, domain)
    return domain
  }

  /** Ends a domain. xenstored has been told, and has done what it does about it. */
  async destroyDomain(domid: number): Promise<void> {
    const domain = this.#domains.get(domid)
    if (!domain) throw new RangeError(`domain ${domid} wasn't made`)
    this.#domains.delete(domid)
    await domain.remove(new Error('the domain was destroyed'))
    const { promise: done, resolve } = withResolvers<void>()
    this.#onVirqDone = resolve
    this.#virq.notify()
    await within(VIRQ_SECONDS, 'xenstored to handle VIRQ_DOM_EXC', this.#whileRunning(done))
  }

  /** Ends it, and with it the connections. Idempotent. */
  async close(): Promise<void> {
    this.#process.kill('SIGKILL')
    const reason = await this.#ended
    this.#virq.close()
    for (const domain of this.#domains.values()) await domain.remove(reason)
    this.#domains.clear()
    this.#removeDirectory()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  get #logPath(): string {
    return join(this.#directory, 'log')
  }

  async #whileRunning<T>(promise: Promise<T>): Promise<T> {
    const ended = this.#ended.then((reason) => Promise.reject(reason))
    return Promise.race([promise, ended])
  }

  #removeDirectory(): void {
    rmSync(this.#directory, { recursive: true, force: true })
  }
}
