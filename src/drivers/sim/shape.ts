/**
 * How a simulated host keeps a guest's definition, with what others have made of it. Pure.
 */
import { digestOf } from '../../model/digest.ts';
import type { GuestDevices, KeptDefinition } from '../contracts/hypervisor.ts';
import type { SimEdits, SimGuest } from './state.ts';

export function noEdits(): SimEdits {
  return { disks: [], nics: [], removed: [], others: 0 };
}

/** The devices of the guest's next start. */
export function devicesOf({ definition, edits }: SimGuest): GuestDevices {
  const disks = (definition?.disks ?? []).map(({ serial, path, format, readOnly, encryption }) => ({
    serial,
    path,
    format,
    readOnly,
    ...(encryption != null && { keyOf: encryption.volumeId }),
  }));
  const shares = definition?.shares ?? [];
  return {
    ...(shares.length > 0 && { shares: structuredClone(shares) }),
    disks: [...disks.filter(({ serial }) => !edits.removed.includes(serial)), ...edits.disks],
    nics: [
      ...(definition?.nics ?? []).filter(({ macAddress }) => !edits.removed.includes(macAddress)),
      ...edits.nics,
    ],
  };
}

/** Where a guest's firmware variables lie. */
export function nvramPath(guestName: string): string {
  return `/sim/nvram/${guestName}_VARS.fd`;
}

/** That of the guest's next start; null for a foreign guest. */
export function generationIdOf({ id, definition }: SimGuest): string | null {
  return definition === null ? null : (definition.generationId ?? id);
}

/** @param writer The host's software. */
export function keptOf(guest: SimGuest, writer: string): KeptDefinition | null {
  if (!guest.persistent) return null;
  const { name, vcpus, memoryMib, definition, edits } = guest;
  const shape = {
    name,
    vcpus,
    memoryMib,
    firmware: definition?.firmware ?? ('bios' as const),
    ...devicesOf(guest),
  };
  return { shape, digest: digestOf([definition, shape, edits.others, writer]), writer };
}
