/**
 * What the definition of each domain says: whose it is, its metadata, its size and devices, and those it runs with.
 *
 * Theory of operation: it changes rarely and takes up to three calls to read, so it is remembered for each domain until
 * an event says that it changed, or events may have been missed. So observing a hundred guests is one call. Calls that
 * change a guest never rely on what is remembered here: they read it anew.
 *
 * libvirt sends no event for a change of the persistent definition by attach-device, detach-device, setvcpus, setmem
 * and the like with --config. So all that is remembered is read again in turn (definition-sweep.ts), and compared.
 */
import {
  type CallOptions,
  type Connection,
  constants,
  type Domain,
  type RoleCallOptions,
} from 'node-libvirt';
import { digestOf } from '../../model/digest.ts';
import type { GuestDevices, KeptDefinition } from '../contracts/hypervisor.ts';
import { type DomainFacts, factsOfDomain } from './domain-shape.ts';
import { METADATA_NAMESPACE } from './domain-xml.ts';
import { isLibvirtError } from './errors.ts';
import { versionText } from './host-platform.ts';
import { readXml, textOf } from '../host/xml-read.ts';

export interface DefinitionFacts {
  /** What `define` was given; null for a foreign domain. */
  metadata: string | null;
  /** Of the process where one runs with one, else of the definition. */
  generationId: string | null;
  /** Those of the process where one runs, else those of the definition. */
  vcpus: number;
  memoryMib: number;
  /** Null for a domain that runs without one. */
  definition: KeptDefinition | null;
  /** Null for a domain that does not run. */
  live: GuestDevices | null;
}

/** What libvirt has said of a domain. */
interface Texts {
  kept: string | null;
  live: string | null;
  writer: string;
}

/** What is known from it; of the texts only what tells them from others is kept. */
interface Known {
  facts: DefinitionFacts;
  textDigest: string;
}

interface Remembered {
  domain: Domain;
  /** A promise, so that what is being read when an event comes is forgotten with the rest. */
  known: Promise<Known>;
}

/** Domains remembered at once: far more than a host can have; beyond it the oldest is read again. */
const REMEMBERED_LIMIT = 20_000;
/** Id of a domain that does not run. @see virDomainGetID, libvirt-domain.h */
const NO_ID = -1;
const INACTIVE = constants.virDomainXMLFlags.VIR_DOMAIN_XML_INACTIVE;

export class Definitions {
  readonly #remembered = new Map<string, Remembered>();
  #writer: Promise<string> | null = null;

