/** The HTTP API: who may, what is refused and how, and what it says of itself. */
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { Ajv } from 'ajv';
import t from 'tap';
import { ERROR_CODES, type ErrorCode } from '../../../src/model/errors.ts';
import { httpStatusOf } from '../../../src/model/http-status.ts';
import { startLab } from '../support/lab.ts';
import { aSpec } from '../support/samples.ts';

t.test('health is told to anyone, everything else only with the token', async (t) => {
  const lab = await startLab(t);
  const nobody = { authorization: '' };
  t.same((await lab.ask('GET', '/healthz', undefined, nobody)).body, { status: 'ok' });
  const paths = ['/v1/nodes', '/v1/instances', '/v1/openapi.json', '/v1/nothing', '/v1/agent', '/'];
  for (const path of paths) {
    for (const authorization of ['', 'Bearer', 'Bearer wrong', `Basic ${'x'.repeat(40)}`]) {
      const { status, body, headers } = await lab.ask('GET', path, undefined, { authorization });
      t.equal(status, 401, path);
      t.equal(body.error.code, 'PERMISSION_DENIED');
      t.equal(headers.get('www-authenticate'), 'Bearer');
    }
  }
});

t.test('what is not there is 404 with an error body', async (t) => {
  const lab = await startLab(t);
  for (const path of ['/v1/nothing', '/v1/nodes/none', '/v1/instances/none', '/']) {
    const { status, body } = await lab.get(path);
    t.equal(status, 404, path);
    t.equal(body.error.code, 'NOT_FOUND');
  }
});

const DEEP = `${'['.repeat(500_000)}${']'.repeat(500_000)}`;
const REFUSED: [string, string, number, RegExp][] = [
  ['a body that is not JSON', '{"spec": ', 400, /Not JSON/],
  ['a body that is no object', '[]', 400, /must be object/],
  ['a body nested half a million deep', DEEP, 400, /nested deeper than 64/],
  ['deep nesting under a known field', `{"spec": ${DEEP}}`, 400, /nested deeper than 64/],
  ['an empty spec', '{"spec": {}}', 400, /is missing/],
  ['an unknown field', JSON.stringify({ spec: aSpec(), nod: 'a' }), 400, /did you mean node\?/],
  [
    'an unknown field in the spec',
    JSON.stringify({ spec: { ...aSpec(), vcpu: 1 } }),
    400,
    /did you mean vcpus\?/,
  ],
  ['a name that is a path', JSON.stringify({ spec: aSpec({ name: '../x' }) }), 400, /spec\.name/],
  ['__proto__', '{"__proto__": {"node": "x"}, "spec": {}}', 400, /unknown key|is missing/],
  ['a number where text is due', '{"spec": 1}', 400, /spec/],
  ['a body larger than 1 MiB', JSON.stringify({ x: 'y'.repeat(1024 * 1024) }), 413, /too large/],
];

for (const [what, body, status, message] of REFUSED) {
  t.test(`${what} is refused with ${status}, and leaves nothing`, async (t) => {
    const lab = await startLab(t);
    const refused = await lab.ask('POST', '/v1/instances', body);
    t.equal(refused.status, status);
    t.equal(refused.body.error.code, 'INVALID_ARGUMENT');
    t.match(refused.body.error.message, message);
    t.same((await lab.get('/v1/instances')).body.instances, []);
  });
}

t.test('a body that does not say it is JSON is refused with 415', async (t) => {
  const lab = await startLab(t);
  const { status, body } = await lab.ask('POST', '/v1/instances', 'x=1', { 'content-type': 'text/plain' });
  t.equal(status, 415);
  t.equal(body.error.code, 'INVALID_ARGUMENT');
});

t.test('an unknown query and a malformed key are refused', async (t) => {
  const lab = await startLab(t);
  t.match((await lab.get('/v1/instances?limt=3')).body.error.message, /did you mean limit\?/);
  t.equal((await lab.get('/v1/instances?limit=0')).status, 400);
  t.equal((await lab.get('/v1/nodes?x=1')).status, 400);
  const { status, body } = await lab.post('/v1/instances', { spec: aSpec() }, { 'idempotency-key': 'a b' });
  t.equal(status, 400);
  t.match(body.error.message, /Idempotency-Key/);
});

t.test('what is no HTTP at all is answered and closed, and the scheduler goes on', async (t) => {
  const lab = await startLab(t);
  const socket = connect(lab.scheduler.address.port, '127.0.0.1');
  socket.end('\u0000\u0001 not http\r\n\r\n');
  t.match(await text(socket), /^HTTP\/1\.1 400/);
  t.equal((await lab.get('/healthz')).status, 200);
});

