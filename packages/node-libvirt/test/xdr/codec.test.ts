import t from 'tap';
import { LibvirtUsageError } from '../../src/errors.ts';
import { MESSAGES, PROCEDURES, TYPES } from '../../src/protocol/schema.gen.ts';
import { codecOf } from '../../src/xdr/codec.ts';
import { XdrError, XdrReader } from '../../src/xdr/reader.ts';
import { Pacer } from '../../src/xdr/slices.ts';
import { XdrWriter } from '../../src/xdr/writer.ts';

const DOMAIN_HEX = '00000002' + '76310000' + '0123456789abcdef0123456789abcdef' + 'ffffffff';
const DOMAIN = { name: 'v1', uuid: '01234567-89ab-cdef-0123-456789abcdef', id: -1 };

function encode(type: string, value: unknown): string {
  const writer = new XdrWriter();
  codecOf(type).encode(writer, value);
  return writer.finish().toString('hex');
}

function decode(type: string, hex: string): unknown {
  return codecOf(type).decode(new XdrReader(Buffer.from(hex, 'hex')));
}

t.test('a domain is its name, 16 bytes of UUID and its id', (t) => {
  t.equal(encode('remote_nonnull_domain', DOMAIN), DOMAIN_HEX);
  t.same(decode('remote_nonnull_domain', DOMAIN_HEX), DOMAIN);
  t.equal(encode('remote_nonnull_domain', { ...DOMAIN, uuid: DOMAIN.uuid.toUpperCase() }), DOMAIN_HEX);
  t.end();
});

t.test('an optional value is 0, or 1 and the value', (t) => {
  t.equal(encode('remote_domain', null), '00000000');
  t.equal(encode('remote_domain', DOMAIN), `00000001${DOMAIN_HEX}`);
  t.equal(decode('remote_string', '00000000'), null);
  t.equal(decode('remote_string', '00000001' + '00000001' + '78000000'), 'x');
  t.end();
});

t.test('arrays are counted, and fixed ones are not', (t) => {
  t.same(decode('remote_auth_list_ret', '00000002' + '00000000' + '00000002'), { types: [0, 2] });
  const info = decode(
    'remote_node_get_info_ret',
    `00000061${'00000000'.repeat(31)}0000000000000400${'00000001'.repeat(6)}`,
  );
  t.match(info, { model: 'a', memory: 1024n, threads: 1 });
  t.end();
});

t.test('each type of typed parameter has its own layout', (t) => {
  const param = (value: string) => decode('remote_typed_param', `00000001${'66000000'}${value}`);
  t.same(param('00000001fffffffe'), { field: 'f', type: 'int', value: -2 });
  t.same(param('00000002fffffffe'), { field: 'f', type: 'uint', value: 0xffff_fffe });
  t.same(param('00000003ffffffffffffffff'), { field: 'f', type: 'llong', value: -1n });
  t.same(param('000000040000000000000007'), { field: 'f', type: 'ullong', value: 7n });
  t.same(param('00000004ffffffffffffffff'), { field: 'f', type: 'ullong', value: 2n ** 64n - 1n });
  t.same(param('000000053ff8000000000000'), { field: 'f', type: 'double', value: 1.5 });
  t.same(param('0000000600000001'), { field: 'f', type: 'boolean', value: true });
  t.same(param('000000070000000178000000'), { field: 'f', type: 'string', value: 'x' });
  t.throws(() => param('0000000800000000'), XdrError);
  t.throws(() => param('0000000000000000'), XdrError);
  t.equal(
    encode('remote_typed_param', { field: 'f', type: 'boolean', value: true }),
    '00000001660000000000000600000001',
  );
  t.equal(
    encode('remote_typed_param', { field: 'f', type: 'ullong', value: 7 }),
    '0000000166000000000000040000000000000007',
  );
  t.end();
});

t.test('a wrong argument is refused, and the error names the field', (t) => {
  t.throws(() => encode('remote_domain_get_info_args', { dom: { ...DOMAIN, uuid: 'x' } }), {
    name: 'LibvirtUsageError',
    message: 'dom.uuid: not a UUID: "x"',
  });
  t.throws(() => encode('remote_domain_get_info_args', undefined), LibvirtUsageError);
  t.throws(() => encode('remote_typed_param', { field: 'f', type: 'bool', value: true }), LibvirtUsageError);
  t.throws(
    () => encode('remote_typed_param', { field: 'f', type: 'boolean', value: 1 }),
    /f: expected a boolean/,
  );
  const codes = Array.from({ length: 17 }, () => 1);
  const keys = { dom: DOMAIN, codeset: 0, holdtime: 0, keycodes: codes, flags: 0 };
  t.throws(() => encode('remote_domain_send_key_args', keys), /keycodes: 17 elements, at most 16/);
  t.throws(
    () => encode('remote_domain_send_key_args', { ...keys, keycodes: 'abc' }),
    /keycodes: expected an array/,
  );
  t.end();
});

t.test('types that may be long, and no others, can be decoded in slices', async (t) => {
  t.type(codecOf('remote_connect_list_all_domains_ret').decodeInSlices, 'function');
  t.type(codecOf('remote_domain_get_job_stats_ret').decodeInSlices, 'function');
  t.equal(codecOf('remote_domain_lookup_by_name_ret').decodeInSlices, undefined);
  const domains = Array.from({ length: 5_000 }, (_, id) => ({ ...DOMAIN, id }));
  const bytes = Buffer.from(encode('remote_connect_list_all_domains_ret', { domains, ret: 5_000 }), 'hex');
  const pacer = new Pacer();
  const reply = codecOf('remote_connect_list_all_domains_ret').decodeInSlices?.(new XdrReader(bytes), pacer);
  t.same(await reply, { domains, ret: 5_000 });
});

t.test('every type of the schema has a codec', (t) => {
  for (const name of Object.keys(TYPES)) codecOf(name);
  for (const description of Object.values(PROCEDURES)) {
    const [, base = '', , has = ''] = description.split(' ');
    if (has.includes('a')) codecOf(`${base}_args`);
    if (has.includes('r')) codecOf(`${base}_ret`);
  }
  for (const [, base] of Object.values(MESSAGES)) codecOf(`${base}_msg`);
  t.equal(Object.keys(PROCEDURES).length + Object.keys(MESSAGES).length, 453 + 7, 'both programs, whole');
  t.end();
});
