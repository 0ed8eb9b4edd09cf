/**
 * The kinds of domain events: their numbers, the messages that carry them, and what listeners are given.
 *
 * @see virDomainEventID, libvirt-domain.h; NIC_MAC_CHANGE is newer (11.2.0) than the constants here
 */
import { virDomainEventID as id } from './constants.gen.ts';
import type { Messages, NonnullDomain } from './protocol/types.gen.ts';
import { exact, type TypedParam, type TypedValue, typedParamsToObject } from './typed-params.ts';

/** Kind to its number and to the message that carries it. */
const KINDS = {
  lifecycle: [id.VIR_DOMAIN_EVENT_ID_LIFECYCLE, 'domainEventCallbackLifecycle'],
  reboot: [id.VIR_DOMAIN_EVENT_ID_REBOOT, 'domainEventCallbackReboot'],
  rtcChange: [id.VIR_DOMAIN_EVENT_ID_RTC_CHANGE, 'domainEventCallbackRtcChange'],
  watchdog: [id.VIR_DOMAIN_EVENT_ID_WATCHDOG, 'domainEventCallbackWatchdog'],
  ioError: [id.VIR_DOMAIN_EVENT_ID_IO_ERROR, 'domainEventCallbackIoError'],
  graphics: [id.VIR_DOMAIN_EVENT_ID_GRAPHICS, 'domainEventCallbackGraphics'],
  ioErrorReason: [id.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, 'domainEventCallbackIoErrorReason'],
  controlError: [id.VIR_DOMAIN_EVENT_ID_CONTROL_ERROR, 'domainEventCallbackControlError'],
  blockJob: [id.VIR_DOMAIN_EVENT_ID_BLOCK_JOB, 'domainEventCallbackBlockJob'],
  diskChange: [id.VIR_DOMAIN_EVENT_ID_DISK_CHANGE, 'domainEventCallbackDiskChange'],
  trayChange: [id.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE, 'domainEventCallbackTrayChange'],
  pmWakeup: [id.VIR_DOMAIN_EVENT_ID_PMWAKEUP, 'domainEventCallbackPmwakeup'],
  pmSuspend: [id.VIR_DOMAIN_EVENT_ID_PMSUSPEND, 'domainEventCallbackPmsuspend'],
  balloonChange: [id.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, 'domainEventCallbackBalloonChange'],
  pmSuspendDisk: [id.VIR_DOMAIN_EVENT_ID_PMSUSPEND_DISK, 'domainEventCallbackPmsuspendDisk'],
  deviceRemoved: [id.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, 'domainEventCallbackDeviceRemoved'],
  blockJob2: [id.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, 'domainEventBlockJob2'],
  tunable: [id.VIR_DOMAIN_EVENT_ID_TUNABLE, 'domainEventCallbackTunable'],
  agentLifecycle: [id.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, 'domainEventCallbackAgentLifecycle'],
  deviceAdded: [id.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, 'domainEventCallbackDeviceAdded'],
  migrationIteration: [id.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, 'domainEventCallbackMigrationIteration'],
  jobCompleted: [id.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, 'domainEventCallbackJobCompleted'],
  deviceRemovalFailed: [
    id.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
    'domainEventCallbackDeviceRemovalFailed',
  ],
  metadataChange: [id.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, 'domainEventCallbackMetadataChange'],
  blockThreshold: [id.VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD, 'domainEventBlockThreshold'],
  memoryFailure: [id.VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE, 'domainEventMemoryFailure'],
  memoryDeviceSizeChange: [
    id.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE,
    'domainEventMemoryDeviceSizeChange',
  ],
  nicMacChange: [27, 'domainEventNicMacChange'],
} as const satisfies Record<string, readonly [number, keyof Messages]>;

export type DomainEventKind = keyof typeof KINDS;

export const DOMAIN_EVENT_KINDS = Object.keys(KINDS) as readonly DomainEventKind[];

/** Which domain an event is about. `id` is -1 for a domain that does not run. */
export interface DomainRef {
  name: string;
  /** Lower case, with dashes. */
  uuid: string;
  id: number;
}

/** A message's own fields: those of its inner `msg` where it has one, else all but the callback's number. */
type Payload<M> = M extends { msg: infer Inner }
  ? Omit<M & Inner, 'msg' | 'callbackID' | 'dom'>
  : Omit<M, 'callbackID' | 'dom'>;

/** Typed parameters become an object, 64-bit numbers a number where that is exact. */
type Plain<P> = {
  [K in keyof P]: P[K] extends TypedParam[]
    ? Record<string, TypedValue>
    : P[K] extends bigint
      ? number | bigint
      : P[K];
};

/** What a listener of this kind is given: the fields of the protocol's message, and the domain. */
export type DomainEvent<K extends DomainEventKind = DomainEventKind> = {
  [One in K]: { kind: One; domain: DomainRef } & Plain<Payload<Messages[(typeof KINDS)[One][1]]>>;
}[K];

const kindByMessage = new Map<string, DomainEventKind>(
  DOMAIN_EVENT_KINDS.map((kind) => [KINDS[kind][1], kind]),
);

/** The number with which a kind is registered. */
export function eventNumber(kind: DomainEventKind): number {
  return KINDS[kind][0];
}

/** Makes a listener's event of a message, or null when the message is not about a domain. */
export function toDomainEvent(messageName: string, body: unknown): DomainEvent | null {
  const kind = kindByMessage.get(messageName);
  if (kind === undefined) return null;
  const { callbackID: _, msg, ...outer } = body as { callbackID: number; msg?: object };
  const { dom, ...fields } = { ...outer, ...msg } as { dom: NonnullDomain } & Record<string, unknown>;
  const entries = Object.entries(fields).map(([name, value]) => [name, plain(value)]);
  return { kind, domain: { name: dom.name, uuid: dom.uuid, id: dom.id }, ...Object.fromEntries(entries) };
}

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return exact(value);
  return Array.isArray(value) && isTypedParams(value) ? typedParamsToObject(value) : value;
}

/** The `subject` of a graphics event is an array as well, of objects without a `field`. */
function isTypedParams(list: unknown[]): list is TypedParam[] {
  return list.every((element) => typeof element === 'object' && element !== null && 'field' in element);
}
