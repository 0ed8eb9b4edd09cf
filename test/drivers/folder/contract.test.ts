import { globSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { FolderStore } from '../../../src/drivers/folder/store.ts';
import { MARK } from '../../../src/drivers/folder/tree.ts';
import { objectsContract } from '../contract/objects.ts';

for (const [way, prefix] of [
  ['FolderStore', ''],
  ['FolderStore below a prefix', 'nodes/a/'],
] as const) {
  objectsContract(t, way, async (t) => {
    const path = t.testdir();
    writeFileSync(join(path, MARK), '');
    const make = async () => new FolderStore({ name: 'f', path, prefix, clock: systemClock });
    const sizes = () => globSync(`${path}/**`).map((file) => statSync(file));
    const receivedBytes = () => sizes().reduce((sum, facts) => sum + (facts.isFile() ? facts.size : 0), 0);
    return { store: await make(), reopen: make, receivedBytes };
  });
}
