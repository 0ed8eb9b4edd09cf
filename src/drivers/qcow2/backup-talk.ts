/**
 * The conversation with qemu-storage-daemon that copies what a bitmap names from one node to another: pure.
 *
 *   ──▶ qmp_capabilities, blockdev-backup        ◀── BLOCK_JOB_COMPLETED, or an error
 *   ──▶ quit                                     it closes its files, and ends
 *
 * @see QEMU's qapi/block-core.json (BlockdevBackup) and qapi/qmp-spec
 */
import { AgentError } from '../../model/errors.ts';
import { saysNoRoom } from './files.ts';

const QUIT = command('quit');

export interface TalkRequest {
  bitmap: string;
  /** Most that it reads in a second. @default no limit */
  bytesPerSecond?: number | undefined;
}

interface QmpMessage {
  event?: string;
  data?: { error?: string };
  error?: { desc: string };
}

export class BackupTalk {
  /** What is said first. */
  readonly begin: string;
  #outcome: 'none' | 'done' | { failure: string } = 'none';

  constructor({ bitmap, bytesPerSecond = 0 }: TalkRequest) {
    const job = { 'job-id': 'backup', device: 'source', target: 'target', speed: bytesPerSecond };
    // `never`: the bitmap is the guest's next QEMU's to go on with.
    const request = { ...job, sync: 'bitmap', bitmap, 'bitmap-mode': 'never' };
    this.begin = command('qmp_capabilities') + command('blockdev-backup', request);
  }

  /** What is answered to a line of its output. */
  readonly reply = (line: string): string | undefined => {
    const { event, data, error } = JSON.parse(line) as QmpMessage;
    const failure = error?.desc ?? data?.error;
    if (error === undefined && event !== 'BLOCK_JOB_COMPLETED') return undefined;
    this.#outcome = failure === undefined ? 'done' : { failure };
    return QUIT;
  };

  /** @throws {AgentError} CAPACITY_EXCEEDED, UNAVAILABLE: it was not all copied. */
  checkDone(what: string): void {
    if (this.#outcome === 'done') return;
    const why = this.#outcome === 'none' ? 'it ended before its job did' : this.#outcome.failure;
    const code = saysNoRoom(why) ? 'CAPACITY_EXCEEDED' : 'UNAVAILABLE';
    throw new AgentError(code, `Cannot copy the ${what}: ${why}`);
  }
}

function command(execute: string, args?: object): string {
  return `${JSON.stringify({ execute, ...(args !== undefined && { arguments: args }) })}\n`;
}
