/**
 * Debian's xenstored and the stub that lets it run without Xen, cached under a hash of their
 * sources. Its version is that of the installed libxen-dev; xenstored itself needn't be installed.
 */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { hashInputs } from '../image/inputs.ts'
import { HOST, releases } from '../image/debian.ts'
import { unpack } from '../image/packages.ts'
import { cache } from '../paths.ts'
import { command } from '../process.ts'

export interface XenstoredProgram {
  readonly xenstored: string
  readonly stub: string
}

const XEN_VERSION = releases[HOST].xen
const PACKAGE = `xen-utils-${XEN_VERSION}`
const stubSource = join(import.meta.dirname, 'stub.c')

/** This machine lacks something that building or running xenstored needs. */
class Missing extends Error {}

const orMissing =
  (what: string) =>
  (error: unknown): never => {
    throw new Missing(`${what}: ${error instanceof Error ? error.message : String(error)}`)
  }

/**
 * The reason why xenstored can't run on this machine, or undefined if it can. On CI, where it must
 * run, this throws the reason.
 */
export async function whyNoXenstored(): Promise<string | undefined> {
  try {
    await openXenstoredProgram()
    return undefined
  } catch (error) {
    if (!(error instanceof Missing) || process.env['CI'] === 'true') throw error
    return error.message
  }
}

export async function openXenstoredProgram(): Promise<XenstoredProgram> {
  const version = await command('dpkg-query', [
    '--show',
    '--showformat',
    '${Version}',
    'libxen-dev',
  ]).catch(orMissing("libxen-dev isn't installed"))
  const directory = join(
    cache,
    `xenstored-${await hashInputs({ files: [stubSource], words: [version] })}`,
  )
  if (!existsSync(directory)) await build(version, directory)
  return partsIn(directory)
}

const partsIn = (directory: string): XenstoredProgram => ({
  xenstored: join(directory, 'xenstored'),
  stub: join(directory, 'stub.so'),
})

async function build(version: string, directory: string): Promise<void> {
  await mkdir(cache, { recursive: true })
  const work = await mkdtemp(join(cache, 'building-'))
  try {
    const result = partsIn(join(work, 'result'))
    await mkdir(join(work, 'result'))
    await command('gcc', ['--version']).catch(orMissing('no C compiler'))
    await command('gcc', [
      '-Wall',
      '-Wextra',
      '-Werror',
      '-std=gnu11',
      '-O2',
      '-fPIC',
      '-shared',
      stubSource,
      '-o',
      result.stub,
    ])
    await command(
      'apt-get',
      ['-qq', '-o', 'APT::Sandbox::User=', 'download', `${PACKAGE}=${version}`],
      { cwd: work },
    ).catch(orMissing(`${PACKAGE} ${version} can't be downloaded`))
    const packages = (await readdir(work))
      .filter((name) => name.endsWith('.deb'))
      .map((name) => join(work, name))
    await unpack(packages, join(work, 'tree'))
    await rename(join(work, `tree/usr/lib/xen-${XEN_VERSION}/bin/xenstored`), result.xenstored)
    await rename(join(work, 'result'), directory).catch((error: unknown) => {
      // Another process may have built the program in the meantime.
      if (!existsSync(directory)) throw error
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}
