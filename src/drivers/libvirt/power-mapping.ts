/**
 * libvirt's states and events → power states and reasons in words. Pure, and exhaustive: the compiler refuses a
 * table that leaves out a state, a reason or an event of libvirt-domain.h.
 *
 * Promise 2: a number that is not in the tables is `unknown`, never `stopped`.
 *
 * @see virDomainState, virDomainRunningReason … virDomainPMSuspendedReason, virDomainEventType, libvirt-domain.h
 */
import { constants } from 'node-libvirt';
import type { PowerState } from '../../model/instance.ts';
import type { WatchdogAction } from '../contracts/hypervisor.ts';

export interface ObservedPower {
  power: PowerState;
  /** In words, lower case, without a full stop. */
  reason: string;
  /** There where a stopped guest has shut itself down, as far as libvirt can tell: at a request, too. */
  stoppedBy?: 'guest';
  /** There where somebody has asked libvirt for it: a destroy, or a suspend. Events do not tell it as exactly. */
  byRequest?: true;
}

/** What an event says: the guest's power, that it is gone, nothing yet, or only that the host has to be asked. */
export type EventMeaning = ObservedPower | 'gone' | 'nothing' | 'ask';

/** Names of an enumeration of libvirt without its sentinel. */
type NamesOf<E> = Exclude<keyof E, `${string}_LAST`>;
/** Reasons of one state: words, and the power where it differs from the state's own. */
type Reasons<E> = Record<NamesOf<E>, string | ObservedPower>;

interface StateRow {
  power: PowerState;
  byReason: ReadonlyMap<number, string | ObservedPower>;
}

type Enumeration = Readonly<Record<string, number>>;

function row<E extends Enumeration>(power: PowerState, numbers: E, reasons: Reasons<E>): StateRow {
  return { power, byReason: byNumber(numbers, reasons) };
}

function byNumber<V>(numbers: Enumeration, values: Readonly<Record<string, V>>): ReadonlyMap<number, V> {
  return new Map(
    Object.entries(values).flatMap(([name, value]) => {
      const number = numbers[name];
      return number === undefined ? [] : [[number, value] as const];
    }),
  );
}

const RUNNING = row('running', constants.virDomainRunningReason, {
  VIR_DOMAIN_RUNNING_UNKNOWN: 'running',
  VIR_DOMAIN_RUNNING_BOOTED: 'booted',
  VIR_DOMAIN_RUNNING_MIGRATED: 'migrated from another host',
  VIR_DOMAIN_RUNNING_RESTORED: 'restored from a saved state',
  VIR_DOMAIN_RUNNING_FROM_SNAPSHOT: 'restored from a snapshot',
  VIR_DOMAIN_RUNNING_UNPAUSED: 'resumed',
  VIR_DOMAIN_RUNNING_MIGRATION_CANCELED: 'migration was cancelled',
  VIR_DOMAIN_RUNNING_SAVE_CANCELED: 'saving was cancelled',
  VIR_DOMAIN_RUNNING_WAKEUP: 'woken up',
  VIR_DOMAIN_RUNNING_CRASHED: 'resumed after a crash',
  VIR_DOMAIN_RUNNING_POSTCOPY: 'in post-copy migration',
  VIR_DOMAIN_RUNNING_POSTCOPY_FAILED: 'in post-copy migration that failed',
});

