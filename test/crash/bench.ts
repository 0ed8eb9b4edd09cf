/**
 * Where cases are run: a furnished stand, the rehearsals of its scenarios, and the guest that must never notice.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { AgentError } from '../../src/model/errors.ts';
import {
  auditEnd,
  auditHost,
  auditLent,
  auditProcesses,
  auditView,
  type Findings,
  type Left,
} from './audit.ts';
import { auditBackups } from './audit-backups.ts';
import type { Case, Rehearsal } from './faults/fault.ts';
import type { BackupsView, DriversView, JournaledOperation, Rows, Trap } from './node/protocol.ts';
import { until } from './node/until.ts';
import { act, type Scenario, submit } from './scenarios/scenario.ts';
import { BYSTANDER, bringTo, SUBJECT } from './scenarios/setting.ts';
import type { Stand } from './stands/stand.ts';

/** How long what is told by events may take until it is in the store, ms. */
const SETTLE_MS = 15_000;
/** Pause between two looks at a host that can't be asked, ms. */
const LOOK_PAUSE_MS = 100;
/** Bound of the fault, and of what it brings about, ms. */
const CASE_MS = 180_000;

interface Rehearsed {
  rehearsal: Rehearsal;
  done: Left;
}

interface Begun {
  before: Rows;
  /** What the store had; null where the operation is about no backup. */
  backups: BackupsView | null;
}

interface Judged extends Begun {
  key: string;
  done: Left;
  /** What an operation that removes leaks has found. */
  leftovers: readonly string[];
  processes: Map<string, string>;
}

export class Bench {
  readonly stand: Stand;
  readonly #rehearsed = new Map<Scenario, Rehearsed>();
  readonly #bystander: string;
  readonly #bystanderProcess: string;

  static async on(stand: Stand): Promise<Bench> {
    const { instance } = await stand.node.call('instance.show', { id: BYSTANDER });
    const process = (await stand.processes()).get(instance.id);
    if (process === undefined) throw new Error('the bystander does not run');
    return new Bench(stand, instance.id, process);
  }

  private constructor(stand: Stand, bystander: string, process: string) {
    this.stand = stand;
    this.#bystander = bystander;
    this.#bystanderProcess = process;
  }

  rehearsed(scenario: Scenario): Rehearsed {
    return this.#rehearsed.get(scenario) as Rehearsed;
  }

  /** A run without a fault: what it leaves is "done", once the audit has found it right. @throws {Error} it isn't */
  async rehearse(scenario: Scenario): Promise<void> {
    const { failing, cancelledAt, ...plain } = scenario;
    const isLed = failing !== undefined || cancelledAt !== undefined;
    const done = isLed ? (await this.#rehearse({ ...plain, ends: ['succeeded'] }, null)).done : null;
    this.#rehearsed.set(scenario, await this.#rehearse(scenario, done));
    await this.stand.node.arm();
  }

  /** Runs a case; null where the fault came too late to hit anything. */
  async run(scenario: Scenario, one: Case): Promise<(Findings & { brokeOff: boolean }) | null> {
    try {
      const findings = await this.#run(scenario, one);
      return findings === null ? null : { ...findings, brokeOff: false };
    } catch (error) {
      await this.stand.node.end('SIGKILL');
      const wrongEnds = [`the case broke off: ${(error as Error).message}`];
      return { leaks: [], wrongEnds, brokeOff: true };
    }
  }

  async #run(scenario: Scenario, one: Case): Promise<Findings | null> {
    const { node } = this.stand;
    if (!node.isRunning) await node.start();
    const { before, backups } = await this.#begin(scenario, one.trap ?? null);
    const leftovers = await this.#leftovers(scenario, before);
    const key = node.freshKey();
    let processes = await this.stand.processes();
    const { wrong, hit } = await this.#strike(scenario, one, key);
    if (!node.isRunning) {
      wrong.push(...this.#auditEnding(one));
      processes = await this.stand.processes();
      wrong.push(...((await one.between?.(this.stand)) ?? []));
      await this.#startAgain(scenario, one);
    } else if (one.ends !== undefined) return null;
    if (!hit) return null;
    await node.untilIdle();
    await one.lift?.(this.stand);
    await this.#askAgain(scenario, one, key);
    const { done } = this.rehearsed(scenario);
    const findings = await this.#settled(scenario, one, { key, before, done, processes, leftovers, backups });
    const repeat = await this.#auditRepeat(scenario, key);
    return { leaks: findings.leaks, wrongEnds: [...wrong, ...findings.wrongEnds, ...repeat] };
  }

  /** Brings the node to where the scenario begins, and sets the trap. */
  async #begin(scenario: Scenario, trap: Trap | null): Promise<Begun> {
    const { node } = this.stand;
    await node.arm();
    await bringTo(this.stand, scenario.setting);
    await scenario.arrange?.(this.stand);
    const [before, backups] = [await this.#rows(), await this.#backups(scenario)];
    await node.arm({
      trap,
      failing: scenario.failing ?? null,
      holding: scenario.cancelledAt ?? null,
    });
    return { before, backups };
  }

  /** Asks for the operation, and lets the fault come. */
  async #strike(scenario: Scenario, one: Case, key: string): Promise<{ wrong: string[]; hit: boolean }> {
    const { node } = this.stand;
    let isOver = false;
    const over = act(this.stand, scenario, key)
      .then(nothing, (error: Error) => this.#refusal(error))
      .finally(() => {
        isOver = true;
      });
    let hit = one.trap === undefined;
    const sprung = until(
      async () => {
        hit ||= !node.isRunning || (await this.#hasSprung());
        return hit || isOver;
      },
      'the trap has sprung',
      CASE_MS,
    );
    const watched = { stand: this.stand, sprung, isOver: () => isOver || !node.isRunning };
    const meanwhile = one.meanwhile?.(watched) ?? Promise.resolve([]);
    await until(watched.isOver, 'the operation is over', CASE_MS);
    const wrong = await meanwhile;
    await sprung;
    if (one.ends !== undefined && hit) await node.ended();
    const refusal = await over;
    if (refusal !== null && one.outcome !== 'either') wrong.push(`the caller was told: ${refusal}`);
    return { wrong, hit };
  }

  /** What berthd answered instead of doing it; null where it answers no more, since it is coming to its end. */
  async #refusal(error: Error): Promise<string | null> {
    if (error instanceof AgentError) return error.message;
    const ended = await this.stand.node.ended().then(isSo, () => false);
    return ended ? null : error.message;
  }

  async #hasSprung(): Promise<boolean> {
    return this.stand.node.ask({ ask: 'sprung' }).catch(() => !this.stand.node.isRunning);
  }

