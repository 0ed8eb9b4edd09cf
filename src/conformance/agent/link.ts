/** What an agent owes for as long as a link lives. */
import { type InventoryDelta, MESSAGE_BYTES_LIMIT } from '../../model/link.ts';
import { patchJson } from '../../model/json-patch.ts';
import { Inventory } from '../../model/node.ts';
import type { TSchema } from '../../model/schema.ts';
import { findFault } from '../../model/validate.ts';
import { AGENT_MESSAGES } from '../../model/wire.ts';
import { type Clause, excerpt, must, Untried } from '../clause.ts';
import { assertFit } from '../fit.ts';
import type { Line, Message } from '../line.ts';
import type { AgentBench } from './bench.ts';
import { HEARTBEAT_SECONDS, type SchedulerSide } from './scheduler-side.ts';
import { makeVolume, removeVolume } from './volumes.ts';

/** Heartbeats are as regular as timers on a busy host are: three within so many intervals. */
const BEATS = 3;
const INTERVALS = 8;
/** Of a text frame from client to server with up to 125 bytes; @see RFC 6455, 5.2 */
const FRAME_BYTES = 6;
const UNCHANGED_BYTES = 120;
/** Between a close and the next try to connect: at least some of it, so that a scheduler that is down is not flooded, ms. */
const PAUSE_MS = 50;
/** A scheduler that is silent is given up within so many heartbeats, and this time for the way back. */
const SILENT_BEATS = 6;
const SILENT_SLACK_MS = 60_000;

export const LINK_CLAUSES: readonly Clause<AgentBench>[] = [
  {
    id: 'heartbeat.interval',
    level: 'must',
    text: 'sends a heartbeat every `heartbeatSeconds`',
    async check({ side }) {
      const line = await side.link();
      const from = line.of('heartbeat').length;
      const enough = () => line.of('heartbeat').length >= from + BEATS;
      await line.until(`${BEATS} heartbeats`, enough, INTERVALS * HEARTBEAT_SECONDS * 1000);
    },
  },
  {
    id: 'heartbeat.small',
    level: 'should',
    text: `sends at most ${UNCHANGED_BYTES} bytes where nothing has changed`,
    async check({ side }) {
      const line = await side.link();
      await acknowledgeInventory(line);
      const before = line.of('heartbeat').length;
      await line.until('two heartbeats', () => line.of('heartbeat').length >= before + 2);
      const least =
        Math.min(
          ...line
            .of('heartbeat')
            .slice(before)
            .map(({ bytes }) => bytes),
        ) + FRAME_BYTES;
      must(least <= UNCHANGED_BYTES, `the smallest of two had ${least}`);
    },
  },
  {
    id: 'inventory.delta',
    level: 'must',
    changes: true,
    text: 'tells a change of its inventory as a patch of a revision that was acknowledged',
    async check({ side }) {
      const { line, hello } = await wholeHello(side);
      const { inventory, revision } = hello.params ?? {};
      if (revision === undefined) throw new Untried('it offers no deltas');
      line.say({ id: hello.id, result: side.answer(hello) });
      const volume = await makeVolume(line);
      const delta = await line.until('heartbeat with a patch', () => deltaOf(line));
      await removeVolume(line, volume.name);
      must(
        delta.base === revision,
        `the patch is of ${excerpt(delta.base)}, and ${excerpt(revision)} was taken`,
      );
      const fault = findFault(Inventory, patchJson(inventory, delta.patch));
      must(fault === null, `with its patch the inventory does not fit: ${fault?.message}`);
    },
  },
  {
    id: 'inventory.again',
    level: 'must',
    text: 'tells all of its inventory when the scheduler says that it holds none',
    async check({ side }) {
      const line = await side.link();
      const { message } = await line.next('heartbeat');
      if (message.params?.['revision'] === undefined) throw new Untried('it offers no deltas');
      line.say({ method: 'ack', params: { revision: null } });
      const whole = () =>
        line.of('heartbeat').find((each) => each.message.params?.['inventory'] !== undefined);
      const { message: told } = await line.until('heartbeat with the inventory', whole);
      line.say({ method: 'ack', params: { revision: told.params?.['revision'] } });
    },
  },
  {
    id: 'ping.answered',
    level: 'must',
    text: 'answers pings',
    async check({ side }) {
      await (await side.link()).ping();
    },
  },
  {
    id: 'malformed.closed',
    level: 'must',
    text: 'closes the link after what is not JSON-RPC',
    async check({ side }) {
      const line = await side.link();
      line.sayText('{"jsonrpc": ');
      await line.untilClosed('it was sent what is not JSON');
    },
  },
  {
    id: 'malformed.stranger',
    level: 'must',
    text: 'passes over answers that it has not asked for and notifications that it does not know',
    async check({ side }) {
      const line = await side.link();
      line.say({ id: 'nobody-asked', result: {} });
      line.say({ method: 'a.newer.notification', params: { of: 'a newer version' } });
      const { error } = await line.ask('inventory.get');
      must(error === undefined, `after them it answers ${excerpt(error?.message)}`);
    },
  },
  {
    id: 'size.closed',
    level: 'must',
    text: `does not take a message of more than ${MESSAGE_BYTES_LIMIT} bytes`,
    async check({ side }) {
      const line = await side.link();
      line.sayText(
        JSON.stringify({ jsonrpc: '2.0', method: 'ack', params: 'x'.repeat(MESSAGE_BYTES_LIMIT) }),
      );
      await line.untilClosed('it was sent too large a message');
    },
  },
  {
    id: 'redial.pause',
    level: 'must',
    text: 'comes again after the link has closed, and not at once',
    async check({ side }) {
      const line = await side.link();
      line.cut();
      const atMs = performance.now();
      const dial = await side.dial();
      dial.line.cut();
      const pauseMs = Math.round(dial.atMs - atMs);
      must(pauseMs >= PAUSE_MS, `it came again after ${pauseMs} ms`);
    },
  },
  {
    id: 'silence.noticed',
    level: 'must',
    text: 'gives up a link on which nothing comes any more, and connects anew',
    async check({ side }) {
      const line = await side.link();
      line.deafen();
      const withinMs = SILENT_BEATS * HEARTBEAT_SECONDS * 1000 + SILENT_SLACK_MS;
      const dial = await side.dial(withinMs);
      line.cut();
      await side.welcome(dial);
    },
  },
];

