/** `berth usage`: what instances and volumes have used, period by period. */
import type { Params } from '../../model/methods.ts';
import { USAGE_LIST_LIMIT } from '../../model/methods/usage.ts';
import type { UsageRecord } from '../../model/usage.ts';
import { EXIT, usageError } from '../failure.ts';
import type { Given, Leaf } from '../leaf.ts';
import { line } from '../render/json.ts';
import { type Column, table } from '../render/table.ts';
import { formatBytes } from '../render/units.ts';
import type { Session } from '../session.ts';

type Filter = Omit<Params<'usage.list'>, 'after' | 'limit'>;

const SECONDS_PER_HOUR = 3600;
/** A day, or a time of UTC. */
const TIME = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,3})?)?Z)?$/;

export const commands: readonly Leaf[] = [
  {
    name: 'list',
    summary: 'List what instances and volumes have used, by period, oldest first',
    options: [
      {
        flag: 'instance',
        value: 'name',
        summary: 'only this instance, which may be deleted',
        completes: 'instance',
      },
      {
        flag: 'volume',
        value: 'name',
        summary: 'only this volume, which may be deleted',
        completes: 'volume',
      },
      {
        flag: 'since',
        value: 'time',
        summary: 'only periods that end after this, as 2026-01-31 or 2026-01-31T12:00Z',
      },
      { flag: 'until', value: 'time', summary: 'only periods that end by this' },
    ],
    details:
      'With --json one record a line, whole. A period is listed once it has ended. INCOMPLETE says why a record may hold\n' +
      'too little, and for how many seconds.',
    doing: () => 'list usage',
    async run(session, given) {
      await list(session, filterOf(given));
      return EXIT.done;
    },
  },
];

function filterOf(given: Given): Filter {
  const [instance, volume] = [given.text('instance'), given.text('volume')];
  if (instance !== undefined && volume !== undefined)
    throw usageError('--instance and --volume name two different things', { hint: 'Ask for one of them.' });
  const [since, until] = [timeOf(given, 'since'), timeOf(given, 'until')];
  return {
    ...(instance !== undefined && { object: instance, kind: 'instance' as const }),
    ...(volume !== undefined && { object: volume, kind: 'volume' as const }),
    ...(since !== undefined && { since }),
    ...(until !== undefined && { until }),
  };
}

function timeOf(given: Given, flag: string): string | undefined {
  const text = given.text(flag);
  if (text === undefined) return undefined;
  const ms = TIME.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(ms)) return new Date(ms).toISOString();
  throw usageError(`${JSON.stringify(text)} is no time`, {
    hint: 'Give it as 2026-01-31 or 2026-01-31T12:00Z, which is UTC.',
  });
}

async function list(session: Session, filter: Filter): Promise<void> {
  let after = 0;
  for (let isFirst = true; !session.io.closed.aborted; isFirst = false) {
    const params = { ...filter, after, limit: USAGE_LIST_LIMIT };
    const { records, next } = await session.client.call('usage.list', params);
    if (records.length > 0 || isFirst) write(session, records);
    if (next === null) return;
    after = next;
  }
}

function write(session: Session, records: readonly UsageRecord[]): void {
  const text =
    session.format === 'json' ? records.map(line).join('') : table(COLUMNS, records, session.look());
  session.io.stdout.write(text);
}

const COLUMNS: Column<UsageRecord>[] = [
  { title: 'PERIOD', value: ({ periodStart }) => periodStart },
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'NAME', value: ({ objectName }) => objectName },
  { title: 'EXISTED', value: ({ existedSeconds }) => hours(existedSeconds), align: 'right' },
  { title: 'RAN', value: ({ instance }) => hoursOrNone(instance?.runningSeconds), align: 'right' },
  { title: 'VCPU', value: ({ instance }) => hoursOrNone(instance?.allocatedVcpuSeconds), align: 'right' },
  { title: 'CPU USED', value: ({ instance }) => hoursOrNone(instance?.cpuSeconds), align: 'right' },
  { title: 'GIB', value: gibHours, align: 'right' },
  { title: 'READ', value: ({ volume }) => bytesOrNone(volume?.readBytes), align: 'right' },
  { title: 'WRITTEN', value: ({ volume }) => bytesOrNone(volume?.writtenBytes), align: 'right' },
  {
    title: 'RECEIVED',
    value: ({ instance }) => bytesOrNone(instance?.networkReceivedBytes),
    align: 'right',
  },
  { title: 'SENT', value: ({ instance }) => bytesOrNone(instance?.networkSentBytes), align: 'right' },
  { title: 'INCOMPLETE', value: incompleteOf },
];

/** Memory of an instance, disk of a volume; in GiB hours alike. */
function gibHours({ instance, volume }: UsageRecord): string {
  const memory = (instance?.allocatedMemoryMibSeconds ?? 0) / 1024;
  return hours(memory + (volume?.provisionedGibSeconds ?? 0));
}

/** As in `1.00 h`. */
function hours(seconds: number): string {
  return `${(seconds / SECONDS_PER_HOUR).toFixed(2)} h`;
}

function hoursOrNone(seconds: number | undefined): string {
  return seconds === undefined ? '-' : hours(seconds);
}

function bytesOrNone(bytes: number | undefined): string {
  return bytes === undefined ? '-' : formatBytes(bytes);
}

function incompleteOf({ incomplete }: UsageRecord): string {
  if (incomplete.length === 0) return '-';
  return incomplete
    .map(({ reason, seconds }) => (seconds === 0 ? reason : `${reason} ${Math.ceil(seconds)}s`))
    .join(', ');
}
