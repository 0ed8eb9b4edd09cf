/**
 * What there is to listen to: the families of events, their kinds, the messages that carry them, and what listeners are
 * given.
 *
 * An event has the thing that it is about under the name that it has in `connection.objects`: `event.domain`,
 * `event.storagePool`. The filter has the same name: `{ domain }`.
 *
 * @see virDomainEventID, virNetworkEventID, virStoragePoolEventID, virNodeDeviceEventID, virSecretEventID in libvirt's
 *   headers; remote_protocol.x and qemu_protocol.x for the messages
 */
import {
  virDomainEventID as domainId,
  virNetworkEventID as networkId,
  virNodeDeviceEventID as deviceId,
  virSecretEventID as secretId,
  virStoragePoolEventID as poolId,
} from '../constants.gen.ts';
import { LibvirtUsageError } from '../errors.ts';
import type { ProcedureName } from '../protocol/procedures.ts';
import type {
  Messages,
  NonnullDomain,
  NonnullNetwork,
  NonnullNodeDevice,
  NonnullSecret,
  NonnullStoragePool,
} from '../protocol/types.gen.ts';
import { type TypedParam, typedParamsToObject } from '../typed-params.ts';
import { shown } from '../xdr/argument-error.ts';

/** In messages, the field of this name and no other has typed parameters. */
const TYPED_PARAMS = 'params';

/** How a family is registered, and what its messages are. */
export interface Family {
  /** What the events are about; null for nothing that has a name. */
  thing: keyof EventThings | null;
  /** Name of the thing in the protocol. */
  wire: string;
  register: ProcedureName;
  deregister: ProcedureName;
  feature: Feature;
  /** Kind to its number, where the family has several, to the message that carries it, and to its first libvirt. */
  kinds: Readonly<Record<string, readonly [number | null, keyof Messages, string?]>>;
  /** Further arguments of the registration that callers may give, and their defaults. */
  more?: Readonly<Record<string, unknown>>;
}

/** Without this the daemon sends events in an older way, which is not supported here. */
export interface Feature {
  /** virDrvFeature */
  number: number;
  /** The libvirt that brought it. */
  since: string;
}

/** The daemon filters, and says in each message for which registration it is. @see libvirt_internal.h */
const REMOTE_EVENT_CALLBACK: Feature = { number: 14, since: '1.2.1' };
/** @see libvirt_internal.h */
const REMOTE_CLOSE_CALLBACK: Feature = { number: 15, since: '1.3.3' };

/** What names a thing. The objects of this library will do: a Domain has all of a NonnullDomain. */
export interface EventThings {
  domain: NonnullDomain;
  network: NonnullNetwork;
  storagePool: NonnullStoragePool;
  nodeDevice: NonnullNodeDevice;
  secret: NonnullSecret;
}

/** The fields that name a thing; that which the daemon compares comes first. */
export const IDENTITIES = {
  domain: ['uuid', 'name', 'id'],
  network: ['uuid', 'name'],
  storagePool: ['uuid', 'name'],
  nodeDevice: ['name'],
  secret: ['uuid', 'usageType', 'usageID'],
} as const satisfies { readonly [T in keyof EventThings]: readonly (keyof EventThings[T])[] };

