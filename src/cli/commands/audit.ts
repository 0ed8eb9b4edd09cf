/** `berth audit`: who asked for which change of this node, and whether the record of it is whole. */
import type { AuditEntry, AuditHead, AuditVerdict } from '../../model/audit.ts';
import { EXIT, usageError } from '../failure.ts';
import type { Leaf } from '../leaf.ts';
import { line } from '../render/json.ts';
import { type Column, fields, type Look, table } from '../render/table.ts';
import { clean } from '../render/text.ts';
import type { Session } from '../session.ts';
import { LIST_LIMIT } from '../words.ts';

/** Longest params that a line shows, characters; --json has them whole. */
const PARAMS_LIMIT = 60;
const HEAD = /^(\d{1,15}):([0-9a-f]{64})$/;

export const commands: readonly Leaf[] = [
  {
    name: 'list',
    summary: 'List the entries of the audit log, oldest first',
    options: [
      { flag: 'after', value: 'seq', integer: true, summary: 'only entries after this number' },
      { flag: 'last', value: 'n', integer: true, summary: 'only the last n entries' },
    ],
    details: 'With --json one entry a line, whole: for an export before old entries go, or for other tools.',
    doing: () => 'list the audit log',
    async run(session, given) {
      const after = given.integer('after') ?? (await beforeLast(session, given.integer('last')));
      await list(session, after);
      return EXIT.done;
    },
  },
  {
    name: 'verify',
    summary: 'Say whether the audit log is whole: nothing changed, removed or moved',
    options: [
      {
        flag: 'noted',
        value: 'seq:hash',
        summary: 'a head that was noted before; without one a tail that was cut off by root may not be seen',
      },
    ],
    details:
      'The head that is printed can be noted elsewhere, and given with --noted the next time. Each entry is in the\n' +
      'journal of the system, too. The exit code is 1 where the log is not whole.',
    doing: () => 'verify the audit log',
    async run(session, given) {
      const noted = notedHead(given.text('noted'));
      const verdict = await session.client.call('audit.verify', noted === undefined ? {} : { noted });
      await session.answerResult('audit.verify', verdict, renderVerdict);
      return verdict.intact ? EXIT.done : EXIT.failed;
    },
  },
];

async function beforeLast({ client }: Session, last: number | undefined): Promise<number> {
  if (last === undefined) return 0;
  const { head } = await client.call('audit.list', { after: 0, limit: 1 });
  return Math.max(0, head.seq - last);
}

async function list(session: Session, after: number): Promise<void> {
  for (let last = after, isFirst = true; !session.io.closed.aborted; isFirst = false) {
    const { entries } = await session.client.call('audit.list', { after: last, limit: LIST_LIMIT });
    if (entries.length > 0 || isFirst) write(session, entries);
    last = entries.at(-1)?.seq ?? last;
    if (entries.length < LIST_LIMIT) return;
  }
}

function write(session: Session, entries: readonly AuditEntry[]): void {
  const text =
    session.format === 'json' ? entries.map(line).join('') : table(COLUMNS, entries, session.look());
  session.io.stdout.write(text);
}

function notedHead(text: string | undefined): AuditHead | undefined {
  if (text === undefined) return undefined;
  const [, seq, hash] = HEAD.exec(text) ?? [];
  if (seq !== undefined && hash !== undefined) return { seq: Number(seq), hash };
  throw usageError(`${JSON.stringify(text)} is no head of an audit log`, {
    hint: 'Give it as `berth audit verify` prints it: a number, a colon and 64 hexadecimal digits.',
  });
}

const COLUMNS: Column<AuditEntry>[] = [
  { title: 'SEQ', value: ({ seq }) => seq, align: 'right' },
  { title: 'AT', value: ({ at }) => at },
  { title: 'WHO', value: whoOf },
  { title: 'METHOD', value: ({ method, kind }) => method ?? kind },
  { title: 'OUTCOME', value: outcomeOf, state: true },
  { title: 'OPERATION', value: ({ operation }) => operation ?? '-' },
  { title: 'PARAMS', value: ({ params }) => (params === null ? '-' : clean(params, PARAMS_LIMIT)) },
];

function whoOf({ who }: AuditEntry): string {
  if (who === null) return '-';
  const user = who.uid === null ? (who.name ?? 'unknown') : `${who.name ?? '?'}(${who.uid})`;
  return `${user} by ${who.via}`;
}

function outcomeOf({ outcome, code, count }: AuditEntry): string {
  const words = [outcome, code, count === null ? null : `${count} entries`].filter((word) => word !== null);
  return words.length === 0 ? '-' : words.join(' ');
}

function renderVerdict({ intact, fault, entries, base, head }: AuditVerdict, look: Look): string {
  const from = base.seq === 0 ? 'from the first one on' : `from the checkpoint at ${base.seq} on`;
  return fields(
    [
      ['Audit log', intact ? 'whole' : `NOT WHOLE: ${clean(fault ?? '')}`],
      ['Entries', `${entries}, ${from}`],
      ['Head', `${head.seq}:${clean(head.hash)}`],
    ],
    look,
  );
}