const PAUSED = row('paused', constants.virDomainPausedReason, {
  VIR_DOMAIN_PAUSED_UNKNOWN: 'paused',
  VIR_DOMAIN_PAUSED_USER: { power: 'paused', reason: 'paused by request', byRequest: true },
  VIR_DOMAIN_PAUSED_MIGRATION: 'paused for migration',
  VIR_DOMAIN_PAUSED_SAVE: 'paused while being saved',
  VIR_DOMAIN_PAUSED_DUMP: 'paused while its memory is dumped',
  VIR_DOMAIN_PAUSED_IOERROR: 'paused by a disk I/O error',
  VIR_DOMAIN_PAUSED_WATCHDOG: 'paused by its watchdog',
  VIR_DOMAIN_PAUSED_FROM_SNAPSHOT: 'paused after a snapshot was restored',
  // The guest has finished and QEMU waits for libvirt: the same as VIR_DOMAIN_SHUTDOWN for whoever waits for its end.
  VIR_DOMAIN_PAUSED_SHUTTING_DOWN: { power: 'stopping', reason: 'shutting down' },
  VIR_DOMAIN_PAUSED_SNAPSHOT: 'paused while a snapshot is taken',
  // Only with on_crash=preserve: QEMU holds a dead guest, which nothing resumes.
  VIR_DOMAIN_PAUSED_CRASHED: { power: 'crashed', reason: 'crashed, and kept for inspection' },
  VIR_DOMAIN_PAUSED_STARTING_UP: 'being started',
  VIR_DOMAIN_PAUSED_POSTCOPY: 'paused for post-copy migration',
  VIR_DOMAIN_PAUSED_POSTCOPY_FAILED: 'paused by a failed post-copy migration',
  VIR_DOMAIN_PAUSED_API_ERROR: 'paused by a failed operation of libvirt',
});

const SHUT_DOWN: ObservedPower = { power: 'stopped', reason: 'shut down by the guest', stoppedBy: 'guest' };

const SHUTOFF = row('stopped', constants.virDomainShutoffReason, {
  VIR_DOMAIN_SHUTOFF_UNKNOWN: 'not started',
  VIR_DOMAIN_SHUTOFF_SHUTDOWN: SHUT_DOWN,
  VIR_DOMAIN_SHUTOFF_DESTROYED: { power: 'stopped', reason: 'powered off by request', byRequest: true },
  // The guest panicked, or its QEMU process ended without a word.
  VIR_DOMAIN_SHUTOFF_CRASHED: { power: 'crashed', reason: 'crashed' },
  VIR_DOMAIN_SHUTOFF_MIGRATED: 'migrated to another host',
  VIR_DOMAIN_SHUTOFF_SAVED: 'saved to a file',
  VIR_DOMAIN_SHUTOFF_FAILED: 'failed to start',
  VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT: 'restored from a snapshot of the stopped guest',
  VIR_DOMAIN_SHUTOFF_DAEMON: 'stopped by libvirt when it came back',
});

const STATES: Record<NamesOf<typeof constants.virDomainState>, StateRow> = {
  VIR_DOMAIN_NOSTATE: row('unknown', constants.virDomainNostateReason, {
    VIR_DOMAIN_NOSTATE_UNKNOWN: 'libvirt does not know its state',
  }),
  VIR_DOMAIN_RUNNING: RUNNING,
  // Xen's word for a guest that waits for I/O: it runs.
  VIR_DOMAIN_BLOCKED: row('running', constants.virDomainBlockedReason, {
    VIR_DOMAIN_BLOCKED_UNKNOWN: 'running',
  }),
  VIR_DOMAIN_PAUSED: PAUSED,
  VIR_DOMAIN_SHUTDOWN: row('stopping', constants.virDomainShutdownReason, {
    VIR_DOMAIN_SHUTDOWN_UNKNOWN: 'shutting down',
    VIR_DOMAIN_SHUTDOWN_USER: 'shutting down by request',
  }),
  VIR_DOMAIN_SHUTOFF: SHUTOFF,
  VIR_DOMAIN_CRASHED: row('crashed', constants.virDomainCrashedReason, {
    VIR_DOMAIN_CRASHED_UNKNOWN: 'crashed',
    VIR_DOMAIN_CRASHED_PANICKED: 'its kernel panicked',
  }),
  // Suspended by the guest itself: it does not run, and starting it wakes it up.
  VIR_DOMAIN_PMSUSPENDED: row('paused', constants.virDomainPMSuspendedReason, {
    VIR_DOMAIN_PMSUSPENDED_UNKNOWN: 'suspended by the guest',
  }),
};

const stateByNumber = byNumber(constants.virDomainState, STATES);

/** What a guest's state is. @param state virDomainState @param reason Its reason, whose meaning depends on the state. */
export function powerOfState(state: number, reason: number): ObservedPower {
  const known = stateByNumber.get(state);
  if (known === undefined)
    return { power: 'unknown', reason: `libvirt says state ${state}, reason ${reason}` };
  return inRow(known, reason);
}

