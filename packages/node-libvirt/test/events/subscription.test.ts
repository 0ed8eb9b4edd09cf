import t from 'tap';
import { EVENT_FAMILIES, eventKinds, eventOf } from '../../src/events/families.ts';
import { subscriptionOf } from '../../src/events/subscription.ts';
import { LibvirtUsageError } from '../../src/errors.ts';
import { domainNamed } from './event-daemon.ts';

const dom = domainNamed('a');

t.test('every kind of a family has a number and a message of its own', (t) => {
  const all = EVENT_FAMILIES.flatMap((family) =>
    eventKinds(family).map((kind) => subscriptionOf(family, kind, {})),
  );
  t.equal(all.length, 28 + 1 + 2 + 2 + 2 + 2 + 1);
  t.equal(new Set(all.map((one) => one.message)).size, all.length);
  t.equal(new Set(all.map((one) => `${one.register} ${JSON.stringify(one.args)}`)).size, all.length);
  t.same(
    eventKinds('domain').map(
      (kind) => (subscriptionOf('domain', kind, {}).args as { eventID: number }).eventID,
    ),
    Array.from({ length: 28 }, (_, number) => number),
  );
  t.end();
});

t.test('a filter is sent as the protocol names it', (t) => {
  t.match(subscriptionOf('domain', 'reboot', { domain: { ...dom, more: 1 } }).args, { eventID: 1, dom });
  t.match(subscriptionOf('network', 'lifecycle', {}).args, { eventID: 0, net: null });
  t.same(subscriptionOf('nodeDevice', 'update', { nodeDevice: { name: 'pci_1' } }).args, {
    eventID: 1,
    dev: { name: 'pci_1' },
  });
  const secret = { uuid: dom.uuid.toUpperCase(), usageType: 1, usageID: '/a' };
  t.same(subscriptionOf('secret', 'lifecycle', { secret }).args, {
    eventID: 0,
    secret: { ...secret, uuid: dom.uuid },
  });
  t.match(subscriptionOf('qemuMonitor', 'event', { domain: dom, event: 'STOP' }).args, {
    dom,
    event: 'STOP',
    flags: 0,
  });
  t.equal(subscriptionOf('connection', 'closed', {}).args, undefined);
  t.end();
});

t.test('equal wishes have equal keys, and others do not', (t) => {
  const keyOf = (...args: Parameters<typeof subscriptionOf>) => subscriptionOf(...args).key;
  const domain = { ...dom, id: -1, name: 'renamed', uuid: dom.uuid.toUpperCase() };
  t.equal(keyOf('domain', 'reboot', { domain: dom }), keyOf('domain', 'reboot', { domain, timeoutMs: 5 }));
  t.equal(keyOf('domain', 'reboot', { domain: undefined }), keyOf('domain', 'reboot', {}));
  t.equal(keyOf('qemuMonitor', 'event', { flags: 0 }), keyOf('qemuMonitor', 'event', {}));
  const different = [
    keyOf('domain', 'reboot', {}),
    keyOf('domain', 'lifecycle', {}),
    keyOf('domain', 'reboot', { domain: dom }),
    keyOf('domain', 'reboot', { domain: domainNamed('b') }),
    keyOf('network', 'lifecycle', {}),
    keyOf('qemuMonitor', 'event', {}),
    keyOf('qemuMonitor', 'event', { event: 'null' }),
    keyOf('qemuMonitor', 'event', { event: '' }),
    keyOf('qemuMonitor', 'event', { event: '', flags: 1 }),
    keyOf('nodeDevice', 'update', {}),
    keyOf('nodeDevice', 'update', { nodeDevice: { name: 'undefined' } }),
  ];
  t.equal(new Set(different).size, different.length);
  t.end();
});

t.test('what cannot be listened to is a usage error', (t) => {
  const wrong: Parameters<typeof subscriptionOf>[] = [
    ['volume' as 'domain', 'lifecycle', {}],
    ['__proto__' as 'domain', 'lifecycle', {}],
    ['domain', 'valueChanged', {}],
    ['domain', 'constructor', {}],
    ['network', 'lifecycle', { domain: dom }],
    ['connection', 'closed', { connection: {} }],
    ['domain', 'lifecycle', { event: 'STOP' }],
    ['domain', 'lifecycle', { domain: 'a' }],
    ['domain', 'lifecycle', { domain: null }],
    ['domain', 'lifecycle', { domain: { name: 'a' } }],
    ['domain', 'lifecycle', { domain: { ...dom, uuid: 7 } }],
  ];
  for (const args of wrong) t.throws(() => subscriptionOf(...args), LibvirtUsageError, JSON.stringify(args));
  t.end();
});

t.test('nested and flat messages give the same form of event', (t) => {
  t.same(eventOf('domain', 'lifecycle', { callbackID: 1, msg: { dom, event: 2, detail: 0 } }), {
    family: 'domain',
    kind: 'lifecycle',
    domain: dom,
    event: 2,
    detail: 0,
  });
  t.same(eventOf('domain', 'blockJob2', { callbackID: 1, dom, dst: 'vda', type: 1, status: 0 }), {
    family: 'domain',
    kind: 'blockJob2',
    domain: dom,
    dst: 'vda',
    type: 1,
    status: 0,
  });
  t.same(eventOf('domain', 'pmWakeup', { callbackID: 1, reason: 3, msg: { dom } }), {
    family: 'domain',
    kind: 'pmWakeup',
    domain: dom,
    reason: 3,
  });
  t.same(eventOf('connection', 'closed', { reason: 1 }), { family: 'connection', kind: 'closed', reason: 1 });
  t.end();
});

t.test('64-bit numbers stay bigint, and typed parameters become an object', (t) => {
  t.match(eventOf('domain', 'balloonChange', { callbackID: 1, msg: { dom, actual: 65_536n } }), {
    actual: 65_536n,
  });
  const params = [{ field: 'success', type: 'boolean', value: true }];
  t.match(eventOf('domain', 'jobCompleted', { callbackID: 1, dom, params }), { params: { success: true } });
  t.same(
    (eventOf('domain', 'jobCompleted', { callbackID: 1, dom, params: [] }) as unknown as { params: object })
      .params,
    {},
  );
  const subject = [{ type: 'x509dname', name: 'CN=x' }];
  t.match(eventOf('domain', 'graphics', { callbackID: 1, msg: { dom, subject } }), { subject });
  t.match(eventOf('domain', 'graphics', { callbackID: 1, msg: { dom, subject: [] } }), { subject: [] });
  t.end();
});
