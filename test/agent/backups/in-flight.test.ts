import t from 'tap';
import { inFlight } from '../../../src/agent/backups/in-flight.ts';
import { MIB } from '../../../src/model/units.ts';

/** Things whose ends are decided by the test. */
class Work {
  readonly begun: number[] = [];
  readonly #ends: PromiseWithResolvers<number>[] = [];
  underWay = 0;
  mostUnderWay = 0;

  readonly act = async (item: number): Promise<number> => {
    this.begun.push(item);
    this.underWay++;
    this.mostUnderWay = Math.max(this.mostUnderWay, this.underWay);
    const end = Promise.withResolvers<number>();
    this.#ends[item] = end;
    try {
      return await end.promise;
    } finally {
      this.underWay--;
    }
  };

  end(item: number): void {
    this.#ends[item]?.resolve(item);
  }

  fail(item: number): void {
    this.#ends[item]?.reject(new Error(`${item} failed`));
  }
}

async function* upTo(count: number): AsyncGenerator<number> {
  for (let item = 0; item < count; item++) yield item;
}

function turns(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

t.test('several are under way, and their results come in the order of the items', async (t) => {
  const work = new Work();
  const results: number[] = [];
  const done = (async () => {
    for await (const result of inFlight(upTo(3), { bytesOf: () => MIB, act: work.act })) results.push(result);
  })();
  await turns();
  t.same(work.begun, [0, 1, 2]);
  work.end(2);
  work.end(1);
  await turns();
  t.same(results, [], 'the first is not done');
  work.end(0);
  await done;
  t.same(results, [0, 1, 2]);
});

t.test('no more is under way than the bound in bytes allows, and one at least', async (t) => {
  for (const [bytes, most, limitBytes] of [
    [2 * MIB, 2],
    [4 * MIB, 1],
    [64 * MIB, 1],
    [1, 8],
    [4 * MIB, 4, 16 * MIB],
    [1, 8, 16 * MIB],
  ] as const) {
    const work = new Work();
    const done = (async () => {
      for await (const _ of inFlight(upTo(12), {
        bytesOf: () => bytes,
        act: work.act,
        ...(limitBytes && { limitBytes }),
      }));
    })();
    for (let item = 0; item < 12; item++) {
      await turns();
      work.end(item);
    }
    await done;
    t.equal(work.mostUnderWay, most);
  }
});

t.test('after a failure nothing goes on, and nothing new is begun', async (t) => {
  const work = new Work();
  let ended = false;
  const failing = (async () => {
    for await (const _ of inFlight(upTo(12), { bytesOf: () => MIB, act: work.act }));
  })().finally(() => {
    ended = true;
  });
  failing.catch(() => undefined);
  await turns();
  work.fail(0);
  await turns();
  t.notOk(ended, 'the others are waited for');
  for (const item of [1, 2, 3]) work.end(item);
  await t.rejects(failing, { message: '0 failed' });
  t.same(work.begun, [0, 1, 2, 3]);
  t.equal(work.underWay, 0);
});

t.test('one that fails while an older one is under way is told in its turn', async (t) => {
  const work = new Work();
  const results: number[] = [];
  const failing = (async () => {
    for await (const result of inFlight(upTo(2), { bytesOf: () => MIB, act: work.act })) results.push(result);
  })();
  await turns();
  work.fail(1);
  await turns();
  work.end(0);
  await t.rejects(failing, { message: '1 failed' });
  t.same(results, [0]);
});
