/**
 * What a program can see of the streams and handles of node:fs, one behaviour at a time. Each is run with node:fs and with this
 * package in its place, and the two outcomes are compared: the right value is what the running Node says.
 */
import type { Behaviour } from './behaviour.js';
import { both } from './both.js';
import { handleFiles } from './handle-files.js';
import { handleStreams } from './handle-streams.js';
import { handles } from './handles.js';
import { reading } from './reading.js';
import { special } from './special.js';
import { writing } from './writing.js';

export const behaviours: readonly Behaviour[] = [
  ...[...reading, ...both, ...writing, ...special],
  ...[...handles, ...handleFiles, ...handleStreams],
];
