/**
 * SimHostFacts: the Host contract on a simulated host, from the world's settings.
 */
import { cpusOf } from '../../model/cpu-list.ts';
import type { Finding } from '../../model/node.ts';
import type { CallOptions } from '../contracts/calls.ts';
import type { Host, HostFacts, HostLoad, HostResources } from '../contracts/host.ts';
import { type Attachment, Calls } from './call.ts';
import type { SimWorld } from './world.ts';

export class SimHostFacts implements Host {
  readonly #world: SimWorld;
  readonly #calls: Calls;

  constructor(world: SimWorld, attachment: Attachment) {
    this.#world = world;
    this.#calls = new Calls(world, 'host', attachment);
  }

  facts(options?: CallOptions): Promise<HostFacts> {
    const { hostname, memoryMib, traits } = this.#world.settings;
    const cpus = cpusOf(this.#world.machine.resources.cpus)?.length ?? 0;
    return this.#calls.run({ name: 'host.facts', id: null, options, nature: 'question' }, () => ({
      hostname,
      architecture: 'x86_64',
      cpuModel: 'Simulated CPU',
      cpus,
      operatingSystem: 'Berth simulation',
      kernel: 'none',
      memoryMib: { procMeminfo: memoryMib, systeminformation: memoryMib },
      traits: [...traits],
    }));
  }

  resources(options?: CallOptions): Promise<HostResources> {
    return this.#calls.run(
      { name: 'host.resources', id: null, options, nature: 'question' },
      () => this.#world.machine.resources,
    );
  }

  load(options?: CallOptions): Promise<HostLoad> {
    return this.#calls.run(
      { name: 'host.load', id: null, options, nature: 'question' },
      () => this.#world.machine.load,
    );
  }

  bootId(options?: CallOptions): Promise<string> {
    return this.#calls.run(
      { name: 'host.bootId', id: null, options, nature: 'question' },
      () => this.#world.settings.bootId,
    );
  }

  isStopping(options?: CallOptions): Promise<boolean> {
    return this.#calls.run(
      { name: 'host.isStopping', id: null, options, nature: 'question' },
      () => this.#world.settings.stopping,
    );
  }

  examineWay(_way: { check: string; path: string }, options?: CallOptions): Promise<Finding | null> {
    return this.#calls.run({ name: 'host.examineWay', id: null, options, nature: 'question' }, () => null);
  }

  examine(options?: CallOptions): Promise<Finding[]> {
    return this.#calls.run({ name: 'host.examine', id: null, options, nature: 'question' }, () =>
      structuredClone(this.#world.settings.findings),
    );
  }
}
