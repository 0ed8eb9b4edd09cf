/** How a managed migration is led, and what becomes of it when a host refuses or is lost. The daemons are fakes. */
import t from 'tap';
import {
  constants,
  LibvirtError,
  type LibvirtTransportError,
  LibvirtUnsupportedError,
  SESSIONS_MAX,
  type TypedParam,
} from '../../src/index.ts';
import { failureOf, kindOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { type Asked, fakeHosts, type Reaction, type Script } from './fake-hosts.ts';

const { virDomainMigrateFlags: flag, virDomainState: state, virErrorNumber: code } = constants;
const PROTECTION = flag.VIR_MIGRATE_CHANGE_PROTECTION;

const BEGUN = ['source begin', 'source getState', 'destination prepare'];

/** Has one call get another reaction. */
function when(what: string, reaction: Reaction): Script {
  return (asked) => (asked.what === what ? reaction : undefined);
}

function params({ args }: Asked): Record<string, unknown> {
  return Object.fromEntries((args['params'] as TypedParam[]).map(({ field, value }) => [field, value]));
}

function text(bytes: unknown): string {
  return Buffer.from(bytes as Uint8Array).toString();
}

t.test(
  'each call hands its cookie to the next one, and what the hosts say goes into the parameters',
  async (t) => {
    const { domain, destination, asked, steps, last } = await fakeHosts(t);
    const moved = await domain.migrate3(destination, { bandwidth: 5, destination_xml: '<wish/>' });
    t.same(steps(), [...BEGUN, 'source perform', 'destination finish', 'source confirm']);
    t.match(moved, { name: 'nlm', id: 3 });
    t.equal(moved.connection, destination);
    const taken = asked.filter(({ args }) => 'cookie_in' in args).map(({ args }) => text(args['cookie_in']));
    t.same(taken, ['of begin', 'of prepare', 'of perform', 'of finish']);
    t.same(params(last('begin')), { bandwidth: 5n, destination_xml: '<wish/>' });
    t.same(params(last('prepare')), { bandwidth: 5n, destination_xml: '<domain/>' });
    t.match(params(last('perform')), { migrate_uri: 'tcp://there:49152' });
    t.match(params(last('finish')), { destination_name: 'nlm', migrate_uri: 'tcp://there:49152' });
    t.match(last('perform').args, { dconnuri: null });
  },
);

t.test(
  'all calls of one migration to a daemon are made on one socket, which is closed in the end',
  async (t) => {
    const { domain, destination, asked } = await fakeHosts(t);
    await domain.migrate(destination);
    const peers = new Set(asked.map(({ peer }) => peer));
    t.equal(peers.size, 2);
    await until(() => [...peers].every(({ socket }) => socket.destroyed), 'both sockets are closed');
  },
);

t.test('each host gets the flags that are for it', async (t) => {
  const { domain, destination, last } = await fakeHosts(t);
  const flags = flag.VIR_MIGRATE_LIVE | flag.VIR_MIGRATE_ABORT_ON_ERROR | flag.VIR_MIGRATE_AUTO_CONVERGE;
  await domain.migrate(destination, flags | PROTECTION);
  for (const what of ['begin', 'perform', 'confirm']) t.equal(last(what).args['flags'], flags | PROTECTION);
  for (const what of ['prepare', 'finish']) t.equal(last(what).args['flags'], flag.VIR_MIGRATE_LIVE);
});

t.test('a paused guest is to stay paused, but not one whose post-copy is resumed', async (t) => {
  const paused = when('getState', { state: state.VIR_DOMAIN_PAUSED, reason: 0 });
  const { domain, destination, last } = await fakeHosts(t, paused);
  await domain.migrate(destination);
  t.equal(last('finish').args['flags'], flag.VIR_MIGRATE_PAUSED);
  await domain.migrate(destination, flag.VIR_MIGRATE_POSTCOPY_RESUME);
  t.equal(last('finish').args['flags'], flag.VIR_MIGRATE_POSTCOPY_RESUME);
});

t.test('a definition is moved without its memory', async (t) => {
  const { domain, destination, steps, last } = await fakeHosts(t);
  await domain.migrate(destination, flag.VIR_MIGRATE_OFFLINE);
  t.same(steps(), [...BEGUN, 'destination finish', 'source confirm']);
  t.equal(text(last('finish').args['cookie_in']), '');
});

t.test('a source that refuses to begin is told nothing more', async (t) => {
  const { domain, destination, steps } = await fakeHosts(
    t,
    when('begin', { refuse: code.VIR_ERR_NO_DOMAIN }),
  );
  t.match(await failureOf(domain.migrate(destination)), { codeName: 'VIR_ERR_NO_DOMAIN' });
  t.same(steps(), ['source begin']);
});

t.test('after a refusal by the destination to prepare, the source is told to go on', async (t) => {
  const refusal = { refuse: code.VIR_ERR_OPERATION_FAILED, message: 'no room' };
  const { domain, destination, steps, last } = await fakeHosts(t, when('prepare', refusal));
  const error = await failureOf(domain.migrate(destination));
  t.match(error, { codeName: 'VIR_ERR_OPERATION_FAILED', message: 'no room', cause: undefined });
  t.same(steps(), [...BEGUN, 'source confirm']);
  t.match(last('confirm').args, { cancelled: 1, flags: PROTECTION });
  t.equal(text(last('confirm').args['cookie_in']), '');
});

t.test(
  'after a failure to move the memory the destination drops the guest, and the source needs no word',
  async (t) => {
    const refusal = { refuse: code.VIR_ERR_OPERATION_TIMEOUT, message: 'too slow' };
    const { domain, destination, steps, last } = await fakeHosts(t, when('perform', refusal));
    const error = await failureOf(domain.migrate(destination));
    t.match(error, { codeName: 'VIR_ERR_OPERATION_TIMEOUT', message: 'too slow', cause: undefined });
    t.same(steps(), [...BEGUN, 'source perform', 'destination finish']);
    t.equal(last('finish').args['cancelled'], 1);
  },
);

t.test('of two errors the first one is thrown, and the other one is told', async (t) => {
  const script: Script = ({ what }) =>
    what === 'perform' || what === 'finish'
      ? { refuse: code.VIR_ERR_OPERATION_FAILED, message: `${what} is broken` }
      : undefined;
  const { domain, destination } = await fakeHosts(t, script);
  const error = (await failureOf(domain.migrate(destination))) as LibvirtError;
  t.ok(error instanceof LibvirtError);
  t.equal(error.procedure, 'domainMigratePerform3Params');
  t.match(error.message, /^perform is broken.*finish is broken/);
  t.match((error.cause as AggregateError).errors, [
    { message: 'perform is broken' },
    { message: 'finish is broken' },
  ]);
});

t.test('a job that somebody aborts is told as such, whatever the destination says of it', async (t) => {
  const script: Script = ({ what }) => {
    if (what === 'perform') return { refuse: code.VIR_ERR_OPERATION_ABORTED, message: 'canceled by client' };
    return what === 'finish' ? { refuse: code.VIR_ERR_INTERNAL_ERROR } : undefined;
  };
  const { domain, destination } = await fakeHosts(t, script);
  const error = await failureOf(domain.migrate(destination));
  t.match(error, { codeName: 'VIR_ERR_OPERATION_ABORTED' });
  t.equal(error.message, 'canceled by client');
  t.equal((error.cause as AggregateError).errors.length, 2);
});

t.test('when nobody knows where to send the memory to, both hosts are told', async (t) => {
  const silent = when('prepare', { cookie_out: Buffer.alloc(0), uri_out: null });
  const { domain, destination, steps, last } = await fakeHosts(t, silent);
  t.match(await failureOf(domain.migrate(destination)), { codeName: 'VIR_ERR_INTERNAL_ERROR' });
  t.same(steps(), [...BEGUN, 'destination finish', 'source confirm']);
  t.match([last('finish').args, last('confirm').args], [{ cancelled: 1 }, { cancelled: 1 }]);
  await domain.migrate(destination, 0, null, 'tcp://given');
  t.match(params(last('perform')), { migrate_uri: 'tcp://given' });
});

t.test('a guest that the destination could not start goes on at the source', async (t) => {
  const refusal = { refuse: code.VIR_ERR_OPERATION_FAILED, message: 'it died' };
  const { domain, destination, last } = await fakeHosts(t, when('finish', refusal));
  t.match(await failureOf(domain.migrate(destination)), { message: 'it died' });
  t.equal(last('finish').args['cancelled'], 0);
  t.equal(last('confirm').args['cancelled'], 1);
});

t.test(
  'a destination that keeps a cancelled guest is told, and the source is not dropped for it',
  async (t) => {
    const script: Script = ({ what }) => {
      if (what === 'prepare') return { cookie_out: Buffer.alloc(0), uri_out: null };
      const dom = { name: 'nlm', uuid: 'abababab-abab-abab-abab-abababababab', id: 3 };
      return what === 'finish' ? { dom, cookie_out: Buffer.alloc(0) } : undefined;
    };
    const { domain, destination, last } = await fakeHosts(t, script);
    t.match((await failureOf(domain.migrate(destination))).message, /keeps the guest/);
    t.equal(last('confirm').args['cancelled'], 1);
  },
);

t.test('a guest that has moved is no failure, though the source could not be told', async (t) => {
  for (const reaction of [{ refuse: code.VIR_ERR_INTERNAL_ERROR, message: 'stuck' }, 'lose'] as const) {
    const { domain, destination } = await fakeHosts(t, when('confirm', reaction));
    const told: Error[] = [];
    const moved = await domain.migrate3(destination, {}, 0, { onUnconfirmed: (error) => told.push(error) });
    t.equal(moved.id, 3);
    t.match(told, [{ message: /^nlm runs at the destination.*left paused at the source/, cause: Error }]);
  }
});

t.test('what was not confirmed is a warning of the process by default', async (t) => {
  const { domain, destination } = await fakeHosts(t, when('confirm', 'lose'));
  const warned = new Promise((resolve) => process.once('warning', resolve));
  await domain.migrate(destination);
  t.match(await warned, { message: /left paused at the source/ });
});

t.test('a source that is lost while the memory moves makes the destination drop the guest', async (t) => {
  const { domain, destination, steps, last } = await fakeHosts(t, when('perform', 'lose'));
  const error = await failureOf(domain.migrate(destination));
  t.match(error, { kind: 'closed', message: /\(perform\); the guest is at the source/ });
  t.same(steps(), [...BEGUN, 'source perform', 'destination finish']);
  t.equal(last('finish').args['cancelled'], 1);
});

t.test('a destination that is lost while the memory moves makes the source stop', async (t) => {
  const script: Script = (asked, answer) => {
    if (asked.what === 'abortJob')
      queueMicrotask(() => performing?.({ refuse: code.VIR_ERR_OPERATION_ABORTED }));
    if (asked.what !== 'perform') return undefined;
    performing = answer;
    hosts.last('prepare').peer.socket.destroy();
    return 'nothing';
  };
  let performing: ((reaction: Reaction) => void) | undefined;
  const hosts = await fakeHosts(t, script);
  const error = await failureOf(hosts.domain.migrate(hosts.destination));
  t.match(error, { kind: 'closed', message: /the guest is at the source/ });
  t.equal((error.cause as AggregateError).errors.length, 2, 'the loss counts once');
  t.same(hosts.steps(), [...BEGUN, 'source perform', 'source abortJob']);
});

t.test(
  'a destination that is lost when it is to let the guest run leaves that open, and says so',
  async (t) => {
    const { domain, destination, last } = await fakeHosts(t, when('finish', 'lose'));
    const error = await failureOf(domain.migrate(destination));
    t.match(error, { kind: 'closed', message: /whether the guest runs at the destination is not known/ });
    t.equal(last('confirm').args['cancelled'], 1);
  },
);

t.test('a destination that is lost while it prepares lets the source go on', async (t) => {
  const { domain, destination, steps } = await fakeHosts(t, when('prepare', 'lose'));
  t.match(await failureOf(domain.migrate(destination)), { kind: 'closed', message: /stays at the source/ });
  t.same(steps(), [...BEGUN, 'source confirm']);
});

t.test('closing a connection ends the migrations on it', async (t) => {
  const { domain, source, destination, steps } = await fakeHosts(t, when('perform', 'nothing'));
  const failure = failureOf(domain.migrate(destination));
  await until(() => steps().includes('source perform'), 'the memory moves');
  await source.close();
  t.match(await failure, { kind: 'closed' });
  t.ok(steps().includes('destination finish'));
});

t.test('a wish to stop before the memory moves undoes what was prepared', async (t) => {
  const wish = new AbortController();
  const script: Script = ({ what }) => {
    if (what === 'prepare') wish.abort(new Error('changed my mind'));
    return undefined;
  };
  const { domain, destination, steps, last } = await fakeHosts(t, script);
  const error = await failureOf(domain.migrate3(destination, {}, 0, { signal: wish.signal }));
  t.match(error, { kind: 'aborted', message: 'migration of nlm: aborted by the caller' });
  t.match(error.cause, { cause: { message: 'changed my mind' } });
  t.same(steps(), [...BEGUN, 'destination finish', 'source confirm']);
  t.match([last('finish').args, last('confirm').args], [{ cancelled: 1 }, { cancelled: 1 }]);
});

/** A source that refuses to abort at first, as it does before its job has begun. */
function reluctant(refusals: number, outcome: Reaction): Script {
  let performing: ((reaction: Reaction) => void) | undefined;
  let told = 0;
  return (asked, answer) => {
    if (asked.what === 'perform') performing = answer;
    if (asked.what === 'perform') return 'nothing';
    if (asked.what !== 'abortJob') return undefined;
    if (told++ < refusals) return { refuse: code.VIR_ERR_OPERATION_INVALID };
    queueMicrotask(() => performing?.(outcome));
    return undefined;
  };
}

t.test('the source is told to abort until it does, and its reply is waited for', async (t) => {
  const aborted = { refuse: code.VIR_ERR_OPERATION_ABORTED };
  const { domain, destination, steps } = await fakeHosts(t, reluctant(2, aborted));
  const error = await failureOf(domain.migrate3(destination, {}, 0, { timeoutMs: 50 }));
  t.match(error, { kind: 'timeout' });
  t.equal(error.message, 'migration of nlm: not done within 50 ms');
  t.equal((error.cause as AggregateError).errors.length, 2);
  const abort = 'source abortJob';
  t.same(steps(), [...BEGUN, 'source perform', abort, abort, abort, 'destination finish']);
});

t.test('a wish to stop that comes too late stops nothing', async (t) => {
  const { domain, destination, steps } = await fakeHosts(t, reluctant(0, undefined));
  const wish = new AbortController();
  const moving = domain.migrate3(destination, {}, 0, { signal: wish.signal });
  await until(() => steps().includes('source perform'), 'the memory moves');
  wish.abort();
  t.equal((await moving).id, 3);
  t.equal(steps().at(-1), 'source confirm');
});

t.test('a signal that has fired, and a host that does not answer in time, begin nothing', async (t) => {
  const { domain, destination, daemons, steps } = await fakeHosts(t);
  t.equal(await kindOf(domain.migrate3(destination, {}, 0, { signal: AbortSignal.abort() })), 'aborted');
  daemons.destination.on('connectSupportsFeature', () => {});
  t.equal(await kindOf(domain.migrate3(destination, {}, 0, { timeoutMs: 50 })), 'timeout');
  t.same(steps(), []);
});

t.test('what a host cannot do is refused before anything is begun', async (t) => {
  const { domain, destination, daemons, steps } = await fakeHosts(t);
  const can = (host: 'source' | 'destination', missing: number) =>
    daemons[host].on('connectSupportsFeature', (peer, call) => {
      const isMissing = call.body.readInt32BE(0) === missing;
      peer.reply(call, (w) => w.int(isMissing ? 0 : 1));
    });
  const cases = [
    ['source', 13, 0, /migration with parameters is not supported by the source host/],
    ['destination', 13, 0, /migration with parameters is not supported by the destination host/],
    ['source', 12, flag.VIR_MIGRATE_OFFLINE, /offline migration is not supported by the source host/],
    [
      'destination',
      12,
      flag.VIR_MIGRATE_OFFLINE,
      /offline migration is not supported by the destination host/,
    ],
    ['source', 7, PROTECTION, /cannot enforce change protection/],
  ] as const;
  for (const [host, missing, flags, message] of cases) {
    can(host, missing);
    const error = await failureOf(domain.migrate(destination, flags));
    t.ok(error instanceof LibvirtUnsupportedError);
    t.match(error, { codeName: 'VIR_ERR_ARGUMENT_UNSUPPORTED', message });
    can(host, 0);
  }
  t.same(steps(), []);
});

t.test('a source without change protection is not asked for it', async (t) => {
  const { domain, destination, daemons, last } = await fakeHosts(t);
  daemons.source.on('connectSupportsFeature', (peer, call) =>
    peer.reply(call, (w) => w.int(call.body.readInt32BE(0) === 7 ? 0 : 1)),
  );
  await domain.migrate(destination);
  t.equal(last('begin').args['flags'], 0);
});

t.test('more migrations at once than there are sessions for are refused', async (t) => {
  const { domain, source, destination, steps } = await fakeHosts(t, when('perform', 'nothing'));
  const moving = Array.from({ length: SESSIONS_MAX }, () => failureOf(domain.migrate(destination)));
  await until(
    () => steps().filter((step) => step === 'source perform').length === SESSIONS_MAX,
    'all are moving',
  );
  const error = (await failureOf(domain.migrate(destination))) as LibvirtTransportError;
  t.match(error, { kind: 'limit', message: /8 sessions are open already/ });
  await domain.abortJob();
  await source.close();
  t.equal((await Promise.all(moving)).length, SESSIONS_MAX);
});
