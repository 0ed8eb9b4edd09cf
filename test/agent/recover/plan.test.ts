/**
 * The plan of a recovery, as a pure decision: samples of each contradiction.
 */
import t from 'tap';
import {
  AT,
  carriedVolume,
  CONTEXT,
  foundImage,
  foundVolume,
  GIB,
  guest,
  host,
  id,
  networkPlan,
  plan,
  port,
  reasonsOf,
} from './hosts.ts';

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
