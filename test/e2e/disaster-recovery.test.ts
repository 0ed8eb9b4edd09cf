/**
 * A node is lost, and another one has nothing but a folder that both mount: backups of a real guest, quiesced by its agent,
 * full and of what has changed, verified by restoring them, and the instance made again and booted elsewhere.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Backup } from '../../src/model/backup.ts';
import { MARK } from '../../src/drivers/folder/tree.ts';
import { GIB } from '../../src/model/units.ts';
import { cannotRun, prepare, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 600_000;
const NAME = 'e2e-lost';

/** Writes a mark to its second disk where that has none, and tells it; a first boot tells so. */
const MARK_DISK = `#!/bin/sh
(
  echo "FIRST BOOT"
  head -c 32 /dev/urandom | sha256sum | head -c 64 >/run/mark
  dd if=/run/mark of=/dev/vdb bs=512 conv=notrunc,fsync 2>/dev/null
  echo "MARKED $(head -c 64 /dev/vdb)"
) </dev/null >/dev/console 2>&1 &
`;
const TELL_MARK = `#!/bin/sh
echo "FOUND $(head -c 64 /dev/vdb)" >/dev/console
`;

t.setTimeout(2 * TEST_MS);
t.comment(`timeout=${2 * TEST_MS}`);

async function told(node: RealNode, word: string): Promise<string> {
  return until(`the guest tells ${word}`, TEST_MS, async () => {
    const { text } = await node.call('instance.console', { id: NAME });
    return new RegExp(`${word} ([0-9a-f]{64})`).exec(text)?.[1] ?? null;
  });
}

async function backUp(node: RealNode, params: object = {}): Promise<Backup> {
  const { state, error } = await node.run('backup.create', { id: NAME, ...params });
  if (state !== 'succeeded') throw new Error(error?.message);
  return (await node.call('backup.list', { instance: NAME })).backups.at(-1) as Backup;
}

t.test('an instance comes back on another node', { skip, timeout: TEST_MS }, async (t) => {
  const path = mkdtempSync(join(tmpdir(), 'berth-e2e-store-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  const keyFile = join(path, '.key');
  writeFileSync(keyFile, 'd7'.repeat(32), { mode: 0o600 });
  const config = `[[objects]]\nname = "shared"\npath = "${path}"\nbackupKeyFile = "${keyFile}"\n`;
  const first = new RealNode({ config });
  t.teardown(() => first.remove());
  await first.start();
  await prepare(first);
  const unmarked = await first.berth('doctor');
  t.match(unmarked.stdout, new RegExp(`not marked as an object store[^]*touch ${path}/${MARK}`));
  writeFileSync(join(path, MARK), '');
  await first.run('volume.create', { name: 'data', sizeGib: 1 });
  const disks = [{ image: 'test' }, { volume: 'data' }];
  await first.run('instance.create', { spec: spec(NAME, { disks, userData: MARK_DISK }) });
  const mark = await told(first, 'MARKED');
  await first.untilAddress(NAME);

  const full = await backUp(first, { quiesce: 'required' });
  t.match(full, { parentId: null, consistent: 'file-system', nics: [{ network: 'default' }] });
  const changed = await backUp(first, { quiesce: 'never' });
  t.match(changed, { parentId: full.id, consistent: 'crash' });
  const { store, instanceId } = full;
  for (const { id } of [full, changed])
    t.match(await first.run('backup.verify', { store, instanceId, id, restore: true }), {
      state: 'succeeded',
    });
  const pruned = await first.run('backup.prune', { store, instanceId, last: 1, daily: 0, weekly: 0 });
  t.match(pruned, { state: 'succeeded' });
  t.equal((await first.call('backup.list', { instance: NAME })).backups.length, 1);
  t.same(readdirSync(path).sort(), [MARK, '.key', 'objects', 'uploads'].sort());
  t.same(readdirSync(join(path, 'uploads')), []);
  const was = (await first.call('instance.show', { id: NAME })).instance;
  await first.run('instance.delete', { id: NAME });

  const second = new RealNode({ config });
  t.teardown(() => second.remove());
  await second.start();
  await second.run('network.create', {
    spec: { name: 'elsewhere', cidr: second.cidr, dhcp: true, nat: false, dnsServers: [] },
  });
  const answer = await second.berth(
    ...['backup', 'restore', changed.id, '--instance', NAME, '--network', 'default=elsewhere'],
  );
  t.match(answer, { code: 0, stdout: /^Restored instance/ });
  const { instance } = await second.call('instance.show', { id: NAME });
  t.not(instance.id, was.id);
  t.not(instance.nics[0]?.macAddress, was.nics[0]?.macAddress);
  t.match(instance.nics, [{ network: 'elsewhere' }]);
  await second.untilAddress(NAME);
  t.equal((await second.call('image.list', {})).images.length, 0, 'no image is needed');
  await second.run('instance.delete', { id: NAME });

  const spoken = {
    ...{ store, instanceId, id: changed.id, volumes: changed.volumes.map(({ id }) => id) },
    spec: {
      ...{ ...changed.spec, userData: TELL_MARK, nics: [{ network: 'elsewhere' }] },
      disks: changed.volumes.map(({ virtualSizeBytes }) => ({ sizeGib: Math.ceil(virtualSizeBytes / GIB) })),
    },
  };
  t.match(await second.run('backup.recreate', spoken), { state: 'succeeded' });
  t.equal(await told(second, 'FOUND'), mark, 'what the guest wrote on the node that was lost');
});

t.test('a folder whose mount is missing is not written to', { skip, timeout: TEST_MS }, async (t) => {
  const path = mkdtempSync(join(tmpdir(), 'berth-e2e-mount-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  const node = new RealNode({ config: `[[objects]]\nname = "disk"\npath = "${path}"\n` });
  t.teardown(() => node.remove());
  await node.start();
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'berth-test', path]);
  try {
    t.match((await node.berth('doctor')).stdout, /objects-disk/);
    t.same(readdirSync(path), [MARK, 'uploads']);
  } finally {
    execFileSync('umount', [path]);
  }
  await t.rejects(node.call('backup.list', {}), { code: 'UNAVAILABLE', message: /not marked/ });
  t.same(readdirSync(path), []);
});
