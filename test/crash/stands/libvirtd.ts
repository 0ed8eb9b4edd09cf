/** The libvirtd of the laboratory's own host: killed, frozen and started at will. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../node/until.ts';
import type { HypervisorDaemon } from './stand.ts';

/** Bound of a start or an end, ms: some 300 on an idle machine. */
const CHANGE_MS = 60_000;
/** How long one look waits for its answer, ms. */
const ANSWER_MS = 3_000;

export class Libvirtd implements HypervisorDaemon {
  readonly #config: string;
  readonly #log: string;
  readonly #pidFile: string;
  #child: ChildProcess | null = null;

  constructor(folder: string) {
    this.#config = join(folder, 'libvirtd.conf');
    this.#log = join(folder, 'libvirtd.log');
    this.#pidFile = join(folder, 'libvirtd.pid');
    const lines = ['auth_unix_rw = "none"', 'auth_unix_ro = "none"', `host_uuid = "${randomUUID()}"`, ''];
    writeFileSync(this.#config, lines.join('\n'));
  }

  signalCommand(signal: 'KILL' | 'STOP'): string[] {
    return ['bash', '-c', 'kill -"$1" "$(cat "$2")"', 'signal', signal, this.#pidFile];
  }

  /** Starts it, and waits until it answers. */
  async start(): Promise<void> {
    const log = openSync(this.#log, 'a');
    this.#child = spawn('libvirtd', ['--config', this.#config], { stdio: ['ignore', log, log] });
    closeSync(log);
    writeFileSync(this.#pidFile, String(this.#child.pid));
    await until(answers, 'libvirtd answers', CHANGE_MS);
  }

  /** Its guests go on. */
  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await until(() => this.#child?.signalCode !== null, 'libvirtd has ended', CHANGE_MS);
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }
}

function answers(): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const options = { timeout: ANSWER_MS, killSignal: 'SIGKILL' } as const;
  execFile('virsh', ['-q', '-c', 'qemu:///system', 'version'], options, (error) => resolve(error === null));
  return promise;
}
