/**
 * A real OpenStack Placement, from Debian's python3-placement, on a free port with a database of its own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from './eventually.ts';

const PROGRAM = '/usr/bin/placement-api';
const PYTHON = '/usr/bin/python3';

/** Why there is none on this machine, for a test's skip; false where there is one. */
export const placementMissing: string | false =
  existsSync(PROGRAM) && existsSync(PYTHON) ? false : 'no python3-placement here: scripts/bootstrap test';

export class PlacementService {
  readonly folder = mkdtempSync(join(tmpdir(), 'berth-placement-'));
  readonly tokenFile = join(this.folder, 'token');
  url = '';
  #child: ChildProcess | null = null;

  /** Starts it, with the database of the last start. @param at Where; a free port by default. */
  async start(at?: URL): Promise<void> {
    const port = at === undefined ? await freePort() : Number(at.port);
    this.url = `http://127.0.0.1:${port}`;
    writeFileSync(this.tokenFile, 'admin\n', { mode: 0o600 });
    writeFileSync(
      join(this.folder, 'placement.conf'),
      `[api]\nauth_strategy = noauth2\n[placement_database]\nconnection = sqlite:///${this.folder}/placement.sqlite\nsync_on_startup = True\n`,
    );
    const child = spawn(PYTHON, [PROGRAM, '-b', '127.0.0.1', '-p', String(port)], {
      env: { PATH: '/usr/bin:/bin', OS_PLACEMENT_CONFIG_DIR: this.folder, HOME: this.folder },
      stdio: 'ignore',
    });
    this.#child = child;
    await eventually(async () => {
      if (child.exitCode !== null) throw new Error(`placement-api ended with ${child.exitCode}`);
      return (await fetch(this.url, { headers: { 'x-auth-token': 'admin' } }).catch(() => null))?.ok;
    });
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  /** Ends it and removes all that it has. */
  async close(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true });
  }

  /** Asks it as an operator would. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  async ask(method: string, path: string, body?: unknown): Promise<{ status: number; body: any }> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: {
        'x-auth-token': readFileSync(this.tokenFile, 'utf8').trim(),
        'openstack-api-version': 'placement 1.39',
        'content-type': 'application/json',
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? null : JSON.parse(text) };
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
