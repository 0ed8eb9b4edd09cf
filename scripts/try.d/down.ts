/**
 * Down: deletes through the agent what the agent has made, stops the daemons, and proves that nothing is left.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { MethodName } from '../../src/model/methods.ts';
import { pidOf, start, stop } from './daemons.ts';
import { local, operate } from './local.ts';
import { FORWARD, FORWARD_BEFORE, RUN, STATE } from './places.ts';
import { say, step, until } from './progress.ts';

const AGENT_SECONDS = 30;

/** What is still there of ours, in words; empty when all is gone. */
export async function down(): Promise<string[]> {
  if (existsSync(STATE)) {
    await emptyAgent();
    await stop('berthd');
    await stop('berth-scheduler');
    step('berthd and berth-scheduler are stopped');
    restoreForwarding();
    rmSync(STATE, { recursive: true });
    rmSync(RUN, { recursive: true, force: true });
  }
  return proof();
}

/** Forwarding is the host's; it gets back what it was, where it was changed. */
function restoreForwarding(): void {
  if (!existsSync(FORWARD_BEFORE)) return;
  const before = readFileSync(FORWARD_BEFORE);
  if (!before.equals(readFileSync(FORWARD))) writeFileSync(FORWARD, before);
}

/** The agent undoes its own work: it alone knows all of it. */
async function emptyAgent(): Promise<void> {
  if (pidOf('berthd') === null) start('berthd');
  await until('berthd answers', AGENT_SECONDS, () => local('node.status', {}));
  for (const { id, protected: isProtected } of (await local('volume.list', {})).volumes)
    if (isProtected) await operate('volume.configure', { id, protected: false } as never);
  for (const { id, protected: isProtected } of (await local('share.list', {})).shares)
    if (isProtected) await operate('share.configure', { id, protected: false } as never);
  for (const { id, name } of (await local('instance.list', {})).instances)
    await remove('instance.delete', id, name);
  for (const { id, name } of (await local('volume.list', {})).volumes)
    await remove('volume.delete', id, name);
  for (const { id, name } of (await local('share.list', {})).shares) await remove('share.delete', id, name);
  for (const { id, name } of (await local('image.list', {})).images) await remove('image.delete', id, name);
  for (const { id, name } of (await local('network.list', {})).networks)
    await remove('network.delete', id, name);
}

async function remove(method: MethodName, id: string, name: string): Promise<void> {
  await operate(method, { id } as never);
  step(`${method} ${name}`);
}

/** Looks with the host's own tools, not with ours. */
function proof(): string[] {
  const checks: [what: string, found: () => string[]][] = [
    [
      'domains (virsh list --all)',
      () =>
        lines('virsh', ['-q', '-c', 'qemu:///system', 'list', '--all', '--name']).filter((name) =>
          name.startsWith('berth-'),
        ),
    ],
    [
      'bridges and taps (ip link)',
      () => lines('ip', ['-o', 'link']).filter((line) => /\bb[bt]-[0-9a-f]/.test(line)),
    ],
    [
      'firewall tables (nft list tables)',
      () => lines('nft', ['list', 'tables']).filter((line) => line.includes('berth')),
    ],
    ['processes (/proc)', () => processes()],
    [`folders (${STATE}, ${RUN})`, () => [STATE, RUN].filter((path) => existsSync(path))],
  ];
  const left = checks.flatMap(([what, look]) => {
    const found = look();
    say(
      `${found.length === 0 ? 'nothing left' : 'LEFT        '}  ${what}${found.map((line) => `\n    ${line}`).join('')}`,
    );
    return found;
  });
  return left;
}

function lines(program: string, args: string[]): string[] {
  return execFileSync(program, args, { encoding: 'utf8' })
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
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
