/** What an agent owes with what it is told to do. Volumes are made for it, and deleted. */
import { randomUUID } from 'node:crypto';
import { type Clause, excerpt, must } from '../clause.ts';
import type { AgentBench } from './bench.ts';
import { makeVolume, newName, removeVolume } from './volumes.ts';

export const COMMAND_CLAUSES: readonly Clause<AgentBench>[] = [
  {
    id: 'commands.done',
    level: 'must',
    changes: true,
    text: 'answers a command with an operation, does it, and tells its end as an event',
    async check({ side }) {
      const line = await side.link();
      const { id, name } = await makeVolume(line);
      const told = () =>
        line.of('event').find(({ message }) => {
          const operation = message.params?.['data'] as
            | { operation?: { id: string; state: string } }
            | undefined;
          return operation?.operation?.id === id && operation.operation.state === 'succeeded';
        });
      await line.until('event of its end', told);
      await removeVolume(line, name);
    },
  },
  {
    id: 'commands.key',
    level: 'must',
    changes: true,
    text: 'answers the repeat of a key with the first operation, also on another link',
    async check({ side }) {
      const key = randomUUID();
      const { id, name } = await makeVolume(await side.link(), key);
      const next = await side.welcome(await side.dialAnew());
      const again = await next.ask('volume.create', { name, sizeGib: 1, key });
      const operation = again.result?.['operation'] as { id: string } | undefined;
      await removeVolume(next, name);
      must(operation?.id === id, `it answered ${excerpt(operation?.id ?? again.error)}`);
    },
  },
  {
    id: 'commands.key-reused',
    level: 'must',
    changes: true,
    text: 'refuses a key that was used for another command with KEY_REUSED',
    async check({ side }) {
      const line = await side.link();
      const key = randomUUID();
      const { name: volume } = await makeVolume(line, key);
      const { error, result } = await line.ask('volume.create', { name: newName(), sizeGib: 1, key });
      await removeVolume(line, volume);
      must(error?.data?.['code'] === 'KEY_REUSED', `it answered ${excerpt(error ?? result)}`);
    },
  },
  {
    id: 'commands.stale',
    level: 'must',
    changes: true,
    text: 'refuses a command of a lower epoch with STALE, and does not do it',
    async check({ side }) {
      side.epoch++;
      const line = await side.welcome(await side.dialAnew());
      const name = newName();
      const { error, result } = await line.ask('volume.create', { name, sizeGib: 1, epoch: side.epoch - 1 });
      must(error?.data?.['code'] === 'STALE', `it answered ${excerpt(error ?? result)}`);
      const { error: absent } = await line.ask('volume.show', { id: name });
      must(absent?.data?.['code'] === 'NOT_FOUND', 'it made the volume all the same');
    },
  },
];
