/**
 * Restarting elsewhere: whether an instance of a fenced node can be made again on another, and as what. Pure.
 *
 * All its disks have to be volumes of pools that the old node says are shared; the new node has to have pools of these
 * names that are shared, too. What is of the old node alone (its seed, its shares of files) is not there.
 */
import { AgentError } from '../../model/errors.ts';
import type { Instance, InstanceSpec } from '../../model/instance.ts';
import type { Params } from '../../model/methods.ts';
import type { Inventory } from '../../model/node.ts';
import type { InstanceRow } from '../store/instances.ts';

export interface Restart {
  spec: InstanceSpec;
  /** In the order of its disks. */
  volumes: Params<'instance.takeover'>['volumes'];
  /** Shared pools that the new node has to have. */
  pools: string[];
}

/** @throws {AgentError} ILLEGAL_STATE: it was never made. UNSUPPORTED: it has what the old node alone has. */
export function planRestart(row: InstanceRow, old: Inventory): Restart {
  const { told } = row;
  if (row.phase !== 'present' || told === null || told.disks.length === 0) {
    throw new AgentError('ILLEGAL_STATE', `Instance ${row.name} is not known to have been made`);
  }
  if (told.shares.length > 0)
    throw onlyThere(row.name, `shares of files: ${told.shares.map(({ share }) => share).join(', ')}`);
  const shared = sharedPools(old);
  const local = told.disks.find(({ pool }) => !shared.has(pool));
  if (local !== undefined) throw onlyThere(row.name, `volume ${local.volume} in pool ${local.pool}`);
  return {
    spec: { ...told.spec, disks: disksOf(told), nics: nicsOf(told) },
    volumes: told.disks.map(({ volumeId: id, volume: name, pool, sizeGib }) => ({ id, name, pool, sizeGib })),
    pools: [...new Set(told.disks.map(({ pool }) => pool))],
  };
}

export function sharedPools(inventory: Inventory): ReadonlySet<string> {
  return new Set(inventory.pools.filter(({ shared }) => shared).map(({ name }) => name));
}

/** The disks as they are: what they were made of is done with. */
function disksOf({ disks, spec }: Instance): InstanceSpec['disks'] {
  return disks.map(({ volumeId }, at) => {
    const { device, qos } = spec.disks[at] ?? {};
    return { volume: volumeId, ...(device && { device }), ...(qos && { qos }) };
  });
}

/** By the MAC addresses that its system knows; addresses are those of the new node's networks, where none was asked for. */
function nicsOf({ nics, spec }: Instance): InstanceSpec['nics'] {
  return nics.map(({ network, macAddress }, at) => {
    const ipAddress = spec.nics[at]?.ipAddress;
    return { network, macAddress, ...(ipAddress === undefined ? {} : { ipAddress }) };
  });
}

function onlyThere(name: string, what: string): AgentError {
  return new AgentError('UNSUPPORTED', `Instance ${name} has what is on its node alone: ${what}`, {
    hint: 'Make it again from a backup on another node: backup.recreate.',
  });
}
