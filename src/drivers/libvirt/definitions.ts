/**
 * What the definition of each domain says: whose it is, its metadata, and its size.
 *
 * It changes rarely and takes two calls to read, so it is remembered for each domain until an event says that it
 * changed, or events may have been missed. So observing a hundred guests is one call. Calls that change a guest
 * never rely on what is remembered here: they read it anew.
 */
import { type CallOptions, constants, type Domain } from 'node-libvirt';
import { METADATA_NAMESPACE } from './domain-xml.ts';
import { isLibvirtError } from './errors.ts';
import { readXml, textOf } from './xml-read.ts';

export interface DefinitionFacts {
  /** What `define` was given; null for a foreign domain. */
  metadata: string | null;
  vcpus: number;
  memoryMib: number;
}

/** Domains remembered at once: far more than a host can have; beyond it the oldest is read again. */
const REMEMBERED_LIMIT = 20_000;
const KIB_PER_MIB = 1024;

export class Definitions {
  /** Promises, so that what is being read when an event comes is forgotten with the rest. */
  readonly #remembered = new Map<string, Promise<DefinitionFacts>>();

  /** @throws What the calls throw; VIR_ERR_NO_DOMAIN when the domain is gone. */
  of(domain: Domain, options: CallOptions): Promise<DefinitionFacts> {
    const known = this.#remembered.get(domain.uuid);
    if (known !== undefined) return known;
    const reading = readDefinition(domain, options);
    this.#remember(domain.uuid, reading);
    return reading;
  }

  forget(uuid: string): void {
    this.#remembered.delete(uuid);
  }

  forgetAll(): void {
    this.#remembered.clear();
  }

  #remember(uuid: string, reading: Promise<DefinitionFacts>): void {
    const [oldest] = this.#remembered.keys();
    if (this.#remembered.size >= REMEMBERED_LIMIT && oldest !== undefined) this.#remembered.delete(oldest);
    this.#remembered.set(uuid, reading);
    // A failure is told to those who wait, and not remembered.
    reading.catch(() => {
      if (this.#remembered.get(uuid) === reading) this.#remembered.delete(uuid);
    });
  }
}

async function readDefinition(domain: Domain, options: CallOptions): Promise<DefinitionFacts> {
  const [info, metadata] = await Promise.all([domain.getInfo(options), readMetadata(domain, options)]);
  return { metadata, vcpus: info.nrVirtCpu, memoryMib: Math.floor(Number(info.maxMem) / KIB_PER_MIB) };
}

/**
 * Reads our metadata from the host.
 *
 * The persistent definition counts, since that is what `define` brings up to date while the guest runs; a domain
 * that was undefined while it ran has only its live one.
 *
 * @returns null when the domain is not ours.
 * @see virDomainGetMetadata, libvirt-domain.h
 */
export async function readMetadata(domain: Domain, options: CallOptions): Promise<string | null> {
  const { VIR_DOMAIN_AFFECT_CONFIG, VIR_DOMAIN_AFFECT_LIVE } = constants.virDomainModificationImpact;
  try {
    return await readMetadataOf(domain, VIR_DOMAIN_AFFECT_CONFIG, options);
  } catch (error) {
    if (!isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID')) throw error;
    return await readMetadataOf(domain, VIR_DOMAIN_AFFECT_LIVE, options);
  }
}

async function readMetadataOf(domain: Domain, flags: number, options: CallOptions): Promise<string | null> {
  const type = constants.virDomainMetadataType.VIR_DOMAIN_METADATA_ELEMENT;
  try {
    return textOf(readXml(await domain.getMetadata(type, METADATA_NAMESPACE, flags, options)));
  } catch (error) {
    if (isLibvirtError(error, 'VIR_ERR_NO_DOMAIN_METADATA')) return null;
    throw error;
  }
}
