/**
 * Which networks can be taken, and by which plan: that of the host, else the one that all guests on it carry.
 */
import { isDeepStrictEqual } from 'node:util';
import type { NetworkPlan } from '../../drivers/contracts/network.ts';
import { gatewayOf, overlap, parseRange, prefixLength, type Range, formatAddress } from '../../model/ipv4.ts';
import { planOf } from '../store/networks.ts';
import { leaveOut, type Planning } from './planning.ts';

/** Plans by the network's id, of those that are known or taken now. */
export type ChosenNetworks = ReadonlyMap<string, NetworkPlan>;

export function chooseNetworks(planning: Planning): ChosenNetworks {
  const { known, host } = planning;
  const chosen = new Map(known.networks.map((network) => [network.id, planOf(network)]));
  const present = new Set(host.networks.filter((found) => found.present).map(({ networkId }) => networkId));
  const ids = [...new Set([...host.networks.map(({ networkId }) => networkId), ...carriedIds(planning)])]
    .filter((id) => !chosen.has(id) && !known.busy.has(id))
    // What is on the host goes before what is only told of.
    .sort((a, b) => Number(present.has(b)) - Number(present.has(a)) || (a < b ? -1 : 1));
  for (const id of ids) {
    const plan = choosePlan(planning, id, chosen);
    if (plan !== null) chosen.set(id, take(planning, plan));
  }
  return chosen;
}

/** The plan of one network, or null where it is left out. */
function choosePlan(planning: Planning, id: string, chosen: ChosenNetworks): NetworkPlan | null {
  const kept = planning.host.networks.find(({ networkId }) => networkId === id);
  const carried = carriedPlans(planning, id);
  const plan = kept?.plan ?? carried[0];
  const object = { kind: 'network', id, name: plan?.name ?? kept?.bridge ?? id } as const;
  const fault =
    plan === undefined
      ? 'its plan is kept neither on the host nor by a guest'
      : (planFault(planning, plan) ??
        ((kept?.plan ?? null) === null && carried.length > 1
          ? 'its guests carry different plans of it'
          : null) ??
        overlapFault(plan, chosen));
  if (fault === null) return plan as NetworkPlan;
  leaveOut(planning, object, fault);
  return null;
}

function take({ names, context, plan: rows }: Planning, plan: NetworkPlan): NetworkPlan {
  const name = names.take('network', plan.id, [context.names[plan.id], plan.name]);
  const note = name === plan.name ? null : `on the host it is called ${plan.name}`;
  rows.networks.push({ ...plan, name });
  rows.added.push({ kind: 'network', id: plan.id, name, note });
  return plan;
}

function carriedIds({ guests }: Planning): string[] {
  return guests.flatMap(({ metadata }) => metadata.ports.map(({ network }) => network.id));
}

/** Different plans of one network that guests carry. */
function carriedPlans({ guests }: Planning, id: string): NetworkPlan[] {
  const different: NetworkPlan[] = [];
  for (const { metadata } of guests) {
    for (const { network } of metadata.ports) {
      if (network.id === id && !different.some((each) => isDeepStrictEqual(each, network)))
        different.push(network);
    }
  }
  return different;
}

function planFault({ context }: Planning, plan: NetworkPlan): string | null {
  const range = canonicalRange(plan.cidr);
  if (range === null) return `its range ${plan.cidr} is none`;
  if (plan.gatewayAddress !== gatewayOf(range)) return `its gateway ${plan.gatewayAddress} is none`;
  return plan.bridge === context.bridgeName(plan.id) ? null : `its bridge ${plan.bridge} is not named for it`;
}

function overlapFault(plan: NetworkPlan, chosen: ChosenNetworks): string | null {
  const range = parseRange(plan.cidr);
  for (const other of chosen.values()) {
    const otherRange = parseRange(other.cidr);
    if (range !== null && otherRange !== null && overlap(range, otherRange))
      return `its addresses ${plan.cidr} overlap with network ${other.name}, ${other.cidr}`;
  }
  return null;
}

/** Null where bits are set beyond the prefix. */
function canonicalRange(cidr: string): Range | null {
  const range = parseRange(cidr);
  if (range === null) return null;
  return `${formatAddress(range.first)}/${prefixLength(range)}` === cidr ? range : null;
}
