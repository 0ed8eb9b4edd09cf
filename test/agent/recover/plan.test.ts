/**
 * The plan of a recovery, as a pure decision: samples of each contradiction, and properties over any host.
 */
import fc from 'fast-check';
import t from 'tap';
import type { GuestMetadata } from '../../../src/agent/instances/metadata.ts';
import type { HostGuest, HostView } from '../../../src/agent/recover/host-view.ts';
import { planRecovery } from '../../../src/agent/recover/plan.ts';
import type { Known, PlanContext, RecoveryPlan } from '../../../src/agent/recover/planning.ts';
import { DEFAULT_POLICIES } from '../../../src/model/policy.ts';
import type { FoundImage, FoundShare, FoundVolume } from '../../../src/drivers/contracts/storage.ts';

const AT = '2026-01-02T03:04:05.678Z';
const GIB = 1024 ** 3;

/** Ids that differ in their first digits, by kind and number. */
function id(kind: 'guest' | 'volume' | 'share' | 'image' | 'network' | 'port', n: number): string {
  const digit = { guest: 'a', volume: 'b', image: 'c', network: 'd', port: 'e', share: 'f' }[kind];
  return `${digit}${n.toString(16).padStart(7, '0')}-0000-4000-8000-000000000000`;
}

const CONTEXT: PlanContext = {
  pool: 'default',
  now: AT,
  names: {},
  generations: {},
  bridgeName: (network) => `bb-${network.slice(0, 8)}`,
  tapName: (port) => `bt-${port.slice(0, 8)}`,
  volumePath: (volume) => `/pool/${volume}`,
  layerPath: (volume, layer) => `/pool/${volume}.${layer}`,
  seedPath: (instance) => `/pool/seed-${instance}`,
};
const NOTHING: Known = {
  images: [],
  networks: [],
  volumes: [],
  shares: [],
  instances: [],
  ports: [],
  busy: new Set(),
};

function networkPlan(n: number) {
  return {
    id: id('network', n),
    name: `net-${n}`,
    bridge: CONTEXT.bridgeName(id('network', n)),
    cidr: `10.80.${n}.0/24`,
    gatewayAddress: `10.80.${n}.1`,
    nat: true,
    dhcp: true,
    dnsServers: [],
  };
}

function foundShare(n: number, change: Partial<FoundShare> = {}): FoundShare {
  const label = { name: `share-${n % 2}`, createdAt: CONTEXT.now, quotaGib: n, protected: n === 1 };
  return { id: id('share', n), label, fault: null, ...change };
}

function carriedShare(n: number, change: { tag?: string } = {}) {
  return { id: id('share', n), name: `share-${n}`, tag: `tag-${n}`, access: 'read-only' as const, ...change };
}

function port(n: number, network = 0, address = n + 2) {
  return {
    network: networkPlan(network),
    port: {
      id: id('port', n),
      macAddress: `52:54:00:00:00:${n.toString(16).padStart(2, '0')}`,
      ipAddress: `10.80.${network}.${address}`,
      hostname: 'guest',
    },
  };
}

function carriedVolume(n: number, change: Partial<GuestMetadata['volumes'][number]> = {}) {
  return {
    id: id('volume', n),
    name: `disk-${n}`,
    sizeGib: 4,
    image: { id: id('image', 0), format: 'qcow2' as const },
    deletedWithInstance: true,
    createdAt: AT,
    ...change,
  };
}

function guest(n: number, change: Partial<GuestMetadata> = {}, more: Partial<HostGuest> = {}): HostGuest {
  return {
    id: id('guest', n),
    name: `berth-vm-${n}`,
    power: { state: 'running', reason: 'booted' },
    fault: null,
    generationId: null,
    metadata: {
      id: id('guest', n),
      nodeId: null,
      generation: 3,
      seq: 9,
      spec: {
        name: `vm-${n}`,
        vcpus: 1,
        memoryMib: 256,
        firmware: 'bios',
        disks: [{ image: 'debian' }],
        nics: [],
        sshAuthorizedKeys: [],
        watchdog: 'none',
        policies: DEFAULT_POLICIES,
      },
      createdAt: AT,
      volumes: [carriedVolume(n)],
      ports: [port(n)],
      ...change,
    },
    ...more,
  };
}

