import t from 'tap';
import { fakeAgent, type Handlers } from './support/fake-agent.ts';
import { ended, LEAKS, operation } from './support/fixtures.ts';
import { berth, KEY } from './support/run.ts';

const VOLUME = '/var/lib/berth/pool/volumes/a.qcow2';
const COLLECT = { kind: 'node.collect', steps: [] };

const HANDLERS: Handlers = {
  'node.leaks': () => LEAKS,
  'node.collect': () => ({ operation: operation(COLLECT) }),
  'operation.get': () => ({ operation: ended('succeeded', COLLECT) }),
};

t.test('names choose what is shown', async (t) => {
  const { socketPath } = await fakeAgent(t, HANDLERS);
  const { stdout } = await berth(['leaks', VOLUME, '--json'], { socketPath });
  t.match(JSON.parse(stdout), { total: 1, leaks: [{ name: VOLUME }] });
});

t.test('a part of the host that could not be asked is said, and is the exit code', async (t) => {
  const unknown = [{ part: 'guests' as const, pool: null, reason: 'libvirtd is down' }];
  const { socketPath } = await fakeAgent(t, {
    'node.leaks': () => ({ ...LEAKS, leaks: [], total: 0, unknown }),
  });
  const { code, stdout } = await berth(['leaks'], { socketPath });
  t.equal(code, 1);
  t.match(stdout, /Unknown: the guests could not be asked: libvirtd is down/);
});

t.test('a removal without names needs a person, or --yes', async (t) => {
  const agent = await fakeAgent(t, HANDLERS);
  t.match(await berth(['leaks', '--remove'], agent), { code: 2, stderr: /needs --yes/ });
  const refused = await berth(['leaks', '--remove'], { ...agent, terminal: true, reply: 'n' });
  t.match(refused, { code: 1, questions: [/Remove 4 leaks/] });
  t.notOk(agent.calls.some(({ method }) => method === 'node.collect'));
  t.match(await berth(['leaks', '--remove', '--yes'], agent), { code: 0, stdout: /^Removed the leaks/ });
  t.match(agent.calls.find(({ method }) => method === 'node.collect')?.params, {
    key: KEY,
    names: undefined,
  });
});

t.test('a removal by name asks for these alone, and its failure is told', async (t) => {
  const agent = await fakeAgent(t, {
    ...HANDLERS,
    'operation.get': () => ({
      operation: ended('failed', {
        ...COLLECT,
        error: { code: 'ILLEGAL_STATE', message: `volume ${VOLUME} was not removed: guest vm uses it` },
      }),
    }),
  });
  const { code, stderr } = await berth(['leaks', VOLUME, 'bt-00000000001', '--remove'], agent);
  t.equal(code, 1);
  t.match(stderr, /guest vm uses it/);
  t.same(agent.calls.find(({ method }) => method === 'node.collect')?.params, {
    names: [VOLUME, 'bt-00000000001'],
    key: KEY,
  });
});

t.test('a node without leaks says so in a removal, and shows a header in a listing', async (t) => {
  const none = { ...LEAKS, leaks: [], total: 0, confirmInMs: null };
  const agent = await fakeAgent(t, { ...HANDLERS, 'node.leaks': () => none });
  t.match(await berth(['leaks', '--remove', '--yes'], agent), { code: 0, stdout: /^Nothing to remove/ });
  t.match(await berth(['leaks'], agent), { code: 0, stdout: /^KIND +STATE +SIZE +SEEN +MADE BY +NAME\n$/ });
});
