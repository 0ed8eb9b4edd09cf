/**
 * Volumes of shared pools that are this node's still: looked at on the disk before a guest opens any.
 *
 * A node that was cut off may have been fenced, and its instances started elsewhere, before it hears of it. So the folder
 * says whose a volume is, whatever the store says; and what the store has as this node's is disowned then.
 */
import type { CallOptions } from '../../drivers/contracts/calls.ts';
import { timestamp } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { Volume } from '../../model/storage.ts';
import type { Services } from '../services.ts';

type Parts = Pick<Services, 'store' | 'pools' | 'clock' | 'log'>;

/**
 * Also sees that no fence which has ended, as far as the scheduler has said, lets another node take them.
 *
 * @throws {AgentError} ILLEGAL_STATE: another node has a volume of the instance, which is disowned from now on.
 */
export async function assertHeld(parts: Parts, instanceId: string, options: CallOptions): Promise<void> {
  const { store, pools } = parts;
  const volumes = store.volumes.listOf(instanceId).filter((volume) => pools.of(volume).isShared);
  for (const pool of new Set(volumes.map((volume) => pools.of(volume))))
    await pool.endFences(store.meta.getNumber('fences'), options);
  const lost = await findLost(parts, volumes, options);
  if (lost === null) return;
  disown(parts, instanceId, lost);
  throw new AgentError('ILLEGAL_STATE', `Cannot start what another node has: ${lost}`, {
    hint: 'The instance was restarted there. Delete what is left of it here: that touches no file of it.',
  });
}

/** Says in every shared pool what the scheduler has said of fences; where one can't be asked, it is said when it is measured. */
export async function endFences({ store, pools, log }: Parts): Promise<void> {
  const fence = store.meta.getNumber('fences');
  const ends = pools.all.filter(({ isShared }) => isShared).map((pool) => pool.endFences(fence));
  for (const end of await Promise.allSettled(ends))
    if (end.status === 'rejected')
      log.warn({ error: end.reason, fence }, 'the end of a fence is told to a pool later');
}

/** Disowns an instance of which another node has a volume by now. */
export async function disownLost(parts: Parts, instanceId: string, options: CallOptions): Promise<void> {
  const lost = await findLost(parts, parts.store.volumes.listOf(instanceId), options);
  if (lost !== null) disown(parts, instanceId, lost);
}

/** One sentence of whose it is; null where all are this node's. One that no node has is missing, and no one's word. */
async function findLost(
  { store, pools }: Parts,
  volumes: readonly Volume[],
  options: CallOptions,
): Promise<string | null> {
  for (const volume of volumes) {
    const pool = pools.of(volume);
    const owner = pool.isShared ? await pool.ownerOf(volume.id, options) : null;
    if (owner !== null && owner !== store.meta.get('node_id'))
      return `volume ${volume.name} of pool ${volume.pool} is node ${owner}'s`;
  }
  return null;
}

function disown({ store, clock, log }: Parts, instanceId: string, reason: string): void {
  const instance = store.instances.find(instanceId);
  if (instance === null || instance.disowned !== null) return;
  log.error(
    { instance: instanceId, name: instance.name, power: instance.power, reason },
    'an instance was taken over',
  );
  store.db.transaction(() => {
    store.instances.setDisowned(instanceId, { at: timestamp(clock), reason });
    store.tellInstance('instance.disowned', instanceId);
  });
}
