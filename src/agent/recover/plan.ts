/**
 * What of the host is to be taken into the database: decided here, pure, and written elsewhere.
 *
 *   guests ─▶ in this pool? readable? ─▶ networks ─▶ claims on volumes ─▶ claims on addresses ─▶ instances, their volumes, ports
 *   what is left of the pool ─▶ volumes of their own, shares ─▶ images, also those that volumes stand on
 *
 * Rules
 *  - What is in the database already stays as it is; what an operation is at work on is left alone.
 *  - What contradicts itself, or another, is left out with the reason: both sides of a contradiction, unless the
 *    host itself proves which one is right. Nothing is guessed, and nothing on the host is changed.
 *  - A name has no authority: one that is taken is replaced by one made from the id.
 *  - A volume that any guest has as a disk never becomes a free one.
 *  - The order in which the host tells its things makes no difference.
 */
import type { PoolSurvey } from '../../drivers/contracts/storage.ts';
import { chooseGuests, placeFault } from './choose-guests.ts';
import { chooseNetworks } from './choose-networks.ts';
import type { HostGuest, HostView } from './host-view.ts';
import { Names } from './names.ts';
import { planImages } from './plan-images.ts';
import { planInstances } from './plan-instances.ts';
import { planFreeVolumes } from './plan-volumes.ts';
import { planShares } from './plan-shares.ts';
import type { BelievedGuest, Known, PlanContext, Planning, PooledVolume, RecoveryPlan } from './planning.ts';

export function planRecovery(view: HostView, known: Known, context: PlanContext): RecoveryPlan {
  const host = sorted(view);
  const found = volumesIn(host, context);
  const planning: Planning = {
    host,
    guests: host.guests.filter((guest) => isBelieved(host, context, guest)),
    known,
    context,
    names: new Names(known),
    plan: {
      images: [],
      networks: [],
      instances: [],
      volumes: [],
      attached: [],
      layers: [],
      snapshots: [],
      shares: [],
      shareUses: [],
      ports: [],
      imageCopies: [],
      allocations: [],
      added: [],
      leftOut: [],
    },
    found,
    volumes: new Map(found.filter(isAlone).map((volume) => [volume.id, volume])),
  };
  const networks = chooseNetworks(planning);
  const guests = chooseGuests(planning, networks);
  planInstances(planning, guests);
  planFreeVolumes(planning);
  planShares(planning, guests);
  planImages(planning);
  return planning.plan;
}

function isBelieved(host: HostView, context: PlanContext, guest: HostGuest): guest is BelievedGuest {
  return guest.metadata !== null && placeFault({ host, context }, guest as BelievedGuest) === null;
}

/** Of a volume that is in two pools nobody knows which one is right. */
function isAlone({ id }: PooledVolume, _index: number, all: readonly PooledVolume[]): boolean {
  return all.filter((other) => other.id === id).length === 1;
}

function volumesIn({ pool, others = [] }: HostView, context: PlanContext): PooledVolume[] {
  const all = [{ name: context.pool, survey: pool }, ...others];
  return all.flatMap(({ name, survey }) => survey.volumes.map((volume) => ({ ...volume, pool: name })));
}

function sorted({ guests, uses, pool, others = [], networks }: HostView): HostView {
  return {
    guests: guests.toSorted(byId),
    uses: uses.toSorted(byId),
    pool: sortedSurvey(pool),
    others: others
      .map(({ name, survey }) => ({ name, survey: sortedSurvey(survey) }))
      .toSorted((a, b) => compare(a.name, b.name)),
    networks: networks.toSorted((a, b) => compare(a.networkId, b.networkId)),
  };
}

function sortedSurvey({ images, volumes, shares }: PoolSurvey): PoolSurvey {
  return { images: images.toSorted(byId), volumes: volumes.toSorted(byId), shares: shares.toSorted(byId) };
}

function byId(a: { id: string }, b: { id: string }): number {
  return compare(a.id, b.id);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
