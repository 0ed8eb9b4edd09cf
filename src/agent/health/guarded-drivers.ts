/**
 * The drivers with breakers around them: which calls are about whom, and which pass always.
 *
 * It is put around the drivers in one place (agent.ts); nobody else knows of breakers. A call of a driver that is not
 * in these tables does not compile.
 *
 * What is not told apart by a breaker, and why:
 *  - reads of health (`health`, `facts`, `observe`, `observeGuest`, `prepare`, `capacity`, `features`, `list` of networks):
 *    libvirt and the kernel answer them from memory, and they are how the end of a trouble is seen;
 *  - `destroy`: the way out of a guest that hangs;
 *  - `guestAddresses`: a guest without an agent is no guest that hangs; guest-watch.ts asks with pauses of its own;
 *  - the search for leftovers (`uses`, `listKept`, `survey`) and `removeThing`, which is about no network that is there;
 *  - the host's own facts.
 *
 * The driver for libvirt has gates besides (guest-gate.ts). They do another thing: a gate knows that a call is still
 * held by libvirt, and keeps further ones from taking the places of its connection; it opens with that answer. What
 * it refuses is a silence here, so a guest behind a gate is soon an open breaker that is seen in `berth status`.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import type { Drivers } from '../../drivers/contracts/drivers.ts';
import type { GuestEvent, Hypervisor } from '../../drivers/contracts/hypervisor.ts';
import type { NetworkDriver } from '../../drivers/contracts/network.ts';
import type { SharedStorage, StoragePool } from '../../drivers/contracts/storage.ts';
import type { Breakers, Subject } from './breakers.ts';

/**
 * `counts`: refused while the breaker is open, and its outcome is news. `refused`: refused alike, but its outcome says
 * nothing of the subject. `way-out`: passes always; once it is done the subject is another one.
 */
interface Treatment {
  subject: Subject;
  as: 'counts' | 'refused' | 'way-out';
}

// biome-ignore lint/suspicious/noExplicitAny: whatever the arguments of a call are
type AnyCall = (...args: any[]) => unknown;
type Rule<F> = 'passes' | (F extends (...args: infer A) => unknown ? (...args: A) => Treatment : never);
type Rules<T> = { readonly [M in keyof T]-?: Rule<T[M]> };

/** What the hypervisor tells and the breakers want to know; ends with the answer's call. */
export function watchGuests(hypervisor: Hypervisor, breakers: Breakers): Unsubscribe {
  const ends = [
    hypervisor.subscribe((event) => onGuestEvent(event, breakers)),
    hypervisor.onHealth(({ connected }) => connected && breakers.tryNow('instance')),
  ];
  return () => {
    for (const end of ends) end();
  };
}

export function guardDrivers(
  { hypervisor, pool, pools, network, host, keys, objects }: Drivers,
  breakers: Breakers,
): Drivers {
  const connected = () => hypervisor.health().connected;
  const always = () => true;
  return {
    // While libvirt itself is away, no guest is to blame: that is told once, as the hypervisor's health.
    hypervisor: guard(hypervisor, HYPERVISOR, { breakers, isToBlame: connected }),
    pool: guard(pool, poolRules(pool), { breakers, isToBlame: always }),
    pools: new Map(
      Array.from(pools, ([name, each]) => [
        name,
        guard(each, poolRules(each), { breakers, isToBlame: always }),
      ]),
    ),
    network: guard(network, NETWORK, { breakers, isToBlame: always }),
    host,
    keys,
    // Each call has its own attempts and ends; nothing waits behind a store that does not answer.
    objects,
  };
}

const guest = (id: string): Treatment => ({ subject: { kind: 'instance', id }, as: 'counts' });

const HYPERVISOR: Rules<Hypervisor> = {
  health: 'passes',
  onHealth: 'passes',
  subscribe: 'passes',
  close: 'passes',
  facts: 'passes',
  // libvirt answers it from memory, and it is about no guest.
  devices: 'passes',
  onDevices: 'passes',
  observe: 'passes',
  observeGuest: 'passes',
  guestAddresses: 'passes',
  uses: 'passes',
  // It is about all guests at once, and goes on without what one of them does not say.
  usage: 'passes',
  listKept: 'passes',
  keptPaths: 'passes',
  // libvirt keeps them in memory, whatever becomes of a guest.
  giveKeys: 'passes',
  forgetKey: 'passes',
  listKeys: 'passes',
  define: ({ id }) => guest(id),
  start: guest,
  requestShutdown: guest,
  requestReboot: guest,
  reset: guest,
  undefine: guest,
  plugDisk: guest,
  // A guest that keeps its disk is no guest that hangs.
  unplugDisk: (id) => ({ subject: { kind: 'instance', id }, as: 'refused' }),
  plugShare: guest,
  unplugShare: (id) => ({ subject: { kind: 'instance', id }, as: 'refused' }),
  growDisk: guest,
  // Its disks are slow, or full: that is no guest that hangs.
  copyDisks: (id) => ({ subject: { kind: 'instance', id }, as: 'refused' }),
  keepNvram: (id) => ({ subject: { kind: 'instance', id }, as: 'refused' }),
  copyNvram: (id) => ({ subject: { kind: 'instance', id }, as: 'refused' }),
  // An agent in a guest says nothing of the guest.
  freezeGuest: (id) => ({ subject: { kind: 'instance', id }, as: 'refused' }),
  thawGuest: (id) => ({ subject: { kind: 'instance', id }, as: 'refused' }),
  stopCopy: guest,
  // Nor is one whose memory is written, or whose agent does not freeze it.
  switchDisks: (id) => ({ subject: { kind: 'instance', id }, as: 'refused' }),
  mergeDisk: (id) => ({ subject: { kind: 'instance', id }, as: 'refused' }),
  chainOf: guest,
  resumeFrom: (id) => ({ subject: { kind: 'instance', id }, as: 'refused' }),
  flattenDisk: (id) => ({ subject: { kind: 'instance', id }, as: 'refused' }),
  stopFlatten: guest,
  checkpoints: guest,
  forgetCheckpoints: guest,
  limitDisk: guest,
  restoreNvram: guest,
  writeNvram: guest,
  destroy: (id) => ({ subject: { kind: 'instance', id }, as: 'way-out' }),
};

