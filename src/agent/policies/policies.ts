/**
 * Policies: what is done about guests when nobody asks, put together.
 *
 *   start of the agent: recognise a boot of the host ─▶ look at the guests ─▶ mend networks ─▶ begin
 *   then: events of the store ─▶ self-shutdown, starter;  events of the hypervisor ─▶ alarms
 *
 * Nothing here touches a guest that runs.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import type { BerthEvent } from '../../model/event.ts';
import type { Instance } from '../../model/instance.ts';
import type { Operation } from '../../model/operation.ts';
import type { Operations } from '../operations/operations.ts';
import type { Services } from '../services.ts';
import { Alarms } from './alarms.ts';
import type { Ownership } from './ownership.ts';
import { SelfShutdown } from './self-shutdown.ts';
import { Starter } from './starter.ts';

export class Policies {
  readonly #services: Services;
  readonly #alarms: Alarms;
  readonly #selfShutdown: SelfShutdown;
  readonly #starter: Starter;
  #unsubscribe: Unsubscribe = () => undefined;

  constructor(services: Services, operations: Operations, ownership: Ownership) {
    this.#services = services;
    this.#alarms = new Alarms(services);
    this.#selfShutdown = new SelfShutdown(services);
    this.#starter = new Starter({ ...services, operations, ownership });
  }

  /** Takes up what is due. To be called once the networks are mended. */
  begin(): void {
    const { store } = this.#services;
    this.#unsubscribe = store.events.subscribe((event) => this.#policiesOnEvent(event));
    for (const instance of store.instances.list()) this.#consider(instance);
  }

  close(): void {
    this.#unsubscribe();
    this.#alarms.close();
    this.#selfShutdown.close();
    this.#starter.close();
  }

  #consider(instance: Instance): void {
    this.#selfShutdown.consider(instance);
    const isWell = instance.power.state === 'running' && instance.restarts === null;
    if (!isWell) this.#starter.consider(instance.id);
  }

  /** What an event carries is how the thing was when it was written; what acts looks again. */
  #policiesOnEvent({ type, data }: BerthEvent): void {
    if (type === 'instance.changed' || type === 'instance.deleted') {
      if (data['instance'] !== undefined) this.#consider(data['instance'] as Instance);
    } else if (type === 'operation.changed') {
      const operation = data['operation'] as Operation;
      if (operation.target.kind === 'instance') this.#starter.noticed(operation);
    }
  }
}
