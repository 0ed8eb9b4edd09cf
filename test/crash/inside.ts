/**
 * One laboratory, in namespaces of its own where it needs them: started by run.ts, and told by it what to do.
 *
 * Arguments: the choice as JSON, and the folder. Answers lines of JSON on standard output.
 */
import { type Choice, runLaboratory } from './laboratory.ts';
import { LibvirtStand } from './stands/libvirt-stand.ts';
import { SimStand } from './stands/sim-stand.ts';
import type { DriverName, Stand } from './stands/stand.ts';

const [driver, choice, folder] = process.argv.slice(2) as [DriverName, string, string];
const stand: Stand = driver === 'sim' ? new SimStand(folder) : new LibvirtStand(folder);

function tell(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

try {
  await runLaboratory(stand, JSON.parse(choice) as Choice, {
    onCase: (report) => tell({ report }),
    onSkip: (what, reason) => tell({ skip: { what, reason } }),
  });
} catch (error) {
  tell({ broken: { reason: (error as Error).stack, log: stand.node.logTail() } });
} finally {
  await stand.close();
}
