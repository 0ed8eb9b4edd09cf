/** What a scheduler owes those who connect, and in its answer to the hello. */
import { HelloResult } from '../../model/wire.ts';
import { findFault } from '../../model/validate.ts';
import { type Clause, excerpt, must, Untried } from '../clause.ts';
import type { SchedulerBench } from './bench.ts';

/** In which a connection without a hello is ended, ms. */
const HELLO_MS = 35_000;

export const DOOR_CLAUSES: readonly Clause<SchedulerBench>[] = [
  {
    id: 'door.token',
    level: 'must',
    text: 'turns those away with 401 or 403 who show no token, or another one',
    async check({ side, token }) {
      if (token === null) throw new Untried('no token was given to the kit');
      for (const wrong of [null, `${token}x`]) {
        const status = await side.turnedAway({ token: wrong });
        must(status === 401 || status === 403, status === null ? 'it let one in' : `it answered ${status}`);
      }
    },
  },
  {
    id: 'door.subprotocol',
    level: 'must',
    text: 'turns those away who speak another subprotocol',
    async check({ side }) {
      const status = await side.turnedAway({ protocol: 'berth.v0' });
      must(status !== null && status >= 400 && status < 500, `it answered ${status ?? 'by letting it in'}`);
    },
  },
  {
    id: 'hello.answer',
    level: 'must',
    text: 'answers a hello with what fits its schema',
    async check({ side }) {
      const { line, answer } = await side.introduce(side.newNode());
      line.close();
      const fault = findFault(HelloResult, structuredClone(answer.result));
      must(fault === null, `${fault?.path.join('.')}: ${fault?.message}; it answered ${excerpt(answer)}`);
    },
  },
  {
    id: 'hello.terms',
    level: 'must',
    text: 'takes no feature that was not offered, and passes over those that it does not know',
    async check({ side }) {
      const node = side.newNode();
      const offer = { ...side.offer(node.outbox), features: ['coalesced', 'from-the-future'] };
      const { line, answer } = await side.introduce(node, { revision: undefined, link: offer });
      line.close();
      const terms = answer.result?.['link'] as { features: string[] } | undefined;
      must(terms !== undefined, `it answered ${excerpt(answer)}`);
      const more = terms.features.find((feature) => feature !== 'coalesced');
      must(more === undefined, `it takes ${excerpt(more)}`);
    },
  },
  {
    id: 'hello.version-1.0',
    level: 'must',
    text: 'answers a hello without `link` without one',
    async check({ side }) {
      const node = side.newNode();
      const line = await side.connect();
      const { result, error } = await line.ask('hello', side.plainHello(node), 'hello');
      line.close();
      must(result !== undefined, `it refused: ${excerpt(error?.message)}`);
      must(!Object.hasOwn(result, 'link'), 'its answer has a link');
    },
  },
  {
    id: 'hello.misfit',
    level: 'must',
    text: 'refuses a hello that does not fit its schema, and ends the link',
    async check({ side }) {
      const { line, answer } = await side.introduce(side.newNode(), { nonsense: true });
      must(answer.error !== undefined, `it answered ${excerpt(answer.result)}`);
      await line.untilClosed('a hello did not fit');
    },
  },
  {
    id: 'hello.other-inventory',
    level: 'must',
    text: 'refuses a hello whose inventory is of another node',
    async check({ side }) {
      const inventory = side.inventory(side.newNode().id);
      const { line, answer } = await side.introduce(side.newNode(), { inventory });
      must(answer.error !== undefined, `it answered ${excerpt(answer.result)}`);
      await line.untilClosed('a hello was of two nodes');
    },
  },
  {
    id: 'hello.twice',
    level: 'must',
    text: 'refuses a second hello on a link',
    async check({ side }) {
      const node = side.newNode();
      const { line } = await side.link(node);
      const { error, result } = await line.ask('hello', side.hello(node), 'again');
      line.close();
      must(error !== undefined, `it answered ${excerpt(result)}`);
    },
  },
  {
    id: 'hello.before-all',
    level: 'must',
    text: 'takes nothing of one that has not said hello',
    async check({ side }) {
      const line = await side.connect();
      line.say({ method: 'event', params: side.event(1) });
      await line.untilClosed('an event came before the hello');
      must(line.of('ack').length === 0, 'it acknowledged the event');
    },
  },
  {
    id: 'hello.in-time',
    level: 'should',
    text: 'ends a link that does not say hello',
    async check({ side }) {
      const line = await side.connect();
      await line.untilClosed('nothing was said', HELLO_MS);
    },
  },
  {
    id: 'link.replaced',
    level: 'must',
    text: 'keeps the newest link of a node, and ends the one before',
    async check({ side }) {
      const node = side.newNode();
      const { line: first } = await side.link(node);
      const { line: second } = await side.link(node);
      await first.untilClosed('the node has connected anew');
      must(second.isOpen, 'it ended the new link');
      second.close();
    },
  },
];
