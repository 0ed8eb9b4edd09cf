/**
 * What the machine allows a process, looked at before a fleet is begun that it would break in the middle.
 */
import { readFileSync } from 'node:fs';
import { AgentError } from '../src/model/errors.ts';

/** Files of a process besides its sockets to agents: libraries, the database, callers of the API. */
const OTHER_FILES = 1_000;
/** Ports of a closed connection are kept for a minute: after a crash each agent has one in use and one closed. */
const PORTS_AN_AGENT = 2;

/** @throws {AgentError} LIMIT_REACHED: too few open files or ports. */
export function assertRoomFor(agents: number, limits = readLimits()): void {
  const files = agents + OTHER_FILES;
  if (files > limits.openFiles) {
    throw new AgentError(
      'LIMIT_REACHED',
      `A gateway of ${agents} agents opens up to ${files} files; a process may have ${limits.openFiles}`,
      { hint: `Raise it with \`ulimit -n ${files}\`, or simulate fewer agents.` },
    );
  }
  const ports = agents * PORTS_AN_AGENT;
  if (ports <= limits.ports) return;
  throw new AgentError(
    'LIMIT_REACHED',
    `${agents} agents that reconnect take up to ${ports} ports; this machine has ${limits.ports}`,
    { hint: 'Widen net.ipv4.ip_local_port_range, or simulate fewer agents.' },
  );
}

/** Node raises its soft limit to the hard one when it starts, and a child inherits that. */
function readLimits(): { openFiles: number; ports: number } {
  const [, soft = '0'] = /^Max open files\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  const range = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8')
    .trim()
    .split(/\s+/)
    .map(Number);
  const [first = 0, last = 0] = range;
  return {
    openFiles: soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft),
    ports: last - first + 1,
  };
}
