/**
 * What an instance of ours would be that takes the place of another hypervisor's machine. Pure.
 */
import { type InstanceSpec, MEMORY_MIB_MIN, NICS_MAX, VCPUS_MAX } from './instance.ts';
import type { GuestHardware } from './storage.ts';

/** Where the first of our networks is, on nodes whose operator followed the guide. */
const NETWORK = 'default';
const NAME_LENGTH_MAX = 40;

export interface SuggestedInstance {
  /** What it leaves out has its default. */
  spec: Omit<InstanceSpec, 'watchdog' | 'policies'>;
  /** What a person has to know that the spec cannot say, one sentence each. */
  notes: string[];
}

/** @param image Name of the image that its first disk was imported as. */
export function suggestInstance(image: string, hardware: GuestHardware): SuggestedInstance {
  const { vcpus, memoryMib, firmware, nics } = hardware;
  return {
    spec: {
      name: nameFor(hardware.name, image),
      vcpus: Math.min(Math.max(vcpus, 1), VCPUS_MAX),
      memoryMib: Math.max(memoryMib, MEMORY_MIB_MIN),
      firmware,
      disks: [{ image }],
      nics: nics.slice(0, NICS_MAX).map(() => ({ network: NETWORK })),
      sshAuthorizedKeys: [],
    },
    notes: notesOn(hardware),
  };
}

/** A name of ours out of any text, or the image's. */
function nameFor(text: string, image: string): string {
  const name = text
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, NAME_LENGTH_MAX)
    .replace(/-+$/, '');
  return name === '' ? image : name;
}

function notesOn({ disks, nics, operatingSystem }: GuestHardware): string[] {
  const buses = [...new Set(disks.map(({ bus }) => bus))];
  const models = [...new Set(nics.flatMap(({ model }) => model ?? []))];
  const networks = [...new Set(nics.map(({ network }) => network).filter((name) => name !== ''))];
  return [
    ...(operatingSystem === null ? [] : [`Its system is said to be ${operatingSystem}.`]),
    ...(buses.length === 0
      ? []
      : [
          `Its disks were on ${buses.join(', ')} and will be on virtio: the guest needs that driver to boot.`,
        ]),
    ...(models.length === 0
      ? []
      : [`Its NICs were ${models.join(', ')} and will be virtio: they may get other names in the guest.`]),
    ...(networks.length === 0 ? [] : [`Its NICs were on ${networks.join(', ')}; choose a network for each.`]),
    ...(disks.length < 2
      ? []
      : [`It has ${disks.length} disks: import the others with --disk 1 and on, and make volumes of them.`]),
  ];
}
