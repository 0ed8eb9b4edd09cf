/**
 * What a trial makes on a host, looked for with the host's own tools, not with ours. What was there before it began, as from a
 * Berth that is installed here, is none of it.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { replaceDurably } from '../../src/sqlite/set-aside.ts';
import { RUN, STATE, TRACES_BEFORE } from './places.ts';

const DOMAIN = /^berth-.*/;
const INTERFACE = /\bb[bt]-[0-9a-f]+/;
const TABLE = /\bberth_\w+/;

const LOOKS: Record<string, () => string[]> = {
  'domains (virsh list --all)': () =>
    named(DOMAIN, 'virsh', ['-q', '-c', 'qemu:///system', 'list', '--all', '--name']),
  'bridges and taps (ip link)': () => named(INTERFACE, 'ip', ['-o', 'link']),
  'firewall tables (nft list tables)': () => named(TABLE, 'nft', ['list', 'tables']),
  'processes (/proc)': processes,
  [`folders (${STATE}, ${RUN})`]: () => [STATE, RUN].filter((path) => existsSync(path)),
};

/** What there is now, by kind. */
export function traces(): Map<string, string[]> {
  return new Map(Object.entries(LOOKS).map(([what, look]) => [what, look()]));
}

/** To be called before anything is made; a trial that goes on keeps what was noted when it began. */
export function noteTracesBefore(): void {
  if (existsSync(TRACES_BEFORE)) return;
  replaceDurably(
    dirname(TRACES_BEFORE),
    basename(TRACES_BEFORE),
    JSON.stringify([...traces().values()].flat()),
  );
}

/** What was there before the trial began; nothing where none was begun. */
export function tracesBefore(): ReadonlySet<string> {
  if (!existsSync(TRACES_BEFORE)) return new Set();
  return new Set(noted().filter((trace) => ![STATE, RUN].includes(trace)));
}

/** @throws {Error} Somebody has changed the note. */
function noted(): string[] {
  try {
    return JSON.parse(readFileSync(TRACES_BEFORE, 'utf8')) as string[];
  } catch (cause) {
    throw new Error(`Cannot read ${TRACES_BEFORE}: delete it, and all that is there counts as left`, {
      cause,
    });
  }
}

/** What of a program's lines is a name of that form, or holds one. */
function named(form: RegExp, program: string, args: string[]): string[] {
  const lines = execFileSync(program, args, { encoding: 'utf8' }).split('\n');
  return [...new Set(lines.flatMap((line) => form.exec(line)?.[0] ?? []))];
}

/** Processes whose command line names one of our folders. */
function processes(): string[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .map((pid) => `${pid} ${commandLine(pid)}`)
    .filter((line) => line.includes(`${STATE}/`) || line.includes(`${RUN}/`));
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}
