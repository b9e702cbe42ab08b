/**
 * Debian's C xenstored as a process of this machine, which needn't have Xen: stub.c answers its
 * calls to the hypervisor from a folder. The domains that it is introduced to are created and
 * destroyed here.
 *
 * It differs from xenstored on Xen in two ways. The limit of writes never delays a domain (see the
 * stub's clock). And a watch event waits for its domain for ever, not for 20 seconds.
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

/** Timeouts in seconds, some hundred times what these steps take. */
const START_SECONDS = 10
const VIRQ_SECONDS = 10

/** A running xenstored, which is also a xenstore port with domain 0's rights. */
export class XenstoredProcess implements XenstorePort, AsyncDisposable {
  readonly #directory: string
  readonly #virq: EventChannel
  readonly #domains = new Map<number, Domain>()
  readonly #process: ChildProcess
  /** Resolves with the reason when the process has ended. */
  readonly #ended: Promise<Error>
  #onVirqDone = (): void => {}

  /**
   * Starts a xenstored with an empty store.
   * @throws Error with the process's log if it doesn't start
   */
  static async start(): Promise<XenstoredProcess> {
    const program = await openXenstoredProgram()
    // In /tmp, because the path of a unix socket has at most 107 bytes and a checkout's path may be
    // longer.
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
    // setpriv first asks the kernel to kill the process when its parent ends, even by SIGKILL, and
    // then replaces itself by xenstored.
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
    // `start` has waited until the process started, so it has a pid.
    return this.#process.pid ?? Number.NaN
  }

  /** Path of the process's unix socket. */
  get socketPath(): string {
    return join(this.#directory, 'socket')
  }

  /** Returns all messages that the process has logged. */
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

  /** Creates a domain. Its port has the domain's own rights once it is introduced. */
  async createDomain(domid: number): Promise<Domain> {
    const domain = await Domain.create(join(this.#directory, 'domains', String(domid)))
    this.#domains.set(domid, domain)
    return domain
  }

  /** Destroys a domain. Resolves after xenstored has handled the notification of that. */
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

  /** Kills the process, which ends all connections. Idempotent. */
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
