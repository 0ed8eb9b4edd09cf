/**
 * Setting a damaged database aside: under a dated name in its own folder, with its log, and never deleted.
 *
 *   condemn ─▶ NAME.condemned (durable) ─▶ NAME, NAME-wal, NAME-shm are renamed ─▶ it becomes the record
 *
 *   NAME.damaged-2026-01-02T03-04-05.678Z        with -wal and -shm, so that SQLite's own tools can open it
 *   NAME.damaged-2026-01-02T03-04-05.678Z.json   what was wrong
 *
 * A crash in between is finished by the next `setAside`. Where the disk is too full for the verdict itself,
 * the files are renamed all the same: a rename takes no room.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { AgentError } from '../model/errors.ts';

/** Set-aside databases beyond this many are told as ones that can be deleted; nothing deletes them. */
export const SET_ASIDE_KEPT = 5;
/** A verdict has some hundred bytes; what is longer is none. */
const VERDICT_BYTES_LIMIT = 16 * 1024;
const MARK = '.damaged-';
const DATED = /^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z$/;
/** The log first: without it SQLite would take the file for an older whole one, with it nothing else is opened. */
const SUFFIXES = ['-wal', '-shm', ''];

export interface SetAside {
  /** The database under its dated name. */
  path: string;
  reason: string;
}

interface Verdict {
  stamp: string;
  reason: string;
}

/** Marks a database as one that is set aside before it is opened again; the first verdict stays. */
export function condemn(folder: string, name: string, verdict: { reason: string; at: string }): void {
  const path = verdictPath(folder, name);
  if (existsSync(path)) return;
  const stamp = verdict.at.replaceAll(':', '-');
  try {
    writeDurably(path, `${JSON.stringify({ stamp, reason: verdict.reason })}\n`);
    syncFolder(folder);
  } catch (cause) {
    // A part of a verdict would condemn the database that comes next.
    rmSync(path, { force: true });
    throw new AgentError('UNAVAILABLE', `Cannot mark the damaged database in ${folder}`, { cause });
  }
}

/** Renames a condemned database; null where none is. @throws {AgentError} UNAVAILABLE: the folder can't be changed. */
export function setAsideCondemned(folder: string, name: string): SetAside | null {
  const verdict = readVerdict(folder, name);
  if (verdict === null) return null;
  const path = rename(folder, name, verdict.stamp);
  renameSync(verdictPath(folder, name), `${path}.json`);
  syncFolder(folder);
  return { path, reason: verdict.reason };
}

/** Condemns a database and renames it. @throws {AgentError} UNAVAILABLE */
export function setAside(folder: string, name: string, verdict: { reason: string; at: string }): SetAside {
  try {
    condemn(folder, name, verdict);
  } catch {
    // Said again by what follows, if the folder can't be changed at all.
    return { path: rename(folder, name, verdict.at.replaceAll(':', '-')), reason: verdict.reason };
  }
  return setAsideCondemned(folder, name) as SetAside;
}

/** Databases that were set aside, newest first. */
export function listSetAside(folder: string, name: string): string[] {
  if (!existsSync(folder)) return [];
  const prefix = name + MARK;
  return readdirSync(folder)
    .filter((each) => each.startsWith(prefix) && DATED.test(each.slice(prefix.length)))
    .sort()
    .reverse()
    .map((each) => join(folder, each));
}

function rename(folder: string, name: string, stamp: string): string {
  const path = join(folder, name + MARK + stamp);
  try {
    for (const suffix of SUFFIXES) moveAway(join(folder, name) + suffix, path + suffix);
    syncFolder(folder);
  } catch (cause) {
    throw new AgentError('UNAVAILABLE', `Cannot set the damaged database in ${folder} aside`, {
      cause,
      hint: 'See that the folder can be written.',
    });
  }
  return path;
}

function moveAway(from: string, to: string): void {
  if (!existsSync(from)) return;
  if (existsSync(to)) throw new AgentError('UNAVAILABLE', `${to} exists already`);
  renameSync(from, to);
}

/** A verdict that can't be read is one all the same. */
function readVerdict(folder: string, name: string): Verdict | null {
  const path = verdictPath(folder, name);
  if (!existsSync(path)) return null;
  const text = readFileSync(path, 'utf8').slice(0, VERDICT_BYTES_LIMIT);
  const { stamp, reason } = parseVerdict(text);
  if (DATED.test(stamp)) return { stamp, reason };
  return { stamp: statSync(path).mtime.toISOString().replaceAll(':', '-'), reason: 'the reason is lost' };
}

function parseVerdict(text: string): Verdict {
  try {
    const { stamp, reason } = JSON.parse(text) as Record<string, unknown>;
    return { stamp: String(stamp), reason: String(reason) };
  } catch {
    return { stamp: '', reason: '' };
  }
}

function verdictPath(folder: string, name: string): string {
  return join(folder, `${name}.condemned`);
}

/** Writes a file for root alone, durable but for its name. */
export function writeDurably(path: string, text: string): void {
  const file = openSync(path, 'w', 0o600);
  try {
    writeSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Writes a file so that after a crash it has the old text or the new one, whole. Its owner alone may read it. */
export function replaceDurably(folder: string, name: string, text: string): void {
  const path = join(folder, name);
  writeDurably(`${path}.new`, text);
  renameSync(`${path}.new`, path);
  syncFolder(folder);
}

/** Makes names in a folder durable. */
export function syncFolder(folder: string): void {
  const handle = openSync(folder, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
