/** What holds of the plan of every host, however odd. */
import t from 'tap';
import type { HostGuest, HostView } from '../../../src/agent/recover/host-view.ts';
import fc from '../../property.ts';
import {
  AT,
  carriedShare,
  carriedVolume,
  CONTEXT,
  foundImage,
  foundShare,
  foundVolume,
  guest,
  id,
  networkPlan,
  plan,
  port,
} from './hosts.ts';

/** Hosts in which everything may contradict everything: few ids, so that they meet often. */
const few = fc.integer({ min: 0, max: 3 });
const anyGuest = fc
  .record({
    n: few,
    name: fc.constantFrom('berth-a', 'berth-b', 'other', 'berth-Not A Name'),
    volumes: fc.array(few, { maxLength: 3 }),
    ports: fc.array(fc.tuple(few, few, fc.integer({ min: 0, max: 4 })), { maxLength: 2 }),
    shares: fc.array(fc.tuple(few, few), { maxLength: 3 }),
    believed: fc.boolean(),
    own: fc.boolean(),
  })
  .map(({ n, name, volumes, ports, shares, believed, own }): HostGuest => {
    const made = guest(
      n,
      {
        volumes: volumes.map((v) => carriedVolume(v, { deletedWithInstance: own, name: `disk-${v % 2}` })),
        ports: ports.map(([p, network, address]) => port(p, network, address)),
        shares: shares.map(([s, tag]) => carriedShare(s, { tag: `tag-${tag}` })),
      },
      { name },
    );
    return believed ? made : { ...made, metadata: null, fault: 'can not be read' };
  });
const anyHost: fc.Arbitrary<HostView> = fc.record({
  guests: fc.uniqueArray(anyGuest, { maxLength: 4, selector: (each) => each.id }),
  uses: fc.uniqueArray(
    fc.tuple(few, fc.array(few)).map(([g, volumes]) => ({
      id: id('guest', g),
      name: `vm-${g}`,
      files: volumes.map((v) => CONTEXT.volumePath(id('volume', v))),
    })),
    { selector: (each) => each.id },
  ),
  pool: fc.record({
    images: fc.uniqueArray(
      fc
        .tuple(few, fc.boolean())
        .map(([n, whole]) =>
          foundImage(n, whole ? { name: `image-${n % 2}` } : { facts: null, fault: 'has no record' }),
        ),
      { selector: (each) => each.id },
    ),
    shares: fc.uniqueArray(
      fc.tuple(few, fc.boolean(), fc.boolean()).map(([n, whole, labelled]) =>
        foundShare(n, {
          fault: whole ? null : 'it is no folder',
          ...(labelled ? {} : { label: null }),
        }),
      ),
      { selector: (each) => each.id },
    ),
    volumes: fc.uniqueArray(
      fc.tuple(few, few, fc.boolean()).map(([n, image, whole]) =>
        foundVolume(n, {
          image: image === 3 ? null : { id: id('image', image), format: 'raw' },
          ...(whole ? {} : { fault: 'is broken', sizeBytes: null, image: null }),
        }),
      ),
      { selector: (each) => each.id },
    ),
  }),
  networks: fc.uniqueArray(
    fc.tuple(few, fc.boolean(), fc.boolean()).map(([n, present, kept]) => ({
      networkId: id('network', n),
      bridge: networkPlan(n).bridge,
      present,
      plan: kept
        ? { ...networkPlan(n), cidr: `10.80.${n % 3}.0/24`, gatewayAddress: `10.80.${n % 3}.1` }
        : null,
    })),
    { selector: (each) => each.networkId },
  ),
});

function isUnique(values: readonly string[]): boolean {
  return new Set(values).size === values.length;
}

