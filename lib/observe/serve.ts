/**
 * The process that is observed. It listens on a Unix socket of its own, which says what the streams of its systems have moved
 * to whoever connects, and then hangs up:
 *
 *     streams that are open ────────────────────────┐
 *     channel p2pdma:metrics ─ those that closed ───┴─ FlowSum[] ─ one line of JSON ─▶ p2pdma top
 *
 * Nothing is counted for it beyond what streams count anyway, and nothing is computed unless somebody connects.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { chmodSync, unlinkSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { basename, join } from 'node:path';
import { threadId } from 'node:worker_threads';
import type { Origin } from '../backend/backend.js';
import { addPath, zeroPath } from '../backend/path-bytes.js';
import { EOPNOTSUPP } from '../base/errno.js';
import { errnoError, hostError } from '../base/errors.js';
import { type Flow, METRICS_CHANNEL, type MetricsEvent } from '../streams/metrics.js';
import type { StreamContext } from '../streams/session.js';
import { type FlowSum, folders, makeFolder, type Observation } from './socket.js';

const contexts = new Set<StreamContext>();
let closed: FlowSum[] = [];
let socket: Listening | null = null;
/** One socket is opened or closed at a time: they all have the same path. */
let turn: Promise<unknown> = Promise.resolve();

interface Listening {
  /** Nothing of it is left afterwards, neither its file nor a connection. */
  close(): Promise<void>;
}

/** Show what a system does until it closes. @throws P2pdmaError the socket cannot be opened */
export async function observe(context: StreamContext): Promise<void> {
  contexts.add(context);
  context.add({ shutdown: () => leave(context) });
  try {
    await inTurn(async () => {
      socket ??= await listen();
    });
  } catch (error) {
    await leave(context);
    throw error;
  }
}

async function leave(context: StreamContext): Promise<void> {
  contexts.delete(context);
  await inTurn(async () => {
    if (contexts.size > 0 || socket === null) return;
    const last = socket;
    socket = null;
    closed = [];
    await last.close();
  });
}

function inTurn(work: () => Promise<void>): Promise<void> {
  const done = turn.then(work);
  turn = done.catch(() => {});
  return done;
}

async function listen(): Promise<Listening> {
  if (process.platform === 'win32') {
    throw errnoError(-EOPNOTSUPP, 'listen', 'P2PDMA_OBSERVE', {
      hint: 'There is no such socket on Windows.',
    });
  }
  const [folder] = folders();
  makeFolder(folder!);
  const path = join(folder!, `${process.pid}.${threadId}.sock`);
  // What an earlier process with this number left behind.
  remove(path);
  const connections = new Set<Socket>();
  const server = createServer((connection) => {
    connections.add(connection);
    connection.on('error', () => {}).once('close', () => connections.delete(connection));
    // Whoever asks and does not hang up must not keep the process alive.
    connection.unref();
    connection.end(`${JSON.stringify(observation())}\n`);
  });
  // A connection that cannot be accepted, as without free file descriptors, is no reason to end the process that is looked at:
  // whoever asked gets no answer, and says so.
  server.on('error', () => {});
  const atExit = () => remove(path);
  const close = async () => {
    unsubscribe(METRICS_CHANNEL, onClosed);
    process.off('exit', atExit);
    const gone = new Promise((resolve) => server.close(resolve));
    for (const connection of connections) connection.destroy();
    await gone;
    remove(path);
  };
  await new Promise<void>((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException) => reject(hostError(error, 'listen', path));
    server.once('error', failed);
    server.listen(path, () => {
      server.off('error', failed);
      resolve();
    });
  });
  try {
    chmodSync(path, 0o600);
  } catch (error) {
    await close();
    throw hostError(error as NodeJS.ErrnoException, 'chmod', path);
  }
  server.unref();
  process.once('exit', atExit);
  subscribe(METRICS_CHANNEL, onClosed);
  return { close };
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // There is none.
  }
}

function onClosed(message: unknown): void {
  const { backend, machine, flow } = message as MetricsEvent;
  if (flow !== null) add(closed, { backend, machine }, flow);
}

function add(sums: FlowSum[], { backend, machine }: Origin, { provider, client, path }: Flow): FlowSum {
  const same = (sum: FlowSum) =>
    sum.backend === backend && sum.machine === machine && sum.provider === provider && sum.client === client;
  let sum = sums.find(same);
  if (sum === undefined) {
    sum = { backend, machine, provider, client, path: zeroPath(), open: 0 };
    sums.push(sum);
  }
  addPath(sum.path, path);
  return sum;
}

function observation(): Observation {
  const flows = structuredClone(closed);
  const memory: Observation['memory'][number][] = [];
  let inFlight = 0;
  for (const context of contexts) {
    for (const flow of context.flows()) add(flows, context.origin, flow).open++;
    const metrics = context.metrics();
    inFlight += metrics.inFlight;
    if (context.origin.backend === 'emulator') {
      memory.push(...metrics.p2pmem.map((use) => ({ ...context.origin, ...use })));
    }
  }
  return { pid: process.pid, thread: threadId, command: commandLine(), flows, inFlight, memory };
}

/** The interpreter says nothing; a script is named without its folders. */
function commandLine(): string {
  const [, script = '', ...words] = process.argv;
  const name = basename(script).replace(/^main\.js$/, 'p2pdma');
  return [name, ...words].join(' ').slice(0, 1000);
}
