/**
 * What a run has measured: as a table for people, with the goals, or as one JSON object for programs. Pure.
 */
import type { RunResult } from './run.ts';
import type { Figures } from './scenario.ts';

interface Line {
  name: string;
  value: number | undefined;
  unit: string;
  /** @default none */
  goal?: { atMost: number } | { atLeast: number };
}

const KIB = 1024;

/** Null stands for what no scenario of the run has measured. */
export function jsonOf(result: RunResult): string {
  const { agents, figures, eventsSent, eventsLost, eventsDoubled } = result;
  const of = (name: keyof Figures): number | null => figures[name] ?? null;
  return JSON.stringify({
    agents,
    gatewayRssPerAgentBytes: of('gatewayRssPerAgentBytes'),
    steadyCpuPercent: of('steadyCpuPercent'),
    heartbeatBytes: of('heartbeatBytes'),
    reconnectSeconds: of('reconnectSeconds'),
    eventsSent,
    eventsLost,
    eventsDoubled,
    createsPerSecond: of('createsPerSecond'),
    commandP99Ms: of('commandP99Ms'),
    readP99Ms: of('readP99Ms'),
    restartSeconds: of('restartSeconds'),
    slowSeconds: of('slowSeconds'),
    slowReadP99Ms: of('slowReadP99Ms'),
    reconnectCpuSeconds: of('reconnectCpuSeconds'),
    createCpuMs: of('createCpuMs'),
    launchSeconds: result.launchSeconds,
    instancesAstray: result.instancesAstray,
  });
}

export function tableOf(result: RunResult): string {
  const lines = linesOf(result).filter(({ value }) => value !== undefined);
  const rows = lines.map(
    (line) => `  ${line.name.padEnd(44)} ${textOf(line).padStart(16)}  ${verdictOf(line)}`,
  );
  return [`${result.agents} agents on one gateway`, ...rows.map((row) => row.trimEnd())].join('\n');
}

/** Whether nothing was lost, doubled or mixed up: what holds at any speed. */
export function isSound({ eventsLost, eventsDoubled, instancesAstray }: RunResult): boolean {
  return eventsLost === 0 && eventsDoubled === 0 && instancesAstray === 0;
}

function linesOf({ figures, ...result }: RunResult): Line[] {
  const { gatewayRssPerAgentBytes: rss } = figures;
  const none = { atMost: 0 };
  return [
    { name: 'linked for the first time', value: result.launchSeconds, unit: 's' },
    {
      name: 'memory of the gateway, each agent',
      value: rss === undefined ? undefined : rss / KIB,
      unit: 'KiB',
      goal: { atMost: 60 },
    },
    { name: 'CPU, steady', value: figures.steadyCpuPercent, unit: '% of a core', goal: { atMost: 50 } },
    { name: 'heartbeat without news', value: figures.heartbeatBytes, unit: 'bytes', goal: { atMost: 120 } },
    { name: 'command and answer, p99', value: figures.commandP99Ms, unit: 'ms', goal: { atMost: 10 } },
    { name: 'read and answer, p99', value: figures.readP99Ms, unit: 'ms' },
    { name: 'creates', value: figures.createsPerSecond, unit: 'a second', goal: { atLeast: 200 } },
    { name: 'CPU of the gateway, each create', value: figures.createCpuMs, unit: 'ms' },
    { name: 'slow lines: all delivered', value: figures.slowSeconds, unit: 's' },
    { name: 'slow lines: read of others meanwhile, p99', value: figures.slowReadP99Ms, unit: 'ms' },
    { name: 'mass restart: all linked', value: figures.restartSeconds, unit: 's' },
    {
      name: 'crash of the gateway: all linked',
      value: figures.reconnectSeconds,
      unit: 's',
      goal: { atMost: 60 },
    },
    { name: 'CPU of the gateway for that', value: figures.reconnectCpuSeconds, unit: 's' },
    { name: 'events sent', value: result.eventsSent, unit: '' },
    { name: 'events lost', value: result.eventsLost, unit: '', goal: none },
    { name: 'events doubled', value: result.eventsDoubled, unit: '', goal: none },
    { name: 'instances astray', value: result.instancesAstray, unit: '', goal: none },
  ];
}

function textOf({ value = 0, unit }: Line): string {
  return `${Math.round(value * 10) / 10} ${unit}`.trimEnd();
}

function verdictOf({ value = 0, goal }: Line): string {
  if (goal === undefined) return '';
  const holds = 'atMost' in goal ? value <= goal.atMost : value >= goal.atLeast;
  const words = 'atMost' in goal ? `at most ${goal.atMost}` : `at least ${goal.atLeast}`;
  return `goal: ${words}${holds ? '' : ', NOT REACHED'}`;
}
