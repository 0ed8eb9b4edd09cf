/** Whether all that a far side has said is what such a side says. */
import type { TSchema } from '../model/schema.ts';
import { findFault } from '../model/validate.ts';
import { excerpt, must } from './clause.ts';
import type { Line } from './line.ts';

export interface Speech {
  /** Of the params of a request or notification; undefined for what no such side sends. */
  schemaOf(method: string): TSchema | undefined;
  /** What params that were left out stand for; undefined where they may not be. */
  absent?: object;
}

/** @throws {Broken} naming the first message that does not fit. */
export function assertFit(lines: readonly Line[], side: 'agent' | 'scheduler', speech: Speech): void {
  const garbled = lines.flatMap((line) => line.garbled)[0];
  must(garbled === undefined, `it sent ${garbled}`);
  for (const { message } of lines.flatMap((line) => line.heard)) {
    if (message.method === undefined) continue;
    const schema = speech.schemaOf(message.method);
    must(schema !== undefined, `it sent ${excerpt(message.method)}, which no ${side} sends`);
    const fault = findFault(schema, structuredClone(message.params ?? speech.absent));
    must(fault === null, `${message.method}: ${fault?.path.join('.')}: ${fault?.message}`);
  }
}
