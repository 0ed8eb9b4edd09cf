/**
 * Which guests become instances: those whose disks are in this node's pool, that carry what can be true, and that
 * claim nothing that another one has.
 *
 * A hypervisor may be shared: what another node's Berth has made bears our mark too, and its disks are elsewhere.
 */
import { isDeepStrictEqual } from 'node:util';
import { isGuestAddress, parseCidr } from '../../model/ipv4.ts';
import type { GuestMetadata } from '../instances/metadata.ts';
import type { ChosenNetworks } from './choose-networks.ts';
import type { HostGuest } from './host-view.ts';
import { type BelievedGuest, leaveOut, type Planning, poolOf } from './planning.ts';

export function chooseGuests(planning: Planning, networks: ChosenNetworks): BelievedGuest[] {
  const { host, guests } = planning;
  for (const guest of host.guests) {
    const isBelieved = guests.some(({ id }) => id === guest.id);
    if (!isBelieved && isNew(planning, guest.id))
      leaveGuest(planning, guest, whyNotBelieved(planning, guest));
  }
  const fresh = guests.filter(({ id }) => isNew(planning, id));
  const verdicts = fresh.map((guest) => ({ guest, fault: judge(planning, guest, fresh, networks) }));
  for (const { guest, fault } of verdicts) if (fault !== null) leaveGuest(planning, guest, fault);
  return verdicts.filter(({ fault }) => fault === null).map(({ guest }) => guest);
}

/** One that is left out itself still contradicts another: neither is believed because the other is out. */
function judge(
  planning: Planning,
  guest: BelievedGuest,
  all: readonly BelievedGuest[],
  networks: ChosenNetworks,
): string | null {
  return (
    selfFault(guest) ??
    networkFault(guest, networks) ??
    knownFault(planning, guest) ??
    volumeFault(planning, guest, all) ??
    addressFault(guest, all)
  );
}

function whyNotBelieved(planning: Planning, guest: HostGuest): string {
  if (guest.metadata === null) return guest.fault ?? 'it carries nothing';
  return placeFault(planning, { ...guest, metadata: guest.metadata }) ?? 'it is not believed';
}

/** Why a guest is not one of this node; null where it is. */
export function placeFault(
  planning: Pick<Planning, 'host' | 'context'>,
  { id, metadata }: BelievedGuest,
): string | null {
  const { host, context } = planning;
  const { otherPools } = context;
  const lost = metadata.volumes.find(({ pool }) => pool !== undefined && !otherPools?.has(pool));
  if (lost !== undefined)
    return `its volume ${lost.name} is in pool ${lost.pool}, which the configuration does not name`;
  const paths = metadata.volumes.map((volume) => context.volumePath(volume.id, poolOf(planning, volume)));
  const ours = [context.seedPath(id), ...paths];
  const has = host.uses.find((guest) => guest.id === id)?.files ?? [];
  return has.some((path) => ours.includes(path)) ? null : "none of its disks is in this node's pool";
}

function leaveGuest(planning: Planning, { id, name }: HostGuest, reason: string): void {
  leaveOut(planning, { kind: 'instance', id, name }, reason);
}

function isNew({ known }: Planning, id: string): boolean {
  return !known.busy.has(id) && !known.instances.some((instance) => instance.id === id);
}

function selfFault({ metadata }: BelievedGuest): string | null {
  const twice =
    duplicateOf(metadata.volumes.map(({ id }) => id)) ??
    duplicateOf(metadata.ports.map(({ port }) => port.id)) ??
    duplicateOf(metadata.ports.map(({ port }) => port.macAddress)) ??
    duplicateOf(metadata.ports.map(addressOf));
  return twice === null ? null : `it carries ${twice} twice`;
}

function networkFault({ metadata }: BelievedGuest, networks: ChosenNetworks): string | null {
  for (const { network, port } of metadata.ports) {
    const chosen = networks.get(network.id);
    if (chosen === undefined) return `its network ${network.name} is not taken`;
    if (!isDeepStrictEqual({ ...chosen, name: '' }, { ...network, name: '' }))
      return `it carries another plan of network ${chosen.name} than there is`;
    if (!isGuestAddress(parseCidr(network.cidr), port.ipAddress))
      return `its address ${port.ipAddress} is none for a guest in ${network.cidr}`;
  }
  return null;
}

/** What is in the database has it first. */
function knownFault(planning: Planning, guest: BelievedGuest): string | null {
  const { known } = planning;
  const { metadata } = guest;
  const volume = metadata.volumes.find(({ id }) => !mayHave(planning, guest, id));
  if (volume !== undefined) return `its volume ${volume.name} is known, and not as its own`;
  for (const { network, port } of metadata.ports) {
    const taken = known.ports.find(
      (other) =>
        other.id === port.id ||
        other.macAddress === port.macAddress ||
        (other.networkId === network.id && other.ipAddress === port.ipAddress),
    );
    if (taken !== undefined)
      return `its port ${port.macAddress}, ${port.ipAddress} is one of instance ${taken.instanceId}`;
  }
  return null;
}

/** A volume that nothing is known of; or a free one, where the host proves that the guest has it. */
function mayHave(planning: Planning, guest: BelievedGuest, volumeId: string): boolean {
  const { known } = planning;
  if (known.busy.has(volumeId)) return false;
  const volume = known.volumes.find(({ id }) => id === volumeId);
  if (volume === undefined) return true;
  return volume.instanceId === null && volume.state === 'ready' && hasDisk(planning, guest.id, volumeId);
}

/** Of two that claim a volume, the one that alone has it as a disk is right. */
function volumeFault(planning: Planning, guest: BelievedGuest, all: readonly BelievedGuest[]): string | null {
  for (const { id, name } of guest.metadata.volumes) {
    const claimants = all.filter(({ metadata }) => metadata.volumes.some((volume) => volume.id === id));
    if (claimants.length < 2) continue;
    const holders = claimants.filter((claimant) => hasDisk(planning, claimant.id, id));
    if (holders.length === 1 && holders[0]?.id === guest.id) continue;
    const others = claimants.filter((other) => other.id !== guest.id).map((other) => other.name);
    return `its volume ${name} is claimed by ${others.join(', ')} too`;
  }
  return null;
}

function addressFault(guest: BelievedGuest, all: readonly BelievedGuest[]): string | null {
  for (const { network, port } of guest.metadata.ports) {
    const other = all.find(
      ({ id, metadata }) =>
        id !== guest.id &&
        metadata.ports.some(
          (each) =>
            each.port.id === port.id ||
            each.port.macAddress === port.macAddress ||
            (each.network.id === network.id && each.port.ipAddress === port.ipAddress),
        ),
    );
    if (other !== undefined)
      return `its port ${port.macAddress}, ${port.ipAddress} is one of ${other.name} too`;
  }
  return null;
}

/** Whether a guest really has a volume of the pool as a disk. */
export function hasDisk(planning: Planning, guestId: string, volumeId: string): boolean {
  const { host, context, guests } = planning;
  const guest = guests.find(({ id }) => id === guestId);
  const carried = guest?.metadata.volumes.find(({ id }) => id === volumeId) ?? {};
  const path = context.volumePath(volumeId, poolOf(planning, carried));
  return host.uses.some(({ id, files }) => id === guestId && files.includes(path));
}

function addressOf({ network, port }: GuestMetadata['ports'][number]): string {
  return `${network.id} ${port.ipAddress}`;
}

function duplicateOf(values: readonly string[]): string | null {
  return values.find((value, index) => values.indexOf(value) !== index) ?? null;
}
