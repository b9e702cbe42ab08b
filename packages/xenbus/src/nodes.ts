/**
 * The nodes that every split device has, whatever its type, as xenbus.h and libxl have them
 * (libxl__device_generic_add). Those of one type are its package's.
 */
import { DOMID_MAX } from '@xenkit/hypervisor'
import { XENSTORE_ABS_PATH_MAX, XenbusState } from '@xenkit/wire'
import { defineNodes } from '@xenkit/xenstore-client'

/** Nodes of one directory, by name relative to it. */
export type NodeValues = Readonly<Record<string, string>>

const PATH = {
  type: 'text',
  maxLength: XENSTORE_ABS_PATH_MAX,
  default: undefined,
  writer: 'toolstack',
} as const
const DOMID = { type: 'decimal', max: DOMID_MAX, default: undefined, writer: 'toolstack' } as const
const STATE = {
  type: 'enum',
  values: Object.values(XenbusState),
  default: undefined,
  meaning: 'where this side is; the toolstack writes the first one, Initialising',
} as const
/** In `xenkit-result`, of a request that was followed. */
export const RESULT_OK = 'ok'

/** @param result what `xenkit-result` holds */
export const answersTo = (result: string, request: string): boolean =>
  result.startsWith(`${request} `)

/**
 * Bytes of an error's text that are written down. A domU's node may have 2048 by default, its name
 * included.
 */
export const REASON_MAX = 1024

const ID = { type: 'text', maxLength: 64, default: undefined } as const

/** In the frontend's directory. */
export const frontendDeviceNodes = defineNodes({
  backend: { ...PATH, meaning: "the backend's directory" },
  'backend-id': { ...DOMID, meaning: "the backend's domain" },
  state: { ...STATE, writer: 'frontend' },
})

/** In the backend's directory. */
export const backendDeviceNodes = defineNodes({
  frontend: { ...PATH, meaning: "the frontend's directory" },
  'frontend-id': { ...DOMID, meaning: "the frontend's domain" },
  online: {
    type: 'flag',
    default: undefined,
    writer: 'toolstack',
    meaning:
      'cleared when the device is to go for good: a closed one waits for its frontend to begin anew until then; ' +
      'where it is absent a device goes when its frontend has closed',
  },
  state: { ...STATE, writer: 'backend' },
  script: {
    ...PATH,
    meaning: 'the hotplug script that the toolstack runs once the backend is in InitWait',
  },
  'hotplug-status': {
    ...ID,
    writer: 'toolstack',
    meaning:
      'connected, or error: how the script fared; the backend writes it where the script has nothing to prepare',
  },
  'hotplug-error': {
    type: 'text',
    maxLength: REASON_MAX,
    default: undefined,
    writer: 'toolstack',
    meaning: 'why; xl prints it if the script failed',
  },
  /**
   * It goes with the directory, so that a server that was busy meanwhile can tell a new device from
   * the one that it took.
   */
  'xenkit-claim': {
    ...ID,
    writer: 'backend',
    meaning: 'id that the server which took the device gave it',
  },
  'xenkit-reserved-for': {
    ...ID,
    writer: 'toolstack',
    meaning: 'names the one server that may take the device; absent, any may',
  },
  'xenkit-request': {
    ...ID,
    writer: 'toolstack',
    meaning: 'id of a request to follow what other nodes say now, which were written with it',
  },
  'xenkit-result': {
    type: 'text',
    maxLength: 64 + 1 + REASON_MAX,
    default: undefined,
    writer: 'backend',
    meaning: 'id of the last request that was followed, then ok, or why it was refused',
  },
})
