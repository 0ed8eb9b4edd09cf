/**
 * In what a guest is not as it was defined, or (power-drift.ts) not as it was last asked to be. Pure.
 *
 *   wanted definition ─┐
 *   baseline ──────────┼──▶ judge ──▶ drifts, each with its remedy; or undecided
 *   observation ───────┘
 *
 * The baseline is what the host kept right after our own define. As long as the host says the same, nothing has
 * drifted, and nothing more is compared: the host may write what we define in its own words. Where it says something
 * else, the parts that both sides can name are compared with what is wanted; a change in any other part is
 * `definition-changed`. Another writer (the host's software was upgraded) makes the baseline worthless: where the named
 * parts are as wanted, a new one is taken silently.
 *
 * What is safe to restore, and when:
 *  - A define changes the next start and no running guest. So what differs in the definition is restored at once, and
 *    what differs in the running guest alone (a disk attached to it) stays until its stop.
 *  - No device is ever taken from a running guest: others may depend on it.
 *  - A disk whose file is another one may be the top of a chain that others have made (a snapshot). To point the guest
 *    back to our file would lose what was written since. So that is for an operator to decide, and until then nothing
 *    of the definition is restored.
 *  - The host renames only what does not run.
 *  - A guest that has lost our metadata is not ours by the host's word, and is left alone.
 *
 * Nothing is judged of what could not be asked, is being made or deleted, or has an operation under way (promise 2).
 */
import type {
  GuestDefinition,
  GuestDevices,
  GuestShape,
  KeptDefinition,
  ObservedGuest,
  ShapeDisk,
  ShapeNic,
  ShapeShare,
} from '../../drivers/contracts/hypervisor.ts';
import { DRIFTS_LIMIT, type Drift, objectionTo } from '../../model/drift.ts';
import type { Lifecycle } from '../../model/instance.ts';
import { type Found, found } from './found.ts';
import { isPowerDrift, type PowerSituation, powerDrift } from './power-drift.ts';

/** What the host kept when the guest was defined last. */
export type Baseline = Pick<KeptDefinition, 'digest' | 'writer'>;

export interface Situation extends PowerSituation {
  lifecycle: Lifecycle;
  /** An operation waits or runs on the instance. */
  isBusy: boolean;
  baseline: Baseline | null;
}

export type Judgement =
  | { verdict: 'undecided' }
  /** `baseline` is what is to be remembered from now on. */
  | { verdict: 'judged'; drifts: Found[]; baseline: Baseline | null };

/** @param wanted Made only where it is needed: most guests are as they were. */
export function judge(situation: Situation, wanted: () => GuestDefinition): Judgement {
  const { lifecycle, power, isBusy, guest, baseline } = situation;
  if (lifecycle !== 'ready' || isBusy || power === 'unknown' || guest?.power === 'unknown') {
    return { verdict: 'undecided' };
  }
  if (guest !== null && !guest.ours) return judged([lostMetadata(guest)], baseline);
  const inDefinition = ofGuest(guest, { wanted, baseline });
  return judged([...powerDrift(situation), ...inDefinition.drifts], inDefinition.baseline);
}

/** What an instance.restore would mend now, without doing harm. */
export function restorable<D extends Pick<Drift, 'kind' | 'remedy'>>(
  drifts: readonly D[],
): { definition: D[]; power: D[] } {
  const now = objectionTo(drifts) === null ? drifts.filter(({ remedy }) => remedy === 'restore') : [];
  return {
    definition: now.filter(({ kind }) => !isPowerDrift(kind)),
    power: now.filter(({ kind }) => isPowerDrift(kind)),
  };
}

function ofGuest(
  guest: ObservedGuest | null,
  { wanted, baseline }: { wanted: () => GuestDefinition; baseline: Baseline | null },
): { drifts: Found[]; baseline: Baseline | null } {
  if (guest === null) return { drifts: [found('undefined', 'the host has no such guest')], baseline };
  const { definition } = guest;
  if (definition === null) return { drifts: ofUndefined(guest, wanted()), baseline };
  if (isSame(definition, baseline)) return { drifts: ofLive(guest, definition.shape), baseline };
  return ofDefinition(guest, definition, { wanted: wanted(), baseline });
}

