/**
 * node.collect: removes leaks that the journal proves ours, kind by kind, users before what they use.
 *
 * The plan has the name of each thing before anything is touched. Every step looks at the host once more and has each
 * of its things judged again, against the rows as they are then: what has an owner meanwhile, is used, or is not seen
 * twice, stays. Nothing is taken back: what is removed was nobody's.
 */
import type { NetworkThingKind } from '../../drivers/contracts/network.ts';
import { AgentError } from '../../model/errors.ts';
import { LEAKS_LISTED_MAX, type ThingKind } from '../../model/leak.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import { IMAGE_FORMATS } from '../../model/storage.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import type { MadeName, NameRow } from '../store/names.ts';
import type { Collector, FoundLeak, LookResult } from './collector.ts';
import { judge } from './judge.ts';
import { storeLedger } from './ledger.ts';
import { type Asked, isSameAsked, keyOf, partOf, type Thing } from './thing.ts';

/** Kinds that are removed, in this order: a guest holds its taps and disks, a tap its bridge, a volume its image. */
const REMOVED_KINDS = [
  'guest',
  'tap',
  'dhcp-reservation',
  'dhcp-process',
  'dhcp-unit',
  'bridge',
  'nft-table',
  'dhcp-folder',
  'seed',
  'console',
  'volume',
  'share',
  'image',
  'secret',
] as const satisfies ThingKind[];
type RemovedKind = (typeof REMOVED_KINDS)[number];

/** Age up to which a look is acted upon, ms: who begins to use a thing after it is not seen. */
const LOOK_FRESH_MS = 1_000;

interface PlannedThing extends MadeName {
  /** The name that the journal has for it. */
  journalName: string;
  /** Of a file. @default the default one, for plans of older versions; null for what is no file */
  pool?: string | null;
}

interface CollectPlan {
  things: PlannedThing[];
  /** `named`: whoever asked named each of them, and is told of one that stays as a failure. */
  asked: 'named' | 'all';
}

interface Outcome {
  removed: string[];
  spared: { thing: string; reason: string }[];
}

export interface CollectParts {
  services: Services;
  collector: Collector;
  nodeId: string;
}

export function collectLeaks(parts: CollectParts): OperationKind<'node.collect', CollectPlan> {
  const { services, collector, nodeId } = parts;
  const { store, inventories } = services;
  const target = () => ({ kind: 'node', id: nodeId, name: inventories.hostname }) as const;
  return {
    method: 'node.collect',
    version: 1,
    stages: [...REMOVED_KINDS.map((kind) => [removeKind(parts, kind)]), [verify(parts)]],
    removes: ({ things }) => things.map(({ kind, journalName }) => ({ kind, name: journalName })),
    accept({ names }) {
      const leaks = removable(latestOf(collector), names);
      if (leaks.length === 0) return { verdict: 'done', target: target() };
      const asked = names === undefined ? 'all' : 'named';
      return { verdict: 'run', target: target(), plan: { things: leaks.map(planned), asked } };
    },
    succeeded(_plan, results) {
      store.events.append('node.collected', target(), { ...sumOf(results) });
    },
    undone: () => undefined,
  };
}

function latestOf(collector: Collector): LookResult {
  if (collector.latest !== null) return collector.latest;
  throw new AgentError('ILLEGAL_STATE', 'Cannot remove leaks: this daemon has not looked for them yet', {
    hint: 'Look first: `berth leaks`.',
  });
}

/** The leaks that are asked for. @throws {AgentError} NOT_FOUND, HOST_CONFLICT: not proven ours. */
function removable({ leaks }: LookResult, names: readonly string[] | undefined): FoundLeak[] {
  if (names === undefined) return leaks.filter(({ proof }) => proof !== null).slice(0, LEAKS_LISTED_MAX);
  return [...new Set(names)].map((name) => {
    const leak = leaks.find(({ thing }) => thing.name === name);
    if (leak === undefined) throw noSuchLeak(name);
    if (leak.proof === null) throw notProven(leak.thing);
    return leak;
  });
}

function planned({ thing, proof }: FoundLeak): PlannedThing {
  const { kind, name, pool } = thing;
  return { kind, name, journalName: proof?.name ?? name, pool };
}

function removeKind(parts: CollectParts, kind: RemovedKind): Step<CollectPlan> {
  return {
    name: `remove-${kind}`,
    look: async () => null, // what is gone already is found gone
    async act({ things }, { signal }): Promise<Outcome> {
      const ofKind = things.filter((one) => one.kind === kind);
      const keys = new Set(ofKind.map(keyOf));
      const asked = ofKind.map(askedFor);
      const outcome: Outcome = { removed: [], spared: [] };
      if (keys.size === 0) return outcome;
      for (let left: ReadonlySet<string> = keys; left.size > 0; ) {
        left = await removeWhileFresh(parts, { keys: left, asked, kind, signal, outcome });
      }
      return outcome;
    },
  };
}

/** Looks, and removes one thing after the other until the look is too old; answers with the keys that are left. */
async function removeWhileFresh(
  { services, collector }: CollectParts,
  {
    keys,
    asked,
    ...run
  }: {
    keys: ReadonlySet<string>;
    asked: readonly Asked[];
    kind: RemovedKind;
    signal: AbortSignal;
    outcome: Outcome;
  },
): Promise<ReadonlySet<string>> {
  const { leaks, unknown } = await collector.confirmed(keys, run.signal);
  assertAsked(unknown, asked);
  const staleAtMs = services.clock.monotonicMs() + LOOK_FRESH_MS;
  const left = new Map(
    leaks.map(({ thing }) => [keyOf(thing), thing] as const).filter(([key]) => keys.has(key)),
  );
  for (const [key, thing] of left) {
    if (services.clock.monotonicMs() >= staleAtMs) break;
    await removeOne(services, thing, run);
    left.delete(key);
  }
  return new Set(left.keys());
}

