import t from 'tap';
import { type GuestMetadata, readMetadata, writeMetadata } from '../../../src/agent/instances/metadata.ts';

import { DEFAULT_POLICIES } from '../../../src/model/policy.ts';
import fc from '../../property.ts';

const ID = '11111111-2222-4333-8444-555555555555';
const NODE = '99999999-2222-4333-8444-555555555555';
const VOLUME = '22222222-2222-4333-8444-555555555555';
const IMAGE = '33333333-2222-4333-8444-555555555555';
const PORT = '44444444-2222-4333-8444-555555555555';
const NETWORK = '55555555-2222-4333-8444-555555555555';
const AT = '2026-01-02T03:04:05.678Z';

const SPEC = {
  name: 'web',
  vcpus: 1,
  memoryMib: 512,
  firmware: 'bios' as const,
  disks: [{ image: 'debian', sizeGib: 4 }],
  nics: [{ network: 'default' }],
  sshAuthorizedKeys: [],
  watchdog: 'none' as const,
  policies: DEFAULT_POLICIES,
};
const { watchdog: _watchdog, policies: _policies, ...OLD_SPEC } = SPEC;
const PORTS = [
  {
    network: {
      id: NETWORK,
      name: 'default',
      bridge: 'bb-55555555222',
      cidr: '10.80.0.0/24',
      gatewayAddress: '10.80.0.1',
      nat: true,
      dhcp: true,
      dnsServers: [],
    },
    port: { id: PORT, macAddress: '52:54:00:12:34:56', ipAddress: '10.80.0.2', hostname: 'web' },
  },
];

function metadata(change: Partial<GuestMetadata> = {}): GuestMetadata & { nodeId: string } {
  return {
    id: ID,
    generation: 3,
    seq: 17,
    spec: SPEC,
    createdAt: AT,
    volumes: [
      {
        id: VOLUME,
        name: 'web-disk0',
        sizeGib: 4,
        image: { id: IMAGE, format: 'raw' },
        deletedWithInstance: true,
        createdAt: AT,
      },
    ],
    ports: PORTS,
    ...change,
    nodeId: NODE,
  };
}

t.test('what is written is read back', async (t) => {
  t.same(readMetadata(writeMetadata(metadata())), metadata());
  const bare = metadata({ volumes: [], ports: [], spec: { ...SPEC, nics: [] } });
  t.same(readMetadata(writeMetadata(bare)), bare);
});

t.test('what the first version of Berth wrote is read, with nothing known of its counters', async (t) => {
  const first = {
    version: 1,
    id: ID,
    spec: OLD_SPEC,
    createdAt: AT,
    volumes: [
      {
        id: VOLUME,
        name: 'web-disk0',
        pool: 'default',
        sizeGib: 4,
        imageId: IMAGE,
        instanceId: ID,
        deletedWithInstance: true,
        state: 'creating',
        createdAt: AT,
      },
    ],
    ports: PORTS,
  };
  const image = { id: IMAGE, format: 'qcow2' };
  t.same(readMetadata(JSON.stringify(first)), {
    ...metadata({ generation: 0, seq: 0 }),
    nodeId: null,
    volumes: [{ ...metadata().volumes[0], image }],
  });
});

t.test('what is not exactly that is refused, and says where', async (t) => {
  const written = JSON.parse(writeMetadata(metadata()));
  const bad: [what: string, text: string][] = [
    ['nothing', ''],
    ['no JSON', '{'],
    ['no object', '[]'],
    ['null', 'null'],
    ['a later version', JSON.stringify({ ...written, version: 3 })],
    ['a key too many', JSON.stringify({ ...written, extra: 1 })],
    ['no id', JSON.stringify({ ...written, id: '../../etc/passwd' })],
    ['a negative generation', JSON.stringify({ ...written, generation: -1 })],
    ['a time that is none', JSON.stringify({ ...written, createdAt: 'yesterday' })],
    ['too many volumes', JSON.stringify({ ...written, volumes: Array(17).fill(written.volumes[0]) })],
    [
      'a volume with a path',
      JSON.stringify({ ...written, volumes: [{ ...written.volumes[0], name: 'a/b' }] }),
    ],
    ['nested too deep', `${'['.repeat(100)}${']'.repeat(100)}`],
    ['too long', JSON.stringify({ ...written, pad: 'x'.repeat(2 * 1024 * 1024) })],
  ];
  for (const [what, text] of bad) t.throws(() => readMetadata(text), { code: 'INVALID_ARGUMENT' }, what);
});

t.test('any text at all is read or refused, and never anything else', async (t) => {
  const text = writeMetadata(metadata());
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.string({ maxLength: 3 }), (at, piece) => {
      try {
        readMetadata(text.slice(0, at) + piece + text.slice(at + piece.length));
      } catch (error) {
        if ((error as { code?: string }).code !== 'INVALID_ARGUMENT') throw error;
      }
    }),
    { numRuns: 2_000 },
  );
  t.pass('2,000 damaged texts');
});
