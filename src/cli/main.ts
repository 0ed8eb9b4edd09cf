#!/usr/bin/env node
/** The process of `berth`. */
import { main } from './berth.ts';
import { processIo } from './io.ts';

process.exitCode = await main(process.argv.slice(2), processIo());
