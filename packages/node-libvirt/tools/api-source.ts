/**
 * Writes src/api/*.gen.ts: each class of the API with its methods, and the factory of all.
 */
import { classOfWire, type Plan, type PlannedMethod, type PlannedParameter } from './api-plan.ts';
import { type ApiClass, CLASSES, STRINGS_ON_REQUEST } from './api-rules.ts';
import { pascal, tsType } from './names.ts';
import type { Field, Protocol } from './rpcl.ts';

/** StoragePool to storage-pool. */
export function fileOfClass({ name }: ApiClass): string {
  return name.replace(/(?<=[a-z])[A-Z]/g, (letter) => `-${letter}`).toLowerCase();
}

/** @returns Path and text of each file. */
export function apiSources(plan: Plan, protocol: Protocol, heading: string): [string, string][] {
  const files = CLASSES.map((owner): [string, string] => {
    const methods = plan.methods.filter((method) => method.class === owner);
    return [`src/api/${fileOfClass(owner)}.gen.ts`, classSource(owner, methods, protocol, heading)];
  });
  return [...files, ['src/api/objects.gen.ts', objectsSource(protocol, heading)]];
}

/** Classes that have methods written by hand, which are in a file of that name in src/. */
const EXTENDED = ['Connection', 'Domain', 'Network', 'StorageVolume'];

