/**
 * storage: what the pool adds to the tools that it stands on, each beside the tool alone on the same bytes.
 *
 * An import hashes, copies, checks and syncs where sha256sum only hashes; a conversion runs in its cage and is judged
 * afterwards; a volume is synced and gets its name last. A rate of 0.8 is a time of 1.25. And what berthd takes meanwhile.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HostExec } from '../src/drivers/host/exec.ts';
import { CallLimit } from '../src/drivers/host/call-limit.ts';
import { sandboxUser } from '../src/drivers/host/sandbox.ts';
import { convertToQcow2 } from '../src/drivers/qcow2/convert.ts';
import { ImageTool } from '../src/drivers/qcow2/image-tool.ts';
import type { ImageBody } from '../src/drivers/qcow2/inspect.ts';
import { Qcow2Pool } from '../src/drivers/qcow2/pool.ts';
import { backupCases } from './backup-cases.ts';
import { type Case, caseOf, MEMORY_FOLDER, takeTurns, timed } from './harness.ts';
import { memoryCases } from './storage-memory.ts';

const MIB = 1024 ** 2;
/** A cloud image of today. */
const IMAGE_MIB = 512;
/** Of one that is converted, as those of other hypervisors are: the cage takes 20 ms, whatever comes into it. */
const CONVERTED_MIB = 1_024;
const VIRTUAL_BYTES = 4 * 1024 * MIB;
const ROUNDS = 5;
const VOLUME_ROUNDS = 20;
/** Of the issue: 0.8 × the rate of sha256sum, 0.95 × that of qemu-img convert, 1.3 × the time of qemu-img create. */
const GOALS = { import: 1 / 0.8, convert: 1 / 0.95, volume: 1.3 };
const TIMEOUT_MS = 600_000;

const exec = new HostExec();

export async function storageBench(): Promise<Case[]> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-bench-'));
  try {
    const pool = new Qcow2Pool({ name: 'bench', path: join(folder, 'pool'), exec });
    await pool.prepare();
    const qcow2 = await makeImage(folder, IMAGE_MIB);
    return [
      await importCase(pool, qcow2),
      await convertCase(),
      await volumeCase(pool, folder, qcow2),
      ...(await backupCases(pool, folder)),
      ...(await memoryCases(folder)),
    ];
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Bytes that nothing can pack, as those of a real image mostly are. */
async function makeImage(folder: string, mib: number): Promise<string> {
  const raw = join(folder, 'raw');
  for (let at = 0; at < mib; at += 64) await writeFile(raw, randomBytes(64 * MIB), { flag: 'a' });
  const path = join(folder, 'image.qcow2');
  await run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, path);
  await run('qemu-img', 'resize', '-q', path, String(VIRTUAL_BYTES));
  await rm(raw);
  return path;
}

async function importCase(pool: Qcow2Pool, source: string): Promise<Case> {
  const ours = async () => {
    const id = randomUUID();
    const spent = await timed(() => pool.makeImage({ id, source, format: 'qcow2', sha256: null }));
    await pool.removeImage(id, 'qcow2');
    return spent;
  };
  const peer = () => timed(() => run('sha256sum', source));
  const [mine, theirs] = (await takeTurns(ROUNDS, [ours, peer])) as [number[], number[]];
  return caseOf({
    case: `import of ${IMAGE_MIB} MiB with checksum`,
    unit: 'ms',
    ours: mine,
    peer: { name: 'sha256sum', values: theirs },
    goal: GOALS.import,
  });
}

/** In memory: where disks write in bursts, a second of them says nothing of who has asked for it. */
async function convertCase(): Promise<Case> {
  const inner = await mkdtemp(join(MEMORY_FOLDER, 'berth-bench-'));
  try {
    return await converted(inner);
  } finally {
    await rm(inner, { recursive: true });
  }
}

async function converted(inner: string): Promise<Case> {
  const qcow2 = await makeImage(inner, CONVERTED_MIB);
  const source = join(inner, 'image.vmdk');
  const path = join(inner, 'converted.qcow2');
  await run('qemu-img', 'convert', '-O', 'vmdk', qcow2, source);
  await rm(qcow2);
  const tool = new ImageTool({ exec, user: sandboxUser() });
  const from: ImageBody = {
    path: source,
    format: 'vmdk',
    range: { offset: 0, sizeBytes: (await stat(source)).size },
  };
  const clear = () => rm(path, { force: true }); // an import finds nothing in its place
  const ours = async () => {
    await clear();
    return timed(async () => {
      using limit = new CallLimit('convert', {}, TIMEOUT_MS);
      await convertToQcow2(tool, { from, path, virtualSizeBytes: VIRTUAL_BYTES }, limit, () => undefined);
    });
  };
  const peer = async () => {
    await clear();
    return timed(() => run('qemu-img', 'convert', '-f', 'vmdk', '-O', 'qcow2', source, path));
  };
  const [mine, theirs] = (await takeTurns(ROUNDS, [ours, peer])) as [number[], number[]];
  return caseOf({
    case: `conversion of ${CONVERTED_MIB} MiB of VMDK`,
    unit: 'ms',
    ours: mine,
    peer: { name: 'qemu-img convert', values: theirs },
    goal: GOALS.convert,
  });
}

async function volumeCase(pool: Qcow2Pool, folder: string, source: string): Promise<Case> {
  const image = { id: randomUUID(), format: 'qcow2' } as const;
  await pool.makeImage({ ...image, source, sha256: null });
  const base = pool.paths.image(image.id, 'qcow2');
  const path = join(folder, 'overlay.qcow2');
  const ours = async () => {
    const id = randomUUID();
    const spent = await timed(() => pool.makeVolume({ id, sizeBytes: VIRTUAL_BYTES, image }));
    await pool.removeVolume(id);
    return spent;
  };
  const peer = async () => {
    await rm(path, { force: true });
    return timed(() => run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', path));
  };
  const [mine, theirs] = (await takeTurns(VOLUME_ROUNDS, [ours, peer])) as [number[], number[]];
  return caseOf({
    case: 'volume from a cached image',
    unit: 'ms',
    ours: mine,
    peer: { name: 'qemu-img create -b', values: theirs },
    goal: GOALS.volume,
  });
}

async function run(program: string, ...args: string[]): Promise<void> {
  await exec.run(program, args, { timeoutMs: TIMEOUT_MS });
}
