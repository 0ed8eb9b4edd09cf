/** What an agent owes before and in its hello. */
import { AGENT_PATH, Hello, SUBPROTOCOL } from '../../model/wire.ts';
import { findFault } from '../../model/validate.ts';
import { type Clause, excerpt, must, Untried } from '../clause.ts';
import type { AgentBench } from './bench.ts';

/** In which an agent might say something too early, ms. */
const SILENCE_MS = 1_500;

export const HELLO_CLAUSES: readonly Clause<AgentBench>[] = [
  {
    id: 'dial.path',
    level: 'must',
    text: `asks for ${AGENT_PATH} with the subprotocol ${SUBPROTOCOL}`,
    async check({ side }) {
      const { path, protocols, line } = await side.dialAnew();
      line.cut();
      must(path === AGENT_PATH, `it asked for ${excerpt(path)}`);
      must(protocols.includes(SUBPROTOCOL), `it offered ${excerpt(protocols.join(', '))}`);
    },
  },
  {
    id: 'dial.token',
    level: 'must',
    text: 'shows the bearer token that it was given',
    async check({ side, token }) {
      if (token === null) throw new Untried('no token was given to the kit');
      const { authorization, line } = await side.dialAnew();
      line.cut();
      must(authorization === `Bearer ${token}`, 'its authorization is another');
    },
  },
  {
    id: 'hello.first',
    level: 'must',
    text: 'says hello first, as a request that fits its schema',
    async check({ side }) {
      const { line } = await side.dialAnew();
      const { message } = await line.next('hello');
      line.cut();
      must(line.heard[0]?.message === message, `it said ${excerpt(line.heard[0]?.message)} before`);
      must(message.id !== undefined && message.id !== null, 'its hello has no id, and is no request');
      const fault = findFault(Hello, structuredClone(message.params));
      must(fault === null, `${fault?.path.join('.')}: ${fault?.message}`);
    },
  },
  {
    id: 'hello.silence',
    level: 'must',
    text: 'says nothing between its hello and the answer',
    async check({ side }) {
      const { line } = await side.dialAnew();
      await line.next('hello');
      await line.listen(SILENCE_MS);
      const more = line.heard[1]?.message;
      line.cut();
      must(more === undefined, `it said ${excerpt(more)}`);
    },
  },
  {
    id: 'hello.early-request',
    level: 'must',
    text: 'does nothing that is asked before the hello is answered',
    async check({ side }) {
      const { line } = await side.dialAnew();
      await line.next('hello');
      const { error, result } = await line.ask('inventory.get');
      line.cut();
      must(error !== undefined, `it answered ${excerpt(result)}`);
    },
  },
  {
    id: 'hello.refused',
    level: 'must',
    text: 'ends the link when its hello is refused, and comes again',
    async check({ side }) {
      const { line } = await side.dialAnew();
      const { message } = await line.next('hello');
      const error = {
        code: -32000,
        message: 'refused by the kit',
        data: { code: 'UNAVAILABLE', message: 'refused' },
      };
      line.say({ id: message.id, error });
      await line.untilClosed('its hello was refused');
      await side.link();
    },
  },
  {
    id: 'hello.version-1.0',
    level: 'must',
    text: 'speaks as in version 1.0 where the answer has no `link`',
    async check({ side }) {
      const line = await side.welcome(await side.dialAnew(), { link: undefined });
      const { message } = await line.next('heartbeat');
      line.cut();
      const told = Object.keys(message.params ?? {});
      must(!told.includes('revision') && !told.includes('delta'), `its heartbeat has ${told.join(', ')}`);
      must(
        told.includes('instances') && told.includes('lastSeq'),
        `its heartbeat has only ${told.join(', ')}`,
      );
      const event = line.of('event').find(({ message }) => message.params?.['after'] !== undefined);
      must(event === undefined, 'an event has `after`');
    },
  },
  {
    id: 'epoch.lower',
    level: 'must',
    text: 'ends a link whose scheduler has a lower epoch than it has seen',
    async check({ side }) {
      side.epoch++;
      await side.welcome(await side.dialAnew());
      const { line } = await side.dialAnew();
      const { message } = await line.next('hello');
      line.say({ id: message.id, result: side.answer(message, { epoch: side.epoch - 1 }) });
      await line.untilClosed('the epoch of the scheduler went back');
    },
  },
];
