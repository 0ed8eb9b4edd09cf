/**
 * What berthd itself takes, at most, while it moves large images and backups: a process of its own, with a real guest, and
 * the peak that the kernel has noted of it for each piece of work.
 *
 * @see proc_pid_status(5), VmHWM; proc_pid_clear_refs(5), 5: the peak begins anew
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Backup } from '../src/model/backup.ts';
import { inGuest, untilUp } from '../test/e2e/support/in-guest.ts';
import { prepare, RealNode, spec } from '../test/e2e/support/node.ts';
import { type Case, caseOf } from './harness.ts';

const MIB = 1024 ** 2;
/** A cloud image of today. */
const IMAGE_MIB = 512;
/** What the guest changes between two backups. */
const CHANGED_MIB = 64;
/** Of the issue. */
const GOAL_MB = 120;
const NAME = 'bench-memory';

export async function memoryCases(folder: string): Promise<Case[]> {
  const objects = join(folder, 'memory-objects');
  const keyFile = join(folder, 'memory-key');
  mkdirSync(objects);
  writeFileSync(join(objects, '.berth-store'), '');
  writeFileSync(keyFile, randomBytes(32).toString('hex'), { mode: 0o600 });
  const store = ['[[objects]]', 'name = "near"', `path = "${objects}"`, `backupKeyFile = "${keyFile}"`];
  const node = new RealNode({ built: true, config: store.join('\n') });
  await node.start();
  try {
    await prepare(node);
    return await measured(node, imagesIn(folder));
  } finally {
    await node.remove();
    rmSync(objects, { recursive: true });
  }
}

interface Images {
  raw: string;
  vmdk: string;
}

/** Bytes that nothing can pack, as those of a real image mostly are. */
function imagesIn(folder: string): Images {
  const [raw, vmdk] = [join(folder, 'memory.raw'), join(folder, 'memory.vmdk')];
  for (let at = 0; at < IMAGE_MIB; at += 64) writeFileSync(raw, randomBytes(64 * MIB), { flag: 'a' });
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'vmdk', raw, vmdk]);
  return { raw, vmdk };
}

async function measured(node: RealNode, { raw, vmdk }: Images): Promise<Case[]> {
  const cases: Case[] = [];
  const during = async (what: string, work: () => Promise<unknown>) => {
    writeFileSync(`/proc/${node.pid}/clear_refs`, '5');
    await work();
    cases.push(caseOfPeak(what, peakRssBytes(node.pid)));
  };
  await during('import', () => node.must('image.import', { name: 'large', source: raw, format: 'raw' }));
  await during('conversion', () => node.must('image.import', { name: 'vmdk', source: vmdk, format: 'vmdk' }));
  await during('upload', () => cli(node, 'image', 'upload', 'sent', raw));
  await haveGuest(node);
  await during('full backup of a guest that runs', () => node.must('backup.create', { id: NAME }));
  await change(`berth-${NAME}`);
  await during('incremental backup', () => node.must('backup.create', { id: NAME }));
  const { backups } = await node.call('backup.list', { instance: NAME });
  const backup = backups.at(-1) as Backup;
  if (backup.parentId === null) throw new Error(`not an incremental one: ${backup.full?.message}`);
  const its = { id: backup.id, instanceId: backup.instanceId, store: backup.store };
  await during('verification', () => node.must('backup.verify', its));
  await during('verification by restoring', () => node.must('backup.verify', { ...its, restore: true }));
  await during('restore', () => {
    const volumeId = backup.volumes[1]?.id as string;
    return node.must('backup.restore', { ...its, volumeId, name: 'again', sizeGib: 1 });
  });
  await node.must('instance.stop', { id: NAME, mode: 'forced' });
  await during('full backup at rest', () => node.must('backup.create', { id: NAME, full: true }));
  return cases;
}

function caseOfPeak(what: string, peak: number): Case {
  const figure = caseOf({
    case: `peak memory of berthd: ${what}, ${IMAGE_MIB} MiB`,
    unit: 'MB',
    ours: [peak / 1e6],
    goal: GOAL_MB,
  });
  return { ...figure, peakRssBytes: peak };
}

function peakRssBytes(pid: number): number {
  const [, kib = 'NaN'] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) * 1024;
}

/** With the image as its second disk. */
async function haveGuest(node: RealNode): Promise<void> {
  await node.must('volume.create', { name: 'data', sizeGib: 1, image: 'large' });
  await node.must('instance.create', {
    spec: spec(NAME, { disks: [{ image: 'test' }, { volume: 'data' }] }),
  });
  await untilUp(`berth-${NAME}`);
}

/** Copies within the disk, which a guest does faster than making new bytes. */
async function change(domain: string): Promise<void> {
  const { code, output } = await inGuest(
    domain,
    `dd if=/dev/vdb of=/dev/vdb bs=1M count=${CHANGED_MIB} seek=${IMAGE_MIB} conv=fsync`,
  );
  if (code !== 0) throw new Error(output);
}

async function cli(node: RealNode, ...args: string[]): Promise<void> {
  const { code, stderr } = await node.berth(...args);
  if (code !== 0) throw new Error(`berth ${args.join(' ')}: ${stderr}`);
}
