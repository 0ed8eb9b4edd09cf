/** What a scheduler owes on any link, whatever is said on it. */
import { MESSAGE_BYTES_LIMIT } from '../../model/link.ts';
import { isMethodName, METHODS } from '../../model/methods.ts';
import type { TSchema } from '../../model/schema.ts';
import { METHOD_NOT_FOUND, SCHEDULER_MESSAGES } from '../../model/wire.ts';
import { type Clause, excerpt, must, Untried } from '../clause.ts';
import { assertFit } from '../fit.ts';
import type { SchedulerBench } from './bench.ts';

/** In which a scheduler that polls has asked something, ms. */
const POLL_MS = 15_000;
/** In which a scheduler notices that nobody answers its pings, ms. */
const HALF_OPEN_MS = 120_000;
const DEEP = 100_000;

export const MANNER_CLAUSES: readonly Clause<SchedulerBench>[] = [
  {
    id: 'ping.answered',
    level: 'must',
    text: 'answers pings',
    async check({ side }) {
      const { line } = await side.link(side.newNode());
      await line.ping();
      line.close();
    },
  },
  {
    id: 'requests.unknown',
    level: 'must',
    text: `refuses a request that it does not know with ${METHOD_NOT_FOUND}`,
    async check({ side }) {
      const { line } = await side.link(side.newNode());
      const { error, result } = await line.ask('no.such');
      line.close();
      must(error?.code === METHOD_NOT_FOUND, `it answered ${excerpt(error ?? result)}`);
    },
  },
  {
    id: 'requests.limit',
    level: 'must',
    text: 'has no more requests unanswered than the agent takes',
    async check({ side }) {
      const node = side.newNode();
      const link = side.offer(node.outbox, { requests: 1 });
      const { line } = await side.link(node, { link });
      await line.listen(POLL_MS);
      const asked = requestsOf(line);
      line.close();
      if (asked.length === 0) throw new Untried('it asked nothing');
      must(asked.length === 1, `one is taken, and it asked ${asked.length}`);
    },
  },
  {
    id: 'malformed.json',
    level: 'must',
    text: 'ends a link on which comes what is not JSON',
    async check({ side }) {
      const { line } = await side.link(side.newNode());
      line.sayText('{"jsonrpc": ');
      await line.untilClosed('it was sent what is not JSON');
    },
  },
  {
    id: 'malformed.deep',
    level: 'must',
    text: `ends a link on which comes JSON that is ${DEEP} levels deep`,
    async check({ side }) {
      const { line } = await side.link(side.newNode());
      line.sayText(`${'['.repeat(DEEP)}${']'.repeat(DEEP)}`);
      await line.untilClosed('it was sent deep JSON');
    },
  },
  {
    id: 'malformed.binary',
    level: 'must',
    text: 'ends a link on which comes a binary frame',
    async check({ side }) {
      const { line } = await side.link(side.newNode());
      line.sayText(Buffer.from('{}'));
      await line.untilClosed('it was sent a binary frame');
    },
  },
  {
    id: 'size.closed',
    level: 'must',
    text: `does not take a message of more than ${MESSAGE_BYTES_LIMIT} bytes`,
    async check({ side }) {
      const { line } = await side.link(side.newNode());
      line.sayText(
        JSON.stringify({ jsonrpc: '2.0', method: 'event', params: 'x'.repeat(MESSAGE_BYTES_LIMIT) }),
      );
      await line.untilClosed('it was sent too large a message');
    },
  },
  {
    id: 'answers.strange',
    level: 'must',
    text: 'passes over answers to what it has not asked',
    async check({ side }) {
      const { line } = await side.link(side.newNode());
      line.say({ id: 999_999, result: {} });
      line.say({ id: 'never', error: { code: -1, message: 'none' } });
      await line.ping();
      line.close();
    },
  },
  {
    id: 'silence.noticed',
    level: 'should',
    text: 'gives up a link on which nothing comes any more',
    async check({ side }) {
      const line = await side.connect({ isMute: true });
      await line.ask('hello', side.hello(side.newNode()), 'hello');
      await line.untilClosed('its pings were not answered', HALF_OPEN_MS);
    },
  },
  {
    id: 'messages.fit',
    level: 'must',
    text: 'sends only messages that fit their schemas, and asks only for methods that there are',
    async check({ side }) {
      assertFit(side.lines, 'scheduler', { schemaOf, absent: {} });
    },
  },
];

function requestsOf(line: { heard: readonly { message: { id?: unknown; method?: string } }[] }) {
  return line.heard.filter(({ message }) => message.method !== undefined && message.id !== undefined);
}

function schemaOf(method: string): TSchema | undefined {
  if (isMethodName(method)) return METHODS[method].params;
  return method === 'ack' ? SCHEDULER_MESSAGES.ack : undefined;
}
