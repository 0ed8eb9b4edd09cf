/**
 * What a caller is told of a migration that failed: the first error in front, none of the others lost. Pure.
 */
import { virErrorNumber } from '../constants.gen.ts';
import { LibvirtError, LibvirtTransportError } from '../errors.ts';

/** @see "Sequence v3" of virDomainMigrateVersion3Full, libvirt-domain.c */
export type Phase = 'begin' | 'prepare' | 'perform' | 'finish' | 'confirm';

export interface Failure {
  phase: Phase | 'peerToPeer';
  error: Error;
}

/** Where the guest is when a connection was lost in a phase. */
const WHEN_LOST: Readonly<Record<Failure['phase'], string>> = {
  begin: 'nothing has been moved',
  prepare: 'the guest stays at the source, and the destination drops what it has prepared',
  perform: 'the guest is at the source, where it runs or is paused',
  finish: 'whether the guest runs at the destination is not known; the source was told to go on with it',
  confirm: 'the guest may be left paused at the source',
  peerToPeer: 'the source’s daemon goes on with the migration by itself: look at both hosts',
};

/**
 * One error out of all. A single refusal of a daemon is thrown as it is; otherwise it is an error of the first one's
 * class and code, whose message names the others, and whose cause holds all of them. That a host complains of the end of
 * a migration that was stopped goes without saying, and is in the cause only.
 */
export function migrationError(name: string, [first, ...later]: readonly [Failure, ...Failure[]]): Error {
  const { phase, error } = first;
  const named = isStopped(error) ? later.filter((failure) => failure.phase === 'confirm') : later;
  const others = named.map((failure) => `; then ${failure.phase} failed: ${failure.error.message}`).join('');
  const cause = later.length === 0 ? error : allOf([first, ...later]);
  if (error instanceof LibvirtTransportError) {
    const message = isStopped(error)
      ? error.message
      : `migration of ${name}: ${error.message} (${phase}); ${WHEN_LOST[phase]}`;
    return new LibvirtTransportError(error.kind, `${message}${others}`, { cause });
  }
  if (later.length === 0 || !(error instanceof LibvirtError)) return error;
  const { code, domain, level, message, procedure } = error;
  const reply = { code, domain, level, message: `${message}${others}` };
  return Object.assign(new LibvirtError(reply, procedure), { cause });
}

/** Someone has asked for the end: this caller (src/migration/stop.ts), or whoever aborted the job. */
function isStopped(error: Error): boolean {
  if (error instanceof LibvirtTransportError) return error.kind === 'aborted' || error.kind === 'timeout';
  return error instanceof LibvirtError && error.code === virErrorNumber.VIR_ERR_OPERATION_ABORTED;
}

function allOf(failures: readonly Failure[]): AggregateError {
  return new AggregateError(
    failures.map(({ error }) => error),
    failures.map(({ phase, error }) => `${phase}: ${error.message}`).join('; '),
  );
}
