/**
 * The nftables table of a network, as text. Pure.
 *
 * One table for each network, replaced as a whole in one transaction, so that there is never a moment
 * without rules, and removed as a whole.
 *
 *   guest ──▶ host      DHCP, DNS and ping of the gateway, and answers to what the host itself began;
 *                       all else is dropped. The host's own services (ssh, monitoring, other tenants'
 *                       gateways) are no business of a tenant. Other managers leave them open and leave
 *                       the closing to the operator; a cloud node hosts strangers, so Berth closes them.
 *   guest ──▶ outside   with NAT: everything, from addresses of the network only, never to link-local
 *                       addresses (the metadata service of a cloud that the host itself may run in).
 *                       Without NAT: nothing. The network is isolated.
 *   outside ──▶ guest   answers only.
 *   guest ──▶ guest     free within a network; between networks of Berth dropped.
 *
 * A verdict `accept` here does not overrule a `drop` of another table: a host firewall that drops by
 * default has to let the bridges through by rules of its own. `drop` here is final.
 */
import { createHash } from 'node:crypto';
import type { NetworkPlan } from '../contracts/network.ts';
import { BRIDGE_PREFIX, tableName } from './names.ts';

/** A rule without its comment, and what it is for. */
type Rule = readonly [match: string, purpose: string];

interface Chain {
  name: string;
  /** Null for a chain that is only jumped to. */
  hook: string | null;
  rules: readonly Rule[];
}

/** A rule by which a present table is told from a missing, changed or damaged one. */
export interface RuleMark {
  chain: string;
  comment: string;
}

/** A transaction for `nft -f`: makes the table, or replaces it, whatever was in it. */
export function ruleset(plan: NetworkPlan): string {
  const table = `table inet ${tableName(plan.id)}`;
  const chains = markedChains(plan).map(renderChain);
  return `${table}\ndelete ${table}\n${table} {\n${chains.join('\n')}}\n`;
}

/** Every rule of the table in order; their comments change whenever any rule does. */
export function ruleMarks(plan: NetworkPlan): RuleMark[] {
  return markedChains(plan).flatMap(({ name, rules }) =>
    rules.map(([, comment]) => ({ chain: name, comment })),
  );
}

/** The chains with a digest of all of them put before each purpose. */
function markedChains(plan: NetworkPlan): Chain[] {
  const chains = chainsOf(plan);
  const digest = createHash('sha256').update(JSON.stringify(chains)).digest('hex').slice(0, 8);
  return chains.map((chain) => ({
    ...chain,
    rules: chain.rules.map(([match, purpose]) => [match, `${digest} ${purpose}`] as const),
  }));
}

function chainsOf(plan: NetworkPlan): Chain[] {
  const filters = [inputChain(plan), forwardChain(plan), fromGuestsChain(plan), toGuestsChain(plan)];
  return plan.nat ? [...filters, postroutingChain(plan)] : filters;
}

function inputChain({ bridge, gatewayAddress, dhcp, dnsServers }: NetworkPlan): Chain {
  const toGateway = `ip daddr ${gatewayAddress}`;
  const dhcpRules: Rule[] = [['udp dport 67 accept', 'guests may ask for DHCP']];
  const dnsRules: Rule[] = [
    [`${toGateway} udp dport 53 accept`, 'guests may ask the resolver'],
    [`${toGateway} tcp dport 53 accept`, 'guests may ask the resolver over TCP'],
  ];
  return {
    name: 'input',
    hook: 'type filter hook input priority filter; policy accept;',
    rules: [
      [`iifname != "${bridge}" accept`, 'others are not our concern'],
      ['ct state established,related accept', 'answers to the host'],
      ...(dhcp ? dhcpRules : []),
      ...(dnsServers.length === 0 ? dnsRules : []),
      [`${toGateway} icmp type echo-request accept`, 'guests may ping their gateway'],
      ['drop', 'the host is closed to guests'],
    ],
  };
}

function forwardChain({ bridge }: NetworkPlan): Chain {
  return {
    name: 'forward',
    hook: 'type filter hook forward priority filter; policy accept;',
    rules: [
      [`iifname "${bridge}" oifname "${bridge}" accept`, 'guests reach each other'],
      [`iifname "${bridge}" jump from_guests`, 'out of the network'],
      [`oifname "${bridge}" jump to_guests`, 'into the network'],
    ],
  };
}

function fromGuestsChain({ cidr, nat }: NetworkPlan): Chain {
  const filters: Rule[] = [
    ['meta nfproto ipv6 drop', 'the network is IPv4 only'],
    [`ip saddr != ${cidr} drop`, 'only its own addresses leave'],
    [`oifname "${BRIDGE_PREFIX}*" drop`, 'networks do not reach each other'],
    ['ip daddr 169.254.0.0/16 drop', 'link-local is never routed'],
    ['ct state invalid drop', 'would leave without NAT'],
    ['accept', 'guests reach the outside'],
  ];
  const isolated: Rule[] = [['drop', 'the network is isolated']];
  return { name: 'from_guests', hook: null, rules: nat ? filters : isolated };
}

function toGuestsChain({ nat }: NetworkPlan): Chain {
  const answers: Rule[] = [['ct state established,related accept', 'answers to guests']];
  return {
    name: 'to_guests',
    hook: null,
    rules: [...(nat ? answers : []), ['drop', 'nobody outside begins']],
  };
}

function postroutingChain({ bridge, cidr }: NetworkPlan): Chain {
  return {
    name: 'postrouting',
    hook: 'type nat hook postrouting priority srcnat; policy accept;',
    rules: [[`ip saddr ${cidr} oifname != "${bridge}" masquerade`, "guests leave by the host's address"]],
  };
}

function renderChain({ name, hook, rules }: Chain): string {
  const lines = [...(hook === null ? [] : [hook]), ...rules.map(renderRule)];
  return `  chain ${name} {\n${lines.map((line) => `    ${line}\n`).join('')}  }\n`;
}

/** In nft the comment follows the verdict. */
function renderRule([match, comment]: Rule): string {
  return `${match} comment "${comment}"`;
}
