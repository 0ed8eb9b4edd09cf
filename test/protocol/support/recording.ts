/**
 * What an older version has said, and how it reads what it is told: as its own schemas say, with what is new in what is
 * told passed over, and nothing else.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv, type ValidateFunction } from 'ajv';
import type { TSchema } from '../../../src/model/schema.ts';
import { told } from '../../../src/model/told.ts';

export interface Message {
  id?: string | number;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: object;
}

interface Schemas {
  methods: Record<string, { params: TSchema; result: TSchema }>;
  request: TSchema;
  response: TSchema;
  helloResult: TSchema;
  ofAgent: Record<string, TSchema>;
  ofScheduler: Record<string, TSchema>;
}

export class Recording {
  readonly #lines: { from: 'agent' | 'scheduler'; message: Message }[];
  readonly #schemas: Schemas;
  readonly #ajv = new Ajv({ strict: false, useDefaults: true });
  readonly #compiled = new Map<string, ValidateFunction>();

  constructor(version: string) {
    const folder = join(import.meta.dirname, '..', 'recordings', version);
    const text = readFileSync(join(folder, 'messages.jsonl'), 'utf8');
    this.#lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    this.#schemas = JSON.parse(readFileSync(join(folder, 'schemas.json'), 'utf8')) as Schemas;
    this.#ajv.addFormat('uuid', /^[0-9a-f-]{36}$/);
  }

  said(by: 'agent' | 'scheduler'): Message[] {
    return this.#lines.filter(({ from }) => from === by).map(({ message }) => message);
  }

  /** The recorded answers to a method, in order. */
  answersTo(method: string): Message[] {
    const asked = this.said('scheduler').filter((message) => message.method === method);
    return asked.flatMap(({ id }) =>
      this.said('agent').filter((answer) => isAnswer(answer) && answer.id === id),
    );
  }

  /** What a scheduler of that version finds wrong with what an agent says; null for nothing. */
  faultForScheduler(message: Message, asked: ReadonlyMap<string | number, string>): string | null {
    if (isAnswer(message)) return this.#faultOfAnswer(message, asked.get(message.id as string));
    const { method = '', params } = message;
    const schema = this.#schemas.ofAgent[method];
    if (schema === undefined) return `no message ${method}`;
    return (
      this.#fault('request', this.#schemas.request, message) ?? this.#faultOfTold(method, schema, params)
    );
  }

  /** What an agent of that version finds wrong with what a scheduler says; null for nothing. */
  faultForAgent(message: Message): string | null {
    if (isAnswer(message)) {
      return message.error === undefined
        ? this.#fault('helloResult', this.#schemas.helloResult, message.result)
        : this.#fault('response', this.#schemas.response, message);
    }
    const { method = '', params } = message;
    const schema = this.#schemas.methods[method]?.params ?? this.#schemas.ofScheduler[method];
    if (schema === undefined) return `no method ${method}`;
    return this.#fault('request', this.#schemas.request, message) ?? this.#fault(method, schema, params);
  }

  #faultOfAnswer(message: Message, method: string | undefined): string | null {
    if (method === undefined) return 'an answer to nothing';
    const wrong = this.#fault('response', this.#schemas.response, message);
    if (wrong !== null || message.error !== undefined) return wrong;
    return this.#fault(
      `result of ${method}`,
      told(this.#schemas.methods[method]?.result as TSchema),
      message.result,
    );
  }

  /** Unknown fields of the message itself are refused, those of what is told in it are not; nor are new types of events. */
  #faultOfTold(method: string, schema: TSchema, params: unknown): string | null {
    const { properties, ...rest } = schema as TSchema & { properties: Record<string, TSchema> };
    const inner = Object.entries(properties).map(([key, value]) => [key, told(value)]);
    const loose = { ...rest, properties: Object.fromEntries(inner) };
    if (method === 'event') loose.properties['type'] = { type: 'string' };
    return this.#fault(`params of ${method}`, loose as unknown as TSchema, params);
  }

  #fault(what: string, schema: TSchema, value: unknown): string | null {
    const validate = this.#compiled.get(what) ?? this.#ajv.compile(JSON.parse(JSON.stringify(schema)));
    this.#compiled.set(what, validate);
    return validate(structuredClone(value)) ? null : `${what}: ${this.#ajv.errorsText(validate.errors)}`;
  }
}

export function isAnswer({ method }: Message): boolean {
  return method === undefined;
}
