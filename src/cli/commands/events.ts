/** `berth events`: what has changed on this node, and what changes. */
import type { BerthEvent } from '../../model/event.ts';
import { EXIT } from '../failure.ts';
import type { Leaf } from '../leaf.ts';
import { line } from '../render/json.ts';
import { toneOf } from '../render/style.ts';
import type { Look } from '../render/table.ts';
import { clean, padEnd, padStart } from '../render/text.ts';
import type { Session } from '../session.ts';
import { LIST_LIMIT } from '../words.ts';

/** Widths of the columns: lines come one by one, so they cannot be measured first. */
const WIDTH = { seq: 6, at: 24, type: 18, target: 24 } as const;
/** A column is cut before it pushes the others out of line. */
const TARGET_LIMIT = 40;
/** Facts of an event that are worth a place on its line. */
const DETAIL_KEYS = ['state', 'from', 'to', 'kind', 'step', 'reason'];

export const events: Leaf = {
  name: 'events',
  summary: 'Print what has changed on this node, one event a line',
  options: [
    { flag: 'follow', short: 'F', summary: 'go on with events as they happen, until Ctrl-C' },
    {
      flag: 'after',
      value: 'seq',
      integer: true,
      summary: 'only events after this number (default: all that are kept; with --follow, from now on)',
    },
  ],
  doing: () => 'read events',
  async run(session, given) {
    const after = given.integer('after');
    if (given.on('follow')) await follow(session, after);
    else await list(session, after ?? 0);
    return EXIT.done;
  },
};

async function list(session: Session, after: number): Promise<void> {
  let last = after;
  writeHeader(session);
  while (!session.io.closed.aborted) {
    const page = await session.client.call('event.list', { after: last, limit: LIST_LIMIT });
    for (const event of page.events) writeEvent(session, event);
    const newest = page.events.at(-1)?.seq ?? last;
    if (newest <= last || page.events.length < LIST_LIMIT) return;
    last = newest;
  }
}

async function follow(session: Session, after: number | undefined): Promise<void> {
  const from = after ?? (await newestSeq(session));
  writeHeader(session);
  for await (const event of session.client.events(from, session.io.closed)) writeEvent(session, event);
}

async function newestSeq({ client }: Session): Promise<number> {
  const { lastSeq } = await client.call('event.list', { after: 0, limit: 1 });
  return lastSeq;
}

function writeHeader({ io, format }: Session): void {
  if (format === 'people') io.stdout.write(`${columns('SEQ', 'AT', 'TYPE', 'TARGET', 'DETAIL')}\n`);
}

function writeEvent(session: Session, event: BerthEvent): void {
  const text = session.format === 'json' ? line(event) : renderEvent(event, session.look());
  session.io.stdout.write(text);
}

function renderEvent({ seq, at, type, target, data }: BerthEvent, look: Look): string {
  const where = target === null ? '-' : `${target.kind} ${target.name}`;
  const facts = DETAIL_KEYS.filter((key) => Object.hasOwn(data, key) && data[key] !== null).map(
    (key) => `${key}=${clean(data[key])}`,
  );
  const state = typeof data['state'] === 'string' ? data['state'] : '';
  const detail = look.paint(facts.join(' ') || '-', toneOf(state));
  return `${columns(String(seq), clean(at), clean(type), clean(where, TARGET_LIMIT), detail)}\n`;
}

function columns(seq: string, at: string, type: string, target: string, detail: string): string {
  return [
    padStart(seq, WIDTH.seq),
    padEnd(at, WIDTH.at),
    padEnd(type, WIDTH.type),
    padEnd(target, WIDTH.target),
    detail,
  ].join('  ');
}
