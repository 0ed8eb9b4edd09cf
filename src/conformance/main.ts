#!/usr/bin/env node
/**
 * berth-conformance: plays the other side of a link, and says which clauses of the protocol hold; for those who write an agent
 * or a scheduler of their own, in any language.
 *
 * Exit codes: 0 all that must hold does, 1 something is broken that must hold, 2 usage, or the kit could not do its work.
 */
import { CommanderError } from 'commander';
import { AGENT_CLAUSES } from './agent/clauses.ts';
import { SchedulerSide } from './agent/scheduler-side.ts';
import { excerpt } from './clause.ts';
import { type CommandLine, readCommandLine } from './options.ts';
import { jsonOf, lineOf, summaryOf } from './report.ts';
import { isFailure, type RunOptions, tryClauses, type Verdict } from './run.ts';
import { AgentSide } from './scheduler/agent-side.ts';
import { SCHEDULER_CLAUSES } from './scheduler/clauses.ts';

process.exitCode = await main(process.argv.slice(2));

async function main(argv: string[]): Promise<number> {
  try {
    const commandLine = readCommandLine(argv);
    const verdicts = await tryOut(commandLine);
    const report = commandLine.json ? jsonOf(commandLine.side, verdicts) : summaryOf(verdicts);
    process.stdout.write(`${report}\n`);
    return verdicts.some(isFailure) ? 1 : 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    process.stderr.write(`berth-conformance: ${excerpt((error as Error).message)}\n`);
    return 2;
  }
}

function tryOut(commandLine: CommandLine): Promise<Verdict[]> {
  const { only, changes, json, side } = commandLine;
  const onVerdict = (verdict: Verdict) => {
    if (!json) process.stdout.write(`${lineOf(verdict)}\n`);
  };
  const options = { only, changes, onVerdict };
  return side === 'agent' ? tryAgent(commandLine, options) : tryScheduler(commandLine, options);
}

async function tryAgent({ listen, token }: CommandLine, options: RunOptions): Promise<Verdict[]> {
  const side = await SchedulerSide.listen(listen.host, listen.port);
  process.stderr.write(`waiting for an agent at ws://${listen.host}:${side.port}\n`);
  try {
    return await tryClauses(AGENT_CLAUSES, { side, token }, options);
  } finally {
    await side.close();
  }
}

async function tryScheduler({ url, token }: CommandLine, options: RunOptions): Promise<Verdict[]> {
  const side = new AgentSide(url, token);
  try {
    return await tryClauses(SCHEDULER_CLAUSES, { side, token }, options);
  } finally {
    side.close();
  }
}
