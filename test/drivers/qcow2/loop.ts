/**
 * File systems of their own in files, mounted for one test.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

/** How each is made; the options are those of its own tool. */
const TOOLS = {
  ext4: ['mkfs.ext4', '-q', '-m', '0'],
  xfs: ['mkfs.xfs', '-q', '-m', 'reflink=1'],
  btrfs: ['mkfs.btrfs', '-q'],
} as const;

export type LoopKind = keyof typeof TOOLS;
export const LOOP_KINDS = Object.keys(TOOLS) as LoopKind[];

/** Bytes: the least that mkfs.xfs takes, and as many again. */
const SIZE_BYTES = 640 * 1024 ** 2;

/** Why none can be mounted here, named; false where it can. */
export function cannotMount(kind: LoopKind): string | false {
  if (process.getuid?.() !== 0) return 'needs root';
  const [tool] = TOOLS[kind];
  if (!succeeds('which', tool)) return `needs ${tool}`;
  if (!readFileSync('/proc/filesystems', 'utf8').includes(`\t${kind}\n`)) return `this kernel has no ${kind}`;
  return false;
}

/** Mounts a new one, and answers with its folder; it goes with the test. */
export function mountLoop(t: Test, kind: LoopKind): string {
  const folder = mkdtempSync(join(tmpdir(), `berth-${kind}-`));
  const image = join(folder, 'image');
  const path = join(folder, 'mounted');
  const [tool, ...args] = TOOLS[kind];
  writeFileSync(image, '');
  truncateSync(image, SIZE_BYTES);
  run(tool, ...args, image);
  mkdirSync(path);
  run('mount', '-o', 'loop', image, path);
  t.teardown(() => {
    run('umount', path);
    rmSync(folder, { recursive: true });
  });
  return path;
}

function run(program: string, ...args: string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

function succeeds(program: string, ...args: string[]): boolean {
  try {
    run(program, ...args);
    return true;
  } catch {
    return false;
  }
}
