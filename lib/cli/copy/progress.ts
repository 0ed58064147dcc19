/** What a copy prints on stderr while it runs: a progress bar on a terminal, NDJSON with --json, otherwise nothing. */
import cliProgress from 'cli-progress';
import type { OnProgress, Progress } from '../../index.js';
import { bytes, columns, json, printable, wrap } from '../format.js';
import { ownJson, reminder } from '../whose.js';

type Phase = Progress['phase'];

export interface CopyOutput {
  readonly progress: OnProgress;
  /** Print how far it is, at once: somebody asked by a signal. */
  readonly ask: () => void;
  /** Report an event. `type` and `facts` are for programs, `text` is for people. */
  say(type: string, text: string, facts?: object): void;
  end(): void;
}

export function copyOutput(options: { json?: boolean | undefined; quiet?: boolean | undefined }): CopyOutput {
  const began = performance.now();
  let last: Progress | null = null;
  const show = shower(options);
  return {
    ...show,
    progress: (progress) => {
      last = progress;
      show.progress?.(progress);
    },
    ask: () => {
      const seconds = (performance.now() - began) / 1000;
      if (options.json) write(last === null ? ownJson({ type: 'asked', bytes: 0, seconds }) : json(last));
      else show.above(askedLine(last, seconds));
    },
  };
}

const write = (line: string) => process.stderr.write(`${line}\n`);

/** `above`: print a line above the bar, if there is one. `progress` null: it is not shown. */
type Shower = Omit<CopyOutput, 'progress' | 'ask'> & {
  readonly progress: OnProgress | null;
  above(text: string): void;
};

function shower({
  json: asJson,
  quiet,
}: {
  json?: boolean | undefined;
  quiet?: boolean | undefined;
}): Shower {
  const above = (text: string) =>
    write(`${reminder()}${wrap(printable(text), columns(process.stderr)).join('\n')}`);
  const still = { progress: null, end: () => {}, above };
  if (quiet) return { ...still, say: () => {} };
  if (asJson) {
    return {
      ...still,
      progress: (progress) => write(json(progress)),
      say: (type, text, facts) => write(ownJson({ type, message: text, ...facts })),
    };
  }
  if (!process.stderr.isTTY) return { ...still, say: (_type, text) => above(text) };
  const bar = progressBar();
  const aboveBar = (text: string) => {
    bar.stop();
    above(text);
  };
  return { progress: bar.update, say: (_type, text) => aboveBar(text), end: bar.stop, above: aboveBar };
}

const PHASES: Readonly<Record<Phase, string>> = {
  recheck: 'rechecking',
  copy: 'copying',
  verify: 'verifying',
};

/**
 * A line fits the terminal: the bar takes what the facts leave, and is left out where that is nothing. Beyond the last column
 * the line is cut off, so the facts stand in the order of what matters.
 */
function progressBar() {
  const bar = new cliProgress.SingleBar(
    {
      format: (_options, { progress: part }, { now }) =>
        barLine(now as Progress, part, columns(process.stderr)),
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
    },
    cliProgress.Presets.shades_classic,
  );
  let started: Phase | null = null;
  return {
    update(progress: Progress): void {
      const { phase, total, bytes: done } = progress;
      if (started !== phase) {
        if (started !== null) bar.stop();
        bar.start(total ?? 0, 0, { now: progress });
      }
      started = phase;
      bar.update(done, { now: progress });
    },
    stop(): void {
      if (started !== null) bar.stop();
      started = null;
    },
  };
}

const LONGEST_BAR = 40;
/** Below this width a bar says nothing. */
const SHORTEST_BAR = 4;

/** `copying ████░░░░ 45% 512 MiB of 1 GiB 1.20 GiB/s ETA 0:03 p2p-bus depth 8`. @param part  how much is done, from 0 to 1 */
export function barLine(now: Progress, part: number, width: number): string {
  const percent = now.total === null ? [] : [`${Math.floor(part * 100)}%`];
  const phase = PHASES[now.phase];
  const facts = [...percent, ...factsOf(now)].join(' ');
  // What the notice above has said is left out first.
  const whole = [facts, ...origin(now)].join(' ');
  const roomy = roomBeside(phase, whole, width) >= SHORTEST_BAR;
  const text = roomy || now.total === null ? whole : facts;
  const room = roomBeside(phase, text, width);
  const full = Math.round(part * room);
  const bar = room < SHORTEST_BAR || now.total === null ? [] : ['█'.repeat(full) + '░'.repeat(room - full)];
  return [phase, ...bar, text].join(' ').slice(0, width);
}

function roomBeside(phase: string, text: string, width: number): number {
  return Math.min(LONGEST_BAR, width - phase.length - text.length - 3);
}

/** @param whole  name the provider too */
function factsOf(now: Progress, whole = false): string[] {
  const through = whole && now.provider !== null ? ` through the memory of ${now.provider}` : '';
  const { bytes: done, total, bytesPerSecond, etaSeconds: left, transport, queueDepth, phase } = now;
  return [
    total === null ? bytes(done) : `${bytes(done)} of ${bytes(total)}`,
    ...(bytesPerSecond === null ? [] : [`${bytes(bytesPerSecond)}/s`]),
    // The length of what comes out of a pipe is not known.
    ...(total === null ? [] : [`ETA ${left === null ? '?' : clock(left)}`]),
    // What is compared is read through host memory.
    ...(transport === null && phase === 'copy' ? [] : [`${transport ?? 'host-memory'}${through}`]),
    `depth ${queueDepth}`,
  ];
}

function origin({ backend }: Progress): string[] {
  return backend === 'emulator' ? ['emulated'] : [];
}

/** The line for a signal, which says in full what the bar abbreviates. */
export function askedLine(now: Progress | null, seconds: number): string {
  if (now === null) return `nothing is copied yet, ${seconds.toFixed(1)} s`;
  return `${PHASES[now.phase]}: ${now.bytes} bytes, ${[`${seconds.toFixed(1)} s`, ...factsOf(now, true), ...origin(now)].join(', ')}`;
}

/** A duration as `1:02:03`, `2:03` or `0:03`. */
function clock(seconds: number): string {
  const whole = Math.ceil(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number) => String(n).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