function classSource(owner: ApiClass, methods: PlannedMethod[], protocol: Protocol, heading: string): string {
  const body = [...membersSource(owner, protocol), ...methods.map(methodSource)].join('\n\n');
  const name = EXTENDED.includes(owner.name) ? `abstract class ${owner.name}Methods` : `class ${owner.name}`;
  const base = owner.wire === null ? 'Caller' : 'LibvirtObject';
  const what = owner.wire === null ? 'whose first argument is a connection' : `on ${words(owner)}`;
  return `${[
    heading,
    ...imports(owner, body, base),
    '',
    `/** libvirt's functions ${what}. */`,
    `export ${name} extends ${base} {`,
    body,
    '}',
  ].join('\n')}\n`;
}

function words(owner: ApiClass): string {
  return `a ${fileOfClass(owner).replaceAll('-', ' ')}`.replace(/^a (?=[aeio])/, 'an ');
}

/** The fields that name the object, and the constructor. */
function membersSource({ wire }: ApiClass, protocol: Protocol): string[] {
  if (wire === null) return [];
  const fields = protocol.structs.get(`remote_${wire}`) ?? [];
  const type = (field: Field) => classOfWire(field.type)?.name ?? textType(field) ?? tsType(field, 'out');
  const value = (field: Field) => {
    const owner = classOfWire(field.type);
    return owner ? `connection.objects.${factoryName(owner)}(plain.${field.name})` : `plain.${field.name}`;
  };
  return [
    fields.map((field) => `  readonly ${field.name}: ${type(field)};`).join('\n'),
    [
      '  /** @internal Use the lookups, or `connection.objects`. */',
      `  constructor(connection: Connection, plain: p.${pascal(`remote_${wire}`)}) {`,
      '    super(connection);',
      ...fields.map((field) => `    this.${field.name} = ${value(field)};`),
      '  }',
    ].join('\n'),
  ];
}

function factoryName({ name }: ApiClass): string {
  return name.charAt(0).toLowerCase() + name.slice(1);
}

/** The one place that knows all classes, so that they need not know each other. */
function objectsSource(protocol: Protocol, heading: string): string {
  const classes = CLASSES.filter(({ wire }) => wire !== null);
  const methods = classes.map((owner) => {
    const fields = (protocol.structs.get(`remote_${owner.wire}`) ?? []).map(({ name }) => name).join(', ');
    return [
      `  /** ${words(owner).replace(/^./, (letter) => letter.toUpperCase())} by its ${fields}. */`,
      `  ${factoryName(owner)}(plain: p.${pascal(`remote_${owner.wire}`)}): ${owner.name} {`,
      `    return new ${owner.name}(this.#connection, plain);`,
      '  }',
    ].join('\n');
  });
  return `${[
    heading,
    "import type { Connection } from '../connection.ts';",
    ...classes.map((owner) => `import { ${owner.name} } from '${moduleOf(owner)}';`),
    "import type * as p from '../protocol/types.gen.ts';",
    '',
    '/** Makes objects of what names them, without asking the daemon: an event or a reply has it. */',
    'export class Objects {',
    '  readonly #connection: Connection;',
    '',
    '  /** @internal */',
    '  constructor(connection: Connection) {',
    '    this.#connection = connection;',
    '  }',
    '',
    methods.join('\n\n'),
    '}',
  ].join('\n')}\n`;
}

function moduleOf(owner: ApiClass): string {
  return EXTENDED.includes(owner.name) ? `../${fileOfClass(owner)}.ts` : `./${fileOfClass(owner)}.gen.ts`;
}

function imports(owner: ApiClass, body: string, base: string): string[] {
  const uses = (name: string) => new RegExp(`(?<![\\w.'])${name}\\b`).test(body);
  const helpers = ['as', 'booleanOfInt', 'intOfBoolean', 'withFlag'].filter(uses);
  const params = [
    'type TypedParams',
    'type TypedParamsInput',
    'typedParamsFromObject',
    'typedParamsToObject',
  ];
  const types = ['CallOptions', 'RoleCallOptions'].filter(uses);
  const others = CLASSES.filter(
    (one) => (one !== owner || EXTENDED.includes(one.name)) && one.wire !== null && uses(one.name),
  );
  return [
    ...(uses('virTypedParameterFlags')
      ? ["import { virTypedParameterFlags } from '../constants.gen.ts';"]
      : []),
    ...(owner.wire === null ? [] : ["import type { Connection } from '../connection.ts';"]),
    ...(uses('p') ? ["import type * as p from '../protocol/types.gen.ts';"] : []),
    ...(uses('LibvirtStream') ? ["import type { LibvirtStream } from '../rpc/stream.ts';"] : []),
    ...importOf(
      params.filter((name) => uses(name.replace('type ', ''))),
      '../typed-params.ts',
    ),
    ...others.map((one) => `import type { ${one.name} } from '${moduleOf(one)}';`),
    ...importOf([...helpers, base, ...types.map((name) => `type ${name}`)], './caller.ts'),
  ];
}

function importOf(names: string[], module: string): string[] {
  return names.length === 0 ? [] : [`import { ${names.join(', ')} } from '${module}';`];
}

function methodSource(method: PlannedMethod): string {
  const isStream = /[<>]/.test(method.procedure.has);
  const parameters = method.parameters.map(parameterSource);
  parameters.push(isStream ? 'options?: CallOptions' : 'options?: RoleCallOptions');
  return [
    ...docSource(method),
    `  async ${method.name}(${parameters.join(', ')}): Promise<${isStream ? streamType(method) : resultType(method)}> {`,
    ...(isStream ? streamBody(method) : callBody(method)).map((line) => `    ${line}`),
    '  }',
  ].join('\n');
}

function docSource({ function: fn, parameters }: PlannedMethod): string[] {
  const flags = parameters.filter(({ enumType }) => enumType !== null);
  const head = `${fn.name}, since libvirt ${fn.since}.`;
  if (flags.length === 0) return [`  /** ${head} */`];
  return [
    '  /**',
    `   * ${head}`,
    '   *',
    ...flags.map(({ name, enumType }) => `   * @param ${name} ${enumType}`),
    '   */',
  ];
}

function parameterSource(parameter: PlannedParameter): string {
  const { name, defaultValue } = parameter;
  const type = parameterType(parameter);
  if (defaultValue === null) return `${name}: ${type}`;
  return type === 'number' ? `${name} = ${defaultValue}` : `${name}: ${type} = ${defaultValue}`;
}

function parameterType({ field, kind, isNullable }: PlannedParameter): string {
  if (kind === 'typedParams') return 'TypedParamsInput';
  if (kind === 'boolean') return 'boolean';
  if (kind === 'object') return classOfWire(field.type)?.name ?? '';
  const text = textType(field);
  if (text === undefined) return tsType(field, 'in');
  if (field.shape === 'counted') return `readonly ${text}`;
  return isNullable ? text : text.replace(' | null', '');
}

/** The protocol's names for texts and UUIDs, as what they are. */
function textType(field: Field): string | undefined {
  const element = { remote_nonnull_string: 'string', remote_string: 'string | null', remote_uuid: 'string' }[
    field.type
  ];
  if (element === undefined) return undefined;
  return field.shape === 'counted' ? `${element}[]` : element;
}

function resultType({ procedure, result }: PlannedMethod): string {
  if (result.kind === 'nothing') return 'void';
  if (result.kind === 'reply')
    return hasTypedParams(result)
      ? `{ ${result.fields.map((field) => `${field.name}: ${fieldType(field)}`).join('; ')} }`
      : `p.${pascal(`${procedure.base}_ret`)}`;
  switch (result.kind) {
    case 'boolean':
    case 'number':
      return result.kind;
    case 'typedParams':
      return 'TypedParams';
    case 'namedNumbers':
      return 'Record<string, bigint>';
    case 'objects':
      return `${classOfWire(result.field.type)?.name}[]`;
    case 'object': {
      const name = classOfWire(result.field.type)?.name ?? '';
      return result.field.type.includes('nonnull') ? name : `${name} | null`;
    }
    case 'value':
      return textType(result.field) ?? outType(result.field);
  }
}

function hasTypedParams({ fields }: { fields: Field[] }): boolean {
  return fields.some(isTypedParams);
}

function isTypedParams({ type }: Field): boolean {
  return type === 'remote_typed_param';
}

function fieldType(field: Field): string {
  return isTypedParams(field) ? 'TypedParams' : outType(field);
}

function outType(field: Field): string {
  const type = tsType(field, 'out');
  return /^[A-Z]/.test(type) && type !== 'Uint8Array' ? `p.${type}` : type;
}

function callBody(method: PlannedMethod): string[] {
  const { result, procedure, countFrom } = method;
  const connection = method.class.wire === null ? 'this' : 'this.connection';
  const call = (args: string) =>
    `${connection}.call('${procedure.name}', ${args}, as('${method.role}', options))`;
  if (countFrom === null) return resultSource(result, connection, call(argsSource(method)));
  const ask = countFrom === 'ownReply' ? call('args(0)') : 'this.getSchedulerType(options)';
  return [
    `const args = (nparams: number) => (${argsSource(method)});`,
    `const { nparams } = await ${ask};`,
    ...resultSource(result, connection, call('args(nparams)')),
  ];
}

function argsSource({ args, function: fn }: PlannedMethod): string {
  if (args.length === 0) return 'undefined';
  const wantsStrings = STRINGS_ON_REQUEST.test(fn.name);
  const fields = args.map(([name, source]) => {
    if (name === 'flags' && wantsStrings)
      return 'flags: withFlag(flags, virTypedParameterFlags.VIR_TYPED_PARAM_STRING_OKAY)';
    return name === source ? name : `${name}: ${source}`;
  });
  return `{ ${fields.join(', ')} }`;
}

function resultSource(result: PlannedMethod['result'], connection: string, call: string): string[] {
  if (result.kind === 'nothing') return [`await ${call};`];
  if (result.kind === 'reply') return replySource(result.fields, call);
  const { name, type } = result.field;
  const value = `(await ${call}).${name}`;
  const owner = classOfWire(type);
  const factory = `${connection}.objects.${owner ? factoryName(owner) : ''}`;
  switch (result.kind) {
    case 'value':
      return [`return ${value};`];
    case 'boolean':
      return [`return booleanOfInt(${value});`];
    case 'number':
      return [`return Number(${value});`];
    case 'typedParams':
      return [`return typedParamsToObject(${value});`];
    case 'namedNumbers':
      return [`return Object.fromEntries(${value}.map(({ field, value }) => [field, value]));`];
    case 'objects':
      return [`return ${value}.map((plain) => ${factory}(plain));`];
    case 'object':
      if (type.includes('nonnull')) return [`return ${factory}(${value});`];
      return [`const plain = ${value};`, `return plain && ${factory}(plain);`];
  }
}

function replySource(fields: Field[], call: string): string[] {
  const lists = fields.filter(isTypedParams).map(({ name }) => name);
  if (lists.length === 0) return [`return ${call};`];
  const plain = lists.map((name) => `${name}: typedParamsToObject(reply.${name})`);
  return [`const reply = await ${call};`, `return { ...reply, ${plain.join(', ')} };`];
}

function streamType({ procedure, result }: PlannedMethod): string {
  if (result.kind === 'nothing') return 'LibvirtStream';
  return `{ reply: p.${pascal(`${procedure.base}_ret`)}; stream: LibvirtStream }`;
}

function streamBody(method: PlannedMethod): string[] {
  const connection = method.class.wire === null ? 'this' : 'this.connection';
  const opening = `${connection}.openStream('${method.procedure.name}', ${argsSource(method)}, options)`;
  return method.result.kind === 'nothing' ? [`return (await ${opening}).stream;`] : [`return ${opening};`];
}
