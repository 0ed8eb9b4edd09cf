/** Seeds as cloud-init itself reads them: Debian's, unpacked by scripts/bootstrap. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import type { SeedContents } from '../../../src/drivers/contracts/storage.ts';
import { exec, makePool } from './fixtures.ts';

const PACKAGES = join(import.meta.dirname, '../../../build/cloud-init/usr/lib/python3/dist-packages');
const READER = join(import.meta.dirname, 'cloud-init', 'read-seed.py');
const skip = existsSync(PACKAGES) ? false : 'no cloud-init: run scripts/bootstrap test';

const KEYS = ['ssh-ed25519 AAAA "quoted": # no comment', 'ssh-rsa BBBB other@example'];
const contents: SeedContents = {
  instanceId: '7d444840-9dc0-11d1-b245-5ffdce74fad2',
  hostname: 'guest-1',
  sshAuthorizedKeys: KEYS,
  userData: '#cloud-config\nruncmd:\n  - echo "é"\n',
  vendorData: '#!/bin/sh\necho "vendor: é"\n',
  nics: [
    { macAddress: '52:54:00:12:34:56', static: null },
    {
      macAddress: '52:54:00:12:34:57',
      static: {
        address: '192.0.2.5',
        prefix: 20,
        gateway: '192.0.2.1',
        dnsServers: ['192.0.2.2', '192.0.2.3'],
      },
    },
    {
      macAddress: '52:54:00:12:34:58',
      static: { address: '198.51.100.5', prefix: 28, gateway: null, dnsServers: ['192.0.2.2'] },
    },
  ],
};

/** What both formats have to come to. */
const READ = {
  id: contents.instanceId,
  hostname: 'guest-1',
  keys: KEYS,
  userKinds: ['text/cloud-config'],
  vendorKinds: ['text/x-shellscript'],
  network: {
    interfaces: [
      { name: 'eth0', mac: '52:54:00:12:34:56', subnets: [{ type: 'dhcp4' }] },
      {
        name: 'eth1',
        mac: '52:54:00:12:34:57',
        subnets: [
          {
            type: 'static',
            address: '192.0.2.5',
            prefix: 20,
            routes: [{ network: '0.0.0.0', prefix: 0, gateway: '192.0.2.1' }],
          },
        ],
      },
      {
        name: 'eth2',
        mac: '52:54:00:12:34:58',
        subnets: [{ type: 'static', address: '198.51.100.5', prefix: 28, routes: [] }],
      },
    ],
    dns: ['192.0.2.2', '192.0.2.3'],
  },
};

/** Makes the seed, and has cloud-init read the files of its image. */
async function readBack(t: Test, seed: SeedContents): Promise<unknown> {
  const { pool } = await makePool(t, { exec });
  await pool.makeSeed(seed);
  const folder = join(t.testdir(), 'files');
  mkdirSync(folder);
  await exec.run('xorriso', [
    '-osirrox',
    'on',
    '-indev',
    pool.paths.seed(seed.instanceId),
    '-extract',
    '/',
    folder,
  ]);
  const macs = seed.nics.map(({ macAddress }) => macAddress);
  const args = [
    `PYTHONPATH=${PACKAGES}`,
    '/usr/bin/python3',
    READER,
    seed.format ?? 'nocloud',
    folder,
    ...macs,
  ];
  return JSON.parse((await exec.run('env', args)).stdout);
}

for (const format of ['nocloud', 'configdrive'] as const) {
  t.test(`cloud-init reads all of a ${format} seed`, { skip }, async (t) => {
    t.match(await readBack(t, { ...contents, format }), READ);
  });

  t.test(`cloud-init reads a ${format} seed that holds nothing but names`, { skip }, async (t) => {
    const bare = { ...contents, sshAuthorizedKeys: [], userData: null, vendorData: null, nics: [], format };
    const expected = { id: contents.instanceId, keys: [], userKinds: [], vendorKinds: [], network: null };
    t.match(await readBack(t, bare), expected);
  });

  t.test(`cloud-init unpacks user-data of a ${format} seed that was packed`, { skip }, async (t) => {
    const userData = gzipSync(contents.userData as string).toString('base64');
    const packed = { ...contents, userData, userDataEncoding: 'base64', format } as const;
    t.match(await readBack(t, packed), READ);
  });
}
