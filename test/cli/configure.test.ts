import t from 'tap';
import { fakeAgent, type Handlers } from './support/fake-agent.ts';
import { ended } from './support/fixtures.ts';
import { berth, KEY } from './support/run.ts';

const HANDLERS: Handlers = { 'instance.configure': () => ({ operation: ended('succeeded') }) };

t.test('only what is given is changed', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  const run = (words: string) => berth(['instance', 'configure', 'web', ...words.split(' ')], { socketPath });
  t.match(await run('--on-crash report --on-boot never --on-drift restore'), {
    code: 0,
    stdout: /^Configured instance web/,
  });
  t.match(await run('--restart-limit 7'), { code: 0 });
  t.match(await run('--take-back'), { code: 0 });
  t.strictSame(
    calls.map(({ params }) => params),
    [
      {
        id: 'web',
        policies: { onCrash: { action: 'report' }, onBoot: 'never', onDrift: 'restore' },
        key: KEY,
      },
      { id: 'web', policies: { onCrash: { limit: 7 } }, key: KEY },
      { id: 'web', ownership: 'take-back', key: KEY },
    ],
  );
});

t.test('nothing to change, and a word that is none, are asked of no agent', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, HANDLERS);
  const none = await berth(['instance', 'configure', 'web'], { socketPath });
  t.match(none, { code: 2, stderr: /nothing to change.*--on-crash/s });
  const wrong = await berth(['instance', 'configure', 'web', '--on-boot', 'maybe'], { socketPath });
  t.match(wrong, { code: 2, stderr: /last-state, always, never/ });
  t.strictSame(calls, []);
});
