/**
 * Commands in a guest, as root, by its agent: what a test does there, and what the guest says to it.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { until } from './node.ts';

/** Bounds, ms: a guest under TCG on a loaded machine takes its time. */
const AGENT_MS = 120_000;
const COMMAND_MS = 240_000;

const run = promisify(execFile);

export interface Said {
  code: number;
  output: string;
}

/** The machine's own libvirtd. */
const SYSTEM = 'qemu:///system';

/** Waits until the agent in the guest answers. */
export async function untilUp(domain: string, uri = SYSTEM): Promise<void> {
  await until(`the agent in ${domain} answers`, AGENT_MS, () =>
    ask(uri, domain, 'guest-ping', {}).then(
      () => true,
      () => null,
    ),
  );
}

/** Runs a script by the guest's shell, to its end; its output and its errors together. */
export async function inGuest(domain: string, script: string, uri = SYSTEM): Promise<Said> {
  const argv = { path: '/bin/sh', arg: ['-c', `{ ${script}\n} 2>&1`], 'capture-output': true };
  const { pid } = await ask<{ pid: number }>(uri, domain, 'guest-exec', argv);
  return until(`${script} ends`, COMMAND_MS, async () => {
    const status = await ask<Status>(uri, domain, 'guest-exec-status', { pid });
    if (!status.exited) return null;
    const output = Buffer.from(status['out-data'] ?? '', 'base64').toString();
    return { code: status.exitcode ?? -1, output };
  });
}

interface Status {
  exited: boolean;
  exitcode?: number;
  'out-data'?: string;
}

async function ask<T>(uri: string, domain: string, execute: string, params: object): Promise<T> {
  const text = JSON.stringify({ execute, arguments: params });
  const { stdout } = await run('virsh', ['-q', '-c', uri, 'qemu-agent-command', domain, text]);
  return (JSON.parse(stdout) as { return: T }).return;
}
