/** `berth instance console`: the log of the serial console, and its growth. */
import { ConsoleFilter } from '../console-filter.ts';
import { type ConsoleEnd, ConsoleTail, TAIL_BYTES_LIMIT } from '../console-tail.ts';
import { EXIT, usageError } from '../failure.ts';
import type { Given, Leaf } from '../leaf.ts';
import type { Session } from '../session.ts';
import { nameArgument, nameOf } from './nouns.ts';

/** The method's own default, in bytes. */
const TAIL_BYTES_DEFAULT = 65_536;
/** First and longest pause between two looks for growth, in milliseconds. */
const LOOK_FIRST_MS = 200;
const LOOK_LONGEST_MS = 1000;

export const consoleLeaf: Leaf = {
  name: 'console',
  summary: 'Print the end of the log of the serial console',
  args: [nameArgument('instance')],
  options: [
    {
      flag: 'tail-bytes',
      value: 'bytes',
      integer: true,
      summary: `how much of the end, at most ${TAIL_BYTES_LIMIT} (default: ${TAIL_BYTES_DEFAULT})`,
    },
    { flag: 'follow', summary: 'go on printing what the guest writes, until Ctrl-C' },
    { flag: 'raw', summary: 'print escape sequences of the guest on a terminal too' },
  ],
  details:
    'On a terminal, escape sequences of the guest are taken out: a guest must not control the terminal of an\n' +
    'operator. Into a file or a pipe everything is written as it is.',
  doing: (given) => `read the console of instance ${nameOf(given)}`,
  async run(session, given) {
    if (given.on('follow') && session.format === 'json') {
      throw usageError('--follow and --json exclude each other', { hint: 'One document has an end.' });
    }
    const id = nameOf(given);
    const tailBytes = given.integer('tail-bytes') ?? TAIL_BYTES_DEFAULT;
    const end = await session.client.call('instance.console', { id, tailBytes });
    const filter = filterFor(session, given);
    await session.answerResult('instance.console', end, ({ text }) => filter(text));
    if (given.on('follow')) await follow(session, id, end, filter);
    else endLine(session, end.text);
    return EXIT.done;
  },
};

function filterFor({ io }: Session, given: Given): (text: string) => string {
  if (given.on('raw') || !io.stdout.isTTY) return (text) => text;
  const filter = new ConsoleFilter();
  return (text) => filter.push(text);
}

/** The guest's own prompt must not stand before the operator's shell. */
function endLine({ io, format }: Session, text: string): void {
  if (format === 'people' && io.stdout.isTTY && !text.endsWith('\n')) io.stdout.write('\n');
}

async function follow(
  session: Session,
  id: string,
  seen: ConsoleEnd,
  filter: (text: string) => string,
): Promise<void> {
  const { io, client } = session;
  const read = (tailBytes: number) => client.poll('instance.console', { id, tailBytes });
  const tail = new ConsoleTail(read, seen.totalBytes);
  let pauseMs = LOOK_FIRST_MS;
  while (!io.closed.aborted) {
    const growth = await tail.grown();
    if (growth !== null) {
      if (growth.missedBytes > 0)
        session.note(`berth: ${growth.missedBytes} bytes came too fast and are left out`);
      io.stdout.write(filter(growth.text));
    }
    pauseMs = growth === null ? Math.min(pauseMs * 2, LOOK_LONGEST_MS) : LOOK_FIRST_MS;
    await io.clock.sleep(pauseMs, io.closed);
  }
}
