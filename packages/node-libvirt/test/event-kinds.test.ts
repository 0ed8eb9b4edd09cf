import t from 'tap';
import { DOMAIN_EVENT_KINDS, eventNumber, toDomainEvent } from '../src/event-kinds.ts';

const dom = { name: 'd', uuid: '01234567-89ab-cdef-0123-456789abcdef', id: 4 };

t.test('nested and flat messages give the same form of event', (t) => {
  t.same(
    toDomainEvent('domainEventCallbackLifecycle', { callbackID: 1, msg: { dom, event: 2, detail: 0 } }),
    {
      kind: 'lifecycle',
      domain: dom,
      event: 2,
      detail: 0,
    },
  );
  t.same(toDomainEvent('domainEventBlockJob2', { callbackID: 1, dom, dst: 'vda', type: 1, status: 0 }), {
    kind: 'blockJob2',
    domain: dom,
    dst: 'vda',
    type: 1,
    status: 0,
  });
  t.end();
});

t.test('64-bit numbers and typed parameters become plain values', (t) => {
  t.match(
    toDomainEvent('domainEventCallbackBalloonChange', { callbackID: 1, msg: { dom, actual: 65536n } }),
    { actual: 65536 },
  );
  const params = [{ field: 'success', type: 'boolean', value: true }];
  t.match(toDomainEvent('domainEventCallbackJobCompleted', { callbackID: 1, dom, params }), {
    params: { success: true },
  });
  const subject = [{ type: 'x509dname', name: 'CN=x' }];
  t.match(toDomainEvent('domainEventCallbackGraphics', { callbackID: 1, msg: { dom, subject } }), {
    subject,
  });
  t.end();
});

t.test('messages about something else are no domain events', (t) => {
  t.equal(toDomainEvent('networkEventLifecycle', {}), null);
  t.end();
});

t.test('every kind has its own number', (t) => {
  t.equal(new Set(DOMAIN_EVENT_KINDS.map(eventNumber)).size, DOMAIN_EVENT_KINDS.length);
  t.equal(DOMAIN_EVENT_KINDS.length, 28);
  t.end();
});
