/**
 * The core of the scheduler: all that is the same whichever way agents and callers come in. Parts made and wired; nothing
 * here decides anything.
 */
import type { Logger } from 'pino';
import type { Enrolment } from './ca/enrolment.ts';
import type { Clock } from './clock.ts';
import { Commands } from './commands/commands.ts';
import { Dispatcher } from './commands/dispatcher.ts';
import { Mover } from './commands/mover.ts';
import { Claimer } from './engines/claimer.ts';
import type { Engine } from './engines/engine.ts';
import { Reporter } from './engines/reporter.ts';
import type { LinkTable } from './gateway/link-table.ts';
import { Directory } from './nodes/directory.ts';
import { Fences } from './nodes/fence.ts';
import type { HeartbeatInterval } from './nodes/heartbeat-interval.ts';
import { Mirror } from './nodes/mirror.ts';
import { NodePeer } from './nodes/node-peer.ts';
import { Poller } from './nodes/poller.ts';
import { Presence } from './nodes/presence.ts';
import { Service } from './nodes/service.ts';
import { Operations } from './operations.ts';
import { Placer } from './placement/placer.ts';
import type { Policy } from './placement/request.ts';
import type { Store } from './store/store.ts';
import { Waiters } from './waiters.ts';

export interface CoreParts {
  store: Store;
  engine: Engine;
  links: LinkTable;
  enrolment: Enrolment | null;
  /** Where a request names none. */
  policy: Policy;
  clock: Clock;
  logger: Logger;
  epoch: number;
  interval: HeartbeatInterval;
  /** Whether agents wait to be let in. */
  isCrowded(): boolean;
  newId: () => string;
}

export type Core = ReturnType<typeof makeCore>;

export function makeCore(parts: CoreParts) {
  const { store, clock, engine } = parts;
  const waiters = new Waiters(clock);
  const reporter = new Reporter(parts);
  const claimer = new Claimer({
    ...parts,
    onHeld: (_consumer, nodeId) => dispatcher.pump(nodeId),
    onRefused: (consumer, _nodeId, error) => dispatcher.claimRefused(consumer, error),
    onReleased: (nodeId) => reporter.changed(nodeId),
  });
  const placer = new Placer(parts);
  const mirror = new Mirror({ ...parts, waiters, claimer });
  const presence = new Presence({ ...parts, reporter });
  const service = new Service({ store, clock, onChanged: (nodeId) => reporter.changed(nodeId) });
  const fences = new Fences(parts);
  const directory = new Directory({ ...parts, presence });
  const poller = new Poller({ ...parts, mirror, reporter });
  const mover = new Mover({ ...parts, placer, claimer });
  const dispatcher = new Dispatcher({ ...parts, mirror, mover, claimer, poller, waiters });
  const commands = new Commands({ ...parts, directory, dispatcher, placer, claimer, waiters });
  const operations = new Operations({ ...parts, mirror, waiters });
  const onConnected = (nodeId: string): void => dispatcher.pump(nodeId);
  const peer = new NodePeer({ ...parts, mirror, presence, poller, reporter, onConnected });
  /** Goes on with what the last run has left. */
  const resume = (): void => {
    store.db.transaction(() => {
      for (const { id } of store.nodes.briefs()) reporter.note(id);
    });
    void claimer.resume();
  };
  /** Takes nothing more on; what is under way ends. */
  const stop = async (): Promise<void> => {
    dispatcher.close();
    reporter.close();
    await claimer.close();
  };
  const close = (): void => {
    presence.close();
    poller.close();
  };
  return {
    ...parts,
    engine,
    waiters,
    mirror,
    service,
    fences,
    directory,
    poller,
    commands,
    operations,
    peer,
    resume,
    stop,
    close,
  };
}