function judged(drifts: Found[], baseline: Baseline | null): Judgement {
  const most = drifts.slice(0, DRIFTS_LIMIT);
  return { verdict: 'judged', drifts: most, baseline };
}

function isSame(kept: KeptDefinition, baseline: Baseline | null): boolean {
  return kept.digest === baseline?.digest && kept.writer === baseline.writer;
}

function lostMetadata({ name }: ObservedGuest): Found {
  const detail = `guest ${name} has our id but no longer our metadata; put it back, or undefine the guest`;
  return found('metadata-lost', detail, 'by-hand');
}

function ofUndefined(guest: ObservedGuest, wanted: GuestDefinition): Found[] {
  const undefinedWhileRunning = found(
    'undefined',
    'it runs without a definition, and would be gone with its stop',
  );
  const renamed = guest.name === wanted.name ? [] : [renamedTo(guest.name)];
  return unlessUnsafe(guest, [undefinedWhileRunning, ...renamed, ...ofLive(guest, shapeOf(wanted))]);
}

function ofDefinition(
  guest: ObservedGuest,
  kept: KeptDefinition,
  { wanted, baseline }: { wanted: GuestDefinition; baseline: Baseline | null },
): { drifts: Found[]; baseline: Baseline | null } {
  const named = differences(kept.shape, wanted);
  const live = ofLive(guest, shapeOf(wanted));
  if (named.length > 0) return { drifts: unlessUnsafe(guest, [...named, ...live]), baseline };
  if (baseline === null || baseline.writer !== kept.writer) {
    return { drifts: live, baseline: { digest: kept.digest, writer: kept.writer } };
  }
  const other = found(
    'definition-changed',
    'its definition was changed in a part that is not compared by itself',
  );
  return { drifts: unlessUnsafe(guest, [other, ...live]), baseline };
}

/** A define under another name would be refused while the guest runs, and so would all that goes with it. */
function unlessUnsafe(guest: ObservedGuest, drifts: Found[]): Found[] {
  const waits = guest.live !== null && drifts.some(({ kind }) => kind === 'renamed');
  if (!waits) return drifts;
  return drifts.map((drift) => (drift.remedy === 'restore' ? { ...drift, remedy: 'after-stop' } : drift));
}

function differences(kept: GuestShape, wanted: GuestDefinition): Found[] {
  return [
    ...(kept.name === wanted.name ? [] : [renamedTo(kept.name)]),
    ...sizeDifferences(kept, wanted),
    ...deviceDifferences(kept, shapeOf(wanted), 'its definition').map(asOfDefinition),
  ];
}

function renamedTo(name: string): Found {
  return found('renamed', `it is named ${name}`);
}

function sizeDifferences(kept: GuestShape, wanted: GuestDefinition): Found[] {
  const parts = [
    kept.vcpus === wanted.vcpus ? null : `${kept.vcpus} virtual CPUs instead of ${wanted.vcpus}`,
    kept.memoryMib === wanted.memoryMib ? null : `${kept.memoryMib} MiB instead of ${wanted.memoryMib}`,
    kept.firmware === wanted.firmware ? null : `firmware ${kept.firmware} instead of ${wanted.firmware}`,
  ].filter((part) => part !== null);
  return parts.length === 0 ? [] : [found('size-changed', `its definition has ${parts.join(', ')}`)];
}

/** What runs, where anything does. Its sizes are left out: a balloon and hot-plugged CPUs go with the guest's stop. */
function ofLive({ live }: ObservedGuest, wanted: GuestDevices): Found[] {
  if (live === null) return [];
  return deviceDifferences(live, wanted, 'the running guest').map(asOfLive);
}

