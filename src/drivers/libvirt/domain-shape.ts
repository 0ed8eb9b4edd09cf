/**
 * Domain XML → the parts of it that are compared one by one (contracts/hypervisor.ts, GuestShape). Pure.
 *
 * Anyone on the host may have written the XML: what is not there, or not as our definitions have it, is null and
 * never an error, so that a domain that somebody has rewritten altogether is still seen.
 */
import { digestOf } from '../../model/digest.ts';
import type { GuestDevices, GuestShape, ShapeDisk, ShapeNic } from '../contracts/hypervisor.ts';
import { METADATA_NAMESPACE } from './domain-xml.ts';
import { shareOf } from './share-xml.ts';
import { attributeOf, elementsAt, readXml, textOf, type XmlElement } from '../host/xml-read.ts';

const KIB_PER_MIB = 1024;
/** As libvirt writes one. */
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface DomainFacts {
  shape: GuestShape;
  /** Of all that the XML says, whatever the order in which libvirt lists the devices of one kind. */
  digest: string;
  /** What our metadata element holds; null where there is none. */
  metadata: string | null;
  /** Null where there is none, or none that can be one. */
  generationId: string | null;
}

/** @param text The answer of virDomainGetXMLDesc. @throws {AgentError} INTERNAL: it is no XML. */
export function factsOfDomain(text: string): DomainFacts {
  const domain = readXml(text);
  return {
    shape: {
      name: firstText(domain, 'name') ?? '',
      vcpus: vcpusOf(domain),
      memoryMib: Math.floor(wholeNumber(firstText(domain, 'memory')) / KIB_PER_MIB),
      firmware: firmwareOf(domain),
      ...devicesOf(domain),
    },
    digest: digestOf(canonical(domain)),
    metadata: metadataOf(domain),
    generationId: UUID.exec(firstText(domain, 'genid') ?? '')?.[0] ?? null,
  };
}

/**
 * The same for two texts that say the same. libvirt lists the controllers that it has added in another order once it has
 * read its own text again, at the first start or when it is restarted; devices are told apart by their addresses.
 */
function canonical(element: XmlElement, isDevices = false): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(element).map(([name, value]) => {
      if (typeof value !== 'object') return [name, name === '#text' ? value?.trim() || undefined : value];
      const children = value.map((child) => canonical(child, name === 'devices'));
      return [name, isDevices ? children.toSorted(byText) : children];
    }),
  );
}

function byText(a: unknown, b: unknown): number {
  return JSON.stringify(a) < JSON.stringify(b) ? -1 : 1;
}

function devicesOf(domain: XmlElement): GuestDevices {
  const shares = elementsAt(domain, 'devices', 'filesystem').map(shareOf);
  return {
    disks: elementsAt(domain, 'devices', 'disk').map(diskOf),
    nics: elementsAt(domain, 'devices', 'interface').map(nicOf),
    ...(shares.length > 0 && { shares }),
  };
}

/** libvirt takes the passphrase of a disk within its source, and beside it as of old. */
function diskOf(disk: XmlElement): ShapeDisk {
  const keyOf =
    firstAttribute(disk, 'source', 'encryption', 'secret', 'uuid') ??
    firstAttribute(disk, 'encryption', 'secret', 'uuid');
  return {
    serial: firstText(disk, 'serial'),
    path: firstAttribute(disk, 'source', 'file') ?? firstAttribute(disk, 'source', 'dev'),
    format: firstAttribute(disk, 'driver', 'type'),
    readOnly: elementsAt(disk, 'readonly').length > 0,
    ...(keyOf !== null && { keyOf }),
  };
}

function nicOf(nic: XmlElement): ShapeNic {
  return {
    macAddress: (firstAttribute(nic, 'mac', 'address') ?? '').toLowerCase(),
    bridge: firstAttribute(nic, 'source', 'bridge'),
    tapName: firstAttribute(nic, 'target', 'dev'),
  };
}

/** Those that are plugged in; libvirt leaves `current` out when that is all of them. */
function vcpusOf(domain: XmlElement): number {
  const vcpu = elementsAt(domain, 'vcpu')[0];
  return vcpu === undefined ? 0 : wholeNumber(attributeOf(vcpu, 'current') ?? textOf(vcpu));
}

/** libvirt writes `firmware` when it has chosen the loader, and a pflash loader when it was told which. */
function firmwareOf(domain: XmlElement): 'bios' | 'uefi' {
  const isChosen = elementsAt(domain, 'os').some((os) => attributeOf(os, 'firmware') === 'efi');
  return isChosen || firstAttribute(domain, 'os', 'loader', 'type') === 'pflash' ? 'uefi' : 'bios';
}

/** The prefix is anyone's choice; the namespace is ours. */
function metadataOf(domain: XmlElement): string | null {
  const metadata = elementsAt(domain, 'metadata')[0];
  if (metadata === undefined) return null;
  for (const [name, children] of Object.entries(metadata)) {
    if (typeof children !== 'object') continue;
    const prefix = name.includes(':') ? `:${name.slice(0, name.indexOf(':'))}` : '';
    const ours = children.find((element) => attributeOf(element, `xmlns${prefix}`) === METADATA_NAMESPACE);
    if (ours !== undefined) return textOf(ours);
  }
  return null;
}

/** 0 for what is none. */
function wholeNumber(text: string | null): number {
  const number = Number(text);
  return Number.isSafeInteger(number) && number >= 0 ? number : 0;
}

function firstText(element: XmlElement, name: string): string | null {
  const child = elementsAt(element, name)[0];
  return child === undefined ? null : textOf(child);
}

function firstAttribute(element: XmlElement, ...path: readonly string[]): string | null {
  const child = elementsAt(element, ...path.slice(0, -1))[0];
  return child === undefined ? null : attributeOf(child, path.at(-1) as string);
}
