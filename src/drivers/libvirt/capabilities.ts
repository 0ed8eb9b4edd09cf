/**
 * What libvirt's capabilities say that Berth needs. Pure.
 *
 * @see libvirt's schemas capability.rng and domaincaps.rng
 */
import { AgentError } from '../../model/errors.ts';
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
