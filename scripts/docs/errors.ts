/** docs/errors.md: every code, and what it asks of the caller. */
import { ERROR_CODES, type ErrorCode } from '../../src/model/errors.ts';
import { httpStatusOf } from '../../src/model/http-status.ts';
import { table } from './schema.ts';

export function errorsPage(): string {
  const rows = Object.entries(ERROR_CODES).map(([code, words], index) => [
    `\`${code}\``,
    String(-32000 - index),
    String(httpStatusOf(code as ErrorCode)),
    words,
  ]);
  return [
    '<!-- Generated from src/model/errors.ts by `npm run docs`; do not edit. -->',
    '# Errors',
    'A code exists only where the caller would act differently. It is stable; the message is for people and may change.',
    table(['code', 'JSON-RPC', 'HTTP', 'what it asks of the caller'], rows),
    "Beside these, JSON-RPC's own: -32700 not JSON, -32600 no JSON-RPC 2.0, -32601 unknown method.",
    '',
  ].join('\n\n');
}