function asOfDefinition(drift: Found): Found {
  return drift.kind === 'disk-changed' ? { ...drift, remedy: 'by-hand' } : drift;
}

function asOfLive(drift: Found): Found {
  return { ...drift, remedy: drift.kind === 'disk-changed' ? 'by-hand' : 'after-stop' };
}

function deviceDifferences(has: GuestDevices, wanted: GuestDevices, where: string): Found[] {
  return [
    ...compared(has.disks, wanted.disks, {
      keyOf: (disk) => disk.serial ?? disk.path ?? '',
      attached: (disk) => found('disk-attached', `${diskText(disk)} was added to ${where}`),
      detached: (disk) => found('disk-detached', `${diskText(disk)} is not in ${where}`),
      changed: (disk, was) =>
        found('disk-changed', `${where} has ${diskText(disk)} instead of ${diskText(was)}`),
    }),
    ...compared(has.nics, wanted.nics, {
      keyOf: (nic) => nic.macAddress,
      attached: (nic) => found('nic-attached', `${nicText(nic)} was added to ${where}`),
      detached: (nic) => found('nic-detached', `${nicText(nic)} is not in ${where}`),
      changed: (nic, was) => found('nic-changed', `${where} has ${nicText(nic)} instead of ${nicText(was)}`),
    }),
    ...compared(has.shares ?? [], wanted.shares ?? [], {
      keyOf: (share) => share.tag ?? share.path ?? '',
      attached: (share) => found('share-attached', `${shareText(share)} was added to ${where}`),
      detached: (share) => found('share-detached', `${shareText(share)} is not in ${where}`),
      changed: (share, was) =>
        found('share-changed', `${where} has ${shareText(share)} instead of ${shareText(was)}`),
    }),
  ];
}

interface Comparison<T> {
  /** What makes a device the same one. */
  keyOf(device: T): string;
  attached(device: T): Found;
  detached(device: T): Found;
  changed(device: T, was: T): Found;
}

function compared<T extends ShapeDisk | ShapeNic | ShapeShare>(
  has: readonly T[],
  wanted: readonly T[],
  as: Comparison<T>,
): Found[] {
  const left = new Map(wanted.map((device) => [as.keyOf(device), device]));
  const seen = has.flatMap((device) => {
    const was = left.get(as.keyOf(device));
    left.delete(as.keyOf(device));
    if (was === undefined) return [as.attached(device)];
    return isAlike(device, was) ? [] : [as.changed(device, was)];
  });
  return [...seen, ...[...left.values()].map(as.detached)];
}

function isAlike<T extends object>(a: T, b: T): boolean {
  const keys = [...Object.keys(a), ...Object.keys(b)] as (keyof T)[];
  return keys.every((key) => a[key] === b[key]);
}

function shapeOf({ disks, nics, shares = [] }: GuestDefinition): GuestDevices {
  return {
    disks: disks.map(({ serial, path, format, readOnly, encryption }) => ({
      serial,
      path,
      format,
      readOnly,
      ...(encryption != null && { keyOf: encryption.volumeId }),
    })),
    nics: nics.map(({ macAddress, bridge, tapName }) => ({ macAddress, bridge, tapName })),
    shares: shares.map(({ tag, path, readOnly }) => ({ tag, path, readOnly })),
  };
}

function diskText({ serial, path, format, readOnly, keyOf }: ShapeDisk): string {
  const named = serial === null ? 'a disk' : `disk ${serial}`;
  return `${named} (${path ?? 'no file'}, ${format ?? 'of no known format'}${readOnly ? ', read-only' : ''}${keyOf === undefined ? '' : ', encrypted'})`;
}

function shareText({ tag, path, readOnly }: ShapeShare): string {
  return `share ${tag ?? 'without a tag'} (${path ?? 'no folder'}${readOnly ? ', read-only' : ''})`;
}

function nicText({ macAddress, bridge, tapName }: ShapeNic): string {
  return `NIC ${macAddress} (bridge ${bridge ?? 'none'}, tap ${tapName ?? 'none'})`;
}
