/** Seeds and consoles of a simulated host's pool. */
import { AgentError } from '../../model/errors.ts';
import type { SeedContents } from '../contracts/storage.ts';
import { newFile } from './files.ts';
import type { PoolFiles } from './pool-files.ts';

/** What an ISO with the few files of a seed takes. */
const SEED_BYTES = 372_736;
/** Most bytes of a console read at once, as of the real pool. */
const TAIL_BYTES_LIMIT = 1024 * 1024;

export class SimSeeds {
  readonly #files: PoolFiles;

  constructor(files: PoolFiles) {
    this.#files = files;
  }

  make(contents: SeedContents): void {
    const id = contents.instanceId;
    const path = this.#files.layout.seed(id);
    const text = JSON.stringify(contents);
    const before = this.#files.get(path);
    if (before === undefined) {
      this.#files.put(newFile({ kind: 'seed', id, path, sizeBytes: SEED_BYTES, text }));
    } else if (before.text !== text) {
      throw new AgentError('HOST_CONFLICT', `The seed of instance ${id} exists with other contents`);
    }
  }

  look(instanceId: string): boolean {
    return this.#files.get(this.#files.layout.seed(instanceId)) !== undefined;
  }

  remove(instanceId: string): void {
    this.#files.remove(this.#files.layout.seed(instanceId));
  }

  readConsole(instanceId: string, tailBytes: number): { text: string; totalBytes: number } {
    if (!Number.isInteger(tailBytes) || tailBytes < 1 || tailBytes > TAIL_BYTES_LIMIT) {
      throw new AgentError('INVALID_ARGUMENT', `1 to ${TAIL_BYTES_LIMIT} bytes can be read`);
    }
    const bytes = Buffer.from(this.#files.get(this.#files.layout.consoleLog(instanceId))?.text ?? '');
    return { text: bytes.subarray(-tailBytes).toString('utf8'), totalBytes: bytes.length };
  }

  removeConsole(instanceId: string): void {
    this.#files.remove(this.#files.layout.consoleLog(instanceId));
  }
}
