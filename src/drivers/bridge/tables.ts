/**
 * The nftables table of a network on the host, through `nft -j`.
 */
import type { NetworkPlan } from '../contracts/network.ts';
import type { HostCall } from './host-call.ts';
import { networkIdOfTable, tableName } from './names.ts';
import { type RuleMark, ruleMarks, ruleset } from './ruleset.ts';

/** `partial`: some rules are missing, changed or too many. */
export type TablePresence = 'absent' | 'partial' | 'present';

/** What `nft -j list table` tells; only what is used here. */
interface ListingJson {
  nftables: { rule?: { chain: string; comment?: string } }[];
}

interface TablesJson {
  nftables: { table?: { family: string; name: string } }[];
}

/** The words of nft itself, not those of whatever starts it. */
const NO_SUCH_TABLE = /^Error: (Could not process rule: )?No such file or directory/;

export async function lookTable(call: HostCall, plan: NetworkPlan): Promise<TablePresence> {
  const output = await call.look('nft', ['-j', 'list', 'table', 'inet', tableName(plan.id)], NO_SUCH_TABLE);
  if (output === null) return 'absent';
  return sameMarks(marksIn(output), ruleMarks(plan)) ? 'present' : 'partial';
}

/** The tables of the host that have a name of ours. */
export async function listTables(call: HostCall): Promise<string[]> {
  const { nftables } = JSON.parse(await call.run('nft', ['-j', 'list', 'tables', 'inet'])) as TablesJson;
  return nftables.flatMap(({ table }) => (table === undefined ? [] : [table.name])).filter(isTableName);
}

/** Makes the table or replaces it, in one transaction. */
export async function applyTable(call: HostCall, plan: NetworkPlan): Promise<void> {
  await call.run('nft', ['-f', '-'], ruleset(plan));
}

/** Deletes the table; one that is gone is done. */
export async function deleteTable(call: HostCall, networkId: string): Promise<void> {
  await call.look('nft', ['delete', 'table', 'inet', tableName(networkId)], NO_SUCH_TABLE);
}

function isTableName(name: string): boolean {
  return networkIdOfTable(name) !== null;
}

function marksIn(output: string): RuleMark[] {
  const { nftables } = JSON.parse(output) as ListingJson;
  return nftables.flatMap(({ rule }) =>
    rule === undefined ? [] : [{ chain: rule.chain, comment: rule.comment ?? '' }],
  );
}

/** Order counts within a chain; nft lists the chains in the order in which they were made. */
function sameMarks(seen: RuleMark[], wanted: RuleMark[]): boolean {
  return JSON.stringify(seen) === JSON.stringify(wanted);
}
