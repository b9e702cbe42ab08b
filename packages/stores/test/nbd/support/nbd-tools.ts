/** Starts Debian's NBD servers (nbdkit, qemu-utils) and makes certificates for them (openssl). */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'

/**
 * Says why the tools can't be run here; undefined if they can.
 * @throws Error on CI, where the tools must be installed
 */
export function whyNoNbdTools(): string | undefined {
  const missing = ['nbdkit', 'qemu-nbd', 'openssl'].filter(
    (tool) => spawnSync(tool, ['--help']).error !== undefined,
  )
  if (missing.length === 0) return undefined
  const reason = `${missing.join(', ')} can't be run (Debian: nbdkit, qemu-utils, openssl)`
  if (process.env['CI'] === 'true') throw new Error(`${reason}, but CI=true needs the NBD servers`)
  return reason
}

type Place = { readonly path: string } | { readonly port: number }

/** A server process that can be killed and started again at the same address. */
export class NbdProcess implements AsyncDisposable {
  readonly #command: readonly string[]
  readonly #at: Place
  #child: ChildProcess | undefined

  private constructor(command: readonly string[], at: Place) {
    this.#command = command
    this.#at = at
  }

  static async start(command: readonly string[], at: Place): Promise<NbdProcess> {
    const server = new NbdProcess(command, at)
    await server.start()
    return server
  }

  async start(): Promise<void> {
    const [program = '', ...args] = this.#command
    // a killed server leaves its socket file behind
    if ('path' in this.#at) rmSync(this.#at.path, { force: true })
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child = child
    let words = ''
    child.stderr.on('data', (chunk) => (words += String(chunk)))
    const failed = once(child, 'exit').then(([code]) =>
      Promise.reject(new Error(`${program} ended with ${String(code)}: ${words}`)),
    )
    failed.catch(() => {}) // the test ends the process later, which is no failure
    while (!(await Promise.race([failed, this.#greets()]))) {
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  /** Kills the process without warning. */
  async kill(): Promise<void> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill()
  }

  /**
   * Whether the server sends its greeting: qemu-nbd listens before it has opened its image. All the
   * servers ignore a connection that ends before the handshake.
   */
  #greets(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.#at)
      socket.on('data', () => {
        resolve(true)
        socket.destroy()
      })
      socket.on('error', () => resolve(false)).on('close', () => resolve(false))
    })
  }
}

/**
 * Makes a directory for nbdkit's --tls-certificates: a CA, a certificate of the server "localhost",
 * and one of a client.
 */
export function makeCertificates(directory: string): void {
  mkdirSync(directory)
  const make = (name: string, ...args: string[]): void => {
    const key = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      join(directory, `${name}-key.pem`),
    ]
    execFileSync(
      'openssl',
      ['req', '-x509', ...key, '-out', join(directory, `${name}-cert.pem`), '-days', '2', ...args],
      { stdio: 'pipe' },
    )
  }
  const byCa = [
    '-CA',
    join(directory, 'ca-cert.pem'),
    '-CAkey',
    join(directory, 'ca-key.pem'),
    '-addext',
    'basicConstraints=critical,CA:FALSE',
  ]
  make('ca', '-subj', '/CN=an authority')
  make('server', '-subj', '/CN=a server', '-addext', 'subjectAltName=DNS:localhost', ...byCa)
  make('client', '-subj', '/CN=a client', ...byCa)
}
