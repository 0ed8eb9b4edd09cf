/**
 * The domain that a command is about: found, ours, and what it does now.
 */
import type { Connection, Domain } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import { readMetadata } from './definitions.ts';
import { isLibvirtError } from './errors.ts';
import type { CallLimits } from './limits.ts';
import { type ObservedPower, powerOfState } from './power-mapping.ts';

/** One command on its way: the connection it uses, and what is left of its time. */
export interface CommandContext {
  connection: Connection;
  limits: CallLimits;
}

/** The domain with this UUID, or null. */
export async function findDomain({ connection, limits }: CommandContext, id: string): Promise<Domain | null> {
  try {
    return await connection.domainLookupByUUIDString(id, limits.next());
  } catch (error) {
    if (isLibvirtError(error, 'VIR_ERR_NO_DOMAIN')) return null;
    throw error;
  }
}

/** What a domain's power is now. */
export async function powerOf(domain: Domain, limits: CallLimits): Promise<ObservedPower> {
  const { state, reason } = await domain.getState(0, limits.next());
  return powerOfState(state, reason);
}

export async function isDown(domain: Domain, limits: CallLimits): Promise<boolean> {
  const { power } = await powerOf(domain, limits);
  return power === 'stopped' || power === 'crashed';
}

/** Nothing in it answers, its agent neither. */
export async function isPaused(domain: Domain, limits: CallLimits): Promise<boolean> {
  return (await powerOf(domain, limits)).power === 'paused';
}

/** @throws {LibvirtError} VIR_ERR_NO_DOMAIN. @throws {AgentError} HOST_CONFLICT: it is not ours. */
export async function ownDomain({ connection, limits }: CommandContext, id: string): Promise<Domain> {
  const domain = await connection.domainLookupByUUIDString(id, limits.next());
  await checkOurs(domain, limits);
  return domain;
}

export async function checkOurs(domain: Domain, limits: CallLimits): Promise<void> {
  if ((await readMetadata(domain, limits.next())) !== null) return;
  throw foreign(`Guest ${domain.uuid} (${domain.name}) was not defined by Berth and is left alone`);
}

export function foreign(message: string, cause?: unknown): AgentError {
  return new AgentError('HOST_CONFLICT', message, {
    hint: 'Rename or remove it on the host, if it is no longer needed.',
    ...(cause === undefined ? {} : { cause }),
  });
}

export function illegal(id: string, reason: string): AgentError {
  return new AgentError('ILLEGAL_STATE', `Guest ${id}: ${reason}`);
}

/** Null when it does not run. @throws {LibvirtError} VIR_ERR_NO_DOMAIN. @throws {AgentError} HOST_CONFLICT */
export async function runningDomain(context: CommandContext, id: string): Promise<Domain | null> {
  const domain = await ownDomain(context, id);
  return (await isDown(domain, context.limits)) ? null : domain;
}
