/**
 * Names of traits and resource classes, as this Placement knows them.
 *
 * Standard names come with the service's os-traits and os-resource-classes; one that is newer than these is kept as
 * CUSTOM_BERTH_<name>. Custom names are made when a node has them, and never for a request: who asks for what nobody has
 * leaves nothing behind.
 */
import { AgentError } from '../../../model/errors.ts';
import { type PlacementClient, unexpected } from './client.ts';
import { ClassNames, TraitNames } from './schemas.ts';

export type NameKind = 'traits' | 'resource_classes';

const CUSTOM = 'CUSTOM_';
const OURS = 'CUSTOM_BERTH_';
/** Names that are remembered of each kind: many times what os-traits has. */
const NAMES_LIMIT = 10_000;

export class Names {
  readonly #client: PlacementClient;
  readonly #kind: NameKind;
  readonly #known = new Set<string>();
  #loading: Promise<void> | null = null;

  constructor(client: PlacementClient, kind: NameKind) {
    this.#client = client;
    this.#kind = kind;
  }

  /** The service's name, made where it has to be. @throws {AgentError} UNAVAILABLE */
  async make(name: string): Promise<string> {
    const found = await this.find(name);
    if (found !== null) return found;
    const custom = name.startsWith(CUSTOM) ? name : OURS + name;
    const path = `/${this.#kind}/${encodeURIComponent(custom)}`;
    const answer = await this.#client.request('PUT', path);
    if (answer.status !== 201 && answer.status !== 204) throw unexpected('PUT', path, answer);
    this.#remember([custom]);
    return custom;
  }

  /** The service's name; null where it has none. @throws {AgentError} UNAVAILABLE */
  async find(name: string): Promise<string | null> {
    await this.#load();
    const choices = name.startsWith(CUSTOM) ? [name] : [name, OURS + name];
    const known = choices.find((choice) => this.#known.has(choice));
    if (known !== undefined) return known;
    // Another scheduler may have made it since.
    for (const choice of choices.filter((each) => each.startsWith(CUSTOM))) {
      if (await this.#exists(choice)) return choice;
    }
    return null;
  }

  async #load(): Promise<void> {
    this.#loading ??= this.#loadAll().catch((error) => {
      this.#loading = null;
      throw error;
    });
    await this.#loading;
  }

  async #loadAll(): Promise<void> {
    if (this.#kind === 'traits') {
      const { traits } = await this.#client.get<{ traits: string[] }>('/traits', TraitNames);
      this.#remember(traits);
      return;
    }
    const found = await this.#client.get<{ resource_classes: { name: string }[] }>(
      '/resource_classes',
      ClassNames,
    );
    this.#remember(found.resource_classes.map(({ name }) => name));
  }

  async #exists(name: string): Promise<boolean> {
    const path = `/${this.#kind}/${encodeURIComponent(name)}`;
    const answer = await this.#client.request('GET', path);
    if (answer.status === 404) return false;
    if (answer.status >= 400) throw unexpected('GET', path, answer);
    this.#remember([name]);
    return true;
  }

  #remember(names: readonly string[]): void {
    if (this.#known.size + names.length > NAMES_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `Placement has more than ${NAMES_LIMIT} ${this.#kind}`);
    }
    for (const name of names) this.#known.add(name);
  }
}
