/**
 * Admission of a volume of its own: its name and its room, decided and written in one transaction.
 */
import { randomUUID } from 'node:crypto';
import { timestamp } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { Volume } from '../../model/storage.ts';
import { poolFor } from '../instances/admit.ts';
import { noteImageOf } from '../pools/images.ts';
import type { Services } from '../services.ts';

type Asked = Pick<Volume, 'name' | 'sizeGib' | 'imageId' | 'protected'> &
  Partial<Pick<Volume, 'encryption'>> & {
    /** @default the default one */
    pool?: string | undefined;
  };

/** @throws {AgentError} ALREADY_EXISTS, CAPACITY_EXCEEDED. NOT_FOUND: no such pool. */
export function admitVolume(services: Services, asked: Asked): Volume {
  const { store, clock, inventories } = services;
  assertNameFree({ store }, asked.name);
  const pool = poolFor(services, asked.pool);
  const claim = { disks: { [pool]: asked.sizeGib } };
  inventories.assertRoom(claim);
  const id = randomUUID();
  const rest = {
    instanceId: null,
    deletedWithInstance: false,
    device: {},
    qos: null,
    encryption: asked.encryption ?? null,
    state: 'creating',
  } as const;
  store.volumes.insert({ ...asked, ...rest, id, pool, createdAt: timestamp(clock) }, null);
  noteImageOf(store, { pool, imageId: asked.imageId });
  store.allocations.add(id, claim);
  return store.volumes.get(id);
}

/** A volume of another node that is to become this one's: `ready`, so that an instance can be made on it at once. */
export function admitTakenVolume(
  { store, clock, inventories, pools }: Services,
  { id, pool, ...asked }: { id: string; pool: string } & Pick<Volume, 'name' | 'sizeGib'>,
): void {
  assertNameFree({ store }, asked.name);
  if (store.volumes.find(id) !== null)
    throw new AgentError('ALREADY_EXISTS', `Volume ${asked.name} is this node's already, or was`, {
      hint: 'Delete what is left of its instance here first; its files stay with the node that has them.',
    });
  const claim = { disks: { [poolFor({ pools }, pool)]: asked.sizeGib } };
  inventories.assertRoom(claim);
  const rest = {
    imageId: null,
    instanceId: null,
    deletedWithInstance: false,
    protected: false,
    device: {},
    qos: null,
    encryption: null,
    state: 'ready',
  } as const;
  store.volumes.insert({ ...asked, ...rest, id, pool, createdAt: timestamp(clock) }, null);
  store.allocations.add(id, claim);
}

/** @throws {AgentError} ALREADY_EXISTS */
export function assertNameFree({ store }: Pick<Services, 'store'>, name: string): void {
  if (!store.volumes.nameTaken(name)) return;
  throw new AgentError('ALREADY_EXISTS', `There is a volume ${name} on this node already`, {
    hint: 'Choose another name.',
  });
}

/** One that was admitted and is not made after all. */
export function forgetVolume({ store }: Pick<Services, 'store'>, id: string): void {
  store.allocations.remove(id);
  store.volumes.remove(id);
}

/**
 * A guest that runs writes to it; one that is started meanwhile is kept out by QEMU's lock on the file.
 *
 * @throws {AgentError} ILLEGAL_STATE
 */
export function assertIdle({ store }: Services, { name, state, instanceId }: Volume): void {
  if (state !== 'ready') throw new AgentError('ILLEGAL_STATE', `Volume ${name} is ${state}`);
  if (instanceId === null) return;
  const { name: instance, power } = store.instances.get(instanceId);
  if (power.state === 'stopped' || power.state === 'crashed') return;
  throw new AgentError('ILLEGAL_STATE', `Volume ${name} is in use: instance ${instance} is ${power.state}`, {
    hint: 'Stop the instance first.',
  });
}
