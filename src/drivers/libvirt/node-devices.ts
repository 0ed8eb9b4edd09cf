/**
 * The PCI devices of a host that a guest could be given, from libvirt's node devices.
 *
 * Virtual functions are told as a number with the NIC that has them: a server may have hundreds.
 *
 * @see libvirt's schema nodedev.rng; formatnode.html
 */
import { type Connection, constants } from 'node-libvirt';
import { type DeviceFacts, deviceKindOf, hostDevice, type HostDevice } from '../../model/topology.ts';
import { attributeOf, elementsAt, readXml, textOf, type XmlElement } from '../host/xml-read.ts';
import { mapBounded } from './bounded.ts';
import { unlessGone } from './errors.ts';
import type { CallLimits } from './limits.ts';

/** Devices that are asked for at once: libvirt answers from memory. */
const READS_AT_ONCE = 16;
const { VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV } = constants.virConnectListAllNodeDeviceFlags;

/** By address. One that goes meanwhile is left out. */
export async function readDevices(connection: Connection, limits: CallLimits): Promise<HostDevice[]> {
  const listed = await connection.listAllNodeDevices(
    VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV,
    limits.next(),
  );
  const devices = await mapBounded(listed, READS_AT_ONCE, async (device) => {
    const text = await unlessGone(device.getXMLDesc(0, limits.next()));
    return text === null ? null : pciDevice(text);
  });
  return devices
    .filter((device) => device !== null)
    .sort((a, b) => (a.address < b.address ? -1 : Number(a.address > b.address)));
}

/** Null for a device of no kind that guests are given, and for a virtual function. Pure. */
export function pciDevice(text: string): HostDevice | null {
  const device = readXml(text);
  const pci = elementsAt(device, 'capability').find((element) => attributeOf(element, 'type') === 'pci');
  if (pci === undefined || capabilityOf(pci, 'phys_function') !== undefined) return null;
  const kind = deviceKindOf(numberIn(pci, 'class') ?? 0);
  const [vendor] = elementsAt(pci, 'vendor');
  const [product] = elementsAt(pci, 'product');
  const address = addressOf(pci);
  if (kind === null || vendor === undefined || product === undefined || address === null) return null;
  const facts: DeviceFacts = {
    address,
    kind,
    vendorId: hexOf(vendor),
    productId: hexOf(product),
    vendor: textOf(vendor).trim(),
    product: textOf(product).trim(),
    numaNode: numberOf(elementsAt(pci, 'numa')[0], 'node'),
    driver: elementsAt(device, 'driver', 'name').map(textOf)[0]?.trim() || null,
    iommuGroup: numberOf(elementsAt(pci, 'iommuGroup')[0], 'number'),
    virtualFunctions: virtualFunctionsOf(pci),
  };
  return hostDevice(facts);
}

function virtualFunctionsOf(pci: XmlElement): HostDevice['virtualFunctions'] {
  const functions = capabilityOf(pci, 'virt_functions');
  if (functions === undefined) return null;
  const enabled = elementsAt(functions, 'address').length;
  return { most: numberOf(functions, 'maxCount') ?? enabled, enabled };
}

function capabilityOf(pci: XmlElement, type: string): XmlElement | undefined {
  return elementsAt(pci, 'capability').find((element) => attributeOf(element, 'type') === type);
}

function addressOf(pci: XmlElement): string | null {
  const [domain, bus, slot, fn] = ['domain', 'bus', 'slot', 'function'].map((name) => numberIn(pci, name));
  if (domain == null || bus == null || slot == null || fn == null) return null;
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
  return `${hex(domain, 4)}:${hex(bus, 2)}:${hex(slot, 2)}.${fn}`;
}

/** As `0x8086`, without the prefix. */
function hexOf(element: XmlElement): string {
  return (attributeOf(element, 'id') ?? '').replace(/^0x/, '').toLowerCase().padStart(4, '0');
}

function numberIn(pci: XmlElement, name: string): number | null {
  const [element] = elementsAt(pci, name);
  return element === undefined ? null : numeric(textOf(element));
}

function numberOf(element: XmlElement | undefined, attribute: string): number | null {
  return element === undefined ? null : numeric(attributeOf(element, attribute) ?? '');
}

function numeric(text: string): number | null {
  const value = Number(text.trim() === '' ? Number.NaN : text.trim());
  return Number.isSafeInteger(value) && value >= 0 ? value : null;
}
