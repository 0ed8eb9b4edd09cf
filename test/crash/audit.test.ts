import t from 'tap';
import { auditEnd, auditHost, auditProcesses, auditView } from './audit.ts';
import type { Rows } from './node/protocol.ts';

const NET = '11111111-0000-4000-8000-000000000000';
const WEB = '22222222-0000-4000-8000-000000000000';

/** A network, and an instance on it unless told otherwise. */
function rows(options: { instance?: boolean; generation?: number; power?: string } = {}): Rows {
  const { instance = true, generation = 1, power = 'running' } = options;
  const web = { id: WEB, name: 'web', generation, power_state: power, created_at: `${Math.random()}` };
  const port = {
    id: 'p',
    instance_id: WEB,
    network_id: NET,
    position: 0,
    tap_name: 'bt-1',
    mac_address: 'm',
  };
  return {
    images: [],
    networks: [{ id: NET, name: 'default', bridge: 'bb-1', dhcp: 1 }],
    instances: instance ? [web] : [],
    volumes: [],
    layers: [],
    snapshots: [],
    shares: [],
    share_users: [],
    ports: instance ? [port] : [],
    allocations: instance ? [{ consumer_id: WEB, resource_class: 'VCPU', amount: 1 }] : [],
    reservations: [],
  };
}

const HOST = [
  `guest ${WEB} running`,
  `file seeds/${WEB}.iso`,
  `port ${NET} p`,
  'tap bt-1 on bb-1',
  'bridge bb-1',
];

t.test('a host that is what the store says is right, with a console log or without', (t) => {
  t.same(auditHost(HOST, rows(), 'sim'), { leaks: [], wrongEnds: [] });
  t.same(auditHost([...HOST, `file consoles/${WEB}.log`], rows(), 'sim'), { leaks: [], wrongEnds: [] });
  t.end();
});

t.test('what no row accounts for is a leak, and what is not there is missing', (t) => {
  const host = ['bridge bb-1', `guest ${WEB} running`];
  t.same(auditHost(host, rows({ instance: false }), 'sim').leaks, [`nobody's: guest ${WEB} running`]);
  t.same(auditHost(HOST.slice(1), rows(), 'sim').wrongEnds, [`missing: guest ${WEB} running`]);
  t.end();
});

t.test('two of what there should be one of are one leak', (t) => {
  t.same(auditHost([...HOST, 'bridge bb-1'], rows(), 'sim').leaks, ["nobody's: bridge bb-1"]);
  t.end();
});

t.test('a real host has rules, a server and a process besides', (t) => {
  const { wrongEnds } = auditHost(HOST, rows(), 'libvirt');
  t.match(wrongEnds.join(), /table berth_1{8}/);
  t.match(wrongEnds.join(), new RegExp(`dnsmasq ${NET}`));
  t.match(wrongEnds.join(), new RegExp(`qemu ${WEB}`));
  t.end();
});

t.test('drivers that tell something else than the host are wrong', (t) => {
  const view = { guests: [{ id: WEB, power: 'running' }], bridges: ['bb-2'], files: [] };
  t.same(auditView(view, [`guest ${WEB} running`, 'bridge bb-1']), [
    'the drivers do not tell: bridge bb-1',
    'only the drivers tell: bridge bb-2',
  ]);
  t.end();
});

t.test('an end is right when the rows are those of what the operation says', (t) => {
  const never = rows({ instance: false });
  const question = {
    before: never,
    done: { rows: rows(), since: never },
    power: 'kept',
    isRepeated: false,
  } as const;
  const ended = (state: 'succeeded' | 'failed' | 'running') => ({ id: 'o', state, error: null });
  t.same(auditEnd({ ...question, operation: ended('succeeded'), rows: rows() }), []);
  t.same(auditEnd({ ...question, operation: ended('failed'), rows: never }), []);
  t.same(auditEnd({ ...question, operation: null, rows: never }), []);
  t.not(auditEnd({ ...question, operation: ended('failed'), rows: rows() }).length, 0);
  t.not(auditEnd({ ...question, operation: ended('succeeded'), rows: never }).length, 0);
  t.not(auditEnd({ ...question, operation: null, rows: rows() }).length, 0);
  t.match(auditEnd({ ...question, operation: ended('running'), rows: rows() }), [/has not ended/]);
  t.end();
});

t.test('a generation counts from where the case began', (t) => {
  const before = rows({ generation: 7 });
  const done = { rows: rows({ generation: 2 }), since: rows({ generation: 1 }) };
  const question = { operation: { id: 'o', state: 'succeeded', error: null }, before, done } as const;
  const rest = { power: 'kept', isRepeated: false } as const;
  t.same(auditEnd({ ...question, ...rest, rows: rows({ generation: 8 }) }), []);
  t.not(auditEnd({ ...question, ...rest, rows: rows({ generation: 9 }) }).length, 0);
  t.end();
});

t.test('a guest that is another process than before has not survived', (t) => {
  t.same(auditProcesses(new Map([[WEB, '1']]), new Map([[WEB, '1']])), []);
  t.same(auditProcesses(new Map([[WEB, '1']]), new Map()), [], 'one that is gone is for the rows to tell');
  t.same(auditProcesses(new Map([[WEB, '1']]), new Map([[WEB, '2']])), [`guest ${WEB} was 1 and is now 2`]);
  t.end();
});
