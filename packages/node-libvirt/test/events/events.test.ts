/** Registrations and their races: the far side is a fake daemon that keeps registrations as libvirtd does. */
import t from 'tap';
import {
  LibvirtError,
  LibvirtTransportError,
  LibvirtUnsupportedError,
  LibvirtUsageError,
} from '../../src/errors.ts';
import { EARLY_MAX } from '../../src/events/early-messages.ts';
import { Events, type Gap, LISTENERS_MAX } from '../../src/events/events.ts';
import { subscriptionOf } from '../../src/events/subscription.ts';
import { replyFrame } from '../support/fake-daemon.ts';
import { failureOf, kindOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { domainNamed, lifecycleFrame, messageFrame, setup } from './event-daemon.ts';

const REGISTER = 'connectDomainEventCallbackRegisterAny';
const DEREGISTER = 'connectDomainEventCallbackDeregisterAny';
const [a, b] = [domainNamed('a'), domainNamed('b')];

t.test('a kind is registered once for all who want the same, and taken back with the last', async (t) => {
  const { daemon, connection } = await setup(t);
  const names: string[] = [];
  const stops = await Promise.all(
    [1, 2, 3].map((who) =>
      connection.onEvent('domain', 'lifecycle', (event) => names.push(`${who} ${event.domain.name}`)),
    ),
  );
  t.equal(daemon.registered.length, 1);
  await stops[0]?.();
  await stops[1]?.();
  await stops[1]?.();
  t.same(daemon.callsOf(DEREGISTER), []);
  daemon.lifecycle('a');
  await until(() => names.length === 1, 'the event is there');
  t.same(names, ['3 a']);
  await stops[2]?.();
  t.same(daemon.registered, []);

  const again = () => connection.onEvent('domain', 'lifecycle', () => {});
  await again();
  await stops[2]?.();
  await again();
  t.equal(daemon.registered.length, 1);
});

t.test('nothing is remembered of listeners that are gone', async (t) => {
  const refusal = new LibvirtTransportError('limit', 'too many calls');
  const called: string[] = [];
  let failure: Error | null = null;
  const events = new Events(async (name) => {
    called.push(name);
    if (failure !== null) throw failure;
    return { callbackID: called.length, supported: 1 };
  }, 1_000);
  const listen = (options = {}) => events.add(subscriptionOf('domain', 'lifecycle', options), () => {}, {});
  const stops = await Promise.all([listen({ domain: a }), listen({ domain: b }), listen(), listen()]);
  t.match(events.load, { listeners: 4, registrations: 3 });
  for (const stop of stops) await stop();
  t.match(events.load, { listeners: 0, registrations: 0 });

  failure = refusal;
  t.equal(await kindOf(listen()), 'limit');
  t.match(events.load, { listeners: 0, registrations: 0 });
  failure = null;
  const stop = await listen();
  failure = refusal;
  t.equal(await kindOf(stop()), 'limit');
  t.match(events.load, { listeners: 0, registrations: 1 }, 'the daemon still has it');
  failure = null;
  const registered = called.filter((name) => name === REGISTER).length;
  await (await listen())();
  t.equal(called.filter((name) => name === REGISTER).length, registered, 'it was used again');
  t.match(events.load, { listeners: 0, registrations: 0 });

  await listen();
  failure = refusal;
  events.disconnected();
  await t.rejects(events.registerAgain(), refusal);
  t.match(events.load, { listeners: 1, registrations: 1 });
});

t.test('each filter has a registration of its own, and its listeners hear nothing else', async (t) => {
  const { daemon, connection } = await setup(t);
  const names: string[] = [];
  const listen = (who: string, options: { domain?: typeof a }) =>
    connection.onEvent('domain', 'lifecycle', (event) => names.push(`${who}:${event.domain.name}`), options);
  const stops = [await listen('all', {}), await listen('a', { domain: a }), await listen('b', { domain: b })];
  await listen('a again', { domain: { ...a, uuid: a.uuid.toUpperCase(), id: -1 } });
  t.equal(daemon.registered.length, 3);
  daemon.lifecycle('a');
  await until(() => names.length === 3, 'the events are there');
  t.same(names.toSorted(), ['a again:a', 'a:a', 'all:a']);
  for (const stop of stops) await stop();
  t.match(daemon.registered, [{ args: { dom: { name: 'a' } } }]);
});

t.test('numbers of one family say nothing about another, nor of one kind about another', async (t) => {
  const { daemon, connection } = await setup(t);
  const heard: unknown[] = [];
  await connection.onEvent('domain', 'lifecycle', (event) => heard.push(event));
  await connection.onEvent('network', 'lifecycle', (event) => heard.push(event));
  await connection.onEvent('qemuMonitor', 'event', (event) => heard.push(event));
  t.same(
    daemon.registered.map((one) => one.number),
    [1, 1, 1],
  );
  const { name, uuid } = a;
  for (const one of daemon.registered) {
    daemon.send(one, 'networkEventLifecycle', { net: { name, uuid }, event: 0, detail: 0 });
    daemon.send(one, 'domainEventCallbackReboot', { msg: { dom: a } });
    daemon.send(one, 'qemuDomainMonitorEvent', {
      dom: a,
      event: 'STOP',
      seconds: 1n,
      micros: 2,
      details: null,
    });
  }
  await until(() => heard.length === 6, 'the events are there');
  t.match(heard.slice(0, 2), [
    { family: 'network', kind: 'lifecycle', network: { name, uuid }, event: 0 },
    { family: 'qemuMonitor', kind: 'event', domain: a, event: 'STOP', seconds: 1n, details: null },
  ]);
});

t.test('kinds of one family have registrations of their own', async (t) => {
  const { daemon, connection } = await setup(t);
  const heard: unknown[] = [];
  await connection.onEvent('nodeDevice', 'lifecycle', (event) => heard.push(event));
  await connection.onEvent('nodeDevice', 'update', (event) => heard.push(event), {
    nodeDevice: { name: 'x' },
  });
  const [lifecycle, update] = daemon.registered;
  t.match(update?.args, { eventID: 1, dev: { name: 'x' } });
  if (lifecycle === undefined || update === undefined) throw new Error('not registered');
  daemon.send(lifecycle, 'nodeDeviceEventUpdate', { dev: { name: 'x' } }); // of no such registration
  daemon.send(update, 'nodeDeviceEventUpdate', { dev: { name: 'x' } });
  await connection.getLibVersion({ role: 'control' });
  t.same(heard, [{ family: 'nodeDevice', kind: 'update', nodeDevice: { name: 'x' } }]);
});

t.test('the loss of a connection that the daemon itself has is told', async (t) => {
  const { daemon, connection } = await setup(t);
  daemon.fake.on('connectRegisterCloseCallback', (peer, call) => peer.reply(call));
  daemon.fake.on('connectUnregisterCloseCallback', (peer, call) => peer.reply(call));
  const reasons: number[] = [];
  const stop = await connection.onEvent('connection', 'closed', ({ reason }) => reasons.push(reason));
  daemon.fake.peers[0]?.socket.write(messageFrame('connectEventConnectionClosed', { reason: 1 }));
  await until(() => reasons.length === 1, 'it is told');
  t.same(reasons, [1]);
  await stop();
  t.equal(daemon.fake.callsOf('connectUnregisterCloseCallback').length, 1);
});

t.test(
  'events that overtake the reply to their registration reach their own listeners, in order',
  async (t) => {
    const { daemon, connection } = await setup(t);
    const calls: (() => void)[] = [];
    daemon.delay = (_, answer) => void calls.push(answer);
    const names: string[] = [];
    const listening = [a, b].map((domain) =>
      connection.onEvent(
        'domain',
        'lifecycle',
        (event) => names.push(`${domain.name}:${event.domain.name}`),
        {
          domain,
        },
      ),
    );
    await until(() => calls.length === 2, 'both calls are there');
    const socket = daemon.fake.peers[0]?.socket;
    const early = [
      lifecycleFrame(2, 'b1'),
      lifecycleFrame(1, 'a1'),
      lifecycleFrame(9, 'x'),
      lifecycleFrame(1, 'a2'),
    ];
    socket?.write(Buffer.concat(early));
    calls[0]?.();
    socket?.write(lifecycleFrame(1, 'a3'));
    await listening[0];
    await until(() => names.length === 3, 'the first has heard');
    t.same(names, ['a:a1', 'a:a2', 'a:a3']);
    calls[1]?.();
    await listening[1];
    socket?.write(Buffer.concat([lifecycleFrame(9, 'y'), lifecycleFrame(2, 'b2')]));
    await until(() => names.length === 5, 'the second has heard');
    t.same(names.slice(3), ['b:b1', 'b:b2']);
  },
);

t.test('an event in one packet with the reply is delivered once', async (t) => {
  const { daemon, connection } = await setup(t);
  daemon.fake.on(REGISTER, (peer, call) => {
    const reply = replyFrame(call, (w) => w.int(5));
    peer.socket.write(Buffer.concat([lifecycleFrame(5, 'early'), reply, lifecycleFrame(5, 'late')]));
  });
  const names: string[] = [];
  await connection.onEvent('domain', 'lifecycle', (event) => names.push(event.domain.name));
  daemon.fake.peers[0]?.socket.write(lifecycleFrame(5, 'later'));
  await until(() => names.includes('later'), 'the last event is there');
  t.same(names, ['early', 'late', 'later']);
});

t.test('events that nobody asked for are dropped, also when a registration comes later', async (t) => {
  const { daemon, connection } = await setup(t);
  const names: string[] = [];
  daemon.fake.peers[0]?.socket.write(lifecycleFrame(1, 'before'));
  await connection.getLibVersion();
  await connection.onEvent('domain', 'lifecycle', (event) => names.push(event.domain.name));
  daemon.lifecycle('after');
  await until(() => names.length === 1, 'the event is there');
  t.same(names, ['after']);
});

t.test('too many events before the reply are a gap', async (t) => {
  const { daemon, connection } = await setup(t);
  daemon.fake.on(REGISTER, (peer, call) => {
    const early = Array.from({ length: EARLY_MAX + 5 }, () => lifecycleFrame(5, 'early'));
    peer.socket.write(Buffer.concat([...early, replyFrame(call, (w) => w.int(5))]));
  });
  const gaps: Gap[] = [];
  connection.onGap((gap) => gaps.push(gap));
  let count = 0;
  await connection.onEvent('domain', 'lifecycle', () => count++);
  t.equal(count, EARLY_MAX);
  t.match(gaps, [{ cause: { kind: 'limit' }, lost: [] }]);
});

t.test('a registration that is answered too late is taken back', async (t) => {
  const { daemon, connection } = await setup(t);
  const calls: (() => void)[] = [];
  daemon.delay = (_, answer) => void calls.push(answer);
  const listening = connection.onEvent('domain', 'lifecycle', () => t.fail('nobody listens'), {
    timeoutMs: 20,
  });
  t.equal(await kindOf(listening), 'timeout');
  daemon.delay = null;
  calls[0]?.();
  await until(() => daemon.callsOf(DEREGISTER).length === 1, 'it is taken back');
  t.same(daemon.registered, []);
});

t.test('whoever comes while a registration is awaited shares it', async (t) => {
  const { daemon, connection } = await setup(t);
  const calls: (() => void)[] = [];
  daemon.delay = (_, answer) => void calls.push(answer);
  const first = connection.onEvent('domain', 'lifecycle', () => t.fail('it has given up'), { timeoutMs: 20 });
  t.equal(await kindOf(first), 'timeout');
  const names: string[] = [];
  const second = connection.onEvent('domain', 'lifecycle', (event) => names.push(event.domain.name));
  daemon.delay = null;
  calls[0]?.();
  await second;
  daemon.lifecycle('a');
  await until(() => names.length === 1, 'the event is there');
  t.equal(daemon.callsOf(REGISTER).length, 1);
});

t.test('whoever listens again while the last one is taken back hears each event once', async (t) => {
  const { daemon, connection } = await setup(t);
  const stop = await connection.onEvent('domain', 'lifecycle', () => {});
  const calls: (() => void)[] = [];
  daemon.delay = (_, answer) => void calls.push(answer);
  const stopped = stop();
  await until(() => calls.length === 1, 'the call is there');
  const names: string[] = [];
  const again = connection.onEvent('domain', 'lifecycle', (event) => names.push(event.domain.name));
  await connection.getLibVersion({ role: 'control' });
  t.equal(calls.length, 1, 'it is not registered before it is taken back');
  daemon.delay = null;
  calls[0]?.();
  await Promise.all([stopped, again]);
  t.equal(daemon.registered.length, 1);
  daemon.lifecycle('a');
  await connection.getLibVersion({ role: 'control' });
  t.same(names, ['a']);
});

t.test('a registration that the daemon does not take back is used again', async (t) => {
  const { daemon, connection } = await setup(t);
  const stop = await connection.onEvent('domain', 'lifecycle', () => t.fail('it has been stopped'));
  daemon.fake.on(DEREGISTER, (peer, call) => peer.refuse(call, 88, 'access denied'));
  t.match(await failureOf(stop()), { codeName: 'VIR_ERR_ACCESS_DENIED' });
  daemon.lifecycle('a');
  await connection.getLibVersion({ role: 'control' }); // the event has come before this reply
  const names: string[] = [];
  await connection.onEvent('domain', 'lifecycle', (event) => names.push(event.domain.name));
  daemon.lifecycle('b');
  await until(() => names.length > 0, 'the event is there');
  t.same(names, ['b']);
  t.equal(daemon.callsOf(REGISTER).length, 1);
});

t.test('stop() waits for the daemon no longer than a call may take', async (t) => {
  const { daemon, connection } = await setup(t);
  const stop = await connection.onEvent('domain', 'lifecycle', () => {}, { timeoutMs: 50 });
  daemon.delay = () => {};
  t.equal(await kindOf(stop()), 'timeout');
});

t.test('a signal ends the wait for the daemon, and the listening', async (t) => {
  const { daemon, connection } = await setup(t);
  const names: string[] = [];
  const listen = (signal: AbortSignal) =>
    connection.onEvent('domain', 'lifecycle', (event) => names.push(event.domain.name), { signal });
  const before = daemon.fake.peers[0]?.received.length;
  t.equal(await kindOf(listen(AbortSignal.abort())), 'aborted');
  t.equal(daemon.fake.peers[0]?.received.length, before);

  const calls: (() => void)[] = [];
  daemon.delay = (_, answer) => void calls.push(answer);
  const [waiting, listening] = [new AbortController(), new AbortController()];
  const rejected = kindOf(listen(waiting.signal));
  await until(() => calls.length === 1, 'the call is there');
  waiting.abort();
  t.equal(await rejected, 'aborted');
  daemon.delay = null;
  calls[0]?.();
  await until(() => daemon.callsOf(DEREGISTER).length === 1, 'it is taken back');

  await listen(listening.signal);
  daemon.lifecycle('a');
  await until(() => names.length === 1, 'the event is there');
  listening.abort();
  await until(() => daemon.registered.length === 0, 'it is taken back');
  t.same(names, ['a']);
});

t.test('after a reconnection everything is registered again, and a gap is told', async (t) => {
  const { daemon, connection } = await setup(t);
  const names: string[] = [];
  const gaps: Gap[] = [];
  await connection.onEvent('domain', 'lifecycle', (event) => names.push(event.domain.name), { domain: a });
  await connection.onEvent('domain', 'reboot', () => {});
  connection.onGap((gap) => gaps.push(gap));
  daemon.fake.dropAll();
  await until(() => gaps.length === 1, 'the gap is told');
  t.match(gaps, [{ cause: { kind: 'closed' }, lost: [] }]);
  t.match(daemon.registered, [
    { number: 3, args: { dom: a } },
    { number: 4, args: { dom: null } },
  ]);
  daemon.lifecycle('a');
  await until(() => names.length === 1, 'the event is there');
  t.equal(connection.state, 'connected');
});

t.test(
  'what the daemon refuses after a reconnection is told with the gap, and tried again later',
  async (t) => {
    const { daemon, connection } = await setup(t);
    const names: string[] = [];
    const gaps: Gap[] = [];
    await connection.onEvent('domain', 'lifecycle', (event) => names.push(event.domain.name), { domain: a });
    const stopReboot = await connection.onEvent('domain', 'reboot', () => {});
    await connection.onEvent('storagePool', 'refresh', () => {});
    connection.onGap((gap) => gaps.push(gap));
    const refusals = [
      { code: 42, message: 'Domain not found' },
      { code: 1, message: 'internal error: unsupported event ID 1' },
    ];
    daemon.fake.on(REGISTER, (peer, call) => {
      const { code = 0, message = '' } = refusals.shift() ?? {};
      peer.refuse(call, code, message);
    });
    daemon.fake.dropAll();
    await until(() => gaps.length === 1, 'the gap is told');
    t.match(gaps[0]?.lost, [
      {
        family: 'domain',
        kind: 'lifecycle',
        filter: { domain: a },
        error: { codeName: 'VIR_ERR_NO_DOMAIN' },
      },
      { family: 'domain', kind: 'reboot', filter: {}, error: { name: 'LibvirtUnsupportedError' } },
    ]);
    t.ok(gaps[0]?.lost[1]?.error instanceof LibvirtUnsupportedError);
    t.equal(daemon.registered.length, 1);
    await stopReboot();

    daemon.fake.on(REGISTER, (peer, call) => peer.reply(call, (w) => w.int(70)));
    daemon.fake.dropAll();
    await until(() => gaps.length === 2, 'another gap is told');
    t.same(gaps[1]?.lost, []);
    daemon.fake.peers.at(-1)?.socket.write(lifecycleFrame(70, 'a'));
    await until(() => names.length === 1, 'the event is there');
  },
);

t.test('a listener to what was lost can be joined once the daemon has it again', async (t) => {
  const { daemon, connection } = await setup(t);
  const names: string[] = [];
  const listen = () => connection.onEvent('domain', 'lifecycle', (event) => names.push(event.domain.name));
  await listen();
  daemon.fake.on(REGISTER, (peer, call) => peer.refuse(call, 42, 'not now'));
  const gap = new Promise<Gap>((resolve) => connection.onGap(resolve));
  daemon.fake.dropAll();
  t.equal((await gap).lost.length, 1);
  t.ok((await failureOf(listen())) instanceof LibvirtError);
  daemon.fake.on(REGISTER, (peer, call) => peer.reply(call, (w) => w.int(70)));
  await listen();
  daemon.fake.peers.at(-1)?.socket.write(lifecycleFrame(70, 'a'));
  await until(() => names.length === 2, 'both have heard it');
});

t.test('a listener that is taken back while there is no connection is not registered again', async (t) => {
  const { daemon, connection } = await setup(t);
  const stop = await connection.onEvent('domain', 'lifecycle', () => t.fail('it has been stopped'));
  await connection.onEvent('domain', 'reboot', () => {});
  await daemon.fake.stop();
  await until(() => connection.state === 'disconnected', 'the loss is noticed');
  await stop();
  t.equal(await kindOf(connection.onEvent('domain', 'reboot', () => {})), 'closed');
  await daemon.fake.listen();
  await until(() => connection.state === 'connected', 'the connection is there again');
  t.match(daemon.registered, [{ args: { eventID: 1 } }]);
  t.equal(daemon.callsOf(DEREGISTER).length, 0);
});

t.test('a listener that is taken back while it is registered again leaves nothing behind', async (t) => {
  const { daemon, connection } = await setup(t);
  const stop = await connection.onEvent('domain', 'lifecycle', () => t.fail('it has been stopped'));
  const calls: (() => void)[] = [];
  daemon.delay = (_, answer) => void calls.push(answer);
  daemon.fake.dropAll();
  await until(() => calls.length === 1, 'it is about to be registered again');
  const stopped = stop();
  daemon.delay = null;
  calls[0]?.();
  await stopped;
  t.same(daemon.registered, []);
  await until(() => connection.state === 'connected', 'the connection is there again');
});

t.test('a connection that is lost before the reply is an error, and the listener is forgotten', async (t) => {
  const { daemon, connection } = await setup(t);
  daemon.delay = () => {};
  const listening = kindOf(connection.onEvent('domain', 'lifecycle', () => t.fail('nobody listens')));
  await until(() => daemon.callsOf(REGISTER).length === 1, 'the call is there');
  daemon.delay = null;
  const gap = new Promise<Gap>((resolve) => connection.onGap(resolve));
  daemon.fake.dropAll();
  t.equal(await listening, 'closed');
  await gap;
  t.same(daemon.registered, []);
});

t.test('a daemon that cannot tell events by registration is not asked for any', async (t) => {
  const { daemon, connection } = await setup(t);
  daemon.fake.on('connectSupportsFeature', (peer, call) => peer.reply(call, (w) => w.int(0)));
  const error = await failureOf(connection.onEvent('domain', 'lifecycle', () => {}));
  t.ok(error instanceof LibvirtUnsupportedError);
  t.match(error, { neededVersion: '1.2.1', message: /'lifecycle' of domain .* needs libvirt 1\.2\.1/ });
  t.match(await failureOf(connection.onEvent('connection', 'closed', () => {})), { neededVersion: '1.3.3' });
  t.equal(daemon.callsOf(REGISTER).length, 0);
});

t.test('the daemon is asked once what it can do, and again when it is another', async (t) => {
  const { daemon, connection } = await setup(t, { keepalive: false });
  const asked = () => daemon.callsOf('connectSupportsFeature').filter(({ feature }) => feature === 14).length;
  await Promise.all(
    (['reboot', 'lifecycle', 'tunable'] as const).map((kind) => connection.onEvent('domain', kind, () => {})),
  );
  t.equal(asked(), 1);
  const gap = new Promise((resolve) => connection.onGap(resolve));
  daemon.fake.dropAll();
  await gap;
  t.equal(asked(), 2);
});

t.test('a kind that is newer than the daemon says which libvirt it needs', async (t) => {
  const { daemon, connection } = await setup(t);
  daemon.fake.on('connectNetworkEventRegisterAny', (peer, call) =>
    peer.refuse(call, 1, 'internal error: unsupported network event ID 1'),
  );
  const error = await failureOf(connection.onEvent('network', 'metadataChange', () => {}));
  t.ok(error instanceof LibvirtUnsupportedError);
  t.match(error, { neededVersion: '9.8.0', message: /needs libvirt 9\.8\.0 \(internal error: unsupported/ });
});

t.test('wrong arguments are usage errors, and nothing is written', async (t) => {
  const { daemon, connection } = await setup(t);
  await connection.onEvent('domain', 'reboot', () => {}, { domain: a });
  const before = daemon.fake.peers[0]?.received.length;
  const listener = () => {};
  const wrong = [
    () => connection.onEvent('domain', 'nothing' as 'reboot', listener),
    () => connection.onEvent('network', 'lifecycle', listener, { domain: a } as object),
    () => connection.onEvent('domain', 'reboot', null as unknown as () => void),
    () => connection.onEvent('domain', 'reboot', listener, { timeoutMs: -1 }),
    () =>
      connection.onEvent('domain', 'lifecycle', listener, { domain: { ...a, id: 'x' as unknown as number } }),
    () => connection.onEvent('qemuMonitor', 'event', listener, { flags: 1.5 }),
    () => connection.events('domain', 'reboot', { bufferMax: 0 }),
  ];
  for (const call of wrong) t.ok((await failureOf(call())) instanceof LibvirtUsageError, String(call));
  t.equal(daemon.fake.peers[0]?.received.length, before);
});

t.test('there is a limit to listeners, and those that are taken back do not count', async (t) => {
  const { connection } = await setup(t);
  const listen = () => connection.onEvent('domain', 'lifecycle', () => {});
  const stops = await Promise.all(Array.from({ length: LISTENERS_MAX }, listen));
  t.equal(await kindOf(listen()), 'limit');
  await stops[0]?.();
  await stops[0]?.();
  await listen();
  t.equal(await kindOf(listen()), 'limit');
});

t.test('a listener that throws stops neither the connection nor the other listeners', async (t) => {
  const { daemon, connection } = await setup(t);
  const thrown = new Promise((resolve) => process.once('uncaughtException', resolve));
  const names: string[] = [];
  await connection.onEvent('domain', 'lifecycle', () => {
    throw new Error('a mistake in a listener');
  });
  await connection.onEvent('domain', 'lifecycle', (event) => names.push(event.domain.name));
  daemon.lifecycle('a');
  t.match(await thrown, { message: 'a mistake in a listener' });
  t.same(names, ['a']);
  t.equal(await connection.getLibVersion(), 9_000_000);
});

t.test('a listener may take back itself and others, and add one, while an event is told', async (t) => {
  const { daemon, connection } = await setup(t);
  const names: string[] = [];
  const stops: (() => Promise<void>)[] = [];
  const added: Promise<unknown>[] = [];
  const listen = (who: string) => async () => {
    names.push(who);
    if (who !== '1') return;
    await Promise.all([stops[0]?.(), stops[1]?.()]);
  };
  stops.push(await connection.onEvent('domain', 'lifecycle', listen('1')));
  stops.push(await connection.onEvent('domain', 'lifecycle', listen('2')));
  await connection.onEvent('domain', 'lifecycle', () => {
    if (added.length === 0) added.push(connection.onEvent('domain', 'lifecycle', listen('new')));
  });
  daemon.lifecycle('a');
  await until(() => added.length === 1, 'the event is told');
  await added[0];
  daemon.lifecycle('b');
  await until(() => names.length === 2, 'the second event is told');
  t.same(names, ['1', 'new']);
});
