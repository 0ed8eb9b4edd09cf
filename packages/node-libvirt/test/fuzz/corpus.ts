/** Frames that real daemons have sent (corpus.txt, made by capture.ts), and the type of what each of them holds. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MESSAGES, PROCEDURES, PROGRAMS } from '../../src/protocol/schema.gen.ts';
import { type Frame, FrameParser, MessageStatus, MessageType } from '../../src/rpc/framing.ts';

export interface Recorded {
  /** The frame as it was on the wire. */
  bytes: Buffer;
  frame: Frame;
  /** Of the procedure or message. */
  name: string;
  /** Type of the body in the schema; 'remote_error' for a refusal, null for an empty body and for data of a stream. */
  type: string | null;
}

/** Every frame of the corpus. @throws {Error} A line is no frame, or of a procedure that the schema does not have. */
export function loadCorpus(): Recorded[] {
  const text = readFileSync(join(import.meta.dirname, 'corpus.txt'), 'utf8');
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return lines.map((line) => recorded(Buffer.from(line.split(' ')[1] ?? '', 'base64')));
}

function recorded(bytes: Buffer): Recorded {
  const [frame, ...others] = new FrameParser().push(bytes);
  if (frame === undefined || others.length > 0) throw new Error('a line of the corpus is not one frame');
  const program = frame.program === PROGRAMS.remote ? 'remote' : 'qemu';
  if (frame.type === MessageType.message) return { bytes, frame, ...message(program, frame) };
  const [name, description] = procedure(program, frame.procedure);
  const [, base = '', , has = ''] = description.split(' ');
  return { bytes, frame, name, type: bodyType(frame, base, has) };
}

function bodyType(frame: Frame, base: string, has: string): string | null {
  if (frame.status === MessageStatus.error) return 'remote_error';
  return frame.type === MessageType.reply && has.includes('r') ? `${base}_ret` : null;
}

function message(program: string, frame: Frame): { name: string; type: string } {
  const entry = MESSAGES[`${program} ${frame.procedure}`];
  if (entry === undefined) throw new Error(`the corpus has the unknown message ${frame.procedure}`);
  return { name: entry[0], type: `${entry[1]}_msg` };
}

function procedure(program: string, number: number): [string, string] {
  const entry = Object.entries(PROCEDURES).find(([, text]) => {
    const [ofProgram, , digits] = text.split(' ');
    return ofProgram === program && Number(digits) === number;
  });
  if (entry === undefined) throw new Error(`the corpus has the unknown procedure ${number}`);
  return entry;
}
