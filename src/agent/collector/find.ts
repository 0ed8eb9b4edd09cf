/**
 * Find: asks the host for all that has a mark or a name of ours.
 *
 * Each part of the host is asked by itself. One that can't be asked is told as unknown, with the reason, and nothing
 * is concluded from its silence: where the guests can't be asked, no file and no tap is free to go.
 */
import { basename } from 'node:path';
import type { CallOptions } from '../../drivers/contracts/calls.ts';
import type { Drivers } from '../../drivers/contracts/drivers.ts';
import type { GuestUse, KeptFile, ObservedGuest } from '../../drivers/contracts/hypervisor.ts';
import type { NetworkThing } from '../../drivers/contracts/network.ts';
import type { ListedFile, StoragePool } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import type { HostPart } from '../../model/leak.ts';
import { IMAGE_FORMATS } from '../../model/storage.ts';
import { GUEST_NAME_PREFIX } from '../instances/plan.ts';
import type { Asked, Thing } from './thing.ts';

export interface Found {
  things: Thing[];
  unknown: (Asked & { reason: string })[];
}

interface Guests {
  observed: ObservedGuest[];
  uses: GuestUse[];
  kept: KeptFile[];
  /** Ids of the volumes that the hypervisor has passphrases of. */
  secrets: string[];
}

const HOLDS_FILES = 'it holds files: they are removed by share.delete alone, or by hand';
const NOT_ASKED = 'the guests of the host could not be asked whether they use it';

export async function find(drivers: Drivers, options: CallOptions): Promise<Found> {
  const { pool, pools, network } = drivers;
  const unknown: Found['unknown'] = [];
  const ask = <T>(part: HostPart, answer: Promise<T>, ofPool: string | null = null): Promise<T | null> =>
    answer.catch((error: unknown) => {
      unknown.push({ part, pool: ofPool, reason: AgentError.from(error).toBody().message });
      return null;
    });
  const [guests, links, files] = await Promise.all([
    ask('guests', askGuests(drivers, options)),
    ask('network', network.survey(options)),
    Promise.all(
      [pool, ...pools.values()].map(async (each) => ({
        pool: each,
        files: (await ask('files', each.list(options), each.name)) ?? [],
      })),
    ),
  ]);
  options.signal?.throwIfAborted();
  const things = [
    ...(guests === null ? [] : guestThings(guests)),
    ...(links ?? []).map((thing) => networkThing(thing, guests)),
    ...files.flatMap((found) => fileThings(found.pool, found.files, guests)),
  ];
  return { things, unknown };
}

async function askGuests({ hypervisor }: Drivers, options: CallOptions): Promise<Guests> {
  const [observed, uses, kept, secrets] = await Promise.all([
    hypervisor.observe(options),
    hypervisor.uses(options),
    hypervisor.listKept(options),
    hypervisor.listKeys(options),
  ]);
  return { observed, uses, kept, secrets };
}

function guestThings({ observed, uses, kept, secrets }: Guests): Thing[] {
  const filesOf = new Map(uses.map(({ id, files }) => [id, files]));
  const names = new Set(observed.map(({ name }) => name));
  return [
    ...observed.map((guest) => guestThing(guest, filesOf.get(guest.id) ?? [])),
    ...kept
      .filter(({ guestName }) => guestName.startsWith(GUEST_NAME_PREFIX) && !names.has(guestName))
      .map(keptThing),
    ...secrets.map((id) => ({ ...thing({ kind: 'secret', name: id }), objectId: id })),
  ];
}

function guestThing({ id, name, ours, power, reason }: ObservedGuest, files: string[]): Thing {
  const isDown = power === 'stopped' || power === 'crashed';
  return {
    ...thing({ kind: 'guest', name: id }),
    marked: ours,
    objectId: id,
    files,
    blocked: isDown ? null : `guest ${name} is ${power}: ${reason}`,
  };
}

function keptThing({ kind, path, sizeBytes }: KeptFile): Thing {
  const blocked = 'its name is that of an instance, which another node of this host may have used since';
  return { ...thing({ kind, name: path }), sizeBytes, blocked };
}

function networkThing({ kind, name, networkId, marked, inUse }: NetworkThing, guests: Guests | null): Thing {
  const objectId = kind === 'dhcp-reservation' ? basename(name) : networkId;
  const found = { ...thing({ kind, name }), marked, objectId, networkId, blocked: inUse };
  if (kind !== 'tap' || inUse !== null) return found;
  return {
    ...found,
    blocked: guests === null ? NOT_ASKED : usedBy(guests, ({ devices }) => devices.includes(name)),
  };
}

/** One thing for each object of the pool: what is removed together is found together. */
function fileThings(pool: StoragePool, files: readonly ListedFile[], guests: Guests | null): Thing[] {
  const groups = Map.groupBy(files, ({ kind, id }) => `${kind} ${id}`);
  return [...groups.values()].map((group) => {
    const [{ kind, id, path }] = group as [ListedFile];
    const journalNames = journalNamesOf(pool, { kind, id });
    const paths = [...journalNames, ...group.map((file) => file.path)];
    return {
      ...thing({ kind, name: group.find((file) => journalNames.includes(file.path))?.path ?? path }),
      journalNames,
      objectId: id,
      pool: pool.name,
      sizeBytes: group.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      blocked:
        fileUse(paths, guests) ??
        (kind === 'image' ? volumeUse(paths, files) : null) ??
        (group.some(({ holdsFiles }) => holdsFiles) ? HOLDS_FILES : null),
    };
  });
}

function journalNamesOf(pool: StoragePool, { kind, id }: Pick<ListedFile, 'kind' | 'id'>): string[] {
  switch (kind) {
    case 'volume':
      return [pool.paths.volume(id)];
    case 'share':
      return [pool.paths.share(id)];
    case 'seed':
      return [pool.paths.seed(id)];
    case 'console':
      return [pool.paths.consoleLog(id)];
    case 'image':
      return IMAGE_FORMATS.map((format) => pool.paths.image(id, format));
  }
}

function fileUse(paths: readonly string[], guests: Guests | null): string | null {
  if (guests === null) return NOT_ASKED;
  const names = new Set([...paths, ...paths.map((path) => basename(path))]);
  return usedBy(guests, ({ files }) => files.some((file) => names.has(file)));
}

function volumeUse(paths: readonly string[], files: readonly ListedFile[]): string | null {
  const user = files.find(({ standsOn }) => standsOn !== null && paths.includes(standsOn));
  if (user !== undefined) return `volume ${user.id} stands on it`;
  const unread = files.find(({ standsOn }) => standsOn === 'unknown');
  return unread === undefined ? null : `volume ${unread.id}, which can't be read, may stand on it`;
}

function usedBy({ uses }: Guests, is: (use: GuestUse) => boolean): string | null {
  const user = uses.find(is);
  return user === undefined ? null : `guest ${user.name} uses it`;
}

function thing({ kind, name }: Pick<Thing, 'kind' | 'name'>): Thing {
  return {
    kind,
    name,
    journalNames: [name],
    marked: true,
    objectId: null,
    networkId: null,
    files: [],
    blocked: null,
    sizeBytes: null,
    pool: null,
  };
}
