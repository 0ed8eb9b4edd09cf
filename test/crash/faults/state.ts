/**
 * What befalls the state folder: a power cut, a second daemon, a lost or damaged database.
 *
 * A power cut is a copy of the database and its write-ahead log, taken within a transaction or right after it,
 * with torn pages of a next transaction at the log's end; the next berthd starts on the copy, on the host as it is.
 */
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { EVENT_TYPES } from '../../../src/model/event.ts';
import type { Random } from '../random.ts';
import type { Stand } from '../stands/stand.ts';
import { difference } from '../audit.ts';
import { BYSTANDER } from '../scenarios/setting.ts';
import { type Case, type CaseParts, type Fault, upTo } from './fault.ts';

const DATABASE = 'berth.sqlite';
const POWER_CUTS = 3;
/** More than a page and its frame's header. */
const TORN_BYTES_MAX = 5_000;
/** Told by a Berth that has made its state anew from the host. */
const RECOVERED = 'node.recovered';
/** Operations of which a half can be lost, each with guests to be found again. */
const LOSABLE = [
  'instance.create',
  'instance.stop (forced)',
  'instance.delete',
  'image.import',
  'network.create',
];

export const STATE: Fault[] = [
  {
    name: 'power cut',
    drivers: ['sim', 'libvirt'],
    cases: (parts) => upTo(POWER_CUTS).map((nth) => powerCut(parts, nth)),
  },
  {
    name: 'a second daemon',
    drivers: ['sim', 'libvirt'],
    suits: ({ name }) => ['instance.create', 'instance.delete', 'image.import'].includes(name),
    cases: () => [
      {
        at: 'at once',
        meanwhile: async ({ stand }) => {
          const reason = await stand.node.second();
          return /Another berthd/.test(reason) ? [] : [`the second daemon was not refused: ${reason}`];
        },
      },
    ],
  },
  damaged('the database is deleted', removeDatabase),
  damaged('the database is truncated', (stand, random) => {
    const path = join(stand.node.stateDir, DATABASE);
    truncateSync(path, random.between(1, Math.max(1, statSync(path).size - 1)));
  }),
  damaged('a byte of the database is flipped', (stand, random) => {
    const path = join(stand.node.stateDir, DATABASE);
    const bytes = readFileSync(path);
    const at = random.between(0, bytes.length - 1);
    bytes[at] = (bytes[at] as number) ^ (1 << random.between(0, 7));
    writeFileSync(path, bytes);
  }),
];

function powerCut({ stand, rehearsal, random }: CaseParts, nth: number): Case {
  const when = random.pick(['before', 'after'] as const);
  const commit = random.between(1, rehearsal.counts.commit);
  const tornBytes = random.between(0, TORN_BYTES_MAX);
  const { stateDir } = stand.node;
  const aside = asideOf(stand);
  const script = 'set -e; mkdir -p "$2"; cp "$1"/berth.sqlite "$1"/berth.sqlite-wal "$2"; kill -KILL $PPID';
  return {
    at: `${nth}: ${when} commit ${commit}, ${tornBytes} bytes torn`,
    ends: 'SIGKILL',
    trap: {
      of: 'commit',
      when,
      nth: commit,
      deed: { do: 'run', argv: ['bash', '-c', script, 'cut', stateDir, aside] },
    },
    between: async () => {
      for (const file of [DATABASE, `${DATABASE}-wal`]) copyFileSync(join(aside, file), join(stateDir, file));
      const torn = Buffer.from(Array.from({ length: tornBytes }, () => random.between(0, 255)));
      writeFileSync(join(stateDir, `${DATABASE}-wal`), torn, { flag: 'a' });
      return [];
    },
  };
}

/** The database is harmed while no berthd runs; afterwards it is put back, and the operation goes on. */
function damaged(name: string, harm: (stand: Stand, random: Random) => void): Fault {
  return {
    name,
    drivers: ['sim', 'libvirt'],
    suits: (scenario) => LOSABLE.includes(scenario.name),
    cases: ({ rehearsal, random }) => {
      const nth = random.between(1, rehearsal.counts.commit);
      const trap = { of: 'commit', when: 'after', nth, deed: { do: 'signal', signal: 'SIGKILL' } } as const;
      return [
        {
          at: `after commit ${nth}`,
          ends: 'SIGKILL',
          trap,
          between: (stand) => tryDamaged(stand, () => harm(stand, random)),
        },
      ];
    },
  };
}

async function tryDamaged(stand: Stand, harm: () => void): Promise<string[]> {
  const { node } = stand;
  const path = join(node.stateDir, DATABASE);
  foldLog(path);
  const good = join(asideOf(stand), DATABASE);
  mkdirSync(asideOf(stand), { recursive: true });
  copyFileSync(path, good);
  harm();
  const wrong = await startDamaged(stand);
  await node.end('SIGKILL');
  removeDatabase(stand);
  copyFileSync(good, path);
  return wrong;
}

/** With what berthd has set aside of it. */
function removeDatabase({ node }: Stand): void {
  const names = readdirSync(node.stateDir).filter((name) => name.startsWith(DATABASE));
  for (const name of names) rmSync(join(node.stateDir, name));
}

/** Folder for copies, on another disk than the state, which may have no room for them. */
function asideOf({ node }: Stand): string {
  return join(node.folder, 'aside');
}

/** The file alone then holds all there is. */
function foldLog(path: string): void {
  const sqlite = new Sqlite(path);
  sqlite.pragma('wal_checkpoint(TRUNCATE)');
  sqlite.close();
}

/** A berthd that refuses to start is right, and so is one that starts; neither may touch what it does not know of. */
async function startDamaged(stand: Stand): Promise<string[]> {
  const { node } = stand;
  const before = await stand.host();
  const refusal = await node.start().then(
    () => null,
    (error: Error) => error.message,
  );
  if (refusal !== null) return /damaged|no database/.test(refusal) ? [] : [`it refused with: ${refusal}`];
  await node.untilIdle();
  const { operations } = await node.call('operation.list', { limit: 1 });
  // The damage was nowhere that matters: the operation has gone on.
  if (operations.length > 0) return [];
  const touched = difference(withoutConsoles(await stand.host()), withoutConsoles(before)).map(
    (line) => `without its state it touched the host, ${line}`,
  );
  return [...touched, ...(await auditRecovered(stand))];
}

/** A guest that boots writes its console's log itself. */
function withoutConsoles(host: readonly string[]): string[] {
  return host.filter((line) => !line.startsWith('file consoles/'));
}

/** Where the state is made anew, the guest that must never notice anything is known again. */
async function auditRecovered({ node }: Stand): Promise<string[]> {
  if (!(EVENT_TYPES as readonly string[]).includes(RECOVERED)) return [];
  const { instances } = await node.call('instance.list');
  const found = instances.find(({ name }) => name === BYSTANDER);
  if (found?.power.state === 'running') return [];
  return [`the bystander was not recovered: it is ${found?.power.state ?? 'not known'}`];
}
