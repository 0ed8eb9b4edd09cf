/**
 * The OVF envelope of a machine made by another hypervisor: what its hardware is, and which files are its disks. Pure.
 *
 * The envelope is hostile: entities are not expanded, and every number and text is bounded.
 * @see DMTF DSP0243, Open Virtualization Format; the resource types are those of CIM_ResourceAllocationSettingData
 */
import type { GuestHardware } from '../../model/storage.ts';
import { GIB, MIB } from '../../model/units.ts';
import { attributeOf, elementsAt, parseXml, textOf, type XmlElement } from '../host/xml-read.ts';
import { refused } from './image-tool.ts';

/** An envelope has some ten KiB. */
export const OVF_BYTES_LIMIT = 1024 * 1024;
const TEXT_LIMIT = 255;
const ITEMS_LIMIT = 256;

const RESOURCE = { processor: 3, memory: 4, ide: 5, scsi: 6, ethernet: 10, disk: 17, sata: 20 } as const;
const BUSES: Readonly<Record<number, string>> = {
  [RESOURCE.ide]: 'ide',
  [RESOURCE.scsi]: 'scsi',
  [RESOURCE.sata]: 'sata',
};
/** @see DSP0004, Annex C: programmatic units; and the words of older envelopes */
const UNIT_WORDS: Readonly<Record<string, number>> = {
  byte: 1,
  kilobytes: 1024,
  megabytes: MIB,
  gigabytes: GIB,
};

/** @throws {AgentError} IMAGE_REFUSED: no envelope of one machine, or one that makes no sense. */
export function readOvf(text: string): GuestHardware {
  const envelope = parsed(text);
  if (elementsAt(envelope, 'VirtualSystemCollection').length > 0)
    throw refused('its envelope describes several machines');
  const [system] = elementsAt(envelope, 'VirtualSystem');
  if (system === undefined) throw refused('its envelope describes no machine');
  const items = elementsAt(system, 'VirtualHardwareSection', 'Item').concat(
    elementsAt(system, 'VirtualHardwareSection', 'StorageItem'),
    elementsAt(system, 'VirtualHardwareSection', 'EthernetPortItem'),
  );
  if (items.length > ITEMS_LIMIT) throw refused(`its envelope describes more than ${ITEMS_LIMIT} devices`);
  return {
    name: text255(child(system, 'Name') ?? attribute(system, 'id') ?? 'unnamed'),
    vcpus: quantity(items, RESOURCE.processor) ?? 1,
    memoryMib: memoryOf(items),
    firmware: firmwareOf(system),
    operatingSystem: operatingSystemOf(system),
    disks: disksOf(envelope, items),
    nics: items.filter((item) => typeOf(item) === RESOURCE.ethernet).map(nicOf),
  };
}

