/**
 * The instances that scenarios make, and waiting for what becomes of them.
 */
import type { GatewayApi } from '../api.ts';
import { AgentError } from '../../src/model/errors.ts';
import { hasEnded, type Operation } from '../../src/model/operation.ts';

/** Seconds that one call waits for the end of an operation. */
const WAIT_SECONDS = 20;

/** Small, so that a node has room for many. */
export function specOf(name: string): object {
  return { name, vcpus: 1, memoryMib: 256, disks: [{ sizeGib: 1 }] };
}

/** @throws {AgentError} INTERNAL: it did not succeed, or did not end. */
export async function operationEnded(api: GatewayApi, id: string): Promise<void> {
  const path = `/v1/operations/${id}?wait=${WAIT_SECONDS}`;
  const { operation } = await api.ask<{ operation: Operation }>('GET', path);
  if (operation.state === 'succeeded') return;
  const words = hasEnded(operation.state) ? `has ${operation.state}` : `is ${operation.state} still`;
  throw new AgentError('INTERNAL', `${operation.kind} of ${operation.target.name} ${words}`);
}