t.test('whatever a host tells, the rows of its plan fit together', async (t) => {
  fc.assert(
    fc.property(anyHost, (view) => {
      const rows = plan(view);
      const { instances, volumes, ports, images, networks } = rows;
      const hold = [
        isUnique(instances.map(({ spec }) => spec.name)),
        isUnique(volumes.map(({ volume }) => volume.name)),
        isUnique(volumes.map(({ volume }) => volume.id)),
        isUnique(rows.shares.map(({ name }) => name)),
        isUnique(rows.shares.map(({ id }) => id)),
        isUnique(rows.shareUses.map(({ instanceId, shareId }) => `${instanceId} ${shareId}`)),
        isUnique(rows.shareUses.map(({ instanceId, tag }) => `${instanceId} ${tag}`)),
        rows.shareUses.every(({ instanceId }) => instances.some(({ id }) => id === instanceId)),
        rows.shareUses.every(({ shareId }) => rows.shares.some(({ id }) => id === shareId)),
        isUnique(images.map(({ name }) => name)),
        isUnique(networks.map(({ name }) => name)),
        isUnique(ports.map(({ port }) => port.id)),
        isUnique(ports.map(({ port }) => port.macAddress)),
        isUnique(ports.map(({ port }) => `${port.networkId} ${port.ipAddress}`)),
        isUnique(rows.allocations.map(({ consumerId }) => consumerId)),
        volumes.every(
          ({ volume }) => volume.imageId === null || images.some(({ id }) => id === volume.imageId),
        ),
        volumes.every(
          ({ volume }) => volume.instanceId === null || instances.some(({ id }) => id === volume.instanceId),
        ),
        ports.every(({ port }) => networks.some(({ id }) => id === port.networkId)),
        ports.every(({ port }) => instances.some(({ id }) => id === port.instanceId)),
      ];
      return hold.every(Boolean);
    }),
    { numRuns: 3_000 },
  );
  t.pass('3,000 hosts');
});

t.test('everything on a host is taken or told of, once', async (t) => {
  fc.assert(
    fc.property(anyHost, (view) => {
      const rows = plan(view);
      const told = [...rows.added, ...rows.leftOut].map(({ kind, id }) => `${kind} ${id}`);
      const ofInstances = rows.volumes
        .filter(({ volume }) => volume.instanceId !== null)
        .map(({ volume }) => `volume ${volume.id}`);
      const there = [
        ...view.guests.map(({ id }) => `instance ${id}`),
        ...view.pool.volumes.map(({ id }) => `volume ${id}`),
        ...view.pool.shares.map(({ id }) => `share ${id}`),
        ...view.pool.images.map(({ id }) => `image ${id}`),
        ...view.networks.map(({ networkId }) => `network ${networkId}`),
      ];
      return isUnique(told) && there.every((each) => told.includes(each) || ofInstances.includes(each));
    }),
    { numRuns: 3_000 },
  );
  t.pass('3,000 hosts');
});

t.test('a volume that any guest has as a disk is never free, whoever that guest is', async (t) => {
  fc.assert(
    fc.property(anyHost, (view) => {
      const used = new Set(view.uses.flatMap(({ files }) => files));
      return plan(view).volumes.every(
        ({ volume }) => volume.instanceId !== null || !used.has(CONTEXT.volumePath(volume.id)),
      );
    }),
    { numRuns: 3_000 },
  );
  t.pass('3,000 hosts');
});

t.test('the order in which a host tells its things makes no difference', async (t) => {
  fc.assert(
    fc.property(anyHost, (view) => {
      const reversed: HostView = {
        guests: view.guests.toReversed(),
        uses: view.uses.toReversed(),
        pool: {
          images: view.pool.images.toReversed(),
          volumes: view.pool.volumes.toReversed(),
          shares: view.pool.shares.toReversed(),
        },
        networks: view.networks.toReversed(),
      };
      return JSON.stringify(plan(view)) === JSON.stringify(plan(reversed));
    }),
    { numRuns: 1_000 },
  );
  t.pass('1,000 hosts');
});

t.test('a host that was taken has nothing new', async (t) => {
  fc.assert(
    fc.property(anyHost, (view) => {
      const first = plan(view);
      const again = plan(view, {
        images: first.images,
        networks: first.networks.map((network) => ({ ...network, ports: 0, state: 'ready', createdAt: AT })),
        volumes: first.volumes.map(({ volume }) => volume),
        shares: first.shares.map((share) => ({ ...share, users: [] })),
        instances: first.instances.map(({ id, spec }) => ({ id, name: spec.name })),
        ports: first.ports.map(({ port }) => port),
      });
      return again.added.length === 0;
    }),
    { numRuns: 2_000 },
  );
  t.pass('2,000 hosts');
});
