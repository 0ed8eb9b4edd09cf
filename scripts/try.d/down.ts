/**
 * Down: deletes through the agent what the agent has made, stops the daemons, and proves that nothing is left.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { MethodName } from '../../src/model/methods.ts';
import { pidOf, start, stop } from './daemons.ts';
import { local, operate } from './local.ts';
import { FORWARD, FORWARD_BEFORE, RUN, STATE } from './places.ts';
import { say, step, until } from './progress.ts';
import { traces, tracesBefore } from './traces.ts';

const AGENT_SECONDS = 30;

/** What is still there of ours, in words; empty when all is gone. */
export async function down(): Promise<string[]> {
  const before = tracesBefore();
  if (existsSync(STATE)) {
    await emptyAgent();
    await stop('berthd');
    await stop('berth-scheduler');
    step('berthd and berth-scheduler are stopped');
    restoreForwarding();
    rmSync(STATE, { recursive: true });
    rmSync(RUN, { recursive: true, force: true });
  }
  return proof(before);
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

/** @param before What was there before the trial began. */
function proof(before: ReadonlySet<string>): string[] {
  return [...traces()].flatMap(([what, there]) => {
    const left = there.filter((trace) => !before.has(trace));
    const words = left.length === 0 ? 'nothing left' : 'LEFT        ';
    say(`${words}  ${what}${left.map((trace) => `\n    ${trace}`).join('')}`);
    return left;
  });
}
