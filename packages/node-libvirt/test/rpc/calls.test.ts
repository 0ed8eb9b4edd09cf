import { getEventListeners } from 'node:events';
import t from 'tap';
import { type CallOptions, Calls, IN_FLIGHT_MAX, WAITING_MAX } from '../../src/rpc/calls.ts';
import { failureOf, kindOf } from '../support/outcome.ts';

/** Calls whose frames are single bytes holding the serial, so that what was sent can be read off. */
function setup() {
  const sent: number[] = [];
  const calls = new Calls<string>((frame) => sent.push(frame[0] ?? -1));
  const submit = (serial: number, options: CallOptions = {}) =>
    calls.submit(
      {
        serial,
        procedure: `call${serial}`,
        frame: Buffer.from([serial & 0xff]),
        decode: (body) => `<${body}>`,
      },
      options,
    );
  return { sent, calls, submit };
}

t.test('at most four calls are in flight, and the others follow as replies come, in order', async (t) => {
  const { sent, calls, submit } = setup();
  const results = [1, 2, 3, 4, 5, 6].map((serial) => submit(serial));
  t.same(sent, [1, 2, 3, 4]);
  t.ok(calls.reply(2, 'b'));
  t.same(sent, [1, 2, 3, 4, 5]);
  for (const serial of [1, 3, 4, 5, 6]) calls.reply(serial, 'x');
  t.same(await Promise.all(results), ['<x>', '<b>', '<x>', '<x>', '<x>', '<x>']);
  t.equal(calls.inFlight, 0);
});

t.test('a call that timed out keeps its slot until its late reply comes', async (t) => {
  const { sent, calls, submit } = setup();
  const timedOut = Array.from({ length: IN_FLIGHT_MAX }, (_, index) =>
    kindOf(submit(index + 1, { timeoutMs: 1 })),
  );
  t.same(await Promise.all(timedOut), ['timeout', 'timeout', 'timeout', 'timeout']);
  t.match(calls, { inFlight: 4, abandoned: 4, isStuck: true });
  const fifth = submit(5);
  t.same(sent, [1, 2, 3, 4]);
  t.ok(calls.reply(3, 'late'));
  t.same(sent, [1, 2, 3, 4, 5]);
  calls.reply(5, 'e');
  t.equal(await fifth, '<e>');
  t.match(calls, { inFlight: 3, abandoned: 3, isStuck: false });
});

t.test('a waiting call that is given up is never sent', async (t) => {
  const { sent, calls, submit } = setup();
  const first = [1, 2, 3, 4].map((serial) => submit(serial));
  const abort = new AbortController();
  const aborted = kindOf(submit(5, { signal: abort.signal }));
  const timedOut = kindOf(submit(6, { timeoutMs: 1 }));
  abort.abort(new Error('no longer wanted'));
  t.equal(await aborted, 'aborted');
  t.equal(await timedOut, 'timeout');
  for (const serial of [1, 2, 3, 4]) calls.reply(serial, '');
  await Promise.all(first);
  t.same(sent, [1, 2, 3, 4]);
  t.match(calls, { inFlight: 0, abandoned: 0, waiting: 0 });
});

t.test('an aborted signal refuses a call before it is sent, and its reason is the cause', async (t) => {
  const { sent, submit } = setup();
  const error = await failureOf(submit(1, { signal: AbortSignal.abort(new Error('why')) }));
  t.match(error, { kind: 'aborted', cause: { message: 'why' } });
  t.same(sent, []);
});

t.test('the end of the connection settles each call once, and refuses later ones', async (t) => {
  const { calls, submit } = setup();
  let settled = 0;
  const count = () => void settled++;
  const all = [1, 2, 3, 4, 5, 6].map((serial) => submit(serial, { timeoutMs: 60_000 }).then(count, count));
  calls.close(new Error('gone'));
  calls.close(new Error('again'));
  t.notOk(calls.reply(1, 'late'));
  await Promise.all(all);
  t.equal(settled, 6);
  t.equal((await failureOf(submit(7))).message, 'gone');
});

t.test('a full queue is a typed error', async (t) => {
  const { calls, submit } = setup();
  const all = Array.from({ length: IN_FLIGHT_MAX + WAITING_MAX }, (_, index) => kindOf(submit(index)));
  t.equal(await kindOf(submit(9_999)), 'limit');
  calls.close(new Error('end of test'));
  await Promise.allSettled(all);
});