function disksOf(envelope: XmlElement, items: readonly XmlElement[]): GuestHardware['disks'] {
  const files = new Map(
    elementsAt(envelope, 'References', 'File').map((file) => [attribute(file, 'id'), file]),
  );
  const disks = new Map(
    elementsAt(envelope, 'DiskSection', 'Disk').map((disk) => [attribute(disk, 'diskId'), disk]),
  );
  return items.flatMap((item) => {
    if (typeOf(item) !== RESOURCE.disk) return [];
    const disk = disks.get((child(item, 'HostResource') ?? '').replace(/^(?:ovf:)?\/disk\//, ''));
    const file = disk === undefined ? undefined : files.get(attribute(disk, 'fileRef'));
    // A disk without a file is an empty one, which a volume replaces.
    if (disk === undefined || file === undefined) return [];
    if (!['', 'identity'].includes(attribute(file, 'compression') ?? ''))
      throw refused('a disk in its archive is packed');
    return [
      { file: text255(attribute(file, 'href') ?? ''), sizeBytes: capacityOf(disk), bus: busOf(item, items) },
    ];
  });
}

function busOf(item: XmlElement, items: readonly XmlElement[]): string {
  const parent = child(item, 'Parent');
  const controller = items.find((each) => parent !== null && child(each, 'InstanceID') === parent);
  const subtype = child(controller ?? {}, 'ResourceSubType') ?? '';
  if (/ahci|sata/i.test(subtype)) return 'sata';
  return /nvme/i.test(subtype) ? 'nvme' : (BUSES[typeOf(controller ?? {})] ?? 'other');
}

function nicOf(item: XmlElement): GuestHardware['nics'][number] {
  const model = child(item, 'ResourceSubType');
  return { network: text255(child(item, 'Connection') ?? ''), model: model === null ? null : text255(model) };
}

function memoryOf(items: readonly XmlElement[]): number {
  const item = items.find((each) => typeOf(each) === RESOURCE.memory);
  const amount = numberOf(child(item ?? {}, 'VirtualQuantity'));
  if (item === undefined || amount === null)
    throw refused('its envelope does not say how much memory the machine has');
  return Math.ceil((amount * unitOf(child(item, 'AllocationUnits') ?? 'megabytes')) / MIB);
}

function capacityOf(disk: XmlElement): number | null {
  const amount = numberOf(attribute(disk, 'capacity'));
  const bytes =
    amount === null ? null : amount * unitOf(attribute(disk, 'capacityAllocationUnits') ?? 'byte');
  return bytes !== null && Number.isSafeInteger(bytes) ? bytes : null;
}

/** VMware says it as a setting of its own, VirtualBox in its own machine. */
function firmwareOf(system: XmlElement): GuestHardware['firmware'] {
  const settings = elementsAt(system, 'VirtualHardwareSection', 'Config').filter(
    (each) => attribute(each, 'key') === 'firmware',
  );
  const types = elementsAt(system, 'Machine', 'Hardware', 'Firmware').map((each) => attribute(each, 'type'));
  const words = [...settings.map((each) => attribute(each, 'value')), ...types];
  return words.some((word) => /^u?efi/i.test(word ?? '')) ? 'uefi' : 'bios';
}

function operatingSystemOf(system: XmlElement): string | null {
  const [section] = elementsAt(system, 'OperatingSystemSection');
  const text = section === undefined ? null : (child(section, 'Description') ?? attribute(section, 'osType'));
  return text === null ? null : text255(text);
}

function quantity(items: readonly XmlElement[], type: number): number | null {
  const item = items.find((each) => typeOf(each) === type);
  return item === undefined ? null : numberOf(child(item, 'VirtualQuantity'));
}

function typeOf(item: XmlElement): number {
  return numberOf(child(item, 'ResourceType')) ?? 0;
}

function numberOf(text: string | null): number | null {
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/** "byte * 2^20", "MegaBytes"; one that is not known is refused, since a guess may be a thousand times off. */
function unitOf(text: string): number {
  const power = /^byte\s*\*\s*2\s*\^\s*(\d{1,2})$/i.exec(text.trim())?.[1];
  const bytes = power === undefined ? UNIT_WORDS[text.trim().toLowerCase()] : 2 ** Number(power);
  if (bytes === undefined)
    throw refused(`its envelope has an unknown unit, ${JSON.stringify(text.slice(0, 40))}`);
  return bytes;
}

function parsed(text: string): XmlElement {
  if (/<!DOCTYPE/i.test(text)) throw refused('its envelope has a document type, which no OVF has');
  const [envelope] = elementsAt(documentOf(text), 'Envelope');
  if (envelope === undefined) throw refused('its envelope is no OVF');
  return envelope;
}

function documentOf(text: string): XmlElement {
  try {
    return parseXml(text, 'dropped');
  } catch (error) {
    throw refused('its envelope is not XML', error);
  }
}

function child(element: XmlElement, name: string): string | null {
  const [found] = elementsAt(element, name);
  const text = found === undefined ? '' : textOf(found).trim();
  return text === '' ? null : text;
}

function attribute(element: XmlElement, name: string): string | null {
  return attributeOf(element, name)?.trim() ?? null;
}

/** A text that may be shown: of one line, and bounded. */
function text255(text: string): string {
  return text
    .replaceAll(/\p{Cc}/gu, ' ')
    .slice(0, TEXT_LIMIT)
    .toWellFormed();
}