function foundVolume(n: number, change: Partial<FoundVolume> = {}): FoundVolume {
  const image = { id: id('image', 0), format: 'qcow2' as const };
  return { id: id('volume', n), sizeBytes: 4 * GIB, image, label: null, layers: [], fault: null, ...change };
}

function foundImage(n: number, change: Partial<FoundImage> = {}): FoundImage {
  const digest = '0'.repeat(64);
  const sizes = { sizeBytes: 1000, virtualSizeBytes: GIB };
  const facts = { sha256: digest, fileSha256: digest, ...sizes, hardware: null };
  return {
    id: id('image', n),
    format: 'qcow2',
    sourceFormat: 'qcow2',
    facts,
    name: `image-${n}`,
    madeAt: AT,
    fault: null,
    ...change,
  };
}

/** A host whose guests have the disks that they carry. */
function host(guests: HostGuest[], change: Partial<HostView> = {}): HostView {
  return {
    guests,
    uses: guests.map(({ id, name, metadata }) => ({
      id,
      name,
      files: [
        CONTEXT.seedPath(id),
        ...(metadata?.volumes.map((volume) => CONTEXT.volumePath(volume.id)) ?? []),
      ],
    })),
    pool: {
      shares: [],
      images: [foundImage(0)],
      volumes: guests.flatMap(({ metadata }) =>
        (metadata?.volumes ?? []).map((volume) => foundVolume(Number.parseInt(volume.id.slice(1, 8), 16))),
      ),
    },
    networks: [
      { networkId: id('network', 0), bridge: networkPlan(0).bridge, present: true, plan: networkPlan(0) },
    ],
    ...change,
  };
}

function plan(view: HostView, known: Partial<Known> = {}, context: Partial<PlanContext> = {}): RecoveryPlan {
  return planRecovery(view, { ...NOTHING, ...known }, { ...CONTEXT, ...context });
}

function reasonsOf({ leftOut }: RecoveryPlan): Record<string, string> {
  return Object.fromEntries(leftOut.map(({ id, reason }) => [id, reason]));
}

t.test('a whole host is taken whole', async (t) => {
  const rows = plan(host([guest(1, {}, { generationId: id('guest', 9) }), guest(2)]));
  t.same(rows.leftOut, []);
  t.match(rows, {
    instances: [
      {
        id: id('guest', 1),
        spec: { name: 'vm-1' },
        generation: 1_000_003,
        generationId: id('guest', 9),
        power: { state: 'running', since: AT },
      },
      { id: id('guest', 2), generationId: id('guest', 2) },
    ],
    volumes: [
      {
        volume: { id: id('volume', 1), instanceId: id('guest', 1), sizeGib: 4, state: 'ready' },
        position: 0,
      },
      { volume: { id: id('volume', 2) } },
    ],
    ports: [
      { port: { tapName: CONTEXT.tapName(id('port', 1)), ipAddress: '10.80.0.3' }, position: 0 },
      { port: { id: id('port', 2) } },
    ],
    images: [{ id: id('image', 0), name: 'image-0', state: 'ready' }],
    networks: [{ id: id('network', 0) }],
  });
  t.same(rows.allocations[0], {
    consumerId: id('guest', 1),
    claim: { VCPU: 1, MEMORY_MB: 321, disks: { default: 4 } },
  });
});

t.test('a guest of another node on the same hypervisor is left out: its disks are elsewhere', async (t) => {
  const view = host([guest(1)]);
  view.uses = [{ id: id('guest', 1), name: 'berth-vm-1', files: ['/elsewhere/disk.qcow2'] }];
  view.pool.volumes = [];
  view.networks = [];
  const rows = plan(view);
  t.same(rows.instances, []);
  t.same(rows.networks, [], 'and so is the network that it alone carries');
  t.match(reasonsOf(rows), { [id('guest', 1)]: "none of its disks is in this node's pool" });
});

t.test('a guest whose metadata can not be believed is left out, and its disks are not free', async (t) => {
  const liar = guest(1, {}, { metadata: null, fault: 'what it carries is about another guest' });
  const view = host([liar], {
    uses: [{ id: liar.id, name: liar.name, files: ['/pool/'.concat(id('volume', 1))] }],
  });
  view.pool.volumes = [foundVolume(1)];
  t.match(reasonsOf(plan(view)), {
    [liar.id]: /about another guest/,
    [id('volume', 1)]: /guest berth-vm-1 has it as a disk/,
  });
});