  /**
   * @param domain As libvirt has just told of it: its id says whether it runs.
   * @throws What the calls throw; VIR_ERR_NO_DOMAIN when the domain is gone.
   */
  async of(domain: Domain, options: CallOptions): Promise<DefinitionFacts> {
    let entry = this.#remembered.get(domain.uuid);
    if (entry === undefined || entry.domain.id !== domain.id) {
      entry = { domain, known: this.#read(domain, options).then(knownFrom) };
      this.#remember(entry);
    }
    return (await entry.known).facts;
  }

  /** The definition as libvirt keeps it now; what was remembered of it is forgotten. */
  async kept(domain: Domain, options: CallOptions): Promise<KeptDefinition> {
    this.forget(domain.uuid);
    const text = await domain.getXMLDesc(INACTIVE, fromMemory(options));
    return keptDefinition(factsOfDomain(text), await this.#writerOf(domain.connection, options));
  }

  /** Domains that are remembered, those longest in memory first. */
  known(): string[] {
    return [...this.#remembered.keys()];
  }

  /**
   * Reads one that is remembered again.
   *
   * @returns Whether it differs from what was remembered; false when that was forgotten meanwhile.
   */
  async renew(uuid: string, options: CallOptions): Promise<boolean> {
    const entry = this.#remembered.get(uuid);
    if (entry === undefined) return false;
    const [before, texts] = await Promise.all([entry.known, this.#read(entry.domain, options)]);
    if (this.#remembered.get(uuid) !== entry) return false;
    // Reading the XML costs more than getting it.
    const now = digestOf(texts) === before.textDigest ? before : knownFrom(texts);
    this.#remember({ domain: entry.domain, known: Promise.resolve(now) });
    return digestOf(before.facts) !== digestOf(now.facts);
  }

  forget(uuid: string): void {
    this.#remembered.delete(uuid);
  }

  forgetAll(): void {
    this.#remembered.clear();
    this.#writer = null;
  }

  #remember(entry: Remembered): void {
    const { uuid } = entry.domain;
    const [oldest] = this.#remembered.keys();
    if (this.#remembered.size >= REMEMBERED_LIMIT && oldest !== undefined) this.#remembered.delete(oldest);
    this.#remembered.delete(uuid);
    this.#remembered.set(uuid, entry);
    // A failure is told to those who wait, and not remembered.
    entry.known.catch(() => {
      if (this.#remembered.get(uuid) === entry) this.#remembered.delete(uuid);
    });
  }

  async #read(domain: Domain, options: CallOptions): Promise<Texts> {
    const [kept, live, writer] = await Promise.all([
      readKept(domain, options),
      domain.id === NO_ID ? null : domain.getXMLDesc(0, fromMemory(options)),
      this.#writerOf(domain.connection, options),
    ]);
    return { kept, live, writer };
  }

  /** Read once for each connection: an upgrade of libvirt ends it. */
  #writerOf(connection: Connection, options: CallOptions): Promise<string> {
    if (this.#writer !== null) return this.#writer;
    const reading = connection.getLibVersion(options).then((version) => `libvirt ${versionText(version)}`);
    this.#writer = reading;
    reading.catch(() => {
      if (this.#writer === reading) this.#writer = null;
    });
    return reading;
  }
}

/** The persistent definition; null for a domain that runs without one. One that does not run always has one. */
async function readKept(domain: Domain, options: CallOptions): Promise<string | null> {
  if (domain.id !== NO_ID && !(await domain.isPersistent(options))) return null;
  return domain.getXMLDesc(INACTIVE, fromMemory(options));
}

/** libvirt gives the XML of a domain from memory, however stuck its QEMU is. */
function fromMemory(options: CallOptions): RoleCallOptions {
  return { ...options, role: 'short' };
}

function knownFrom(texts: Texts): Known {
  return { facts: factsFrom(texts), textDigest: digestOf(texts) };
}

function factsFrom({ kept: keptText, live: liveText, writer }: Texts): DefinitionFacts {
  const kept = keptText === null ? null : factsOfDomain(keptText);
  const live = liveText === null ? null : factsOfDomain(liveText);
  const present = live ?? kept;
  return {
    metadata: kept?.metadata ?? live?.metadata ?? null,
    generationId: live?.generationId ?? kept?.generationId ?? null,
    vcpus: present?.shape.vcpus ?? 0,
    memoryMib: present?.shape.memoryMib ?? 0,
    definition: kept === null ? null : keptDefinition(kept, writer),
    live: live === null ? null : devicesOf(live.shape),
  };
}

function devicesOf({ disks, nics, shares }: GuestDevices): GuestDevices {
  return { disks, nics, ...(shares !== undefined && { shares }) };
}

function keptDefinition({ shape, digest }: DomainFacts, writer: string): KeptDefinition {
  return { shape, digest, writer };
}

/**
 * Reads our metadata from the host.
 *
 * The persistent definition counts first, since that is what `define` brings up to date while the guest runs. A domain
 * that was undefined while it ran, or that others have given a definition without it, has it in the live one.
 *
 * @returns null when the domain is not ours.
 * @see virDomainGetMetadata, libvirt-domain.h
 */
export async function readMetadata(domain: Domain, options: CallOptions): Promise<string | null> {
  const { VIR_DOMAIN_AFFECT_CONFIG, VIR_DOMAIN_AFFECT_LIVE } = constants.virDomainModificationImpact;
  return (
    (await readMetadataOf(domain, VIR_DOMAIN_AFFECT_CONFIG, options)) ??
    (await readMetadataOf(domain, VIR_DOMAIN_AFFECT_LIVE, options))
  );
}

/** Null also where the domain has no such definition: it runs without one, or does not run. */
async function readMetadataOf(domain: Domain, flags: number, options: CallOptions): Promise<string | null> {
  const type = constants.virDomainMetadataType.VIR_DOMAIN_METADATA_ELEMENT;
  try {
    return textOf(readXml(await domain.getMetadata(type, METADATA_NAMESPACE, flags, options)));
  } catch (error) {
    const isAbsent =
      isLibvirtError(error, 'VIR_ERR_NO_DOMAIN_METADATA') ||
      isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID');
    if (isAbsent) return null;
    throw error;
  }
}