function inRow({ power, byReason }: StateRow, reason: number): ObservedPower {
  const words = byReason.get(reason);
  if (words === undefined) return { power, reason: `for a reason that libvirt numbers ${reason}` };
  return typeof words === 'string' ? { power, reason: words } : words;
}

type Details<E> = Record<NamesOf<E>, EventMeaning>;

function details<E extends Enumeration>(numbers: E, meanings: Details<E>): ReadonlyMap<number, EventMeaning> {
  return byNumber(numbers, meanings);
}

function is(power: PowerState, reason: string): ObservedPower {
  return { power, reason };
}

const STARTED = details(constants.virDomainEventStartedDetailType, {
  VIR_DOMAIN_EVENT_STARTED_BOOTED: is('running', 'booted'),
  VIR_DOMAIN_EVENT_STARTED_MIGRATED: is('running', 'migrated from another host'),
  VIR_DOMAIN_EVENT_STARTED_RESTORED: is('running', 'restored from a saved state'),
  VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT: is('running', 'restored from a snapshot'),
  VIR_DOMAIN_EVENT_STARTED_WAKEUP: is('running', 'woken up'),
});

const SUSPENDED = details(constants.virDomainEventSuspendedDetailType, {
  VIR_DOMAIN_EVENT_SUSPENDED_PAUSED: is('paused', 'paused by request'),
  VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED: is('paused', 'paused for migration'),
  VIR_DOMAIN_EVENT_SUSPENDED_IOERROR: is('paused', 'paused by a disk I/O error'),
  VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG: is('paused', 'paused by its watchdog'),
  VIR_DOMAIN_EVENT_SUSPENDED_RESTORED: is('paused', 'restored from a saved state, paused'),
  VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT: is('paused', 'paused after a snapshot was restored'),
  VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR: is('paused', 'paused by an error of libvirt'),
  VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY: is('paused', 'paused for post-copy migration'),
  VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED: is('paused', 'paused by a failed post-copy migration'),
});

const RESUMED = details(constants.virDomainEventResumedDetailType, {
  VIR_DOMAIN_EVENT_RESUMED_UNPAUSED: is('running', 'resumed'),
  VIR_DOMAIN_EVENT_RESUMED_MIGRATED: is('running', 'migrated from another host'),
  VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT: is('running', 'restored from a snapshot'),
  VIR_DOMAIN_EVENT_RESUMED_POSTCOPY: is('running', 'in post-copy migration'),
  VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED: is('running', 'in post-copy migration that failed'),
});

const STOPPED = details(constants.virDomainEventStoppedDetailType, {
  VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: SHUT_DOWN,
  VIR_DOMAIN_EVENT_STOPPED_DESTROYED: is('stopped', 'powered off by request'),
  VIR_DOMAIN_EVENT_STOPPED_CRASHED: is('crashed', 'crashed'),
  VIR_DOMAIN_EVENT_STOPPED_MIGRATED: is('stopped', 'migrated to another host'),
  VIR_DOMAIN_EVENT_STOPPED_SAVED: is('stopped', 'saved to a file'),
  // Both a failed start and a QEMU that was killed are reported so; only the state tells them apart.
  VIR_DOMAIN_EVENT_STOPPED_FAILED: 'ask',
  VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: is('stopped', 'restored from a snapshot of the stopped guest'),
});

