/** With a fleet's rows in the tables, no command and no look at one thing may read a table as a whole. */
import t from 'tap';
import { systemClock } from '../../../src/scheduler/clock.ts';
import { Store } from '../../../src/scheduler/store/store.ts';
import { Database } from '../../../src/sqlite/database.ts';
import { Lab } from '../support/lab.ts';
import { aSpec } from '../support/samples.ts';

/** Those that have rows for each instance of the fleet, or more; of commands, a few are under way. */
const LARGE =
  /^SCAN (instances|operations|commands|claims|events|usage_records|engine_claims)\b(?!.* commands_under_way)/;

t.test('no command, and no view of one thing, looks at all rows of a large table', async (t) => {
  const lab = new Lab(systemClock);
  t.teardown(() => lab.close());
  await lab.start();
  const agent = await lab.node();
  const calls = t.capture(Database.prototype, 'sql', Database.prototype.sql);
  const { body } = await lab.post('/v1/instances', { spec: aSpec({ name: 'web' }) });
  const { id } = body.instance;
  await lab.get(`/v1/instances/${id}`);
  await lab.get(`/v1/nodes/${agent.nodeId}`);
  await lab.post(`/v1/instances/${id}/stop`, { mode: 'forced' });
  await lab.ask('DELETE', `/v1/instances/${id}`);
  const texts = new Set(calls().map(({ args: [text] }) => text));
  const store = new Store(':memory:');
  t.teardown(() => store.close());
  t.ok(texts.size > 20, `${texts.size} statements`);
  for (const text of texts) {
    const zeros = Array.from(text.matchAll(/\?/g), () => 0);
    const plan = store.db.sql(`EXPLAIN QUERY PLAN ${text}`).all(...zeros);
    const scans = plan.map(({ detail }) => detail as string).filter((detail) => LARGE.test(detail));
    t.same(scans, [], text);
  }
});