const FAMILIES = {
  domain: {
    thing: 'domain',
    wire: 'dom',
    register: 'connectDomainEventCallbackRegisterAny',
    deregister: 'connectDomainEventCallbackDeregisterAny',
    feature: REMOTE_EVENT_CALLBACK,
    kinds: {
      lifecycle: [domainId.VIR_DOMAIN_EVENT_ID_LIFECYCLE, 'domainEventCallbackLifecycle'],
      reboot: [domainId.VIR_DOMAIN_EVENT_ID_REBOOT, 'domainEventCallbackReboot'],
      rtcChange: [domainId.VIR_DOMAIN_EVENT_ID_RTC_CHANGE, 'domainEventCallbackRtcChange'],
      watchdog: [domainId.VIR_DOMAIN_EVENT_ID_WATCHDOG, 'domainEventCallbackWatchdog'],
      ioError: [domainId.VIR_DOMAIN_EVENT_ID_IO_ERROR, 'domainEventCallbackIoError'],
      graphics: [domainId.VIR_DOMAIN_EVENT_ID_GRAPHICS, 'domainEventCallbackGraphics'],
      ioErrorReason: [domainId.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, 'domainEventCallbackIoErrorReason'],
      controlError: [domainId.VIR_DOMAIN_EVENT_ID_CONTROL_ERROR, 'domainEventCallbackControlError'],
      blockJob: [domainId.VIR_DOMAIN_EVENT_ID_BLOCK_JOB, 'domainEventCallbackBlockJob'],
      diskChange: [domainId.VIR_DOMAIN_EVENT_ID_DISK_CHANGE, 'domainEventCallbackDiskChange'],
      trayChange: [domainId.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE, 'domainEventCallbackTrayChange'],
      pmWakeup: [domainId.VIR_DOMAIN_EVENT_ID_PMWAKEUP, 'domainEventCallbackPmwakeup'],
      pmSuspend: [domainId.VIR_DOMAIN_EVENT_ID_PMSUSPEND, 'domainEventCallbackPmsuspend'],
      balloonChange: [domainId.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, 'domainEventCallbackBalloonChange'],
      pmSuspendDisk: [domainId.VIR_DOMAIN_EVENT_ID_PMSUSPEND_DISK, 'domainEventCallbackPmsuspendDisk'],
      deviceRemoved: [domainId.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, 'domainEventCallbackDeviceRemoved'],
      blockJob2: [domainId.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, 'domainEventBlockJob2', '1.2.6'],
      tunable: [domainId.VIR_DOMAIN_EVENT_ID_TUNABLE, 'domainEventCallbackTunable', '1.2.9'],
      agentLifecycle: [
        domainId.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
        'domainEventCallbackAgentLifecycle',
        '1.2.11',
      ],
      deviceAdded: [domainId.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, 'domainEventCallbackDeviceAdded', '1.2.15'],
      migrationIteration: [
        domainId.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION,
        'domainEventCallbackMigrationIteration',
        '1.3.2',
      ],
      jobCompleted: [domainId.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, 'domainEventCallbackJobCompleted', '1.3.3'],
      deviceRemovalFailed: [
        domainId.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
        'domainEventCallbackDeviceRemovalFailed',
        '1.3.4',
      ],
      metadataChange: [
        domainId.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
        'domainEventCallbackMetadataChange',
        '3.0.0',
      ],
      blockThreshold: [domainId.VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD, 'domainEventBlockThreshold', '3.2.0'],
      memoryFailure: [domainId.VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE, 'domainEventMemoryFailure', '6.9.0'],
      memoryDeviceSizeChange: [
        domainId.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE,
        'domainEventMemoryDeviceSizeChange',
        '7.9.0',
      ],
      nicMacChange: [domainId.VIR_DOMAIN_EVENT_ID_NIC_MAC_CHANGE, 'domainEventNicMacChange', '11.2.0'],
    },
  },
  /** What QEMU itself tells on its monitor. */
  qemuMonitor: {
    thing: 'domain',
    wire: 'dom',
    register: 'qemuConnectDomainMonitorEventRegister',
    deregister: 'qemuConnectDomainMonitorEventDeregister',
    feature: REMOTE_EVENT_CALLBACK,
    kinds: { event: [null, 'qemuDomainMonitorEvent', '1.2.3'] },
    more: { event: null, flags: 0 },
  },
  network: {
    thing: 'network',
    wire: 'net',
    register: 'connectNetworkEventRegisterAny',
    deregister: 'connectNetworkEventDeregisterAny',
    feature: REMOTE_EVENT_CALLBACK,
    kinds: {
      lifecycle: [networkId.VIR_NETWORK_EVENT_ID_LIFECYCLE, 'networkEventLifecycle'],
      metadataChange: [
        networkId.VIR_NETWORK_EVENT_ID_METADATA_CHANGE,
        'networkEventCallbackMetadataChange',
        '9.8.0',
      ],
    },
  },
  storagePool: {
    thing: 'storagePool',
    wire: 'pool',
    register: 'connectStoragePoolEventRegisterAny',
    deregister: 'connectStoragePoolEventDeregisterAny',
    feature: REMOTE_EVENT_CALLBACK,
    kinds: {
      lifecycle: [poolId.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, 'storagePoolEventLifecycle', '2.0.0'],
      refresh: [poolId.VIR_STORAGE_POOL_EVENT_ID_REFRESH, 'storagePoolEventRefresh', '2.0.0'],
    },
  },
  nodeDevice: {
    thing: 'nodeDevice',
    wire: 'dev',
    register: 'connectNodeDeviceEventRegisterAny',
    deregister: 'connectNodeDeviceEventDeregisterAny',
    feature: REMOTE_EVENT_CALLBACK,
    kinds: {
      lifecycle: [deviceId.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, 'nodeDeviceEventLifecycle', '2.2.0'],
      update: [deviceId.VIR_NODE_DEVICE_EVENT_ID_UPDATE, 'nodeDeviceEventUpdate', '2.2.0'],
    },
  },
  secret: {
    thing: 'secret',
    wire: 'secret',
    register: 'connectSecretEventRegisterAny',
    deregister: 'connectSecretEventDeregisterAny',
    feature: REMOTE_EVENT_CALLBACK,
    kinds: {
      lifecycle: [secretId.VIR_SECRET_EVENT_ID_LIFECYCLE, 'secretEventLifecycle', '3.0.0'],
      valueChanged: [secretId.VIR_SECRET_EVENT_ID_VALUE_CHANGED, 'secretEventValueChanged', '3.0.0'],
    },
  },
  /** The daemon has lost its own connection to the hypervisor, or to the daemon that it stands in for. */
  connection: {
    thing: null,
    wire: '',
    register: 'connectRegisterCloseCallback',
    deregister: 'connectUnregisterCloseCallback',
    feature: REMOTE_CLOSE_CALLBACK,
    kinds: { closed: [null, 'connectEventConnectionClosed'] },
  },
} as const satisfies Readonly<Record<string, Family>>;

