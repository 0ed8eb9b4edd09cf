import { randomUUID } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { SeedContents } from '../../../src/drivers/contracts/storage.ts';
import type { Exec } from '../../../src/drivers/host/exec.ts';
import { seedDigest, seedFiles } from '../../../src/drivers/qcow2/nocloud.ts';
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
  t.same(seedFiles(contents), {
    'meta-data': META_DATA,
    'user-data': contents.userData,
    'network-config': NETWORK_CONFIG,
  });
});

t.test('a seed without keys, user-data and NICs has no empty lists', async (t) => {
  const bare = { ...contents, sshAuthorizedKeys: [], userData: null, nics: [] };
  t.same(seedFiles(bare), {
    'meta-data': 'instance-id: "7d444840-9dc0-11d1-b245-5ffdce74fad2"\nlocal-hostname: "guest-1"\n',
    'user-data': '',
  });
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