t.test('a volume with layers of which no guest tells which is read is left out', async (t) => {
  const view = host([]);
  const layers = [{ id: id('volume', 7), parent: null, sizeBytes: 4 * GIB }];
  view.pool.volumes = [foundVolume(1, { layers })];
  t.match(reasonsOf(plan(view)), { [id('volume', 1)]: /no guest tells which one is read/ });
  t.same(plan(view).volumes, []);
});

t.test('a volume that a foreign guest has is not free either', async (t) => {
  const view = host([]);
  view.pool.volumes = [foundVolume(1)];
  view.uses = [{ id: id('guest', 9), name: 'foreign', files: [CONTEXT.volumePath(id('volume', 1))] }];
  t.match(reasonsOf(plan(view)), { [id('volume', 1)]: 'guest foreign has it as a disk' });
});

t.test('of two guests that claim a volume the one that alone has it is taken', async (t) => {
  const view = host([guest(1), guest(2, { volumes: [carriedVolume(1)] })]);
  view.uses = [1, 2].map((n) => ({
    id: id('guest', n),
    name: `berth-vm-${n}`,
    files: [CONTEXT.seedPath(id('guest', n)), ...(n === 1 ? [CONTEXT.volumePath(id('volume', 1))] : [])],
  }));
  const rows = plan(view);
  t.same(
    rows.instances.map((instance) => instance.id),
    [id('guest', 1)],
  );
  t.match(reasonsOf(rows), { [id('guest', 2)]: /its volume disk-1 is claimed by berth-vm-1 too/ });
});

t.test('where both have it, or none, both are left out, and so is the volume', async (t) => {
  for (const holders of [[1, 2], []]) {
    const view = host([guest(1), guest(2, { volumes: [carriedVolume(1)] })]);
    view.uses = [1, 2].map((n) => ({
      id: id('guest', n),
      name: `berth-vm-${n}`,
      files: [
        CONTEXT.seedPath(id('guest', n)),
        ...(holders.includes(n) ? [CONTEXT.volumePath(id('volume', 1))] : []),
      ],
    }));
    const rows = plan(view);
    t.same(rows.instances, []);
    t.same(Object.keys(reasonsOf(rows)).sort(), [id('guest', 1), id('guest', 2), id('volume', 1)]);
  }
});

t.test('two guests with one MAC address, or one address, are both left out', async (t) => {
  const mac = { ...port(2), port: { ...port(2).port, macAddress: port(1).port.macAddress } };
  for (const twin of [mac, port(2, 0, 3), { ...port(2), port: { ...port(2).port, id: id('port', 1) } }]) {
    const rows = plan(host([guest(1), guest(2, { ports: [twin] }), guest(3)]));
    t.same(
      rows.instances.map((instance) => instance.id),
      [id('guest', 3)],
    );
  }
});

t.test(
  'a name that the hypervisor gives beats the one that is carried; a taken one is replaced',
  async (t) => {
    const renamed = guest(1, {}, { name: 'berth-other' });
    const strange = guest(2, {}, { name: 'somebody-renamed-it' });
    const rows = plan(host([renamed, strange]), { instances: [{ id: id('guest', 7), name: 'vm-2' }] });
    t.match(rows.instances, [{ spec: { name: 'other' } }, { spec: { name: 'instance-a0000002' } }]);
    t.match(
      rows.added.filter(({ kind }) => kind === 'instance'),
      [{ note: null }, { note: 'the hypervisor calls it somebody-renamed-it, not berth-instance-a0000002' }],
    );
  },
);

t.test('a disk that is missing is told, and stays a disk of the instance', async (t) => {
  const view = host([guest(1)]);
  view.pool = { images: [], volumes: [], shares: [] };
  const rows = plan(view);
  t.match(rows.volumes, [{ volume: { id: id('volume', 1), sizeGib: 4, imageId: id('image', 0) } }]);
  t.match(rows.images, [{ id: id('image', 0), state: 'deleting', format: 'qcow2', sizeBytes: 0 }]);
  t.match(rows.added.find(({ kind }) => kind === 'instance')?.note, /its volume disk-1 is missing/);
  t.match(rows.added.find(({ kind }) => kind === 'image')?.note, /it is missing/);
});

