/**
 * A writer in a process that is killed without warning: what it had acknowledged by then is there.
 *
 *     child: write(chunk, callback) ─▶ callback ─▶ one line on a pipe     parent: reads lines … SIGKILL … looks
 */
import { spawn } from 'node:child_process';
import { writeSync } from 'node:fs';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { openSystem } from '../../lib/index.js';
import { bytesOfContent } from '../../lib/sim/content.js';
import type { Case } from './draw.js';
import type { Stage } from './stage.js';

const FILE = fileURLToPath(import.meta.url);

export async function killed(stage: Stage): Promise<void> {
  const { drawn, system, destinations } = stage;
  const { path, device } = destinations[0]!;
  // An emulated drive ends with its process.
  if (system.backend === 'emulator' && device) return;
  const child = spawn(process.execPath, [FILE, path, JSON.stringify(drawn)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  const dead = new Promise<void>((resolve) => child.once('close', () => resolve()));
  child.stdout.on('data', (data: Buffer) => {
    const first = said === '';
    said += data.toString();
    if (first) setTimeout(() => child.kill('SIGKILL'), drawn.disturbance.bytes % 30);
  });
  await dead;
  const lines = said.split('\n').slice(0, -1);
  stage.promised[0]!.acknowledged = Number(lines.at(-1) ?? 0);
  stage.disturbed = true;
  throw Object.assign(new Error('it was killed'), { code: 'HUNT_KILLED' });
}

async function child(path: string, drawn: Case): Promise<void> {
  const system = await openSystem(
    drawn.backend === 'native' ? { backend: 'native', engine: drawn.engine } : { machine: drawn.machine },
  );
  const { destinationStart: start, writerChunk, depth, flags, pieces, source } = drawn;
  const writer = system.createWriteStream(path, {
    ...{ start, flags, queueDepth: depth },
    ...(writerChunk === null ? {} : { highWaterMark: writerChunk }),
  });
  let acknowledged = 0;
  let at = 0;
  for (let i = 0; at < source.content.size; i++) {
    const size = Math.min(pieces[i % pieces.length]!, source.content.size - at);
    const chunk = bytesOfContent(source.content, at, at + size);
    at += size;
    const more = writer.write(chunk, (error?: Error | null) => {
      if (error != null) return;
      acknowledged += size;
      say(acknowledged);
    });
    if (!more) await new Promise((resolve) => writer.once('drain', resolve));
  }
  writer.end();
}

/** A line that the pipe has no room for is left out: a later one says more. */
function say(acknowledged: number): void {
  try {
    writeSync(1, `${acknowledged}\n`);
  } catch (error) {
    if ((error as { code?: string }).code !== 'EAGAIN') throw error;
  }
}

if (argv[1] === FILE) await child(argv[2]!, JSON.parse(argv[3]!) as Case);
