/** What a scheduler owes for events, heartbeats and the inventory. */
import { type Clause, excerpt, must, Untried } from '../clause.ts';
import type { Line } from '../line.ts';
import type { AgentSide, Node } from './agent-side.ts';
import type { SchedulerBench } from './bench.ts';

const EVENTS = 5;
const SETTLE_MS = 1_500;

export const REPORT_CLAUSES: readonly Clause<SchedulerBench>[] = [
  {
    id: 'events.ack',
    level: 'must',
    text: 'acknowledges events, and never one that it was not sent',
    async check({ side }) {
      const { line } = await sent(side, side.newNode());
      const acked = acksOf(line);
      must(Math.max(...acked) === EVENTS, `${EVENTS} were sent, and it acknowledged ${Math.max(...acked)}`);
      line.close();
    },
  },
  {
    id: 'events.resume',
    level: 'must',
    text: 'tells on the next link the number that it has acknowledged last',
    async check({ side }) {
      const node = side.newNode();
      const { line } = await sent(side, node);
      line.cut();
      const { line: next, lastSeq } = await side.link(node, { lastSeq: EVENTS });
      next.close();
      must(lastSeq === EVENTS, `it has acknowledged ${EVENTS} and says ${lastSeq}`);
    },
  },
  {
    id: 'events.repeat',
    level: 'must',
    text: 'takes an event that it has already without harm',
    async check({ side }) {
      const { line } = await sent(side, side.newNode());
      line.say({ method: 'event', params: side.event(EVENTS) });
      line.say({ method: 'event', params: side.event(EVENTS + 1) });
      await line.until(`ack of ${EVENTS + 1}`, () => acksOf(line).includes(EVENTS + 1));
      line.close();
    },
  },
  {
    id: 'events.together',
    level: 'must',
    text: 'takes an event that tells in `after` that numbers before it are no more',
    async check({ side }) {
      const { line } = await sent(side, side.newNode());
      line.say({ method: 'event', params: side.event(EVENTS + 10, { after: EVENTS }) });
      await line.until(`ack of ${EVENTS + 10}`, () => acksOf(line).includes(EVENTS + 10));
      line.close();
    },
  },
  {
    id: 'events.malformed',
    level: 'must',
    text: 'does not acknowledge an event that does not fit its schema',
    async check({ side }) {
      const { line } = await sent(side, side.newNode());
      line.say({ method: 'event', params: { seq: EVENTS + 1, nonsense: true } });
      await line.listen(SETTLE_MS);
      must(!acksOf(line).some((seq) => seq > EVENTS), 'it acknowledged it');
    },
  },
  {
    id: 'outbox.anew',
    level: 'must',
    text: 'begins from 0 with a node whose events have another numbering',
    async check({ side }) {
      const node = side.newNode();
      const { line } = await sent(side, node);
      line.cut();
      const renewed = { ...node, outbox: side.newNode().outbox };
      const { line: next, lastSeq } = await side.link(renewed, { lastSeq: EVENTS + 1 });
      next.close();
      must(lastSeq === 0, `it says that it has ${lastSeq}`);
    },
  },
  {
    id: 'snapshot.taken',
    level: 'must',
    text: 'takes a snapshot in place of the events before it, and acknowledges its number',
    async check({ side }) {
      const node = side.newNode();
      const { line, answer } = await side.introduce(node, { lastSeq: 40 });
      if (!featuresOf(answer.result).includes('snapshots')) throw new Untried('it takes none');
      const kinds = ['instance', 'volume', 'share', 'image', 'network', 'operation'];
      for (const [part, kind] of kinds.entries()) {
        const last = part === kinds.length - 1;
        line.say({ method: 'snapshot', params: { seq: 40, part, last, kind, objects: [] } });
      }
      await line.until('ack of the snapshot', () => acksOf(line).includes(40));
      line.close();
    },
  },
  {
    id: 'inventory.held',
    level: 'must',
    text: 'acknowledges the revision of an inventory that it was told, and takes patches of it',
    async check({ side }) {
      const node = side.newNode();
      const line = await withDeltas(side, node);
      const patch = [{ op: 'replace', path: '/generation', value: 2 }];
      line.say({ method: 'heartbeat', params: { revision: 'kit.2', delta: { base: 'kit.1', patch } } });
      await line.until('ack of the revision', () => revisionsOf(line).includes('kit.2'));
      line.close();
    },
  },
  {
    id: 'inventory.lost',
    level: 'must',
    text: 'asks for the whole inventory where a patch is of a revision that it does not hold',
    async check({ side }) {
      const line = await withDeltas(side, side.newNode());
      const patch = [{ op: 'replace', path: '/generation', value: 3 }];
      line.say({ method: 'heartbeat', params: { revision: 'kit.3', delta: { base: 'kit.none', patch } } });
      await line.until('ack of no revision', () => revisionsOf(line).includes(null));
      line.close();
    },
  },
  {
    id: 'inventory.hostile-patch',
    level: 'must',
    text: 'takes no patch that does not fit, or that makes what is no inventory',
    async check({ side }) {
      const line = await withDeltas(side, side.newNode());
      const patch = [{ op: 'remove', path: '/nodeId' }];
      line.say({ method: 'heartbeat', params: { revision: 'kit.4', delta: { base: 'kit.1', patch } } });
      await line.listen(SETTLE_MS);
      must(!revisionsOf(line).includes('kit.4'), 'it holds an inventory without a node');
    },
  },
];

/** A link on which events 1 to EVENTS were sent and acknowledged. */
async function sent(side: AgentSide, node: Node): Promise<{ line: Line }> {
  const { line, lastSeq } = await side.link(node, { lastSeq: EVENTS });
  must(lastSeq === 0, `of a new node it says that it has ${lastSeq}`);
  for (let seq = 1; seq <= EVENTS; seq++) line.say({ method: 'event', params: side.event(seq) });
  await line.until(`ack of ${EVENTS}`, () => acksOf(line).includes(EVENTS));
  return { line };
}

async function withDeltas(side: AgentSide, node: Node): Promise<Line> {
  const { line, answer } = await side.introduce(node);
  must(answer.result !== undefined, `the hello was refused: ${excerpt(answer.error?.message)}`);
  if (!featuresOf(answer.result).includes('deltas')) throw new Untried('it takes no deltas');
  return line;
}

function featuresOf(result: Record<string, unknown> | undefined): string[] {
  return (result?.['link'] as { features: string[] } | undefined)?.features ?? [];
}

function acksOf(line: Line): number[] {
  return line.of('ack').flatMap(({ message }) => (message.params?.['seq'] as number | undefined) ?? []);
}

function revisionsOf(line: Line): unknown[] {
  return line
    .of('ack')
    .filter(({ message }) => message.params?.['revision'] !== undefined)
    .map(({ message }) => message.params?.['revision']);
}