function poolRules({ name }: StoragePool): Rules<StoragePool> {
  const counts = (): Treatment => ({ subject: { kind: 'storage', id: name }, as: 'counts' });
  return {
    ...sharingRules(counts),
    name: 'passes',
    paths: 'passes',
    prepare: 'passes',
    capacity: 'passes',
    list: counts,
    survey: counts,
    // A source that does not answer says nothing of the pool.
    makeImage: () => ({ subject: { kind: 'storage', id: name }, as: 'refused' }),
    // Nor does a caller who sends slowly, or a folder for exports on another disk.
    appendUpload: () => ({ subject: { kind: 'storage', id: name }, as: 'refused' }),
    exportVolume: () => ({ subject: { kind: 'storage', id: name }, as: 'refused' }),
    lookExport: 'passes',
    finishExport: 'passes',
    removeExport: 'passes',
    lookUpload: counts,
    checkImage: counts,
    lookImage: counts,
    removeImage: counts,
    makeVolume: counts,
    lookVolume: counts,
    labelVolume: counts,
    checkKey: counts,
    growVolume: counts,
    makeLayer: counts,
    lookLayer: counts,
    moveLayer: counts,
    removeLayer: counts,
    removeMemory: counts,
    readNvram: counts,
    removeNvram: counts,
    // As long as there is to copy.
    commitLayer: () => ({ subject: { kind: 'storage', id: name }, as: 'refused' }),
    isFlat: counts,
    roomToFlatten: counts,
    flattenVolume: () => ({ subject: { kind: 'storage', id: name }, as: 'refused' }),
    stampVolume: counts,
    readVolume: 'passes',
    cloneVolume: () => ({ subject: { kind: 'storage', id: name }, as: 'refused' }),
    bitmaps: counts,
    prepareCopy: counts,
    readCopy: 'passes',
    keepCopy: () => ({ subject: { kind: 'storage', id: name }, as: 'refused' }),
    removeCopy: counts,
    // A store of backups that does not answer says nothing of the pool.
    restoreVolume: () => ({ subject: { kind: 'storage', id: name }, as: 'refused' }),
    removeVolume: counts,
    makeShare: counts,
    lookShare: counts,
    configureShare: counts,
    // A folder with a million files takes its time.
    removeShare: () => ({ subject: { kind: 'storage', id: name }, as: 'refused' }),
    setVolumeAside: counts,
    listWipes: counts,
    // It is slow by intent.
    wipe: () => ({ subject: { kind: 'storage', id: name }, as: 'refused' }),
    makeSeed: counts,
    lookSeed: counts,
    removeSeed: counts,
    readConsole: counts,
    removeConsole: counts,
  };
}

function sharingRules(counts: () => Treatment): Rules<SharedStorage> {
  return {
    isShared: 'passes',
    enterNode: 'passes',
    endFences: counts,
    ownerOf: counts,
    takeVolume: counts,
    examineVolume: counts,
    readSnapshotRecord: counts,
    writeSnapshotRecord: counts,
    giveVolume: counts,
  };
}

const bridge = ({ id }: { id: string }): Treatment => ({ subject: { kind: 'network', id }, as: 'counts' });

const NETWORK: Rules<NetworkDriver> = {
  bridgeName: 'passes',
  tapName: 'passes',
  names: 'passes',
  reservationName: 'passes',
  survey: 'passes',
  removeThing: 'passes',
  features: 'passes',
  list: 'passes',
  plans: 'passes',
  look: bridge,
  ensureNetwork: bridge,
  removeNetwork: bridge,
  lookPort: bridge,
  ensurePort: bridge,
  removePort: bridge,
};

interface GuardParts {
  breakers: Breakers;
  isToBlame: () => boolean;
}

/** The driver, with every call of it treated as its rule says. */
function guard<T extends object>(driver: T, rules: Rules<T>, parts: GuardParts): T {
  const calls = new Map<PropertyKey, unknown>();
  return new Proxy(driver, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      if (!calls.has(name)) calls.set(name, guardedCall(value.bind(target), rules[name as keyof T], parts));
      return calls.get(name);
    },
  });
}

function guardedCall(call: AnyCall, rule: Rule<unknown> | AnyCall | undefined, parts: GuardParts): AnyCall {
  if (typeof rule !== 'function') return call;
  return async (...args) => treat((rule as AnyCall)(...args) as Treatment, () => call(...args), parts);
}

async function treat(
  { subject, as }: Treatment,
  call: () => unknown,
  { breakers, isToBlame }: GuardParts,
): Promise<unknown> {
  if (as === 'counts') return breakers.run(subject, isToBlame, async () => call());
  if (as === 'refused') breakers.check(subject);
  const result = await call();
  if (as === 'way-out') breakers.forget(subject);
  return result;
}

/** A guest that is down, or gone, is no longer the process that did not answer. */
function onGuestEvent(event: GuestEvent, breakers: Breakers): void {
  if (event.type !== 'power') return;
  const power = event.guest?.power;
  if (power === undefined || power === 'stopped' || power === 'crashed') {
    breakers.forget({ kind: 'instance', id: event.id });
  }
}
