import { type Scenario, scenario } from './scenario.ts';
import { instanceSpec, SUBJECT } from './setting.ts';

/** Of an instance that was there and is not any more: the journal knows what was its own. */
const GONE = '6e0de000-0000-4000-8000-000000000001';

export const NODE: Scenario[] = [
  scenario('node.collect', {
    setting: {},
    async arrange(stand) {
      const { node } = stand;
      const key = 'the-instance-that-left-a-volume';
      const spec = instanceSpec(SUBJECT, { disks: [{ sizeGib: 1 }], nics: [] });
      if ((await node.operationOf(key)) === null) {
        await node.run('instance.create', { id: GONE, spec, key });
        await node.run('instance.delete', { id: GONE });
      }
      await stand.leaveConsole(GONE);
      // A new daemon removes nothing that it has not seen before.
      await node.call('node.leaks');
    },
    params: () => ({}),
    // Between two looks of the collector are ten seconds.
    casesOfFault: 1,
    whenFailed: 'is asked for again',
  }),
];
