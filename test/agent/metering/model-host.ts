/**
 * A host in numbers, with a ledger that meters it: what was truly used is known, and compared with the records.
 */
import type { GuestUsage } from '../../../src/drivers/contracts/hypervisor.ts';
import { type Change, type Closed, Ledger } from '../../../src/agent/metering/ledger.ts';
import type { InstanceSums, Meter, VolumeSums } from '../../../src/agent/metering/meter.ts';
import { MeterClock, periodAt } from '../../../src/agent/metering/time.ts';

export const INSTANCE = '11111111-1111-4111-8111-111111111111';
export const VOLUME = '22222222-2222-4222-8222-222222222222';
export const PERIOD_MS = 3_600_000;
const START_MS = Date.UTC(2026, 0, 1, 0, 10);
const OPTIONS = { lengthMs: PERIOD_MS, serialOf: (id: string) => id };

export class ModelHost {
  /** True milliseconds since the beginning; the clock of the host may be set. */
  trueMs = 0;
  setByMs = 0;
  vcpus = 2;
  sizeGib = 10;
  power: 'running' | 'stopped' = 'stopped';
  exists = true;
  closed: Closed[] = [];
  readonly truth = { vcpuMs: 0, gibMs: 0, runningMs: 0, cpuNs: 0, writtenBytes: 0 };
  /** Counted by the host and then forgotten by it, unread. */
  readonly forgotten = { cpuNs: 0, writtenBytes: 0 };
  #processes = 0;
  #cpuNs = 0;
  #written = 0;
  #read = { cpuNs: 0, written: 0 };
  #changes: Change[] = [];
  #clock = this.#newClock(null);
  #ledger: Ledger;
  /** What is on disk. */
  #kept: { state: Ledger['state']; meters: Meter[] };

  constructor() {
    const at = this.#clock.now();
    this.#ledger = new Ledger({ at, period: periodAt(at.wallMs, PERIOD_MS) }, [], OPTIONS);
    this.#kept = { state: this.#ledger.state, meters: [] };
    this.#tell('born');
  }

  /** Time passes, and the guest works in it. */
  pass(ms: number): void {
    this.trueMs += ms;
    if (!this.exists) return;
    this.truth.vcpuMs += ms * this.vcpus;
    this.truth.gibMs += ms * this.sizeGib;
    if (this.power === 'stopped') return;
    this.truth.runningMs += ms;
    this.#cpuNs += ms * 700_001;
    this.#written += ms * 3;
  }

  start(isTold = true): void {
    if (!this.exists || this.power === 'running') return;
    this.power = 'running';
    this.#processes++;
    if (isTold) this.#tell();
  }

  stop(isTold = true): void {
    if (!this.exists || this.power === 'stopped') return;
    this.power = 'stopped';
    this.truth.cpuNs += this.#cpuNs;
    this.truth.writtenBytes += this.#written;
    this.forgotten.cpuNs += this.#cpuNs - this.#read.cpuNs;
    this.forgotten.writtenBytes += this.#written - this.#read.written;
    [this.#cpuNs, this.#written] = [0, 0];
    this.#read = { cpuNs: 0, written: 0 };
    if (isTold) this.#tell();
  }

  resize(vcpus: number, sizeGib: number): void {
    if (!this.exists) return;
    [this.vcpus, this.sizeGib] = [vcpus, Math.max(this.sizeGib, sizeGib)];
    this.#tell();
  }

  delete(): void {
    if (!this.exists) return;
    this.stop();
    this.exists = false;
    const at = this.#clock.now();
    this.#changes.push({ at, type: 'instance', id: INSTANCE, origin: 'late', facts: null, volumes: [] });
  }

  setClock(byMs: number): void {
    this.setByMs += byMs;
  }

  tick({ answers = true } = {}): void {
    if (answers) this.#read = { cpuNs: this.#cpuNs, written: this.#written };
    this.#ledger.advance(this.#changes, this.#clock.now(), answers ? this.#usages() : null);
    this.#changes = [];
    this.#keep();
  }

  /** Writes down what the ledger says has changed, and nothing else. */
  #keep(): void {
    const { closed, touched } = this.#ledger.take();
    this.closed.push(...closed);
    const kept = new Map(this.#kept.meters.map((meter) => [meter.facts.id, meter]));
    for (const id of touched) {
      const meter = this.#ledger.meter(id);
      if (meter === undefined) kept.delete(id);
      else kept.set(id, structuredClone(meter));
    }
    this.#kept = { state: structuredClone(this.#ledger.state), meters: [...kept.values()] };
  }

  /**
   * berthd dies, and the next one comes later; what happened meanwhile is seen then.
   *
   * @param meanwhile Nobody is told of it.
   */
  crash(meanwhile: () => void): void {
    const last = this.#changes.at(-1)?.at ?? this.#kept.state.at;
    this.#ledger = new Ledger(this.#kept.state, structuredClone(this.#kept.meters), OPTIONS);
    const before = this.power;
    meanwhile();
    this.#clock = this.#newClock(last);
    this.#changes.push({ type: 'blind', at: last });
    if (this.exists && this.power !== before) this.#tell();
  }

  /** Amounts of all records, and of what is still open. */
  counted() {
    this.#ledger.settle();
    const meters = [...this.closed.map(({ meter }) => meter), ...this.#meters()];
    const sum = (name: string) =>
      meters.reduce((all, { sums }) => all + ((sums as InstanceSums & VolumeSums)[name] ?? 0), 0);
    const gap = (reason: keyof Meter['gaps']) =>
      meters.reduce((all, { gaps }) => all + (gaps[reason] ?? 0), 0);
    return { sum, gap, meters };
  }

  #meters(): Meter[] {
    return [...this.#ledger.ids()].map((id) => this.#ledger.meter(id) as Meter);
  }

  get unread() {
    return { cpuNs: this.#cpuNs - this.#read.cpuNs, writtenBytes: this.#written - this.#read.written };
  }

  get total() {
    return {
      cpuNs: this.truth.cpuNs + this.#cpuNs,
      writtenBytes: this.truth.writtenBytes + this.#written,
    };
  }

  #tell(origin: 'born' | 'late' = 'late'): void {
    const volume = {
      id: VOLUME,
      name: 'disk',
      sizeGib: this.sizeGib,
      instanceId: INSTANCE,
      isOwned: true,
      isReady: true,
    };
    const { vcpus, power } = this;
    const facts = { id: INSTANCE, name: 'web', vcpus, memoryMib: 512, power, isReady: true };
    const at = this.#clock.now();
    this.#changes.push({ at, type: 'instance', id: INSTANCE, origin, facts, volumes: [volume] });
  }

  #usages(): GuestUsage[] {
    if (this.power === 'stopped') return [];
    const counters = {
      readRequests: 0n,
      readBytes: 0n,
      writeRequests: 0n,
      writtenBytes: BigInt(this.#written),
    };
    return [
      {
        id: INSTANCE,
        process: `p${this.#processes}`,
        cpuNs: BigInt(this.#cpuNs),
        residentMib: 256,
        disks: new Map([[VOLUME, counters]]),
        nics: new Map(),
      },
    ];
  }

  #newClock(last: Change['at'] | null): MeterClock {
    const bootedAtMs = this.trueMs;
    const clock = {
      now: () => START_MS + this.trueMs + this.setByMs,
      monotonicMs: () => this.trueMs - bootedAtMs,
      after: () => () => undefined,
    };
    return new MeterClock(clock, last);
  }
}
