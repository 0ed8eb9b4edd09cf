/**
 * Volumes that a simulated host has given away: what an export makes, and whose it is while it is not finished.
 */
import { createHash } from 'node:crypto';
import { isAbsolute } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import type { ExportFacts, ExportPlace, VolumeExport } from '../contracts/storage.ts';
import type { WorldState } from './state.ts';

/** What an export takes: nobody looks into it. */
const EXPORT_BYTES = 65_536;

export class Exports {
  readonly #state: WorldState;
  readonly #changed: () => void;

  constructor(state: WorldState, changed: () => void) {
    this.#state = state;
    this.#changed = changed;
  }

  /** Paths of the files that are there. */
  get paths(): string[] {
    return [...this.#state.exports.keys()];
  }

  make({ volumeId, path, format }: VolumeExport): ExportFacts {
    if (this.#state.exports.has(path)) throw new AgentError('ALREADY_EXISTS', `${path} exists already`);
    const sha256 = createHash('sha256').update(`${volumeId}.${format}`).digest('hex');
    const facts = { sha256, sizeBytes: EXPORT_BYTES };
    this.#state.exports.set(path, { facts, volumeId });
    this.#changed();
    return facts;
  }

  look(place: ExportPlace): ExportFacts | null {
    const found = this.#state.exports.get(place.path);
    return found?.volumeId === place.volumeId ? found.facts : null;
  }

  finish(place: ExportPlace): void {
    const found = this.#state.exports.get(place.path);
    if (found?.volumeId === place.volumeId) found.volumeId = null;
    this.#changed();
  }

  remove(place: ExportPlace): void {
    if (this.look(place) !== null) this.#state.exports.delete(place.path);
    this.#changed();
  }
}

/** @throws {AgentError} NOT_FOUND, INVALID_ARGUMENT */
export function checkExport({ volumeId, path }: VolumeExport, volume: object | null): void {
  if (volume === null) throw new AgentError('NOT_FOUND', `There is no volume ${volumeId} in this pool`);
  if (!isAbsolute(path)) throw new AgentError('INVALID_ARGUMENT', 'An export goes to an absolute path');
}
