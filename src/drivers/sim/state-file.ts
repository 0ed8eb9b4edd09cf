/**
 * How a simulated host is kept in a file. It replaces its predecessor by a rename: it is always whole.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { AgentError } from '../../model/errors.ts';
import type { SimBucket, WorldState } from './state.ts';

/** Form of the file; another one is refused. */
const VERSION = 2;

/** Writes the state; the file is the old one or the new one, never a part. */
export function writeState(path: string, state: WorldState, nowMs: number): void {
  const { settings, guests, files, bridges, devices, traces, kept, sources, buckets, exports, secrets } =
    state;
  const { fences } = state;
  const body = {
    version: VERSION,
    nowMs,
    settings,
    guests: [...guests],
    files: [...files],
    bridges: [...bridges],
    devices: [...devices],
    traces: [...traces],
    kept: [...kept],
    fences: [...fences],
    sources: [...sources],
    buckets: [...buckets].map(([name, bucket]) => [name, writtenBucket(bucket)]),
    exports: [...exports],
    secrets: [...secrets],
  };
  writeFileSync(`${path}.new`, JSON.stringify(body));
  renameSync(`${path}.new`, path);
}

/**
 * Reads what `writeState` wrote; null where there is no such file.
 *
 * @throws {AgentError} INVALID_ARGUMENT: not a world, or one in another form.
 */
export function readState(path: string): { state: WorldState; nowMs: number } | null {
  const text = readIfThere(path);
  if (text === null) return null;
  try {
    const body = JSON.parse(text);
    if (body.version !== VERSION) throw new Error(`its version is ${body.version}, not ${VERSION}`);
    const state: WorldState = {
      settings: body.settings,
      guests: new Map(body.guests),
      files: new Map(body.files),
      bridges: new Map(body.bridges),
      devices: new Map(body.devices),
      traces: new Map(body.traces),
      kept: new Map(body.kept),
      fences: new Map(body.fences ?? []),
      sources: new Map(body.sources),
      buckets: new Map(
        body.buckets.map(([name, bucket]: [string, WrittenBucket]) => [name, readBucket(bucket)]),
      ),
      exports: new Map(body.exports),
      // Worlds of before have none.
      secrets: new Map(body.secrets ?? []),
    };
    return { state, nowMs: body.nowMs };
  } catch (cause) {
    throw new AgentError('INVALID_ARGUMENT', `${path} does not hold a simulated host`, { cause });
  }
}

/** Bytes as base64. */
interface WrittenBucket {
  objects: [string, { content: string; modifiedAtMs: number }][];
  uploads: [string, { key: string; startedAtMs: number; parts: string[] }][];
}

function writtenBucket({ objects, uploads }: SimBucket): WrittenBucket {
  return {
    objects: [...objects].map(([key, { content, modifiedAtMs }]) => [
      key,
      { content: Buffer.from(content).toString('base64'), modifiedAtMs },
    ]),
    uploads: [...uploads].map(([id, upload]) => [
      id,
      { ...upload, parts: upload.parts.map((part) => Buffer.from(part).toString('base64')) },
    ]),
  };
}

function readBucket({ objects, uploads }: WrittenBucket): SimBucket {
  return {
    objects: new Map(
      objects.map(([key, { content, modifiedAtMs }]) => [
        key,
        { content: Buffer.from(content, 'base64'), modifiedAtMs },
      ]),
    ),
    uploads: new Map(
      uploads.map(([id, upload]) => [
        id,
        { ...upload, parts: upload.parts.map((part) => Buffer.from(part, 'base64')) },
      ]),
    ),
  };
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
