import { randomUUID } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { SeedContents } from '../../../src/drivers/contracts/storage.ts';
import type { Exec } from '../../../src/drivers/host/exec.ts';
import { seedDigest, seedMedium } from '../../../src/drivers/qcow2/seed-files.ts';
import { AgentError } from '../../../src/model/errors.ts';
import { exec, makePool, refuses } from './fixtures.ts';

const contents: SeedContents = {
  instanceId: '7d444840-9dc0-11d1-b245-5ffdce74fad2',
  hostname: 'guest-1',
  sshAuthorizedKeys: ['ssh-ed25519 AAAA "quoted": # no comment'],
  userData: '#!/bin/sh\necho "hé" \\\n',
  nics: [
    { macAddress: '52:54:00:12:34:56', static: null },
    {
      macAddress: '52:54:00:12:34:57',
      static: {
        address: '192.0.2.5',
        prefix: 24,
        gateway: '192.0.2.1',
        dnsServers: ['192.0.2.2', '192.0.2.3'],
      },
    },
  ],
};

const META_DATA = `instance-id: "7d444840-9dc0-11d1-b245-5ffdce74fad2"
local-hostname: "guest-1"
public-keys:
  - "ssh-ed25519 AAAA \\"quoted\\": # no comment"
`;

const NETWORK_CONFIG = `version: 2
ethernets:
  eth0:
    match:
      macaddress: "52:54:00:12:34:56"
    set-name: eth0
    dhcp4: true
  eth1:
    match:
      macaddress: "52:54:00:12:34:57"
    set-name: eth1
    dhcp4: false
    addresses:
      - "192.0.2.5/24"
    routes:
      - to: "0.0.0.0/0"
        via: "192.0.2.1"
    nameservers:
      addresses:
        - "192.0.2.2"
        - "192.0.2.3"
`;

const NETWORK_DATA = {
  links: [
    { id: 'nic0', type: 'phy', ethernet_mac_address: '52:54:00:12:34:56' },
    { id: 'nic1', type: 'phy', ethernet_mac_address: '52:54:00:12:34:57' },
  ],
  networks: [
    { id: 'network0', network_id: 'network0', link: 'nic0', type: 'ipv4_dhcp' },
    {
      id: 'network1',
      network_id: 'network1',
      link: 'nic1',
      type: 'ipv4',
      ip_address: '192.0.2.5',
      netmask: '255.255.255.0',
      routes: [{ network: '0.0.0.0', netmask: '0.0.0.0', gateway: '192.0.2.1' }],
      services: [
        { type: 'dns', address: '192.0.2.2' },
        { type: 'dns', address: '192.0.2.3' },
      ],
    },
  ],
  services: [
    { type: 'dns', address: '192.0.2.2' },
    { type: 'dns', address: '192.0.2.3' },
  ],
};

/** The same host without one of its programs. */
function without(program: string): Exec {
  return {
    run: (name, args, options) =>
      name === program
        ? Promise.reject(new AgentError('UNSUPPORTED', `${name} is not installed on this host`))
        : exec.run(name, args, options),
  };
}

t.test('a seed is plain YAML, with every string quoted', async (t) => {
  t.same(seedMedium(contents).files, {
    'meta-data': META_DATA,
    'user-data': contents.userData,
    'network-config': NETWORK_CONFIG,
  });
});

t.test('a seed without keys, user-data and NICs has no empty lists', async (t) => {
  const bare = { ...contents, sshAuthorizedKeys: [], userData: null, nics: [] };
  t.same(seedMedium(bare).files, {
    'meta-data': 'instance-id: "7d444840-9dc0-11d1-b245-5ffdce74fad2"\nlocal-hostname: "guest-1"\n',
    'user-data': '',
  });
});

t.test('vendor-data is a file of its own, and user-data in base64 is written as its bytes', async (t) => {
  const packed = Buffer.from([0x1f, 0x8b, 0xff]);
  const more = {
    ...contents,
    userData: packed.toString('base64'),
    userDataEncoding: 'base64',
    vendorData: '#cloud-config\na: 1\n',
  } as const;
  const { files } = seedMedium(more);
  t.same(files['user-data'], packed);
  t.equal(files['vendor-data'], '#cloud-config\na: 1\n');
});

t.test('a ConfigDrive has what OpenStack has there, and no password', async (t) => {
  const { label, files } = seedMedium({ ...contents, format: 'configdrive', vendorData: '#!/bin/sh\n' });
  t.equal(label, 'config-2');
  const read = (name: string): unknown => JSON.parse(files[`openstack/latest/${name}`] as string);
  t.same(read('meta_data.json'), {
    uuid: contents.instanceId,
    name: 'guest-1',
    hostname: 'guest-1',
    launch_index: 0,
    public_keys: { 'key-0': contents.sshAuthorizedKeys[0] },
  });
  t.equal(files['openstack/latest/user_data'], contents.userData);
  t.same(read('vendor_data.json'), { 'cloud-init': '#!/bin/sh\n' });
  t.same(read('network_data.json'), NETWORK_DATA);
});

