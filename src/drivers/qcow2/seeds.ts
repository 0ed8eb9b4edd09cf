/**
 * Seeds: ISO images of NoCloud or of a ConfigDrive, one for each instance.
 *
 * Made in a private folder beside their final place, and moved there when whole. What a seed was asked to
 * hold is in its own ISO header, as a digest, so that a repeated request is told from a contradicting one.
 */
import { mkdir, open, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import type { SeedContents } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import type { Exec } from '../host/exec.ts';
import { doing, exists, publish, readAt, removeDurably } from './files.ts';
import { KeyedLock } from './keyed-lock.ts';
import { checkId, type Layout } from './layout.ts';
import { type SeedMedium, seedDigest, seedMedium } from './seed-files.ts';

/** It may hold passwords: libvirt gives it to QEMU's user when the guest starts. */
const SEED_MODE = 0o600;
const WORK_MODE = 0o700;
/** Tools that can write an ISO, best first, with what comes before the options that both know. */
const ISO_TOOLS: readonly { program: string; first: readonly string[] }[] = [
  { program: 'genisoimage', first: [] },
  { program: 'xorriso', first: ['-as', 'mkisofs'] },
];
/** Application identifier in the primary volume descriptor. @see ECMA-119, 8.4.20 */
const APPLICATION_ID_AT = 16 * 2048 + 574;
const APPLICATION_ID_BYTES = 128;

export class SeedStore {
  readonly #layout: Layout;
  readonly #exec: Exec;
  readonly #lock = new KeyedLock();

  constructor({ layout, exec }: { layout: Layout; exec: Exec }) {
    this.#layout = layout;
    this.#exec = exec;
  }

  async make(contents: SeedContents, limit: CallLimit): Promise<void> {
    const id = checkId(contents.instanceId);
    await this.#lock.hold(id, limit, async () => {
      if (!(await this.look(id))) return await this.#create(contents, limit);
      await this.#checkAlike(contents);
      // A maker that was killed when the seed was in its place has left it.
      await removeDurably(this.#layout.seedWork(id));
    });
  }

  async look(instanceId: string): Promise<boolean> {
    return await exists(this.#layout.seed(instanceId));
  }

  async remove(instanceId: string, limit: CallLimit): Promise<void> {
    const path = this.#layout.seed(instanceId);
    await this.#lock.hold(instanceId, limit, async () => {
      await removeDurably(path);
      await removeDurably(this.#layout.seedWork(instanceId));
    });
  }

  async #create(contents: SeedContents, limit: CallLimit): Promise<void> {
    const work = this.#layout.seedWork(contents.instanceId);
    try {
      await removeDurably(work);
      const { label, files } = seedMedium(contents);
      const folder = await writeInputs(work, files);
      const iso = join(work, 'seed.iso');
      const options = ['-quiet', '-o', iso, '-V', label, '-A', applicationId(contents), '-J', '-R', folder];
      await this.#runIsoTool(options, limit);
      await publish(iso, this.#layout.seed(contents.instanceId), SEED_MODE);
    } finally {
      // Where this fails, the folder stays and `list` shows it: `remove` finds it.
      await removeDurably(work).catch(() => undefined);
    }
  }

  async #runIsoTool(options: readonly string[], limit: CallLimit): Promise<void> {
    for (const { program, first } of ISO_TOOLS) {
      if (await this.#ran(program, [...first, ...options], limit)) return;
    }
    throw new AgentError(
      'UNSUPPORTED',
      `No tool here writes ISO images: ${ISO_TOOLS.map(named).join(', ')}`,
      {
        hint: 'Install genisoimage or xorriso.',
      },
    );
  }

  /** False where it is not installed. */
  async #ran(program: string, args: readonly string[], limit: CallLimit): Promise<boolean> {
    try {
      await this.#exec.run(program, args, { signal: limit.signal });
      return true;
    } catch (error) {
      if (error instanceof AgentError && error.code === 'UNSUPPORTED') return false;
      throw error;
    }
  }

  async #checkAlike(contents: SeedContents): Promise<void> {
    const path = this.#layout.seed(contents.instanceId);
    const found = await doing(`read ${path}`, () => readApplicationId(path));
    if (found === applicationId(contents)) return;
    throw new AgentError(
      'HOST_CONFLICT',
      `The seed of instance ${contents.instanceId} exists with other contents`,
    );
  }
}

/** In capitals, which is all that ECMA-119 allows there. */
function applicationId(contents: SeedContents): string {
  return `BERTH SEED ${seedDigest(contents).toUpperCase()}`;
}

async function writeInputs(work: string, files: SeedMedium['files']): Promise<string> {
  const folder = join(work, 'files');
  await mkdir(work, { mode: WORK_MODE });
  for (const [name, data] of Object.entries(files)) {
    const path = join(folder, name);
    await mkdir(dirname(path), { mode: WORK_MODE, recursive: true });
    await writeFile(path, data, { mode: SEED_MODE, flag: 'wx' });
  }
  return folder;
}

async function readApplicationId(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    return (await readAt(file, APPLICATION_ID_AT, APPLICATION_ID_BYTES)).toString('latin1').trimEnd();
  } finally {
    await file.close();
  }
}

function named({ program }: { program: string }): string {
  return program;
}