type Families = typeof FAMILIES;

export type EventFamily = keyof Families;

export type EventKind<F extends EventFamily = EventFamily> = F extends EventFamily
  ? keyof Families[F]['kinds'] & string
  : never;

/** The thing that an event is about, under its name. */
type About<F extends EventFamily> = {
  [T in Families[F]['thing'] & keyof EventThings]: EventThings[T];
};

/** Only events about this thing; the daemon leaves out the others. Without it events about all come. */
export type EventFilter<F extends EventFamily> = F extends EventFamily
  ? {
      [T in Families[F]['thing'] & keyof EventThings]?: EventThings[T] | undefined;
    } & (F extends 'qemuMonitor' ? MonitorFilter : unknown)
  : never;

export interface MonitorFilter {
  /** Name of QEMU's event, for example 'RESUME', or with `flags` a pattern of it. @default all */
  event?: string | undefined;
  /** virConnectDomainQemuMonitorEventRegisterFlags: a regular expression; upper and lower case alike. @default 0 */
  flags?: number | undefined;
}

type KindEntry<F extends EventFamily, K> = Families[F]['kinds'] extends infer Kinds
  ? K extends keyof Kinds
    ? Kinds[K]
    : never
  : never;

type MessageOf<F extends EventFamily, K> =
  KindEntry<F, K> extends readonly [unknown, infer Name extends keyof Messages, ...unknown[]]
    ? Messages[Name]
    : never;

/** A message's own fields: those of its inner `msg` where it has one too, without the registration and the thing. */
type Payload<M, Wire extends string> = M extends { msg: infer Inner }
  ? Omit<M & Inner, 'msg' | 'callbackID' | Wire>
  : Omit<M, 'callbackID' | Wire>;

type TypedParams = ReturnType<typeof typedParamsToObject>;

/** Typed parameters become an object; all else stays. */
type Plain<P> = { [K in keyof P]: P[K] extends TypedParam[] ? TypedParams : P[K] };

/** What a listener is given: the thing, and the fields of the protocol's message. Numbers have names in `constants`. */
export type LibvirtEvent<F extends EventFamily, K extends EventKind<F>> = F extends EventFamily
  ? K extends EventKind<F>
    ? { family: F; kind: K } & About<F> & Plain<Payload<MessageOf<F, K>, Families[F]['wire']>>
    : never
  : never;

/** Any event, as it is handled in here. */
export interface AnyEvent {
  family: EventFamily;
  kind: string;
}

export const EVENT_FAMILIES = Object.keys(FAMILIES) as readonly EventFamily[];

/** The kinds of a family, in the order of libvirt's numbers. */
export function eventKinds<F extends EventFamily>(family: F): readonly EventKind<F>[] {
  return Object.keys(familyNamed(family).kinds) as EventKind<F>[];
}

/** @throws {LibvirtUsageError} There is no such family. */
export function familyNamed(name: EventFamily): Family {
  if (typeof name === 'string' && Object.hasOwn(FAMILIES, name)) return FAMILIES[name];
  throw new LibvirtUsageError(`there are no events of ${shown(name)}`);
}

/** Makes a listener's event of a message. */
export function eventOf(family: EventFamily, kind: string, body: unknown): AnyEvent {
  const { callbackID: _, msg, ...outer } = body as { callbackID?: number; msg?: object };
  const { thing, wire } = FAMILIES[family];
  const fields: Record<string, unknown> = {};
  for (const [name, value] of Object.entries({ ...outer, ...msg })) {
    if (name === wire && thing !== null) fields[thing] = value;
    else fields[name] = name === TYPED_PARAMS ? typedParamsToObject(value as TypedParam[]) : value;
  }
  return { family, kind, ...fields };
}
