/**
 * What a guest runs whose kernel keeps project quotas, since not every machine's does: the pool's driver, on an ext4 of its
 * own, and a writer with the rights that virtiofsd has. It prints what it has seen as JSON.
 */
import { mkdirSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';

const GIB = 1024 ** 3;
const DISK = '/tmp/disk';
const PLACE = '/tmp/place';
const IDS = ['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222'] as const;

const exec = new HostExec();

export interface Seen {
  sizeSeenBytes: number;
  writes: Record<string, string>;
  ownBytes: number;
  listedAfter: number;
}

function label(quotaGib: number | null) {
  return { name: 'files', createdAt: '2026-01-02T03:04:05.678Z', quotaGib, protected: false };
}

/** Takes room as virtiofsd does: without the right to go beyond a quota. */
async function write(folder: string, name: string, mib: number): Promise<string> {
  const rights = ['--bounding-set', '-sys_resource', '--inh-caps', '-sys_resource'];
  const { exitCode, stderr } = await exec.run(
    'setpriv',
    [...rights, '/usr/bin/fallocate', '-l', `${mib}M`, join(folder, name)],
    { okCodes: [0, 1] },
  );
  return exitCode === 0 ? 'written' : stderr.trim();
}

async function main(): Promise<Seen> {
  writeFileSync(DISK, '');
  truncateSync(DISK, 4 * GIB);
  await exec.run('mkfs.ext4', ['-q', '-O', 'quota,project', '-E', 'quotatype=prjquota', DISK]);
  mkdirSync(PLACE);
  await exec.run('mount', ['-o', 'loop,prjquota', DISK, PLACE]);
  const pool = new Qcow2Pool({ name: 'quotas', path: join(PLACE, 'pool'), exec, sandbox: null });
  await pool.prepare();
  for (const [index, id] of IDS.entries()) await pool.makeShare({ id, label: label(index === 0 ? 1 : null) });
  const [limited, free] = IDS.map((id) => pool.paths.share(id)) as [string, string];
  const { blocks, bsize } = statfsSync(limited);
  const writes: Seen['writes'] = {};
  writes['within'] = await write(limited, 'within', 900);
  writes['beyond'] = await write(limited, 'beyond', 300);
  writes['in another share'] = await write(free, 'more', 300);
  const { ownBytes } = await pool.capacity();
  await pool.configureShare(IDS[0], label(2));
  writes['after it was raised'] = await write(limited, 'beyond', 300);
  await pool.configureShare(IDS[0], label(1));
  writes['after it was lowered below what is there'] = await write(limited, 'late', 1);
  await pool.configureShare(IDS[0], label(null));
  writes['after it was taken away'] = await write(limited, 'late', 100);
  await pool.configureShare(IDS[1], label(1));
  writes['beyond one that was given later'] = await write(free, 'beyond', 1_000);
  for (const id of IDS) await pool.removeShare(id, { files: 'removed' });
  return { sizeSeenBytes: blocks * bsize, writes, ownBytes, listedAfter: (await pool.list()).length };
}

console.log(JSON.stringify(await main()));
