/**
 * The agents of one worker: made, linked, stirred, slowed down and judged.
 */
import { generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import { systemClock } from '../src/drivers/contracts/clock.ts';
import { type IssuedCertificate, readToken } from '../src/model/enrolment.ts';
import type { BerthEvent } from '../src/model/event.ts';
import { makeRequest } from '../src/model/x509/request.ts';
import type { FleetAgent } from './agent.ts';
import { GatewayApi } from './api.ts';
import { compareEvents, type EventCount, type LedgerEntry, ledgerEntryOf, sumOfCounts } from './events.ts';
import { FullAgent } from './full/agent.ts';
import { LightAgent } from './light/agent.ts';
import type { Launch, Verdict } from './orders.ts';
import { idOf, randomOf } from './random.ts';
import { Relay } from './wire/relay.ts';
import { BAD_LINE, Slowness } from './wire/slowness.ts';

/** Calls of the API at a time. */
const CALLS_AT_ONCE = 4;
/** Agents that are begun at a time: a fleet grows, it does not come to be in one moment. */
const BEGUN_AT_ONCE = 50;
/** Nodes that are told to who wants some. */
const SAMPLE = 10;
/** Events in one page of the API. */
const PAGE = 1_000;
/** An operation of a light agent takes so long at least, and at most so much longer, ms. */
const WORK_MS = 20;
const WORK_SPREAD_MS = 80;
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

export class Crew {
  readonly #launch: Launch;
  readonly #api: GatewayApi;
  readonly #random: () => number;
  readonly #agents: FleetAgent[] = [];
  #keys: ReturnType<typeof newKeys> | null = null;
  #relay: Relay | null = null;
  #slowed: FleetAgent[] = [];

  constructor(launch: Launch) {
    this.#launch = launch;
    this.#api = new GatewayApi(launch.gateway, CALLS_AT_ONCE);
    this.#random = randomOf(launch.seed + launch.first);
  }

  /** Makes the agents and has them connect. */
  async muster(): Promise<void> {
    const { first, count, full, gateway } = this.#launch;
    for (let at = 0; at < count; at += BEGUN_AT_ONCE) {
      const indexes = Array.from({ length: Math.min(BEGUN_AT_ONCE, count - at) }, (_, n) => at + n);
      const begun = await Promise.all(
        indexes.map((n) => (n < full ? this.#full(first + n) : this.#light(first + n))),
      );
      this.#agents.push(...begun);
      await Promise.all(begun.map((agent) => agent.start(gateway.url)));
    }
  }

  async countLinked(sinceMs: number): Promise<number> {
    let count = 0;
    for (const agent of this.#agents) {
      const told = agent.linkedAt();
      const at = told instanceof Promise ? await told : told;
      if (at !== null && at >= sinceMs) count++;
    }
    return count;
  }

  countBehind(): number {
    return this.#agents.filter((agent) => {
      const { lastSeq, acknowledgedSeq } = agent.progress();
      return acknowledgedSeq < lastSeq;
    }).length;
  }

  async stir(): Promise<void> {
    await Promise.all(this.#agents.map((agent) => agent.stir()));
  }

  async restart(): Promise<void> {
    await Promise.all(this.#agents.map((agent) => agent.restart(this.#launch.gateway.url)));
  }

  /** Moves the last `count` of the agents behind one slow line each; with none, all are back. */
  async slowDown(count: number): Promise<number> {
    const { url } = this.#launch.gateway;
    await Promise.all(this.#slowed.map((agent) => agent.restart(url)));
    await this.#relay?.close();
    this.#relay = null;
    this.#slowed = this.#agents.slice(this.#agents.length - count);
    if (count === 0) return 0;
    const make = () => new Slowness(BAD_LINE);
    this.#relay = await Relay.listen({ url, up: make, down: make });
    const slow = this.#relay.url;
    await Promise.all(this.#slowed.map((agent) => agent.restart(slow)));
    return count;
  }

  async redirectLast(url: string | null): Promise<void> {
    await this.#agents.at(-1)?.restart(url ?? this.#launch.gateway.url);
  }

  nodeIds(): string[] {
    return this.#agents
      .slice(0, Math.ceil(Math.min(this.#agents.length / 2, SAMPLE)))
      .map(({ nodeId }) => nodeId);
  }

  /** Asks the gateway what it has of each agent's events. */
  async verify(): Promise<Verdict> {
    const counts: EventCount[] = [];
    const waiting = [...this.#agents];
    const judge = async (): Promise<void> => {
      for (let agent = waiting.pop(); agent !== undefined; agent = waiting.pop()) {
        counts.push(compareEvents(agent.ledger(), await this.#stored(agent.nodeId)));
      }
    };
    await Promise.all(Array.from({ length: CALLS_AT_ONCE }, judge));
    const instances = this.#agents.flatMap((agent) =>
      agent.instances().map((id): [string, string] => [id, agent.nodeId]),
    );
    return { events: sumOfCounts(counts), instances };
  }

  async stop(): Promise<void> {
    await Promise.all(this.#agents.map((agent) => agent.stop()));
    await this.#relay?.close();
    this.#api.close();
  }

  async #stored(nodeId: string): Promise<LedgerEntry[]> {
    const entries: LedgerEntry[] = [];
    for (let after = 0; ; after = entries.at(-1)?.seq ?? 0) {
      const path = `/v1/nodes/${nodeId}/events?after=${after}&limit=${PAGE}`;
      const { events } = await this.#api.ask<{ events: BerthEvent[] }>('GET', path);
      entries.push(...events.map(ledgerEntryOf));
      if (events.length < PAGE) return entries;
    }
  }

  async #light(index: number): Promise<LightAgent> {
    const { seed, gateway } = this.#launch;
    const nodeId = idOf(seed, index);
    const random = this.#random;
    const tls = gateway.ca === null ? {} : await this.#enrol(nodeId, gateway.ca);
    return new LightAgent({
      nodeId,
      hostname: `fleet-${index}`,
      token: gateway.ca === null ? gateway.token : null,
      tls,
      clock: systemClock,
      log: SILENT,
      random,
      workMs: () => WORK_MS + random() * WORK_SPREAD_MS,
    });
  }

  async #full(index: number): Promise<FullAgent> {
    const { folder, gateway } = this.#launch;
    return new FullAgent({
      folder: join(folder, `agent-${index}`),
      gateway,
      enrolmentToken: gateway.ca === null ? null : await this.#token(),
      clock: systemClock,
      log: SILENT,
    });
  }

  async #token(): Promise<string> {
    return (await this.#api.ask<{ token: string }>('POST', '/v1/enrolment-tokens', {})).token;
  }

  /** One key for the crew: what a handshake costs the gateway is the same. */
  async #enrol(nodeId: string, ca: string) {
    this.#keys ??= newKeys();
    const { secret } = readToken(await this.#token());
    const request = makeRequest(nodeId, this.#keys).toString('base64');
    const issued = await this.#api.ask<IssuedCertificate>('POST', '/v1/enrol', { secret, nodeId, request });
    return { ca, cert: issued.certificate, key: this.#keys.pem };
  }
}

function newKeys() {
  const keys = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  return { ...keys, pem: keys.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string };
}
