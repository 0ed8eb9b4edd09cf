/**
 * npm run bench -- NAME [--json]
 *
 * Prints a table, or with --json one document; exit code 1 when a case does not hold its goal, 2 for usage.
 */
import { parseArgs } from 'node:util';
import { THREADS_OF_FOLDER } from '../src/drivers/folder/gate.ts';
import { THREADS_OF_POOL } from '../src/drivers/qcow2/places.ts';
import { createBench } from './create.ts';
import { hangBench } from './hang.ts';
import { type Case, reportOf, tableOf } from './harness.ts';
import { journalBench } from './journal.ts';
import { libvirtBench } from './libvirt.ts';
import { linkBench } from './link.ts';
import { overheadBench } from './overhead.ts';
import { powerBench } from './power.ts';
import { restBench } from './rest.ts';
import { restartBench } from './restart.ts';
import { scheduleBench } from './schedule.ts';
import { startBench } from './start.ts';
import { storageBench } from './storage.ts';

/** Those that Node makes by itself. */
const NODE_THREADS = 4;

const BENCHES: Record<string, () => Promise<Case[]>> = {
  create: createBench,
  hang: hangBench,
  journal: journalBench,
  libvirt: libvirtBench,
  link: linkBench,
  overhead: overheadBench,
  power: powerBench,
  rest: restBench,
  restart: restartBench,
  schedule: scheduleBench,
  start: startBench,
  storage: storageBench,
};

const { values, positionals } = parseArgs({
  options: { json: { type: 'boolean', default: false } },
  allowPositionals: true,
});
// As berthd with a pool and a folder has them; Node makes them with the first use of one.
process.env['UV_THREADPOOL_SIZE'] ??= String(NODE_THREADS + THREADS_OF_POOL + THREADS_OF_FOLDER);

const [name = ''] = positionals;
const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined;

if (bench === undefined) {
  console.error(`Usage: npm run bench -- NAME [--json], NAME one of ${Object.keys(BENCHES).join(', ')}`);
  process.exitCode = 2;
} else {
  const report = reportOf(name, await bench());
  console.log(values.json ? JSON.stringify(report) : tableOf(report));
  process.exitCode = report.cases.every(({ holds }) => holds) ? 0 : 1;
}
