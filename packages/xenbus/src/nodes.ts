/**
 * The nodes that devices of every type have, by xenbus.h and libxl (libxl__device_generic_add). A
 * device package defines the nodes of its own type.
 */
import { DOMID_MAX } from '@xenkit/hypervisor'
import { XENSTORE_ABS_PATH_MAX, XenbusState } from '@xenkit/wire'
import { defineNodes } from '@xenkit/xenstore-client'

/** Nodes with their values, by name relative to a directory. */
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
/** Value of `xenkit-result` after the driver has followed a request. */
export const RESULT_OK = 'ok'

/** Whether the result is the answer to this request. @param result value of `xenkit-result` */
export const answersTo = (result: string, request: string): boolean =>
  result.startsWith(`${request} `)

/**
 * Most bytes of an error's text in a node. By default xenstored allows a guest's node 2048 bytes,
 * which include the node's name.
 */
export const REASON_MAX = 1024

const ID = { type: 'text', maxLength: 64, default: undefined } as const

/** Nodes in the frontend's directory. */
export const frontendDeviceNodes = defineNodes({
  backend: { ...PATH, meaning: "the backend's directory" },
  'backend-id': { ...DOMID, meaning: "the backend's domain" },
  state: { ...STATE, writer: 'frontend' },
})

/** Nodes in the backend's directory. */
export const backendDeviceNodes = defineNodes({
  frontend: { ...PATH, meaning: "the frontend's directory" },
  'frontend-id': { ...DOMID, meaning: "the frontend's domain" },
  online: {
    type: 'flag',
    default: undefined,
    writer: 'toolstack',
    meaning:
      'cleared to remove the device for good; until then a closed device waits for its frontend to ' +
      'start again; without this node a device goes when its frontend has closed',
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
      "connected or error, the script's result; the backend writes it if there is nothing to prepare",
  },
  'hotplug-error': {
    type: 'text',
    maxLength: REASON_MAX,
    default: undefined,
    writer: 'toolstack',
    meaning: 'why; xl prints it if the script failed',
  },
  /**
   * A random id, new each time that a server takes the device. It is removed with the directory, so
   * a server can tell a device that was plugged again from the one that it took.
   */
  'xenkit-claim': {
    ...ID,
    writer: 'backend',
    meaning: 'id that the server wrote when it claimed the device',
  },
  'xenkit-reserved-for': {
    ...ID,
    writer: 'toolstack',
    meaning:
      'reservation of the only server that may claim the device; without this node any server may',
  },
  'xenkit-request': {
    ...ID,
    writer: 'toolstack',
    meaning: 'id of a request to follow the nodes that were written with it',
  },
  'xenkit-result': {
    type: 'text',
    maxLength: 64 + 1 + REASON_MAX,
    default: undefined,
    writer: 'backend',
    meaning: 'id of the last request that was followed, then ok, or why it was refused',
  },
})
