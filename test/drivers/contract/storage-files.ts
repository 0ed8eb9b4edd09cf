/** The part of the contract of StoragePool about what belongs to an instance besides volumes: seeds and consoles. */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { SeedContents } from '../../../src/drivers/contracts/storage.ts';
import { type MakePool, rejectsWith } from './storage-fixture.ts';

export function seedTests(t: Test, make: MakePool): void {
  t.test('a seed is made, looked up, listed and removed', async (t) => {
    const { pool } = await make(t);
    const contents = seed();
    const id = contents.instanceId;
    t.equal(await pool.lookSeed(id), false);
    await pool.makeSeed(contents);
    t.equal(await pool.lookSeed(id), true);
    t.match(await pool.list(), [{ kind: 'seed', id, path: pool.paths.seed(id), standsOn: null }]);
    await pool.removeSeed(id);
    t.equal(await pool.lookSeed(id), false);
    t.same(await pool.list(), []);
  });

  t.test('a seed made again is done; with other contents it is a conflict', async (t) => {
    const { pool } = await make(t);
    const contents = seed();
    await pool.makeSeed(contents);
    await pool.makeSeed(structuredClone(contents));
    await rejectsWith(t, 'HOST_CONFLICT', () => pool.makeSeed({ ...contents, hostname: 'other' }));
  });

  t.test(
    'a seed may be a ConfigDrive with vendor-data; as NoCloud, or without, it is another one',
    async (t) => {
      const { pool } = await make(t);
      const { vendorData, ...contents } = {
        ...seed(),
        format: 'configdrive',
        vendorData: '#!/bin/sh\n',
      } as const;
      await pool.makeSeed({ ...contents, vendorData });
      await pool.makeSeed({ ...contents, vendorData });
      await rejectsWith(t, 'HOST_CONFLICT', () => pool.makeSeed(contents));
      await rejectsWith(t, 'HOST_CONFLICT', () =>
        pool.makeSeed({ ...contents, vendorData, format: 'nocloud' }),
      );
    },
  );

  t.test('a seed may hold nothing but its names', async (t) => {
    const { pool } = await make(t);
    const contents = seed({ sshAuthorizedKeys: [], userData: null, nics: [] });
    await pool.makeSeed(contents);
    t.equal(await pool.lookSeed(contents.instanceId), true);
  });
}

export function consoleTests(t: Test, make: MakePool): void {
  t.test('a console that was never written is empty', async (t) => {
    const { pool } = await make(t);
    t.same(await pool.readConsole(randomUUID(), 4096), { text: '', totalBytes: 0 });
  });

  t.test('the end of a console is read, as many bytes as asked', async (t) => {
    const { pool, writeConsole } = await make(t);
    const id = randomUUID();
    await writeConsole(id, 'first line\nlast line\n');
    t.same(await pool.readConsole(id, 4096), { text: 'first line\nlast line\n', totalBytes: 21 });
    t.same(await pool.readConsole(id, 10), { text: 'last line\n', totalBytes: 21 });
    t.match(await pool.list(), [{ kind: 'console', id, path: pool.paths.consoleLog(id), standsOn: null }]);
    await pool.removeConsole(id);
    t.same(await pool.readConsole(id, 4096), { text: '', totalBytes: 0 });
  });

  t.test('an impossible length of console is an invalid argument', async (t) => {
    const { pool } = await make(t);
    for (const tailBytes of [0, -1, 1.5, Number.NaN]) {
      await rejectsWith(t, 'INVALID_ARGUMENT', () => pool.readConsole(randomUUID(), tailBytes));
    }
  });
}

export function seed(changes: Partial<SeedContents> = {}): SeedContents {
  return {
    instanceId: randomUUID(),
    hostname: 'guest-1',
    sshAuthorizedKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample someone@example'],
    userData: '#!/bin/sh\necho hello\n',
    nics: [{ macAddress: '52:54:00:12:34:56', static: null }],
    ...changes,
  };
}