/** Of all that was heard: so it is the last to be tried. */
export const MESSAGES_FIT: Clause<AgentBench> = {
  id: 'messages.fit',
  level: 'must',
  text: 'sends only messages that fit their schemas',
  async check({ side }) {
    await side.link();
    const schemas = AGENT_MESSAGES as Record<string, TSchema>;
    assertFit(
      side.dials.map(({ line }) => line),
      'agent',
      { schemaOf: (method) => schemas[method] },
    );
  },
};

/** A hello with the inventory: one that goes on from an earlier link is refused as one of a revision that is not held. */
async function wholeHello(side: SchedulerSide): Promise<{ line: Line; hello: Message }> {
  const { line } = await side.dialAnew();
  const { message } = await line.next('hello');
  if (message.params?.['inventory'] !== undefined) return { line, hello: message };
  const data = { code: 'STALE', message: 'the kit does not hold that revision' };
  line.say({ id: message.id, error: { code: -32000, message: data.message, data } });
  const { message: whole } = await line.next('hello');
  must(whole.params?.['inventory'] !== undefined, 'it does not tell its inventory where nothing is held');
  return { line, hello: whole };
}

function deltaOf(line: Line): InventoryDelta | undefined {
  const told = line.of('heartbeat').find(({ message }) => message.params?.['delta'] !== undefined);
  return told?.message.params?.['delta'] as InventoryDelta | undefined;
}

/** Says that the newest revision is held. */
async function acknowledgeInventory(line: Line): Promise<void> {
  const { message } = await line.next('heartbeat');
  const revision = message.params?.['revision'];
  if (revision !== undefined) line.say({ method: 'ack', params: { revision } });
}
