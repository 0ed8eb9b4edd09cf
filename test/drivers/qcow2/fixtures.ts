/**
 * What the tests of the qcow2 pool stand on: a pool in a folder of its own, and image files made on the spot.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';
import type { Qcow2PoolParts } from '../../../src/drivers/qcow2/stores.ts';
import { AgentError, type ErrorCode } from '../../../src/model/errors.ts';
import type { MakePool, ValidSource } from '../contract/storage-fixture.ts';
import { KEYS } from '../contract/storage-encryption.ts';
import { TestKeys } from '../keys.ts';

export const MIB = 1024 * 1024;
export const exec = new HostExec();
/** Where the servers of the tests are. */
const allowAddresses = ['127.0.0.0/8'];

/** A folder that goes with the test. */
export async function makeFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'gqs-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A pool that is prepared, in a folder of its own, beside a folder for sources. */
export async function makePool(t: Test, parts: Partial<Qcow2PoolParts> = {}) {
  const folder = await makeFolder(t);
  const pool = new Qcow2Pool({ name: 'main', path: join(folder, 'pool'), exec, allowAddresses, ...parts });
  await pool.prepare();
  return { folder, pool };
}

/** Makes a qcow2 file with some data in it. */
export async function makeQcow2(path: string, options: string[] = [], size = '4M'): Promise<string> {
  await exec.run('qemu-img', ['create', '-q', '-f', 'qcow2', ...options, path, size]);
  if (options.length === 0) {
    await exec.run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 90 0 1M', '-c', 'write -P 91 3M 64k', path]);
  }
  return path;
}

/** Overwrites some bytes of a file. */
export async function patch(path: string, at: number, bytes: Buffer): Promise<void> {
  const content = await readFile(path);
  bytes.copy(content, at);
  await writeFile(path, content);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

export async function sha256Of(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

/**
 * Makes the sources once, and then a fixture of the contract suite for each test.
 *
 * @returns Its `path` is that of the pool. @default one in a folder of its own
 */
export async function fixtureMaker(t: Test): Promise<(t: Test, path?: string) => ReturnType<MakePool>> {
  const sources = await makeFolder(t);
  const valid = await validSource(join(sources, 'valid.qcow2'));
  const backing = ['-u', '-b', '/etc/shadow', '-F', 'raw'];
  const hostile = await makeQcow2(join(sources, 'hostile.qcow2'), backing);
  return async (t, path) => {
    const folder = await makeFolder(t);
    const place = path ?? join(folder, 'pool');
    const keys = new TestKeys(folder, Object.values(KEYS));
    const pool = new Qcow2Pool({ name: 'main', path: place, exec, keys: keys.keys });
    return {
      pool,
      valid,
      hostile: { source: hostile, format: 'qcow2' },
      missingSource: join(sources, 'missing.qcow2'),
      tracking: {
        begin: async (id, name) =>
          void (await exec.run('qemu-img', ['bitmap', '--add', pool.paths.volume(id), name])),
        scribble: async (id) =>
          void (await exec.run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 1M 64k', pool.paths.volume(id)])),
        kill: (id) => useAndDie(pool.paths.volume(id)),
      },
      writeConsole: (instanceId, text) => writeFile(pool.paths.consoleLog(instanceId), text),
      writeInto: (path) => writeFile(join(path, 'file'), 'of a guest'),
      replaceKey: (name) => keys.replace(name),
      keepsQuotas: false,
    };
  };
}

/** Opens a disk as a guest's QEMU does, and is killed. */
async function useAndDie(path: string): Promise<void> {
  const { end } = await useDisk(path);
  await end();
}

/** Opens a disk as a guest's QEMU does, with its lock. */
export async function useDisk(path: string): Promise<{ end(): Promise<void> }> {
  const child = spawn('qemu-io', ['-f', 'qcow2', path], { stdio: ['pipe', 'pipe', 'inherit'] });
  const closed = once(child, 'close');
  await once(child.stdout, 'data'); // its prompt: it has opened the disk
  return {
    end: async () => {
      child.kill('SIGKILL');
      await closed;
    },
  };
}

async function validSource(path: string): Promise<ValidSource> {
  await makeQcow2(path);
  const sha256 = await sha256Of(path);
  const sizeBytes = (await stat(path)).size;
  return { source: path, format: 'qcow2', sha256, sizeBytes, virtualSizeBytes: 4 * MIB };
}

/** `call` fails with an AgentError of this code, whose message matches. */
export async function refuses(
  t: Test,
  call: Promise<unknown>,
  code: ErrorCode,
  message: RegExp,
): Promise<void> {
  await t.rejects(
    call.catch((error: unknown) => {
      // The whole chain, as a caller would be shown it.
      throw error instanceof AgentError
        ? Object.assign(new Error(error.toBody().message), { code: error.code })
        : error;
    }),
    { code, message },
  );
}
