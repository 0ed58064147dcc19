/** What a copy prints on stderr while it runs: a progress bar on a terminal, NDJSON with --json, otherwise nothing. */
import cliProgress from 'cli-progress';
import type { OnProgress, Progress } from '../../index.js';
import { bytes, json, printable } from '../format.js';
import { ownJson, reminder } from '../whose.js';

type Phase = Progress['phase'];

export interface CopyOutput {
  /** Null: progress is not shown. */
  readonly progress: OnProgress | null;
  /** Report an event. `type` and `facts` are for programs, `text` is for people. */
  say(type: string, text: string, facts?: object): void;
  end(): void;
}

export function copyOutput(options: { json?: boolean | undefined; quiet?: boolean | undefined }): CopyOutput {
  const write = (line: string) => process.stderr.write(`${line}\n`);
  const still = { progress: null, end: () => {} };
  if (options.quiet) return { ...still, say: () => {} };
  if (options.json) {
    return {
      progress: (progress) => write(json(progress)),
      say: (type, text, facts) => write(ownJson({ type, message: text, ...facts })),
      end: () => {},
    };
  }
  if (!process.stderr.isTTY)
    return { ...still, say: (_type, text) => write(`${reminder()}${printable(text)}`) };
  const bar = progressBar();
  return {
    progress: bar.update,
    say: (_type, text) => {
      bar.stop();
      write(`${reminder()}${printable(text)}`);
    },
    end: bar.stop,
  };
}

const PHASES: Readonly<Record<Phase, string>> = {
  recheck: 'rechecking',
  copy: 'copying',
  verify: 'verifying',
};

/** A line is assumed to have at least 80 columns; anything beyond the last column is cut off. */
function progressBar() {
  const width = process.stderr.columns ?? 80;
  const whole = '{phase} {bar} {percentage}% {done} of {all} {rate}/s ETA {left} {route}';
  // The length of what comes out of a pipe is not known.
  const open = '{phase} {done} {rate}/s for {duration_formatted} {route}';
  let known = true;
  const bar = new cliProgress.SingleBar(
    {
      format: (options, params, payload) =>
        cliProgress.Format.Formatter({ ...options, format: known ? whole : open }, params, payload),
      barsize: Math.max(8, Math.min(40, width - 85)),
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
    },
    cliProgress.Presets.shades_classic,
  );
  let started: Phase | null = null;
  return {
    update(progress: Progress): void {
      const { bytes: done, total, phase, transport, provider, bytesPerSecond, etaSeconds: left } = progress;
      const fields = {
        phase: PHASES[phase],
        done: bytes(done),
        all: total === null ? '?' : bytes(total),
        rate: bytes(bytesPerSecond),
        left: left === null ? '?' : clock(left),
        route:
          transport === null
            ? ''
            : [transport, ...(width < 110 || provider === null ? [] : [provider])].join(' '),
      };
      if (started !== phase) {
        if (started !== null) bar.stop();
        known = total !== null;
        bar.start(total ?? 0, 0, fields);
      }
      started = phase;
      bar.update(done, fields);
    },
    stop(): void {
      if (started !== null) bar.stop();
      started = null;
    },
  };
}

/** A duration as `1:02:03`, `2:03` or `0:03`. */
function clock(seconds: number): string {
  const whole = Math.ceil(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number) => String(n).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
