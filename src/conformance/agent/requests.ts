/** What an agent owes those who ask it. */
import { METHODS, type MethodName } from '../../model/methods.ts';
import { findFault } from '../../model/validate.ts';
import { METHOD_NOT_FOUND } from '../../model/wire.ts';
import { type Clause, excerpt, must } from '../clause.ts';
import type { AgentBench } from './bench.ts';

const READS = [
  'inventory.get',
  'node.status',
  'instance.list',
  'image.list',
  'volume.list',
  'operation.list',
] as const;
const NOBODY = '00000000-0000-4000-8000-000000000000';
/** As many as the protocol lets be under way. */
const AT_ONCE = 64;
const SILENCE_MS = 1_000;

export const REQUEST_CLAUSES: readonly Clause<AgentBench>[] = [
  {
    id: 'requests.result',
    level: 'must',
    text: `answers ${READS.length} reads with what fits their schemas`,
    async check({ side }) {
      const line = await side.link();
      for (const method of READS) {
        const { result, error } = await line.ask(method);
        must(error === undefined, `${method}: ${excerpt(error?.message)}`);
        const fault = findFault(METHODS[method as MethodName].result, structuredClone(result));
        must(fault === null, `${method}: ${fault?.path.join('.')}: ${fault?.message}`);
      }
    },
  },
  {
    id: 'requests.ids',
    level: 'must',
    text: 'answers with the id of the request, be it a number or a word',
    async check({ side }) {
      const line = await side.link();
      await line.ask('inventory.get', {}, 4_294_967_296);
      await line.ask('inventory.get', {}, 'a-word');
    },
  },
  {
    id: 'requests.notification',
    level: 'must',
    text: 'does not answer what has no id',
    async check({ side }) {
      const line = await side.link();
      const before = line.heard.length;
      line.say({ method: 'inventory.get', params: {} });
      await line.listen(SILENCE_MS);
      const answer = line.heard.slice(before).find(({ message }) => message.method === undefined);
      must(answer === undefined, `it answered ${excerpt(answer?.message)}`);
    },
  },
  {
    id: 'requests.unknown-method',
    level: 'must',
    text: `refuses a method that it does not know with ${METHOD_NOT_FOUND}`,
    async check({ side }) {
      const { error, result } = await (await side.link()).ask('no.such');
      must(error?.code === METHOD_NOT_FOUND, `it answered ${excerpt(error ?? result)}`);
    },
  },
  {
    id: 'requests.unknown-field',
    level: 'must',
    text: 'refuses params that it does not know with INVALID_ARGUMENT, in words',
    async check({ side }) {
      const { error, result } = await (await side.link()).ask('inventory.get', { nonsense: true });
      must(error?.data?.['code'] === 'INVALID_ARGUMENT', `it answered ${excerpt(error ?? result)}`);
      must((error?.message ?? '').length > 0, 'it does not say why');
    },
  },
  {
    id: 'requests.not-found',
    level: 'must',
    text: 'refuses what it does not have with NOT_FOUND',
    async check({ side }) {
      const { error, result } = await (await side.link()).ask('instance.show', { id: NOBODY });
      must(error?.data?.['code'] === 'NOT_FOUND', `it answered ${excerpt(error ?? result)}`);
    },
  },
  {
    id: 'requests.at-once',
    level: 'must',
    text: `answers ${AT_ONCE} requests at once, each of them once`,
    async check({ side }) {
      const line = await side.link();
      const ids = Array.from({ length: AT_ONCE }, (_, index) => `at-once-${index}`);
      const answers = await Promise.all(ids.map((id) => line.ask('inventory.get', {}, id)));
      const refused = answers.find(({ error }) => error !== undefined);
      must(refused === undefined, `one was refused: ${excerpt(refused?.error?.message)}`);
      const doubled = ids.find((id) => line.answersTo(id) !== 1);
      must(doubled === undefined, `${doubled} has more than one answer`);
    },
  },
  {
    id: 'requests.too-many',
    level: 'must',
    text: 'answers each of ten times as many, if only with LIMIT_REACHED, and keeps the link',
    async check({ side }) {
      const line = await side.link();
      const ids = Array.from({ length: 10 * AT_ONCE }, (_, index) => `many-${index}`);
      const answers = await Promise.all(ids.map((id) => line.ask('operation.list', {}, id)));
      const wrong = answers.find(
        ({ error }) => error !== undefined && error.data?.['code'] !== 'LIMIT_REACHED',
      );
      must(wrong === undefined, `one was refused: ${excerpt(wrong?.error)}`);
      must(line.isOpen, 'it closed the link');
    },
  },
];
