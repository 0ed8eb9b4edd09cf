/**
 * Up: scheduler, agent, image, network, and one instance through the scheduler's HTTP API.
 *
 * Run again, it goes on from what is there.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Instance } from '../../src/model/instance.ts';
import type { InstanceView as View } from '../../src/scheduler/instance-views.ts';
import type { NodeView } from '../../src/scheduler/nodes/directory.ts';
import { call, ended, request } from './api.ts';
import { logOf, start } from './daemons.ts';
import { operate } from './local.ts';
import {
  CIDR,
  CONFIG,
  FORWARD,
  FORWARD_BEFORE,
  NAMES,
  ROOT,
  RUN,
  SCHEDULER_PORT,
  SOCKET,
  STATE,
  TOKEN,
} from './places.ts';
import { elapsedSeconds, step, until } from './progress.ts';
import { noteTracesBefore } from './traces.ts';

/** Seconds for a daemon to answer, and for a guest to be up, on a slow machine without KVM. */
const DAEMON_SECONDS = 30;
const GUEST_SECONDS = 180;
/** Seconds for the console's first words: they may come after the guest agent's. */
const CONSOLE_SECONDS = 30;
/** The end of the console that is looked at, bytes. */
const CONSOLE_BYTES = 4096;

export interface UpResult {
  node: string;
  instance: Instance;
  address: string;
  consoleTail: string;
  seconds: number;
}

export async function up(options: {
  image: string | undefined;
  vcpus: number;
  memoryMib: number;
}): Promise<UpResult> {
  prepareFiles();
  start('berth-scheduler');
  await until(`berth-scheduler answers (see ${logOf('berth-scheduler')})`, DAEMON_SECONDS, () =>
    request('GET', '/healthz'),
  );
  step('berth-scheduler answers');
  start('berthd');
  const node = await until(`berthd is linked (see ${logOf('berthd')})`, DAEMON_SECONDS, linkedNode);
  step(`berthd is linked to it, as node ${node}`);
  await ensureImage(node, options.image);
  await ensureNetwork(node);
  const id = await ensureInstance(options);
  const instance = await until('the guest reports an address', GUEST_SECONDS, () => withAddress(id));
  const address = addressOf(instance) as string;
  step(`the guest is up, and its agent reports ${address}`);
  const text = await until('the console says something', CONSOLE_SECONDS, () => consoleTail(node, id));
  return { node, instance, address, consoleTail: text, seconds: Number(elapsedSeconds().toFixed(1)) };
}

function prepareFiles(): void {
  mkdirSync(STATE, { recursive: true, mode: 0o711 });
  mkdirSync(RUN, { recursive: true, mode: 0o755 });
  noteTracesBefore();
  if (!existsSync(TOKEN)) writeFileSync(TOKEN, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
  if (!existsSync(FORWARD_BEFORE)) writeFileSync(FORWARD_BEFORE, readFileSync(FORWARD));
  writeFileSync(
    CONFIG,
    [
      '[node]',
      `stateDir = "${join(STATE, 'agent')}"`,
      `runDir = "${RUN}"`,
      '[socket]',
      `path = "${SOCKET}"`,
      '[scheduler]',
      `url = "ws://127.0.0.1:${SCHEDULER_PORT}"`,
      `tokenFile = "${TOKEN}"`,
      '[storage]',
      `path = "${join(STATE, 'agent', 'pool')}"`,
      '',
    ].join('\n'),
  );
}

/** A node that was just lost is still `ready` for some heartbeats; what counts here is the link. */
async function linkedNode(): Promise<string | null> {
  const { nodes } = await request<{ nodes: NodeView[] }>('GET', '/v1/nodes');
  return nodes.find(({ connected, state }) => connected && state === 'ready')?.id ?? null;
}

async function ensureImage(node: string, image: string | undefined): Promise<void> {
  const { images } = await call(node, 'image.list', {});
  if (images.some(({ name }) => name === NAMES.image)) return;
  const given = image ?? join(ROOT, 'build', 'test-image.qcow2');
  const source = /^https?:/.test(given) ? given : resolve(given);
  await operate('image.import', { name: NAMES.image, source });
  step(`image ${NAMES.image} is checked and imported from ${source}`);
}

async function ensureNetwork(node: string): Promise<void> {
  const { networks } = await call(node, 'network.list', {});
  if (networks.some(({ name }) => name === NAMES.network)) return;
  const { operation } = await call(node, 'network.create', {
    spec: { name: NAMES.network, cidr: CIDR } as never,
  });
  await ended(node, operation);
  step(`network ${NAMES.network} has a bridge, DHCP and NAT on ${CIDR}`);
}

async function ensureInstance({ vcpus, memoryMib }: { vcpus: number; memoryMib: number }): Promise<string> {
  const { instances } = await request<{ instances: View[] }>('GET', '/v1/instances');
  const known = instances.find(({ name }) => name === NAMES.instance);
  if (known !== undefined) return known.id;
  const spec = {
    name: NAMES.instance,
    vcpus,
    memoryMib,
    disks: [{ image: NAMES.image }],
    nics: [{ network: NAMES.network }],
  };
  const { instance } = await request<{ instance: View }>('POST', '/v1/instances', { spec });
  step(`POST /v1/instances placed it on node ${instance.node}`);
  await until('the instance is running', GUEST_SECONDS, () => running(instance.id));
  step(`instance ${NAMES.instance} is running`);
  return instance.id;
}

async function running(id: string): Promise<true | null> {
  const { instance: view } = await request<{ instance: View }>('GET', `/v1/instances/${id}`);
  if (view.phase === 'failed') throw new Error(view.error?.message);
  return view.instance?.lifecycle === 'ready' && view.power?.state === 'running' ? true : null;
}

async function withAddress(id: string): Promise<Instance | null> {
  const { instance } = await request<{ instance: View }>('GET', `/v1/instances/${id}`);
  return addressOf(instance.instance) === undefined ? null : instance.instance;
}

async function consoleTail(node: string, id: string): Promise<string | null> {
  const { text } = await call(node, 'instance.console', { id, tailBytes: CONSOLE_BYTES });
  return text.trim() === '' ? null : text;
}

function addressOf(instance: Instance | null): string | undefined {
  return instance?.guest?.addresses.find(({ address }) => address.includes('.'))?.address;
}
