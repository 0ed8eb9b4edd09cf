/** docs/schemas/: the messages of the link as JSON Schema, one file each; the methods are in openrpc.json. */
import {
  AGENT_MESSAGES,
  HelloResult,
  RpcRequest,
  RpcResponse,
  SCHEDULER_MESSAGES,
} from '../../src/model/wire.ts';

const DIALECT = 'https://json-schema.org/draft/2020-12/schema';

/** Files below docs/schemas, with what is in them. */
export function messageSchemas(): Record<string, object> {
  const paramsOf = (messages: Record<string, object>) =>
    Object.entries(messages).map(([name, schema]) => [name, titled(`params of ${name}`, schema)] as const);
  return Object.fromEntries([
    ['request', titled('JSON-RPC 2.0 request or notification', RpcRequest)] as const,
    ['response', titled('JSON-RPC 2.0 response', RpcResponse)] as const,
    ...paramsOf(AGENT_MESSAGES),
    ['hello.result', titled('result of hello', HelloResult)] as const,
    ...paramsOf(SCHEDULER_MESSAGES),
  ]);
}

function titled(title: string, schema: object): object {
  return { $schema: DIALECT, title, ...schema };
}