t.test("what a volume's header says of its size is believed, and that it stands on nothing", async (t) => {
  const view = host([guest(1)]);
  view.pool.volumes = [foundVolume(1, { sizeBytes: 8 * GIB, image: null })];
  const rows = plan(view);
  t.match(rows.volumes, [{ volume: { sizeGib: 8, imageId: null } }]);
  t.match(
    rows.added.find(({ kind }) => kind === 'instance')?.note,
    /has 8 GiB, not 4; .* stands on image none/,
  );
});

t.test(
  'networks: the plan that the host keeps counts; one that nobody keeps, or that overlaps, is left out',
  async (t) => {
    const [lost, overlapping, wrongBridge] = [1, 2, 3].map(networkPlan) as [
      ReturnType<typeof networkPlan>,
      ReturnType<typeof networkPlan>,
      ReturnType<typeof networkPlan>,
    ];
    const found = (one: ReturnType<typeof networkPlan>, change = {}) => ({
      networkId: one.id,
      bridge: one.bridge,
      present: true,
      plan: one,
      ...change,
    });
    const rows = plan(
      host([guest(1, { ports: [{ ...port(1), network: { ...networkPlan(0), nat: false } }] })], {
        networks: [
          found(networkPlan(0)),
          found(lost, { plan: null }),
          found({ ...overlapping, cidr: '10.80.0.0/24', gatewayAddress: '10.80.0.1' }),
          found({ ...wrongBridge, bridge: 'eth0' }),
        ],
      }),
    );
    t.same(
      rows.networks.map(({ id }) => id),
      [id('network', 0)],
    );
    t.match(reasonsOf(rows), {
      [lost.id]: /kept neither/,
      [overlapping.id]: /overlap with network net-0/,
      [wrongBridge.id]: /not named for it/,
      [id('guest', 1)]: /carries another plan of network net-0/,
    });
  },
);

t.test('a network that only guests carry is taken where they agree', async (t) => {
  t.match(plan(host([guest(1), guest(2)], { networks: [] })).networks, [{ id: id('network', 0) }]);
  const other = guest(2, { ports: [{ ...port(2), network: { ...networkPlan(0), dhcp: false } }] });
  const rows = plan(host([guest(1), other], { networks: [] }));
  t.same(rows.networks, []);
  t.same(rows.instances, []);
  t.match(reasonsOf(rows), {
    [id('network', 0)]: /different plans/,
    [other.id]: /network net-0 is not taken/,
  });
});

t.test('what is known, and what an operation is at work on, is left alone', async (t) => {
  const view = host([guest(1), guest(2)]);
  const busy = new Set([id('guest', 1), id('volume', 1), id('image', 0)]);
  const rows = plan(view, { busy, instances: [{ id: id('guest', 2), name: 'vm-2' }] });
  t.same(rows.instances, []);
  t.same(rows.images, []);
  t.notOk(rows.volumes.some(({ volume }) => volume.id === id('volume', 1)));
});

t.test(
  'a free volume that is known goes to the guest that is proven to have it, and to no other',
  async (t) => {
    const known = {
      volumes: [
        {
          id: id('volume', 1),
          name: 'data',
          pool: 'default',
          sizeGib: 4,
          imageId: null,
          instanceId: null,
          deletedWithInstance: false,
          protected: false,
          device: {},
          qos: null,
          encryption: null,
          state: 'ready' as const,
          createdAt: AT,
        },
      ],
    };
    const rows = plan(host([guest(1)]), known);
    t.same(rows.attached, [{ id: id('volume', 1), instanceId: id('guest', 1), position: 0 }]);
    t.same(rows.volumes, []);
    const seedAlone = { id: id('guest', 1), name: 'berth-vm-1', files: [CONTEXT.seedPath(id('guest', 1))] };
    const unproven = plan(host([guest(1)], { uses: [seedAlone] }), known);
    t.same(unproven.instances, []);
    t.match(reasonsOf(unproven), { [id('guest', 1)]: /known, and not as its own/ });
  },
);

t.test('what the host has no name of gets the one that was saved, else one of its own', async (t) => {
  const view = host([]);
  view.pool = {
    images: [foundImage(1, { name: null })],
    volumes: [foundVolume(1, { image: null })],
    shares: [],
  };
  const names = { [id('image', 1)]: 'debian' };
  const rows = plan(view, {}, { names });
  t.match(rows, {
    images: [{ name: 'debian' }],
    volumes: [{ volume: { name: 'volume-b0000001', instanceId: null } }],
  });
});

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
