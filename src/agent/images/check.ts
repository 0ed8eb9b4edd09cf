/**
 * What becomes of a check of an image: in the store, in events, and for those who stand on it.
 */
import { timestamp } from '../../drivers/contracts/clock.ts';
import type { CallOptions, ProgressListener } from '../../drivers/contracts/calls.ts';
import type { StoragePool } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import type { Image } from '../../model/storage.ts';
import type { Services } from '../services.ts';

/**
 * Checks an image and keeps the verdict: `damaged` or, where it is right again, `ready`.
 *
 * @throws {AgentError} IMAGE_REFUSED: it is not as it was made.
 */
export async function checkImage(
  services: Services,
  image: Image,
  options: CallOptions & { depth: 'seal' | 'bytes'; onProgress?: ProgressListener },
): Promise<void> {
  const checked = await services.pool.checkImage(image.id, image.format, options);
  const damage = checked.intact ? null : checked.reason;
  // A seal that holds says nothing of bytes that went wrong below the file system.
  if (options.depth === 'bytes' || damage !== null) keepVerdict(services, image.id, damage);
  if (damage !== null) throw damaged(image.name, damage);
}

/**
 * Refuses to go on where an image below the instance's disks has been changed: its guest would read the change.
 *
 * @throws {AgentError} IMAGE_REFUSED
 */
export async function assertBasesIntact(
  services: Services,
  instanceId: string,
  options: CallOptions,
): Promise<void> {
  const { store, pools } = services;
  const seal = { ...options, depth: 'seal' } as const;
  const volumes = store.volumes.listOf(instanceId);
  const bases = new Map(volumes.map(({ pool, imageId }) => [`${pool} ${imageId}`, { pool, imageId }]));
  for (const { pool, imageId } of bases.values()) {
    if (imageId === null) continue;
    const image = store.images.get(imageId);
    if (pool === image.pool) await checkImage(services, image, seal);
    else await checkCopy(pools.of({ pool }), image, seal);
  }
}

/** A damaged copy says nothing of the image itself: it is what its volumes stand on that is refused. */
async function checkCopy(
  pool: StoragePool,
  { id, name, format }: Image,
  options: CallOptions & { depth: 'seal' },
): Promise<void> {
  const checked = await pool.checkImage(id, format, options);
  if (!checked.intact) throw damaged(`${name} in pool ${pool.name}`, checked.reason);
}

function keepVerdict({ store, clock }: Services, id: string, damage: string | null): void {
  store.db.transaction(() => {
    const before = store.images.find(id);
    if (before === null) return;
    store.images.setChecked(id, damage, timestamp(clock));
    const image = store.images.get(id);
    const target = { kind: 'image', id, name: image.name } as const;
    if (before.state === image.state) return;
    if (damage === null) return store.events.append('image.changed', target, { image });
    const instances = store.volumes.instancesOn(id);
    store.events.append('image.damaged', target, { image, instances });
    for (const instance of instances) {
      const { name } = store.instances.get(instance);
      const data = { image: id, reason: damage };
      store.events.append('instance.base-damaged', { kind: 'instance', id: instance, name }, data);
    }
  });
}

function damaged(name: string, reason: string): AgentError {
  return new AgentError('IMAGE_REFUSED', `Image ${name} was changed after it was made: ${reason}`, {
    hint: 'Bring its file back from a backup and run `berth image verify`; guests that stand on it read what is there now.',
  });
}