const EVENTS: Record<NamesOf<typeof constants.virDomainEventType>, ReadonlyMap<number, EventMeaning>> = {
  VIR_DOMAIN_EVENT_DEFINED: details(constants.virDomainEventDefinedDetailType, {
    VIR_DOMAIN_EVENT_DEFINED_ADDED: is('stopped', 'not started'),
    VIR_DOMAIN_EVENT_DEFINED_UPDATED: 'ask', // its power is what it was
    VIR_DOMAIN_EVENT_DEFINED_RENAMED: 'ask',
    VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT: 'ask',
  }),
  VIR_DOMAIN_EVENT_UNDEFINED: details(constants.virDomainEventUndefinedDetailType, {
    VIR_DOMAIN_EVENT_UNDEFINED_REMOVED: 'gone',
    VIR_DOMAIN_EVENT_UNDEFINED_RENAMED: 'ask', // it is there, with another name
  }),
  VIR_DOMAIN_EVENT_STARTED: STARTED,
  VIR_DOMAIN_EVENT_SUSPENDED: SUSPENDED,
  VIR_DOMAIN_EVENT_RESUMED: RESUMED,
  VIR_DOMAIN_EVENT_STOPPED: STOPPED,
  VIR_DOMAIN_EVENT_SHUTDOWN: details(constants.virDomainEventShutdownDetailType, {
    VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED: is('stopping', 'shutting down'),
    VIR_DOMAIN_EVENT_SHUTDOWN_GUEST: is('stopping', 'shut down by the guest'),
    // Its QEMU was told to end, as libvirt does to destroy it: no guest shuts down, and its stop comes next.
    VIR_DOMAIN_EVENT_SHUTDOWN_HOST: 'nothing',
  }),
  VIR_DOMAIN_EVENT_PMSUSPENDED: details(constants.virDomainEventPMSuspendedDetailType, {
    VIR_DOMAIN_EVENT_PMSUSPENDED_MEMORY: is('paused', 'suspended by the guest'),
    VIR_DOMAIN_EVENT_PMSUSPENDED_DISK: 'ask', // hibernated: the guest then ends, or not, by itself
  }),
  VIR_DOMAIN_EVENT_CRASHED: details(constants.virDomainEventCrashedDetailType, {
    VIR_DOMAIN_EVENT_CRASHED_PANICKED: is('crashed', 'its kernel panicked'),
    VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED: 'ask', // its crash kernel runs now
  }),
};

const eventByNumber = byNumber(constants.virDomainEventType, EVENTS);

const DEFINED = constants.virDomainEventType.VIR_DOMAIN_EVENT_DEFINED;
const UNDEFINED = constants.virDomainEventType.VIR_DOMAIN_EVENT_UNDEFINED;

const { VIR_DOMAIN_EVENT_CRASHED } = constants.virDomainEventType;
const { VIR_DOMAIN_EVENT_CRASHED_PANICKED } = constants.virDomainEventCrashedDetailType;

/** Whether a lifecycle event says that the guest's kernel panicked. */
export function isPanic(event: number, detail: number): boolean {
  return event === VIR_DOMAIN_EVENT_CRASHED && detail === VIR_DOMAIN_EVENT_CRASHED_PANICKED;
}

const WATCHDOG_ACTIONS = byNumber(constants.virDomainEventWatchdogAction, {
  VIR_DOMAIN_EVENT_WATCHDOG_NONE: 'report',
  VIR_DOMAIN_EVENT_WATCHDOG_PAUSE: 'pause',
  VIR_DOMAIN_EVENT_WATCHDOG_RESET: 'reset',
  VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF: 'poweroff',
  VIR_DOMAIN_EVENT_WATCHDOG_SHUTDOWN: 'other',
  VIR_DOMAIN_EVENT_WATCHDOG_DEBUG: 'other',
  VIR_DOMAIN_EVENT_WATCHDOG_INJECTNMI: 'other',
} satisfies Record<NamesOf<typeof constants.virDomainEventWatchdogAction>, WatchdogAction>);

/** What a guest's watchdog has done. @param action virDomainEventWatchdogAction */
export function watchdogActionOf(action: number): WatchdogAction {
  return WATCHDOG_ACTIONS.get(action) ?? 'other';
}

/**
 * What a lifecycle event means.
 *
 * @param event virDomainEventType
 * @param detail Its detail, whose meaning depends on the event.
 * @param isActive Whether the domain ran when the event was made: a running one can be defined, and goes on running
 *   when it is undefined.
 */
export function meaningOfEvent(event: number, detail: number, isActive: boolean): EventMeaning {
  if (isActive && (event === DEFINED || event === UNDEFINED)) return 'ask';
  return eventByNumber.get(event)?.get(detail) ?? 'ask';
}
