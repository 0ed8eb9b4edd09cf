import t from 'tap';
import { LIFECYCLES, POWER_STATES, type PowerState } from '../../src/model/instance.ts';
import { decide, type InstanceState, type Request } from '../../src/model/lifecycle.ts';

const REQUESTS: Request[] = ['start', 'stop', 'reboot', 'delete', 'configure', 'restore'];

function state(power: PowerState, lifecycle: InstanceState['lifecycle'] = 'ready'): InstanceState {
  return {
    lifecycle,
    drift: [],
    power: { state: power, since: '2026-01-01T00:00:00.000Z', reason: 'libvirt does not answer' },
    disowned: null,
  };
}

t.test('a repeated request is answered as done', async (t) => {
  t.same(decide('start', state('running')), { verdict: 'done' });
  t.same(decide('stop', state('stopped')), { verdict: 'done' });
  t.same(decide('stop', state('crashed')), { verdict: 'done' });
});

t.test(
  'nothing that asks for a power is accepted on doubt, and the refusal says since when and why',
  async (t) => {
    for (const request of ['start', 'stop', 'reboot'] as const) {
      const decision = decide(request, state('unknown'));
      t.match(
        decision,
        { verdict: 'refuse', code: 'UNAVAILABLE', reason: /since 2026.*libvirt does not answer/ },
        request,
      );
    }
  },
);

t.test(
  'an instance that is being built or deleted takes no request, but a delete may be repeated',
  async (t) => {
    for (const request of REQUESTS) {
      t.match(
        decide(request, state('stopped', 'building')),
        { verdict: 'refuse', code: 'ILLEGAL_STATE' },
        request,
      );
    }
    t.match(decide('start', state('stopped', 'deleting')), { verdict: 'refuse', code: 'ILLEGAL_STATE' });
    t.same(decide('delete', state('stopped', 'deleting')), { verdict: 'accept' });
  },
);

t.test('a paused guest may be started and stopped but not rebooted', async (t) => {
  t.same(decide('start', state('paused')), { verdict: 'accept' });
  t.same(decide('stop', state('paused')), { verdict: 'accept' });
  t.match(decide('reboot', state('paused')), { verdict: 'refuse', reason: /start it first/ });
});

t.test('every request has a decision in every state', async (t) => {
  for (const lifecycle of LIFECYCLES) {
    for (const power of POWER_STATES) {
      for (const request of REQUESTS) t.ok(decide(request, state(power, lifecycle)).verdict);
    }
  }
});

t.test('what a define would overwrite keeps a start and a restore from it, and nothing else', async (t) => {
  const drift = [{ kind: 'disk-changed', remedy: 'by-hand' }] as const;
  for (const request of ['start', 'restore'] as const) {
    t.match(
      decide(request, { ...state('stopped'), drift }),
      { verdict: 'refuse', reason: /another file/ },
      request,
    );
  }
  t.match(decide('delete', { ...state('stopped'), drift }), { verdict: 'accept' });
  t.match(decide('stop', { ...state('running'), drift }), { verdict: 'accept' });
  t.match(decide('start', { ...state('running'), drift }), { verdict: 'done' });
  const harmless = [{ kind: 'size-changed', remedy: 'restore' }] as const;
  t.match(decide('start', { ...state('stopped'), drift: harmless }), { verdict: 'accept' });
});

t.test('a delete is accepted in every power state, on doubt too', async (t) => {
  for (const power of POWER_STATES) t.match(decide('delete', state(power)), { verdict: 'accept' }, power);
});