/** Judges the thing by the rows as they are now, and removes it in the same turn. */
async function removeOne(
  services: Services,
  thing: Thing,
  { kind, signal, outcome }: { kind: RemovedKind; signal: AbortSignal; outcome: Outcome },
): Promise<void> {
  signal.throwIfAborted();
  const spare = (reason: string) => {
    outcome.spared.push({ thing: keyOf(thing), reason });
    services.log.info({ kind, name: thing.name, reason }, 'a leak was left as it is');
  };
  const verdict = judge(thing, storeLedger(services.store));
  if (verdict.state !== 'leak') return spare(`it is ${verdict.state} now`);
  if (verdict.proof === null) return spare('the journal does not prove it');
  if (verdict.blocked !== null) return spare(verdict.blocked);
  try {
    await removeThing(services, { kind, thing, proof: verdict.proof }, signal);
    outcome.removed.push(keyOf(thing));
    services.log.info({ kind, name: thing.name, proof: verdict.proof.operationId }, 'a leak was removed');
  } catch (error) {
    if (!isRefusal(error)) throw error;
    spare(error.toBody().message);
  }
}

function removeThing(
  { hypervisor, pools, network }: Services,
  { kind, thing, proof }: { kind: RemovedKind; thing: Thing; proof: NameRow },
  signal: AbortSignal,
): Promise<void> {
  const id = thing.objectId ?? '';
  const pool = pools.of(thing.pool === null ? {} : { pool: thing.pool });
  switch (kind) {
    case 'guest':
      return hypervisor.undefine(id, { signal });
    case 'seed':
      return pool.removeSeed(id, { signal });
    case 'console':
      return pool.removeConsole(id, { signal });
    case 'volume':
      return pool.removeVolume(id, { signal });
    case 'secret':
      return hypervisor.forgetKey(id, { signal });
    case 'share':
      return pool.removeShare(id, { signal, files: 'kept' });
    case 'image': {
      const format = IMAGE_FORMATS.find((one) => pool.paths.image(id, one) === proof.name);
      return pool.removeImage(id, format ?? 'qcow2', { signal });
    }
    default:
      return network.removeThing(
        { kind, name: thing.name, networkId: networkOf(kind, thing, proof) },
        { signal },
      );
  }
}

/** A reservation is an instance's, in the folder of its network. */
function networkOf(kind: NetworkThingKind, thing: Thing, proof: NameRow): string | null {
  return kind === 'tap' || kind === 'dhcp-reservation' ? thing.networkId : proof.object.id;
}

/** Looks that everything that was named is gone. */
function verify({ collector }: CollectParts): Step<CollectPlan> {
  return {
    name: 'verify',
    look: async () => null,
    async act({ things, asked }, { signal }) {
      const look = await collector.look({ signal });
      assertAsked(look.unknown, things.map(askedFor));
      const keys = new Set(things.map(keyOf));
      const left = look.leaks.find(({ thing }) => keys.has(keyOf(thing)));
      if (left !== undefined && asked === 'named') throw stays(left);
    },
  };
}

function askedFor({ kind, pool }: PlannedThing): Asked {
  const part = partOf(kind);
  return { part, pool: part === 'files' ? (pool ?? DEFAULT_POOL) : null };
}

/** Where a part of the host can't be asked, nothing is known of what is there, or of what uses it. */
function assertAsked(unknown: LookResult['unknown'], asked: readonly Asked[]): void {
  const silent = unknown.find(
    (each) => each.part === 'guests' || asked.some((one) => isSameAsked(one, each)),
  );
  if (silent === undefined) return;
  throw new AgentError(
    'UNAVAILABLE',
    `Cannot remove leaks: the ${silent.part}${silent.pool === null ? '' : ` of pool ${silent.pool}`} could not be asked: ${silent.reason}`,
  );
}

/** The driver has looked, and says that it must stay: not a failure of the removal. */
function isRefusal(error: unknown): error is AgentError {
  return error instanceof AgentError && (error.code === 'HOST_CONFLICT' || error.code === 'ILLEGAL_STATE');
}

function sumOf(results: Readonly<Record<string, unknown>>): Outcome {
  const outcomes = REMOVED_KINDS.map((kind) => results[`remove-${kind}`] as Outcome);
  return {
    removed: outcomes.flatMap(({ removed }) => removed),
    spared: outcomes.flatMap(({ spared }) => spared),
  };
}

function stays({ thing, blocked }: FoundLeak): AgentError {
  const why = blocked ?? 'it is there still';
  return new AgentError('ILLEGAL_STATE', `${thing.kind} ${thing.name} was not removed: ${why}`, {
    hint: 'See `berth leaks`.',
  });
}

function noSuchLeak(name: string): AgentError {
  return new AgentError('NOT_FOUND', `No leak ${name} was seen in the last look`, {
    hint: 'See `berth leaks`.',
  });
}

function notProven({ kind, name, blocked }: Thing): AgentError {
  const why = blocked === null ? '' : ` (${blocked})`;
  return new AgentError(
    'HOST_CONFLICT',
    `The journal of this node does not prove that it made ${kind} ${name}${why}`,
    {
      hint: 'Another berthd of this host may own it. If nobody does, remove it by hand.',
    },
  );
}