t.test('answers are what their schemas say', async (t) => {
  const lab = await startLab(t);
  await lab.node({ hostname: 'alpha' });
  const created = await lab.post('/v1/instances', { spec: aSpec() });
  const { paths, components } = (await lab.get('/v1/openapi.json')).body;
  const answers: [unknown, { responses: Record<string, { content: Record<string, { schema: object }> }> }][] =
    [
      [created.body, paths['/v1/instances'].post],
      [(await lab.get('/v1/instances')).body, paths['/v1/instances'].get],
      [(await lab.get('/v1/instances/web-1')).body, paths['/v1/instances/{instance}'].get],
      [(await lab.get('/v1/nodes')).body, paths['/v1/nodes'].get],
      [(await lab.post('/v1/nodes/alpha/poll')).body, paths['/v1/nodes/{node}/poll'].post],
      [(await lab.get('/v1/nodes/alpha/events')).body, paths['/v1/nodes/{node}/events'].get],
      [(await lab.get(`/v1/operations/${created.body.operation.id}`)).body, paths['/v1/operations/{id}'].get],
    ];
  const ajv = new Ajv({ strict: false, formats: { uuid: true } });
  for (const [body, { responses }] of answers) {
    const response = responses['200'] ?? responses['202'];
    const schema = response?.content['application/json']?.schema;
    const validate = ajv.compile(schema === undefined ? false : { ...schema, components });
    t.ok(validate(body), ajv.errorsText(validate.errors));
  }
});

t.test('instances and nodes are listed page by page', async (t) => {
  const lab = await startLab(t);
  for (const hostname of ['x', 'y', 'z']) await lab.node({ hostname });
  for (const name of ['x', 'y', 'z']) await lab.post('/v1/instances', { spec: aSpec({ name }) });
  for (const [list, name] of [
    ['instances', 'name'],
    ['nodes', 'hostname'],
  ] as const) {
    const first = (await lab.get(`/v1/${list}?limit=2`)).body;
    t.equal(first[list].length, 2);
    const second = (await lab.get(`/v1/${list}?limit=2&after=${first.next}`)).body;
    t.same([...first[list], ...second[list]].map((one) => one[name]).toSorted(), ['x', 'y', 'z']);
    t.equal(second.next, null);
    t.equal((await lab.get(`/v1/${list}`)).body.next, null, 'all of a few are on one page');
    t.equal((await lab.get(`/v1/${list}?limit=1001`)).status, 400);
  }
});

t.test('the OpenAPI document names every route with its parameters', async (t) => {
  const lab = await startLab(t);
  const { body } = await lab.get('/v1/openapi.json');
  const names = Object.entries(body.paths as Record<string, object>).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  t.same(names.toSorted(), [
    'DELETE /v1/instances/{instance}',
    'GET /v1/instances',
    'GET /v1/instances/{instance}',
    'GET /v1/nodes',
    'GET /v1/nodes/{node}',
    'GET /v1/nodes/{node}/events',
    'GET /v1/operations/{id}',
    'GET /v1/operations/{node}/{id}',
    'GET /v1/operator-log',
    'GET /v1/usage',
    'POST /v1/enrol',
    'POST /v1/enrolment-tokens',
    'POST /v1/instances',
    'POST /v1/instances/{instance}/reboot',
    'POST /v1/instances/{instance}/restart-elsewhere',
    'POST /v1/instances/{instance}/start',
    'POST /v1/instances/{instance}/stop',
    'POST /v1/nodes/{node}/call',
    'POST /v1/nodes/{node}/fence',
    'POST /v1/nodes/{node}/poll',
    'POST /v1/nodes/{node}/revoke',
    'POST /v1/nodes/{node}/state',
    'POST /v1/nodes/{node}/unfence',
  ]);
  const stop = body.paths['/v1/instances/{instance}/stop'].post;
  t.match(
    stop.parameters.map(({ name }: { name: string }) => name),
    ['instance', 'Idempotency-Key'],
  );
});

t.test('every error code has a status of its kind', async (t) => {
  for (const code of Object.keys(ERROR_CODES) as ErrorCode[]) {
    const status = httpStatusOf(code);
    t.ok(status >= 400 && status < 600, `${code} is ${status}`);
  }
  t.equal(httpStatusOf('NOT_FOUND'), 404);
  t.equal(httpStatusOf('UNAVAILABLE'), 503);
});