  #auditEnding(one: Case): string[] {
    const { code, signal } = this.stand.node.ending;
    const isRight = one.ends === 'SIGTERM' ? code === 0 : signal === one.ends;
    return isRight ? [] : [`berthd ended with ${signal ?? code}, not by ${one.ends ?? 'anything'}`];
  }

  async #startAgain(scenario: Scenario, { trapOfNext = null }: { trapOfNext?: Trap | null }): Promise<void> {
    const { node } = this.stand;
    const failing = scenario.failing ?? null;
    const isStarted = await node.start({ trap: trapOfNext, failing }).then(isSo, (error: Error) => {
      if (trapOfNext === null || node.isRunning) throw error;
      return false;
    });
    if (trapOfNext === null) return;
    // The moment may come late, or never.
    const isIdle = isStarted && (await node.untilIdle().then(isSo, () => false));
    if (isIdle && (await node.arm({ failing }).then(isSo, () => false))) return;
    await node.ended();
    await node.start({ failing });
  }

  /** A delete that a full disk has broken off is asked for again, as its caller would. */
  async #askAgain(scenario: Scenario, one: Case, key: string): Promise<void> {
    if (scenario.whenFailed !== 'is asked for again' || one.outcome !== 'either') return;
    const operation = await this.stand.node.operationOf(key);
    if (operation?.state !== 'failed') return;
    await submit(this.stand, scenario, `${key}-again`).catch(() => undefined);
    await this.stand.node.untilIdle();
  }

  /** Audits until nothing is wrong any more, or the time for events to be told is over. */
  async #settled(scenario: Scenario, one: Case, judged: Judged): Promise<Findings> {
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      const findings = await this.#audit(scenario, one, judged);
      if (findings.leaks.length + findings.wrongEnds.length === 0) return findings;
      if (performance.now() > deadline) return findings;
    }
  }

  async #audit(scenario: Scenario, one: Case, judged: Judged): Promise<Findings> {
    const { node } = this.stand;
    const { before, done } = judged;
    const again = await node.operationOf(`${judged.key}-again`);
    const operation = again ?? (await node.operationOf(judged.key));
    const rows = await this.#rows();
    const view = await this.#view();
    const host = await this.stand.host();
    const { leaks, wrongEnds } = auditHost(host, rows, this.stand.driver);
    const power = one.endsGuest === true ? 'left out' : 'kept';
    const end = auditEnd({ operation, rows, before, done, power, isRepeated: again !== null });
    const excused = operation?.state === 'succeeded' ? [] : judged.leftovers;
    const store = await this.#auditBackups(scenario, one, operation, judged);
    return {
      leaks: [...leaks.filter((leak) => !excused.includes(leak)), ...store.leaks],
      wrongEnds: [
        ...wrongEnds,
        ...store.wrongEnds,
        ...auditView(view, host),
        ...(scenario.kind === 'instance.takeover'
          ? auditLent(host, rows, {
              layers: scenario.name.includes('with snapshots'),
              variables: scenario.name.includes('UEFI'),
            })
          : []),
        ...auditOutcome(operation, scenario, one),
        ...end,
        ...(await this.#auditGuests(scenario, one, judged)),
      ],
    };
  }

  /** Of an operation that is about backups; the store is read anew each time. */
  async #backups({ kind }: Scenario): Promise<BackupsView | null> {
    return kind.startsWith('backup.') ? this.stand.node.ask({ ask: 'backups' }) : null;
  }

  async #auditBackups(
    scenario: Scenario,
    one: Case,
    operation: JournaledOperation | null,
    { backups: before }: Judged,
  ): Promise<Findings> {
    const after = await this.#backups(scenario);
    if (before === null || after === null) return { leaks: [], wrongEnds: [] };
    return auditBackups({ scenario, operation, before, after, wasKilled: one.ends === 'SIGKILL' });
  }

  /** What its drivers tell, once they can: an operation that needs no hypervisor is over before a frozen one is back. */
  async #view(): Promise<DriversView> {
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      try {
        return await this.stand.node.ask({ ask: 'host' });
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await delay(LOOK_PAUSE_MS);
      }
    }
  }

  /** The same request once more, under the same key, is the first one. */
  async #auditRepeat(scenario: Scenario, key: string): Promise<string[]> {
    const first = await this.stand.node.operationOf(key);
    if (first === null) return [];
    const { operation } = await submit(this.stand, scenario, key);
    return operation.id === first.id ? [] : [`the repeat of a request is another operation, ${operation.id}`];
  }

  async #auditGuests(scenario: Scenario, one: Case, judged: Judged): Promise<string[]> {
    const after = await this.stand.processes();
    const before = new Map(judged.processes).set(this.#bystander, this.#bystanderProcess);
    const subject = judged.before.instances.find(({ name }) => name === SUBJECT)?.['id'] as string;
    const isFree = one.endsGuest === true || (scenario.reboots === true && this.stand.driver === 'sim');
    if (isFree) before.delete(subject);
    const gone = after.has(this.#bystander) ? [] : ['the bystander does not run any more'];
    return [...gone, ...auditProcesses(before, after)];
  }

  async #leftovers({ arrange }: Scenario, rows: Rows): Promise<string[]> {
    if (arrange === undefined) return [];
    return auditHost(await this.stand.host(), rows, this.stand.driver).leaks;
  }

  /** @param known What "done" is, where this run is led elsewhere; else it is what this run leaves. */
  async #rehearse(scenario: Scenario, known: Left | null): Promise<Rehearsed> {
    const { node } = this.stand;
    const { before, backups } = await this.#begin(scenario, null);
    const processes = await this.stand.processes();
    const key = node.freshKey();
    const startedMs = performance.now();
    const { state, error } = await act(this.stand, scenario, key);
    const durationMs = performance.now() - startedMs;
    if (state !== scenario.ends[0]) throw new Error(`${scenario.name} ${state}: ${error?.message}`);
    const rehearsal = { counts: await node.ask({ ask: 'counts' }), durationMs };
    const done = known ?? { rows: await this.#rows(), since: before };
    const judged = { key, before, done, processes, leftovers: [], backups };
    const { leaks, wrongEnds } = await this.#settled(scenario, { at: 'the rehearsal' }, judged);
    if (leaks.length + wrongEnds.length > 0)
      throw new Error(`${scenario.name} without a fault:\n${[...leaks, ...wrongEnds].join('\n')}`);
    return { rehearsal, done: known ?? { rows: await this.#rows(), since: before } };
  }

  #rows(): Promise<Rows> {
    return this.stand.node.ask({ ask: 'rows' });
  }
}

function nothing(): null {
  return null;
}

function isSo(): true {
  return true;
}

function auditOutcome(operation: JournaledOperation | null, scenario: Scenario, one: Case): string[] {
  if (operation === null || one.outcome === 'either') return [];
  if (scenario.ends.includes(operation.state)) return [];
  return [`the operation ${operation.state} (${operation.error}), not ${scenario.ends.join(' or ')}`];
}
