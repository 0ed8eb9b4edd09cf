/**
 * rest: what the agent takes while ten guests run and nobody asks for anything, over a minute.
 */
import { readFileSync } from 'node:fs';
import { prepare, RealNode, spec } from '../test/e2e/support/node.ts';
import { type Case, caseOf } from './harness.ts';

const GUESTS = 10;
/** Memory of each guest: the test image needs no more. */
const GUEST_MIB = 128;
/** Time for the last guest's boot and its addresses, before the minute begins, ms. */
const SETTLE_MS = 20_000;
const SAMPLES = 12;
const SAMPLE_MS = 5_000;
/** Of the issue. */
const MEMORY_GOAL_MB = 90;
const CPU_GOAL_PERCENT = 0.5;
/** Clock ticks a second. @see sysconf(3), _SC_CLK_TCK: 100 on every Linux that Node runs on */
export const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;

export async function restBench(): Promise<Case[]> {
  const node = new RealNode({ built: true });
  await node.start();
  try {
    await prepare(node);
    for (let i = 0; i < GUESTS; i++) await runGuest(node, `rest-${i}`);
    await pause(SETTLE_MS);
    return await measure(node.pid);
  } finally {
    await node.remove();
  }
}

async function runGuest(node: RealNode, name: string): Promise<void> {
  const operation = await node.run('instance.create', { spec: spec(name, { memoryMib: GUEST_MIB }) });
  if (operation.state !== 'succeeded') throw new Error(`${name}: ${operation.error?.message}`);
  await node.untilAddress(name);
}

async function measure(pid: number): Promise<Case[]> {
  const memory: number[] = [];
  const cpu: number[] = [];
  let before = ticksOf(pid);
  for (let i = 0; i < SAMPLES; i++) {
    await pause(SAMPLE_MS);
    const now = ticksOf(pid);
    cpu.push((100 * (now - before)) / TICKS_PER_SECOND / (SAMPLE_MS / 1000));
    before = now;
    memory.push(residentMb(pid));
  }
  const mean = cpu.reduce((a, b) => a + b) / cpu.length;
  return [
    caseOf({ case: `resident memory with ${GUESTS} guests`, unit: 'MB', ours: memory, goal: MEMORY_GOAL_MB }),
    caseOf({
      case: `CPU with ${GUESTS} guests, mean of a minute`,
      unit: '% of a core',
      ours: [mean],
      goal: CPU_GOAL_PERCENT,
    }),
  ];
}

/** utime + stime, the children's included. @see proc(5), /proc/pid/stat fields 14 to 17 */
export function ticksOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0);
}

function residentMb(pid: number): number {
  return (Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE_BYTES) / 1e6;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
