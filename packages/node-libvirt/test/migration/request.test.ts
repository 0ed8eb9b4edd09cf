/** What is wrong with a migration in itself is said before anything goes on the wire; and peer to peer. Fake daemons. */
import t from 'tap';
import { constants, LibvirtUnsupportedError, LibvirtUsageError } from '../../src/index.ts';
import { failureOf, kindOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { type FakeHosts, fakeHosts } from './fake-hosts.ts';

const { virDomainMigrateFlags: flag, virErrorNumber: code } = constants;
const PEER = flag.VIR_MIGRATE_PEER2PEER;
const THERE = 'qemu+tls://there.example/system';

/** Frames that both daemons have got. */
function received({ daemons }: FakeHosts): number {
  return [daemons.source, daemons.destination]
    .flatMap(({ peers }) => peers)
    .reduce((sum, peer) => sum + peer.received.length, 0);
}

t.test('what cannot be meant is a usage error, and nothing goes on the wire', async (t) => {
  const hosts = await fakeHosts(t);
  const { domain, source, destination: dconn } = hosts;
  const before = received(hosts);
  // As a JavaScript caller may give it.
  const wrong = (value: unknown) => value as never;
  const both = flag.VIR_MIGRATE_NON_SHARED_DISK | flag.VIR_MIGRATE_NON_SHARED_INC;
  const calls: Record<string, () => Promise<unknown>> = {
    'the same connection': () => domain.migrate(source),
    'no connection': () => domain.migrate(wrong(null)),
    'something else': () => domain.migrate3(wrong({ state: 'connected' })),
    'an unknown parameter': () => domain.migrate3(dconn, { speed: 5 }),
    'a value of a wrong type': () => domain.migrate3(dconn, { bandwidth: 'fast' }),
    'a name that is no text': () => domain.migrate(dconn, 0, wrong(5)),
    'an empty name': () => domain.migrate(dconn, 0, ''),
    'an explicit type that is wrong': () =>
      domain.migrate3(dconn, { migrate_uri: { type: 'int', value: 1 } }),
    'parameters that are none': () => domain.migrate3(dconn, wrong(null)),
    'a negative bandwidth': () => domain.migrate(dconn, 0, null, null, -1),
    'flags that are no number': () => domain.migrate3(dconn, {}, wrong('live')),
    'flags that are a bigint beyond 32 bits': () => domain.migrate3(dconn, {}, wrong(2n ** 40n)),
    'flags with a fraction': () => domain.migrate(dconn, 0.5),
    'too many parameters': () => domain.migrate3(dconn, { migrate_disks: Array(65).fill('vda') }),
    'a text that is too long': () => domain.migrate2(dconn, 'x'.repeat(2 ** 23)),
    'two ways to copy disks': () => domain.migrate(dconn, both),
    'a way to copy disks, and none to copy': () =>
      domain.migrate(dconn, flag.VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES),
    'a tunnel without peers': () => domain.migrate(dconn, flag.VIR_MIGRATE_TUNNELLED),
    'a parallel tunnel': () =>
      domain.migrateToURI(THERE, PEER | flag.VIR_MIGRATE_TUNNELLED | flag.VIR_MIGRATE_PARALLEL),
    'peers in migrate3': () => domain.migrate3(dconn, {}, PEER),
    'a time that is none': () => domain.migrate3(dconn, {}, 0, { timeoutMs: -1 }),
    'no URI': () => domain.migrateToURI2(null, null, null, PEER),
    'a URI that is no text': () => domain.migrateToURI(wrong(5), PEER),
    'a URI that is none': () => domain.migrateToURI('there', PEER),
    'this host': () => domain.migrateToURI3('qemu:///system', {}, PEER),
    'this host by its name': () => domain.migrateToURI3('qemu+tcp://localhost/system', {}, PEER),
    'this host, socket without +unix': () => domain.migrateToURI3('qemu:///system?socket=/x', {}, PEER),
    'peers by the URI of a local connection': () => domain.migrate(dconn, PEER),
  };
  for (const [what, call] of Object.entries(calls))
    t.ok((await failureOf(call())) instanceof LibvirtUsageError, what);
  t.equal(received(hosts), before);
});

t.test('a connection that is closed is told before anything goes on the wire', async (t) => {
  const hosts = await fakeHosts(t);
  const before = received(hosts);
  await hosts.destination.close();
  t.equal(await kindOf(hosts.domain.migrate(hosts.destination)), 'closed');
  t.equal(received(hosts), before);
});

t.test('no driver migrates directly', async (t) => {
  const { domain } = await fakeHosts(t);
  for (const call of [domain.migrateToURI('xenmigr://there'), domain.migrateToURI2(null, 'tcp://there')]) {
    const error = await failureOf(call);
    t.ok(error instanceof LibvirtUnsupportedError);
    t.match(error, { codeName: 'VIR_ERR_ARGUMENT_UNSUPPORTED', message: /direct migration/ });
  }
});

t.test('peer to peer each URI goes where libvirt has it go', async (t) => {
  const { domain, destination, asked, last } = await fakeHosts(t);
  const sent = () => {
    const { args } = last('perform');
    return {
      ...args,
      params: (args['params'] as { field: string; value: unknown }[]).map((p) => [p.field, p.value]),
    };
  };
  const bandwidth = ['bandwidth', 0n];

  await domain.migrateToURI(THERE, PEER, 'new', 7);
  t.match(sent(), {
    dconnuri: THERE,
    flags: PEER,
    params: [
      ['destination_name', 'new'],
      ['bandwidth', 7n],
    ],
  });
  await domain.migrateToURI2(THERE, 'tcp://there', '<domain/>', PEER);
  t.match(sent(), {
    dconnuri: THERE,
    params: [['migrate_uri', 'tcp://there'], ['destination_xml', '<domain/>'], bandwidth],
  });
  await domain.migrateToURI3(THERE, { disks_port: 9 }, PEER | flag.VIR_MIGRATE_CHANGE_PROTECTION);
  t.match(sent(), {
    dconnuri: THERE,
    params: [['disks_port', 9]],
    flags: PEER | flag.VIR_MIGRATE_CHANGE_PROTECTION,
  });
  const moved = await domain.migrate(destination, PEER, null, THERE);
  t.match(sent(), { dconnuri: THERE, params: [bandwidth] });
  t.match(last('lookup'), { host: 'destination', args: { name: 'nlm' } });
  t.equal(moved.connection, destination);
  t.same(new Set(asked.map(({ what }) => what)), new Set(['perform', 'lookup']), 'the daemons do the rest');
});

t.test('peer to peer, a refusal, a wish to stop and a lost source are told apart', async (t) => {
  const reactions = [{ refuse: code.VIR_ERR_OPERATION_FAILED, message: 'no' }, 'lose', 'nothing'] as const;
  let tries = 0;
  let performing: ((reaction: { refuse: number }) => void) | undefined;
  const { domain, steps } = await fakeHosts(t, ({ what }, answer) => {
    if (what === 'abortJob') queueMicrotask(() => performing?.({ refuse: code.VIR_ERR_OPERATION_ABORTED }));
    if (what !== 'perform') return undefined;
    performing = answer;
    return reactions[tries++];
  });
  t.match(await failureOf(domain.migrateToURI(THERE, PEER)), {
    codeName: 'VIR_ERR_OPERATION_FAILED',
    message: 'no',
  });
  const lost = await failureOf(domain.migrateToURI(THERE, PEER));
  t.match(lost, { kind: 'closed', message: /goes on with the migration by itself/ });
  const wish = new AbortController();
  const stopped = failureOf(domain.migrateToURI3(THERE, {}, PEER, { signal: wish.signal }));
  await until(() => steps().length === 3, 'the source has been asked');
  wish.abort();
  t.match(await stopped, { kind: 'aborted' });
});

t.test('peer to peer needs the source to be able to', async (t) => {
  const { domain, daemons } = await fakeHosts(t);
  for (const [missing, message] of [
    [4, /p2p migration/],
    [12, /offline/],
    [13, /with parameters/],
  ] as const) {
    daemons.source.on('connectSupportsFeature', (peer, call) =>
      peer.reply(call, (w) => w.int(call.body.readInt32BE(0) === missing ? 0 : 1)),
    );
    const error = await failureOf(domain.migrateToURI(THERE, PEER | flag.VIR_MIGRATE_OFFLINE));
    t.match(error, { codeName: 'VIR_ERR_ARGUMENT_UNSUPPORTED', message });
  }
});
