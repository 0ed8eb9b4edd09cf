/**
 * What libvirt's capabilities say that Berth needs. Pure.
 *
 * @see libvirt's schemas capability.rng and domaincaps.rng
 */
import { cpuListOf } from '../../model/cpu-list.ts';
import { AgentError } from '../../model/errors.ts';
import type { HugepagePool, NumaNode } from '../../model/topology.ts';
import { attributeOf, elementsAt, readXml, textOf, type XmlElement } from '../host/xml-read.ts';

export interface EmulatorFacts {
  /** Absolute path. */
  emulator: string;
  /** The newest q35 with its version, as pc-q35-7.2. */
  machine: string;
  /** Whether libvirt offers KVM with it; whether guests run under it is another question. */
  isKvmListed: boolean;
}

/** Guests are of this architecture only. */
const ARCHITECTURE = 'x86_64';
/** Of x86-64. */
const USUAL_PAGE_KIB = 4;
const KIB_PER_MIB = 1024;
/** The alias that stands for the newest version of the machine type. */
const MACHINE_ALIAS = 'q35';

/**
 * @param text The answer of virConnectGetCapabilities.
 * @throws {AgentError} UNSUPPORTED: the host has no emulator for x86-64, or one without q35.
 */
export function emulatorFacts(text: string): EmulatorFacts {
  const arch = elementsAt(readXml(text), 'guest', 'arch').find(
    (element) => attributeOf(element, 'name') === ARCHITECTURE,
  );
  const emulator = arch === undefined ? undefined : elementsAt(arch, 'emulator')[0];
  if (arch === undefined || emulator === undefined) {
    throw new AgentError('UNSUPPORTED', `libvirt knows no emulator for ${ARCHITECTURE} on this host`, {
      hint: 'Install qemu-system-x86, then restart libvirt.',
    });
  }
  return {
    emulator: textOf(emulator),
    machine: pinnedMachine(arch),
    isKvmListed: elementsAt(arch, 'domain').some((element) => attributeOf(element, 'type') === 'kvm'),
  };
}

/** The cells of the host's topology; none where libvirt tells of none. @param text The answer of virConnectGetCapabilities. */
export function numaNodes(text: string): NumaNode[] {
  return elementsAt(readXml(text), 'host', 'topology', 'cells', 'cell').map((cell) => ({
    id: numberOf(cell, 'id'),
    cpus: cpuListOf(elementsAt(cell, 'cpus', 'cpu').map((cpu) => numberOf(cpu, 'id'))),
    memoryMib: Math.floor(numberIn(elementsAt(cell, 'memory')[0]) / KIB_PER_MIB),
    hugepages: elementsAt(cell, 'pages').flatMap(hugepagesOf),
    distances: elementsAt(cell, 'distances', 'sibling').map((sibling) => ({
      node: numberOf(sibling, 'id'),
      distance: numberOf(sibling, 'value'),
    })),
  }));
}

/** Pages that are larger than the usual ones; how many are free it does not say, so none is said to be used. */
function hugepagesOf(pages: XmlElement): HugepagePool[] {
  const [sizeKib, total] = [numberOf(pages, 'size'), numberIn(pages)];
  return sizeKib <= USUAL_PAGE_KIB || total === 0 ? [] : [{ sizeKib, total, free: total }];
}

function numberOf(element: XmlElement, attribute: string): number {
  return numeric(attributeOf(element, attribute) ?? '');
}

function numberIn(element: XmlElement | undefined): number {
  return element === undefined ? 0 : numeric(textOf(element));
}

function numeric(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new AgentError('INTERNAL', `libvirt tells ${JSON.stringify(text)} where a number has to be`);
}

/** Whether libvirt can choose a UEFI firmware by itself. @param text The answer of virConnectGetDomainCapabilities. */
export function offersUefi(text: string): boolean {
  return elementsAt(readXml(text), 'os', 'enum')
    .filter((element) => attributeOf(element, 'name') === 'firmware')
    .some((element) => elementsAt(element, 'value').some((value) => textOf(value) === 'efi'));
}

/** The machine type of a domain's own XML; null when it says none. */
export function machineOfDomain(text: string): string | null {
  const type = elementsAt(readXml(text), 'os', 'type')[0];
  return type === undefined ? null : attributeOf(type, 'machine');
}

function pinnedMachine(arch: XmlElement): string {
  const alias = elementsAt(arch, 'machine').find((element) => textOf(element) === MACHINE_ALIAS);
  const canonical = alias === undefined ? null : attributeOf(alias, 'canonical');
  if (canonical === null) {
    throw new AgentError('UNSUPPORTED', `The emulator of this host has no machine type ${MACHINE_ALIAS}`);
  }
  return canonical;
}
