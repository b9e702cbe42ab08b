/** Runs Xen in an emulated machine. */
import { type ChildProcess, spawn } from 'node:child_process'
import { openSync } from 'node:fs'
import { join } from 'node:path'
import { PORT_NAME } from '../dom0/agent/messages.ts'
import { atExit } from './at-exit.ts'
import type { Image } from './image/image.ts'

/**
 * The machine's clock. `wall` follows real time, on two processors. `virtual` counts instructions,
 * on one processor: some five times slower, but measurements repeat whatever else the host does.
 */
export type Clock = 'wall' | 'virtual'

export interface MachineOptions {
  readonly image: Image
  /** Folder that dom0 mounts read-only as /lab/programs. */
  readonly programs: string
  /** Folder that dom0 mounts as /lab/out. The machine's own logs go there too. */
  readonly out: string
  /** Unix socket on which the host listens for the agent's port. */
  readonly agentSocket: string
  readonly clock: Clock
  /** The machine is killed after this many seconds. */
  readonly lifeSeconds: number
}

/** A running machine. It ends when this process ends for any reason. */
export class Machine implements AsyncDisposable {
  /** Resolves with the reason when the machine has ended. */
  readonly ended: Promise<string>
  readonly #process: ChildProcess

  constructor(o: MachineOptions) {
    const log = openSync(join(o.out, 'qemu.log'), 'w')
    // setpriv first asks the kernel to kill the process when its parent ends, even by SIGKILL, and
    // then replaces itself by QEMU.
    const qemu = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...qemuArguments(o)],
      { stdio: ['ignore', log, log] },
    )
    const forget = atExit(() => qemu.kill('SIGKILL'))
    let why = 'the machine ended by itself'
    const life = setTimeout(() => {
      why = `the machine was ended after its ${o.lifeSeconds} s`
      qemu.kill('SIGKILL')
    }, o.lifeSeconds * 1000)
    this.#process = qemu
    this.ended = new Promise<string>((resolve) => {
      qemu.once('error', (error) => resolve(`the machine didn't start: ${error.message}`))
      qemu.once('close', (code) =>
        resolve(code === null || code === 0 ? why : `qemu failed with ${code}, see qemu.log`),
      )
    }).finally(() => {
      clearTimeout(life)
      forget()
    })
  }

  /** Kills the machine. It needs no shutdown: dom0's writes to its disk are discarded anyway. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.ended
  }
}

/** The pitfalls in lab/README.md explain each argument. */
function qemuArguments(o: MachineOptions): string[] {
  const xen =
    'console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M dom0_max_vcpus=1 dom0_vcpus_pin loglvl=all guest_loglvl=all'
  const processors = {
    wall: ['-accel', 'tcg,thread=multi', '-smp', '2'],
    virtual: ['-accel', 'tcg,thread=single', '-smp', '1', '-icount', 'shift=1,sleep=off,align=off'],
  }
  const linux = 'console=hvc0 quiet loglevel=4 panic=1 mitigations=off'
  return [
    [
      '-machine',
      'q35',
      '-cpu',
      'max,-smap,-avx,-avx2,-f16c,-fma,-xsave,-erms',
      '-m',
      '3072',
      ...processors[o.clock],
    ],
    ['-nodefaults', '-nographic', '-no-reboot', '-serial', `file:${join(o.out, 'serial.log')}`],
    [
      '-kernel',
      o.image.xen,
      '-append',
      xen,
      '-initrd',
      `${o.image.kernel} ${linux},${o.image.dom0Initrd}`,
    ],
    [
      '-drive',
      `file=${o.image.dom0Disk},if=none,id=disk,format=raw,snapshot=on`,
      '-device',
      'virtio-blk-pci,drive=disk',
    ],
    share('programs', o.programs, 'readonly=on'),
    share('out', o.out, 'readonly=off'),
    [
      '-chardev',
      `socket,id=agent,path=${o.agentSocket}`,
      '-device',
      'virtio-serial-pci,max_ports=2',
      '-device',
      `virtserialport,chardev=agent,name=${PORT_NAME}`,
    ],
    ['-device', 'virtio-rng-pci'],
  ].flat()
}

function share(tag: string, directory: string, access: string): string[] {
  return [
    '-fsdev',
    `local,id=${tag},path=${directory},security_model=none,${access}`,
    '-device',
    `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`,
  ]
}