t.test('a ConfigDrive without anything but names has meta_data.json alone', async (t) => {
  const bare = {
    ...contents,
    sshAuthorizedKeys: [],
    userData: null,
    nics: [],
  };
  const { files } = seedMedium({ ...bare, format: 'configdrive' });
  t.same(Object.keys(files), ['openstack/latest/meta_data.json']);
  t.notMatch(String(files['openstack/latest/meta_data.json']), /public_keys|pass/);
});

t.test('prefixes are written as masks', async (t) => {
  const maskOf = (prefix: number) => {
    const fixed = { address: '10.0.0.2', prefix, gateway: null, dnsServers: [] };
    const nics = [{ macAddress: '52:54:00:12:34:57', static: fixed }];
    const { files } = seedMedium({ ...contents, nics, format: 'configdrive' });
    return JSON.parse(files['openstack/latest/network_data.json'] as string).networks[0].netmask;
  };
  t.same([8, 20, 24, 30, 32].map(maskOf), [
    '255.0.0.0',
    '255.255.240.0',
    '255.255.255.0',
    '255.255.255.252',
    '255.255.255.255',
  ]);
});

t.test('what older versions did not know changes the digest only where it is used', async (t) => {
  const plain = seedDigest(contents);
  t.equal(seedDigest({ ...contents, format: 'nocloud', userDataEncoding: 'text', vendorData: null }), plain);
  const changes = [{ format: 'configdrive' }, { userDataEncoding: 'base64' }, { vendorData: 'x' }] as const;
  t.equal(new Set([plain, ...changes.map((change) => seedDigest({ ...contents, ...change }))]).size, 4);
});

t.test('the digest changes with the contents alone, not with the order of keys', async (t) => {
  const reordered = Object.fromEntries(Object.entries(contents).reverse()) as unknown as SeedContents;
  t.equal(seedDigest(reordered), seedDigest(contents));
  t.not(seedDigest({ ...contents, userData: null }), seedDigest(contents));
});

for (const [tool, host] of [
  ['genisoimage', exec],
  ['xorriso', without('genisoimage')],
] as const) {
  t.test(`a seed made with ${tool} bears its label and holds its files as they are`, async (t) => {
    const { pool } = await makePool(t, { exec: host });
    const instanceId = randomUUID();
    await pool.makeSeed({ ...contents, instanceId });
    await pool.makeSeed({ ...contents, instanceId });
    await refuses(
      t,
      pool.makeSeed({ ...contents, instanceId, hostname: 'x' }),
      'HOST_CONFLICT',
      /other contents/,
    );
    const path = pool.paths.seed(instanceId);
    const isoinfo = async (...args: string[]) => (await exec.run('isoinfo', ['-i', path, ...args])).stdout;
    t.match(await isoinfo('-d'), /^Volume id: cidata$/m);
    t.equal(await isoinfo('-R', '-x', '/user-data'), contents.userData);
    t.equal(await isoinfo('-R', '-x', '/network-config'), NETWORK_CONFIG);
    t.equal(await isoinfo('-J', '-x', '/meta-data'), META_DATA.replace(contents.instanceId, instanceId));
    t.equal((await stat(path)).mode & 0o777, 0o600);
    t.equal((await pool.list()).length, 1);
  });

  t.test(`a ConfigDrive made with ${tool} bears its label and holds its files as they are`, async (t) => {
    const { pool } = await makePool(t, { exec: host });
    await pool.makeSeed({ ...contents, format: 'configdrive' });
    const path = pool.paths.seed(contents.instanceId);
    const isoinfo = async (...args: string[]) => (await exec.run('isoinfo', ['-i', path, ...args])).stdout;
    t.match(await isoinfo('-d'), /^Volume id: config-2$/m);
    t.equal(await isoinfo('-J', '-x', '/openstack/latest/user_data'), contents.userData);
    t.same(JSON.parse(await isoinfo('-R', '-x', '/openstack/latest/network_data.json')), NETWORK_DATA);
    await refuses(t, pool.makeSeed(contents), 'HOST_CONFLICT', /other contents/);
  });
}

t.test('a seed made again takes away what a killed maker left of the first making', async (t) => {
  const { pool } = await makePool(t, { exec });
  await pool.makeSeed(contents);
  const work = pool.paths.seed(contents.instanceId).replace(/iso$/, 'work');
  await mkdir(join(work, 'files'), { recursive: true });
  t.equal((await pool.list()).length, 2);
  await pool.makeSeed(contents);
  t.match(await pool.list(), [{ kind: 'seed', path: pool.paths.seed(contents.instanceId) }]);
});

t.test('without a tool for ISO images a seed is UNSUPPORTED, and says what to install', async (t) => {
  const { pool } = await makePool(t, {
    exec: { run: (name) => Promise.reject(new AgentError('UNSUPPORTED', `${name} is not installed`)) },
  });
  await t.rejects(pool.makeSeed({ ...contents, instanceId: randomUUID() }), {
    code: 'UNSUPPORTED',
    hint: /genisoimage or xorriso/,
  });
  t.same(await pool.list(), []);
});
