import t from 'tap';
import type { AgentError } from '../../src/model/errors.ts';
import { strict } from '../../src/model/common.ts';
import { METHODS } from '../../src/model/methods.ts';
import { Type } from '../../src/model/schema.ts';
import { findFault, parse, suggest } from '../../src/model/validate.ts';

const CREATE = METHODS['instance.create'].params;

function spec(change: Record<string, unknown> = {}) {
  return { spec: { name: 'web', vcpus: 1, memoryMib: 256, disks: [{ image: 'debian' }], ...change } };
}

function refusal(value: unknown): AgentError {
  try {
    parse(CREATE, value, 'params');
  } catch (error) {
    return error as AgentError;
  }
  throw new Error(`accepted: ${JSON.stringify(value)}`);
}

t.test('what is left out gets its default', async (t) => {
  const { spec: parsed } = parse(CREATE, spec(), 'params');
  t.match(parsed, { firmware: 'bios', nics: [], sshAuthorizedKeys: [] });
});

t.test('an unknown key is refused with the key that was meant, at its place', async (t) => {
  const error = refusal(spec({ memoryMiB: 1 }));
  t.equal(error.code, 'INVALID_ARGUMENT');
  t.match(error.message, /spec\.memoryMiB.*did you mean memoryMib\?/);
  t.same(error.details, { path: 'spec.memoryMiB' });
});

t.test('a key that resembles none is told what is allowed', async (t) => {
  t.match(refusal(spec({ zzzzzz: 1 })).message, /allowed are name, vcpus, memoryMib/);
});

t.test('where no key is allowed, that is told', async (t) => {
  const fault = findFault(strict({}), { wide: 'yes' });
  t.match(fault, { path: ['wide'], message: 'unknown key "wide"; none is allowed' });
});

t.test('a needed key that is misspelt is told as what it is', async (t) => {
  const { vcpus: _vcpus, ...rest } = spec().spec;
  t.match(
    refusal({ spec: { ...rest, vcpu: 1 } }).message,
    /spec\.vcpu: unknown key "vcpu"; did you mean vcpus\?/,
  );
  t.match(refusal({ spec: rest }).message, /vcpus is missing/);
});

t.test('names that could be paths, options or shell text are refused', async (t) => {
  for (const name of ['../etc', '-rf', 'a b', 'a;b', '$(x)', 'A', '', 'a'.repeat(41), 'a\n', 'é']) {
    t.match(refusal(spec({ name })).message, /spec\.name/, JSON.stringify(name));
  }
});

t.test('numbers out of range, of the wrong type, or no numbers are refused', async (t) => {
  for (const memoryMib of [0, -1, 1.5, '256', null, 1e12])
    t.match(refusal(spec({ memoryMib })).message, /memoryMib/);
});

t.test('a long value is cut off in the message', async (t) => {
  t.ok(refusal(spec({ name: 'x'.repeat(10_000) })).message.length < 400);
});

t.test('a key named __proto__ is unknown like any other', async (t) => {
  const hostile = JSON.parse(
    '{"spec":{"name":"web","vcpus":1,"memoryMib":256,"disks":[{}],"__proto__":{"x":1}}}',
  );
  t.equal(refusal(hostile).code, 'INVALID_ARGUMENT');
});

t.test('a suggestion is only made for a near word', async (t) => {
  t.equal(suggest('instance.lst', ['instance.list', 'image.list']), 'instance.list');
  t.equal(suggest('frobnicate', ['instance.list', 'image.list']), null);
});

t.test('what is only written, and what is large, is never repeated in a refusal', async (t) => {
  const schema = Type.Object({
    secret: Type.String({ maxLength: 3, writeOnly: true }),
    word: Type.Enum(['a'], { writeOnly: true }),
    list: Type.Array(Type.String()),
    plain: Type.String({ maxLength: 3 }),
  });
  const good = { secret: 'abc', word: 'a', list: [], plain: 'abc' };
  const said = (change: object) => findFault(schema, { ...good, ...change })?.message;
  t.match(said({ secret: 'hunter2' }), /more than 3 characters.*got string, which is not shown/);
  t.equal(said({ word: 'hunter2' }), 'string, which is not shown is not one of a');
  t.match(said({ list: { secret: 'hunter2' } }), /must be array, got an object/);
  t.match(said({ plain: ['hunter2'] }), /must be string, got a list/);
  t.match(said({ plain: 'hello' }), /got "hello"/);
});
