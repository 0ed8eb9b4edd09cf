/**
 * power: from a change of power in libvirt, made by someone else, until the event of it is read by a follower of the
 * local socket: by then its row is on disk, and the link to the scheduler has been woken by the same commit.
 *
 * Three moments of each change: when libvirt is asked for it, when a plain client of libvirt hears libvirt's event, and
 * when the follower reads ours. What QEMU takes for the change itself is between the first two, so the goal bounds what
 * is between the last two. The plain client may hear of it a little before or after berthd does.
 */
import { request } from 'node:http';
import { createInterface } from 'node:readline';
import { type Connection, connect, constants, type Domain } from 'node-libvirt';
import type { Instance } from '../src/model/instance.ts';
import { prepare, RealNode, spec } from '../test/e2e/support/node.ts';
import { type Case, caseOf } from './harness.ts';

const NAME = 'bench-power';
/** Suspends and resumes, half of each. */
const PAUSES = 300;
/** Destroys and starts, half of each. */
const STARTS = 200;
/** Of the issue: p99, ms. */
const GOAL_MS = 50;
/** A change that is not seen within this is a failure of the benchmark, ms. */
const PATIENCE_MS = 30_000;

const EVENT = constants.virDomainEventType;

export async function powerBench(): Promise<Case[]> {
  const node = new RealNode({ built: true });
  await node.start();
  const connection = await connect('qemu:///system');
  try {
    await prepare(node);
    await node.run('instance.create', { spec: spec(NAME) });
    // A guest that boots keeps QEMU, and on a small host everyone, from working.
    await node.untilAddress(NAME);
    return await measured(node, connection);
  } finally {
    await connection.close();
    await node.remove();
  }
}

async function measured(node: RealNode, connection: Connection): Promise<Case[]> {
  const domain = await connection.domainLookupByName(`berth-${NAME}`);
  const libvirt = await libvirtTimes(connection, domain.uuid);
  const follower = await followerTimes(node.socketPath, domain.uuid);
  try {
    const pauses = await inTurn(PAUSES, [
      () =>
        sample({ libvirt, follower }, { event: EVENT.VIR_DOMAIN_EVENT_SUSPENDED, power: 'paused' }, () =>
          domain.suspend(),
        ),
      () =>
        sample({ libvirt, follower }, { event: EVENT.VIR_DOMAIN_EVENT_RESUMED, power: 'running' }, () =>
          domain.resume(),
        ),
    ]);
    const starts = await inTurn(STARTS, [
      () =>
        sample({ libvirt, follower }, { event: EVENT.VIR_DOMAIN_EVENT_STOPPED, power: 'stopped' }, () =>
          domain.destroyFlags(),
        ),
      () =>
        sample({ libvirt, follower }, { event: EVENT.VIR_DOMAIN_EVENT_STARTED, power: 'running' }, () =>
          domain.createWithFlags(),
        ),
    ]);
    return casesOf(pauses, starts);
  } finally {
    follower.close();
  }
}

interface Sample {
  askedAtMs: number;
  libvirtAtMs: number;
  followerAtMs: number;
}

function casesOf(pauses: Sample[], starts: Sample[]): Case[] {
  const behind = (samples: Sample[]) =>
    samples.map(({ libvirtAtMs, followerAtMs }) => followerAtMs - libvirtAtMs);
  return [
    caseOf({
      case: "libvirt's event of a suspend or resume, to ours at a follower",
      unit: 'ms',
      ours: behind(pauses),
      goal: GOAL_MS,
      goalOf: 'p99',
    }),
    caseOf({
      case: "libvirt's event of a start or destroy, to ours at a follower",
      unit: 'ms',
      ours: behind(starts),
      goal: GOAL_MS,
      goalOf: 'p99',
    }),
    caseOf({
      case: 'suspend or resume asked of libvirt, to our event at a follower',
      unit: 'ms',
      ours: pauses.map(({ askedAtMs, followerAtMs }) => followerAtMs - askedAtMs),
      peer: {
        name: "to libvirt's event at a plain client",
        values: pauses.map(({ askedAtMs, libvirtAtMs }) => libvirtAtMs - askedAtMs),
      },
      goal: null,
    }),
  ];
}

async function inTurn(count: number, ways: (() => Promise<Sample>)[]): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let index = 0; index < count; index++) {
    samples.push(await (ways[index % ways.length] as () => Promise<Sample>)());
  }
  return samples;
}

/** Asks libvirt for a change, and notes when each of the two hears of it. */
async function sample(
  { libvirt, follower }: { libvirt: Times<number>; follower: Times<string> },
  awaited: { event: number; power: string },
  ask: () => Promise<unknown>,
): Promise<Sample> {
  const [atLibvirt, atFollower] = [libvirt.next(awaited.event), follower.next(awaited.power)];
  const askedAtMs = performance.now();
  const [, libvirtAtMs, followerAtMs] = await Promise.all([ask(), atLibvirt, atFollower]);
  return { askedAtMs, libvirtAtMs, followerAtMs };
}

interface Times<K> {
  /** When it is told next. */
  next(key: K): Promise<number>;
  close(): void;
}

/** Tells waiters when what they wait for has come. */
function times<K>(close: () => void): Times<K> & { told(key: K): void } {
  const waiting = new Map<K, (atMs: number) => void>();
  return {
    close,
    told(key) {
      waiting.get(key)?.(performance.now());
      waiting.delete(key);
    },
    next(key) {
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      const timer = setTimeout(() => reject(new Error(`${String(key)} was not told`)), PATIENCE_MS);
      waiting.set(key, resolve);
      return promise.finally(() => clearTimeout(timer));
    },
  };
}

async function libvirtTimes(connection: Connection, uuid: Domain['uuid']): Promise<Times<number>> {
  const heard = times<number>(() => undefined);
  await connection.onEvent('domain', 'lifecycle', ({ domain, event }) => {
    if (domain.uuid === uuid) heard.told(event);
  });
  return heard;
}

async function followerTimes(socketPath: string, id: string): Promise<Times<string>> {
  const { promise, resolve, reject } = Promise.withResolvers<Times<string>>();
  const call = request({ socketPath, path: '/v1/events' }, (response) => {
    const heard = times<string>(() => call.destroy());
    // Its end is ours: what the stream says of it is no failure.
    const lines = createInterface({ input: response }).on('error', () => undefined);
    lines.on('line', (line) => {
      const { type, target, data } = JSON.parse(line);
      if (type === 'instance.changed' && target.id === id)
        heard.told((data.instance as Instance).power.state);
    });
    resolve(heard);
  });
  call.on('error', reject).end();
  return promise;
}
