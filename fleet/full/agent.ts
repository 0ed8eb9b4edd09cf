/**
 * A full agent: all of berthd but its main program, on the sim driver with the host's clock and a state folder of its own.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Agent } from '../../src/agent/agent.ts';
import { parseConfig } from '../../src/agent/config/load.ts';
import type { Log } from '../../src/agent/log.ts';
import type { Clock } from '../../src/drivers/contracts/clock.ts';
import { createSimHost, SimWorld } from '../../src/drivers/sim/index.ts';
import type { NodeStatus } from '../../src/model/node.ts';
import type { FleetAgent, GatewayAddress, Progress } from '../agent.ts';
import { type LedgerEntry, ledgerEntryOf } from '../events.ts';

/** More than any of them writes in a run, and as many as a node keeps. */
const LEDGER_LIMIT = 10_000;

export interface FullAgentParts {
  folder: string;
  gateway: GatewayAddress;
  /** Good once, for a node that is not known; null without TLS. */
  enrolmentToken: string | null;
  clock: Clock;
  log: Log;
}

export class FullAgent implements FleetAgent {
  readonly #parts: FullAgentParts;
  readonly #world: SimWorld;
  #agent: Agent;
  #url: string;
  #stirred = 0;

  /** Its store is there from now on; it starts later. */
  constructor(parts: FullAgentParts) {
    this.#parts = parts;
    const { folder, gateway, enrolmentToken, clock } = parts;
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'token'), enrolmentToken ?? gateway.token, { mode: 0o600 });
    this.#world = new SimWorld({ clock });
    this.#url = gateway.url;
    this.#agent = this.#newAgent();
  }

  get nodeId(): string {
    return this.#store.meta.get('node_id') as string;
  }

  async start(url: string): Promise<void> {
    if (url !== this.#url) await this.#renew(url);
    await this.#agent.start();
  }

  async linkedAt(): Promise<number | null> {
    const status = (await this.#call('node.status', {})) as NodeStatus;
    const { state, since, reason } = status.scheduler;
    return state === 'ok' && reason === 'connected' ? Date.parse(since) : null;
  }

  async restart(url: string): Promise<void> {
    await this.#renew(url);
    await this.#agent.start();
  }

  async stir(): Promise<void> {
    await this.#call('volume.create', { name: `stirred-${++this.#stirred}`, sizeGib: 1 });
  }

  instances(): string[] {
    return this.#store.instances.ids();
  }

  progress(): Progress {
    const { events } = this.#store;
    return { lastSeq: events.lastSeq(), acknowledgedSeq: events.acknowledged() };
  }

  ledger(): LedgerEntry[] {
    return this.#store.events.after(0, LEDGER_LIMIT).map(ledgerEntryOf);
  }

  async stop(): Promise<void> {
    await this.#agent.stop();
    rmSync(this.#parts.folder, { recursive: true, force: true });
  }

  get #store() {
    return this.#agent.services.store;
  }

  #call(method: string, params: object): Promise<unknown> {
    return this.#agent.dispatcher.call(method, params, { role: 'admin' });
  }

  async #renew(url: string): Promise<void> {
    await this.#agent.stop();
    this.#url = url;
    this.#agent = this.#newAgent();
  }

  /** One that enrols is told the address with its certificate. */
  #newAgent(): Agent {
    const { folder, enrolmentToken, clock, log } = this.#parts;
    const scheduler =
      enrolmentToken === null
        ? `url = "${this.#url}"\ntokenFile = "${folder}/token"`
        : `enrolTokenFile = "${folder}/token"`;
    const { world: _world, ...drivers } = createSimHost({ world: this.#world });
    const config = parseConfig(
      `[node]\nstateDir = "${folder}"\nrunDir = "${folder}"\n[socket]\npath = "${folder}/berth.sock"\n` +
        `[scheduler]\n${scheduler}\n`,
      'fleet.toml',
    );
    return new Agent({ config, drivers, clock, log });
  }
}