t.test('a reply that nobody asked for is reported', (t) => {
  t.notOk(setup().calls.reply(9, ''));
  t.end();
});

t.test('what a decoder throws is what the caller gets', async (t) => {
  const { calls } = setup();
  const decode = () => {
    throw new RangeError('bad');
  };
  const call = calls.submit({ serial: 1, procedure: 'x', frame: Buffer.alloc(1), decode }, {});
  calls.reply(1, '');
  t.equal((await failureOf(call)).message, 'bad');
});

/** A call whose reply is decoded later: `finish` and `fail` end that. */
function submitSlow(calls: Calls<string>, serial: number, options: CallOptions = {}) {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let isWanted = () => true;
  const decode = (_body: string, wanted: () => boolean) => {
    isWanted = wanted;
    return promise;
  };
  const result = calls.submit({ serial, procedure: 'slow', frame: Buffer.alloc(1), decode }, options);
  return { result, finish: resolve, fail: reject, isWanted: () => isWanted() };
}

t.test('a reply that is decoded in slices keeps its slot until then, and gives its result', async (t) => {
  const { sent, calls, submit } = setup();
  const slow = submitSlow(calls, 1);
  const others = [2, 3, 4, 5].map((serial) => submit(serial));
  t.ok(calls.reply(1, 'long'));
  t.same(sent, [0, 2, 3, 4], 'the fifth waits');
  t.match(calls, { inFlight: 4, waiting: 1 });
  t.ok(calls.reply(2, 'b'));
  t.equal(await others[0], '<b>', 'others are answered meanwhile');
  t.notOk(calls.reply(1, 'again'), 'a second reply to the same call is none');
  slow.finish('done');
  t.equal(await slow.result, 'done');
  t.match(calls, { inFlight: 3, abandoned: 0 });
  for (const serial of [3, 4, 5]) calls.reply(serial, '');
  await Promise.all(others);
});

t.test(
  'a call given up while its reply is decoded is told at once, and its slot is free when that ends',
  async (t) => {
    const { calls } = setup();
    const abort = new AbortController();
    const aborted = submitSlow(calls, 1, { signal: abort.signal });
    const late = submitSlow(calls, 2, { timeoutMs: 1 });
    calls.reply(1, '');
    calls.reply(2, '');
    t.ok(aborted.isWanted());
    abort.abort();
    t.equal(await kindOf(aborted.result), 'aborted');
    t.equal(await kindOf(late.result), 'timeout');
    t.notOk(aborted.isWanted());
    t.notOk(late.isWanted());
    t.equal(calls.inFlight, 2);
    aborted.finish('too late');
    late.fail(new Error('given up'));
    await new Promise((resolve) => setImmediate(resolve));
    t.equal(calls.inFlight, 0);
  },
);

t.test('what decoding in slices throws is what the caller gets', async (t) => {
  const { calls } = setup();
  const slow = submitSlow(calls, 1);
  calls.reply(1, '');
  slow.fail(new RangeError('bad'));
  t.equal((await failureOf(slow.result)).message, 'bad');
  t.equal(calls.inFlight, 0);
});

t.test('the end of the connection settles a call whose reply is being decoded', async (t) => {
  const { calls } = setup();
  const slow = submitSlow(calls, 1);
  calls.reply(1, '');
  calls.close(new Error('gone'));
  t.equal((await failureOf(slow.result)).message, 'gone');
  t.notOk(slow.isWanted());
  slow.finish('too late');
});

t.test('each call has its own deadline, whatever the order in which they come', async (t) => {
  const { submit, calls } = setup();
  const order: string[] = [];
  const named = (name: string, serial: number, timeoutMs: number) =>
    kindOf(submit(serial, { timeoutMs })).then((kind) => order.push(`${name} ${kind}`));
  const slow = named('slow', 1, 60);
  const quick = named('quick', 2, 5);
  const middle = named('middle', 3, 30);
  const endless = submit(4, { timeoutMs: Infinity });
  await Promise.all([slow, quick, middle]);
  t.same(order, ['quick timeout', 'middle timeout', 'slow timeout']);
  calls.reply(4, 'd');
  t.equal(await endless, '<d>');
});

t.test('a signal keeps no listener of a call that is over', async (t) => {
  const { calls, submit } = setup();
  const { signal } = new AbortController();
  const call = submit(1, { signal });
  t.equal(getEventListeners(signal, 'abort').length, 1);
  calls.reply(1, '');
  await call;
  t.equal(getEventListeners(signal, 'abort').length, 0);
});
