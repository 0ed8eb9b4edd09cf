/** `berth events`: what has changed on this node, and what changes. */
import type { BerthEvent } from '../../model/event.ts';
import { EXIT } from '../failure.ts';
import type { LeafBody } from '../leaf.ts';
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
export const events: LeafBody = {
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
  const [state, ...rest] = detailOf(type, data).map((fact) => clean(fact));
  const detail = state === undefined ? '-' : [look.paint(state, toneOf(state)), ...rest].join(' ');
  return `${columns(String(seq), clean(at), clean(type), clean(where, TARGET_LIMIT), detail)}\n`;
}

/** How the thing is now, first in one word; what the event carries besides is in --json. */
function detailOf(type: BerthEvent['type'], data: BerthEvent['data']): string[] {
  const { instance, operation } = data;
  if (isRecord(instance)) return type === 'instance.drifted' ? driftFacts(instance) : instanceFacts(instance);
  if (isRecord(operation)) return operationFacts(operation);
  return texts(data['state'], data['reason']);
}

function instanceFacts({ lifecycle, power }: Record<string, unknown>): string[] {
  if (lifecycle !== 'ready' || !isRecord(power)) return texts(lifecycle);
  return texts(power['state'], power['reason']);
}

function driftFacts({ drift }: Record<string, unknown>): string[] {
  const all = Array.isArray(drift) ? drift.filter(isRecord) : [];
  return all.length === 0 ? ['as defined'] : all.flatMap(({ kind }) => texts(kind));
}

function operationFacts({ state, target, progress, error }: Record<string, unknown>): string[] {
  const on = isRecord(target) ? texts(target['name']) : [];
  const step = isRecord(progress) ? texts(progress['step']) : [];
  const why = isRecord(error) ? texts(error['message']) : [];
  return [...texts(state), ...on, ...step, ...why];
}

function texts(...values: unknown[]): string[] {
  return values.filter((value) => typeof value === 'string' && value !== '') as string[];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
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
