/** Simulated nodes with a pool in common, and what is asked of one about an instance of another. */
import type { Test } from 'tap';
import { prepare, type SimAgent, simAgent } from './sim-agent.ts';

const GIB = 1024 ** 3;
const ROOT = '/sim/common';
const CONFIG = `
[[pools]]
name = "common"
path = "${ROOT}"
shared = true
`;
const POOLS = [{ name: 'common', root: ROOT, bytes: 1000 * GIB, shared: true }];
export const DISKS = [{ image: 'debian', sizeGib: 4, pool: 'common' }];

/** Nodes with a pool in common, each with an image and a network of its own. */
export async function nodes(t: Test, count = 2): Promise<SimAgent[]> {
  const first = await simAgent(t, { pools: POOLS, config: CONFIG });
  const all = [first];
  while (all.length < count)
    all.push(
      await simAgent(t, {
        pools: POOLS,
        config: CONFIG,
        common: first.world,
        hostname: `node-${all.length}`,
      }),
    );
  for (const each of all) await prepare(each);
  return all;
}

export async function pair(t: Test): Promise<[old: SimAgent, other: SimAgent]> {
  const [old, other] = await nodes(t);
  return [old as SimAgent, other as SimAgent];
}

export function nodeIdOf({ agent }: SimAgent): string {
  return agent.services.store.meta.get('node_id') as string;
}

/** What the scheduler asks another node for. */
export async function askedOf(old: SimAgent, { fence = 1 } = {}) {
  const { instance } = await old.call('instance.show', { id: 'web' });
  const disks = instance.disks.map(({ volumeId: volume }) => ({ volume }));
  const nics = instance.nics.map(({ network, macAddress }) => ({ network, macAddress }));
  return {
    id: instance.id,
    spec: { ...instance.spec, disks, nics },
    from: { node: nodeIdOf(old), fence },
    volumes: instance.disks.map(({ volumeId: id, volume: name, pool, sizeGib }) => ({
      id,
      name,
      pool,
      sizeGib,
    })),
  };
}

/** The node loses its power: its agent and its guests are gone. */
export async function losePower(node: SimAgent): Promise<void> {
  await node.crash();
  node.world.outside.bootHost();
}

/** GiB of the pool. */
export function claimedBy({ agent }: SimAgent): number {
  return agent.services.store.allocations.usedOf('common');
}

export function volumesOf(node: SimAgent): string[] {
  return node.files
    .filter(({ kind, path }) => kind === 'volume' && path.startsWith(`${ROOT}/`))
    .map(({ path }) => path.slice(ROOT.length));
}
