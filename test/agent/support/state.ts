/**
 * What is compared when the state was lost and is back: the store before, the store after, and the host.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { Layout } from '../../../src/drivers/qcow2/layout.ts';
import type { SimAgent } from './sim-agent.ts';

export const DATABASE = 'berth.sqlite';

export function databasePath(sim: SimAgent, suffix = ''): string {
  return join(sim.folder, DATABASE + suffix);
}

/** Deletes the database with its log, as if it had never been. */
export function deleteDatabase(sim: SimAgent): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(databasePath(sim, suffix), { force: true });
}

/** Names of the databases that were set aside. */
export function setAside(sim: SimAgent): string[] {
  return readdirSync(sim.folder)
    .filter((name) => name.startsWith(`${DATABASE}.damaged-`) && !/(-wal|-shm|\.json)$/.test(name))
    .sort();
}

/** All that has to be the same after the state was rebuilt. */
export function stateOf(sim: SimAgent) {
  const { store } = sim.agent.services;
  return {
    nodeId: store.meta.get('node_id'),
    instances: store.instances.list().map(({ id, name, lifecycle, power, spec, disks, nics, createdAt }) => ({
      id,
      name,
      lifecycle,
      power: power.state,
      spec,
      disks,
      nics,
      createdAt,
    })),
    volumes: store.volumes.list(),
    // When one was asked for, its file does not tell: a rebuild takes the time when that was made.
    images: store.images.list().map(({ lastUsedAt: _lastUsedAt, createdAt: _createdAt, ...image }) => image),
    networks: store.networks.list().map(({ createdAt: _createdAt, ...network }) => network),
    used: store.allocations.used(),
  };
}

/** Whether the store tells of the host what the host is. */
export function auditAgainstHost(t: Test, sim: SimAgent, what: string): void {
  const { store } = sim.agent.services;
  const layout = new Layout(sim.world.settings.poolRoot);
  const instances = store.instances.list();
  const guests = sim.guests.filter(({ definition }) => definition !== null);
  t.same(instances.map(({ id }) => id).sort(), guests.map(({ id }) => id).sort(), `${what}: guests`);
  for (const { id, name, spec, power, disks, nics } of instances) {
    const guest = guests.find((each) => each.id === id);
    const definition = guest?.definition;
    t.equal(power.state, guest?.power, `${what}: power of ${name}`);
    t.match(definition, { name: `berth-${name}`, vcpus: spec.vcpus, memoryMib: spec.memoryMib });
    const paths = definition?.disks.filter(({ serial }) => serial !== 'seed').map(({ path }) => path);
    t.same(
      disks.map(({ volumeId }) => layout.layer(volumeId, store.layers.activeOf(volumeId))),
      paths,
      `${what}: disks of ${name}`,
    );
    t.match(
      definition?.nics,
      nics.map(({ macAddress, tapName }) => ({ macAddress, tapName })),
      `${what}: NICs of ${name}`,
    );
  }
  const files = sim.files.filter(({ kind, partial }) => kind === 'volume' && !partial);
  t.same(
    store.volumes
      .list()
      .map(({ id }) => id)
      .sort(),
    [...new Set(files.map(({ id }) => id))].sort(),
    `${what}: volumes`,
  );
  const bridges = [...sim.world.bridges.values()].filter(({ plan }) => plan !== null);
  t.same(
    store.networks
      .list()
      .map(({ bridge }) => bridge)
      .sort(),
    bridges.map(({ name }) => name).sort(),
    `${what}: networks`,
  );
  t.same(sim.world.mishaps, [], `${what}: no mishap`);
}
