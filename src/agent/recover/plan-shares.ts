/**
 * Shares of the pool, by their folders and labels; and which guests have which of them, by what the guests carry.
 *
 * A share that a guest carries and the pool does not have is kept in the database all the same: so the guest stays what
 * it was, and its start says what is missing.
 */
import type { FoundShare } from '../../drivers/contracts/storage.ts';
import type { BelievedGuest, Planning } from './planning.ts';
import { leaveOut } from './planning.ts';

type CarriedShare = NonNullable<BelievedGuest['metadata']['shares']>[number];

/** @param guests Those that are taken. */
export function planShares(planning: Planning, guests: readonly BelievedGuest[]): void {
  const { host, known, plan } = planning;
  const settled = new Set([...known.shares.map(({ id }) => id), ...known.busy]);
  const fresh = host.pool.shares.filter(({ id }) => !settled.has(id));
  for (const found of fresh) if (found.fault === null) planOne(planning, found);
  for (const guest of guests) {
    for (const carried of guest.metadata.shares ?? []) planUse(planning, guest, carried);
  }
  for (const found of fresh) {
    const isTaken = plan.shares.some(({ id }) => id === found.id);
    if (found.fault !== null && !isTaken) leaveFaulty(planning, found, found.fault);
  }
  for (const { id, quotaGib } of plan.shares)
    if (quotaGib !== null)
      plan.allocations.push({ consumerId: id, claim: { disks: { [planning.context.pool]: quotaGib } } });
}

function leaveFaulty(planning: Planning, { id, label }: FoundShare, fault: string): void {
  const name = label?.name ?? planning.context.names[id] ?? id;
  leaveOut(planning, { kind: 'share', id, name }, fault);
}

function planOne({ plan, context, names }: Planning, { id, label }: FoundShare): void {
  const name = names.take('share', id, [label?.name, context.names[id]]);
  plan.shares.push({
    id,
    name,
    pool: context.pool,
    quotaGib: label?.quotaGib ?? null,
    protected: label?.protected ?? false,
    state: 'ready',
    createdAt: label?.createdAt ?? context.now,
  });
  plan.added.push({ kind: 'share', id, name, note: noteOn(label, name) });
}

function planUse(planning: Planning, guest: BelievedGuest, carried: CarriedShare): void {
  const { plan, known } = planning;
  const { id: shareId, tag, access } = carried;
  const use = plan.shareUses.find((each) => each.instanceId === guest.id && each.shareId === shareId);
  const isTaken = plan.shareUses.some((each) => each.instanceId === guest.id && each.tag === tag);
  if (use !== undefined || isTaken) return;
  const isThere = [...plan.shares, ...known.shares].some(({ id }) => id === shareId);
  if (!isThere) planMissing(planning, carried, guest);
  plan.shareUses.push({ instanceId: guest.id, shareId, tag, access });
}

function planMissing(
  { host, plan, context, names }: Planning,
  { id, name: carried }: CarriedShare,
  guest: BelievedGuest,
): void {
  const name = names.take('share', id, [carried, context.names[id]]);
  const { pool, now: createdAt } = context;
  plan.shares.push({ id, name, pool, quotaGib: null, protected: false, state: 'ready', createdAt });
  const fault = host.pool.shares.find((share) => share.id === id)?.fault ?? 'its folder is missing';
  plan.added.push({ kind: 'share', id, name, note: `${fault}, and guest ${guest.name} has it` });
}

function noteOn(label: FoundShare['label'], name: string): string | null {
  if (label === null) return 'the host keeps no name of it, and nothing of its quota';
  return label.name === name ? null : `it was called ${label.name}`;
}
