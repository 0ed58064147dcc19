/** What a copy says on stderr while it runs: a bar on a terminal, NDJSON with --json, else nothing. */
import cliProgress from 'cli-progress';
import type { OnProgress, Progress } from '../../index.js';
import { bytes, json, printable } from '../format.js';
import { ownJson, reminder } from '../whose.js';

type Phase = Progress['phase'];

export interface CopyOutput {
  /** Null: nobody looks. */
  readonly progress: OnProgress | null;
  /** Something happened. `type` and `facts` are for machines, `text` is for people. */
  say(type: string, text: string, facts?: object): void;
  end(): void;
}

export function copyOutput(options: { json?: boolean | undefined; quiet?: boolean | undefined }): CopyOutput {
  const write = (line: string) => process.stderr.write(`${line}\n`);
  const still = { progress: null, end: () => {} };
  if (options.quiet) return { ...still, say: () => {} };
  if (options.json) {
    return {
      progress: ndjson((line) => write(line)),
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

/** Bytes per second over the last few seconds: what the ETA is made of. */
class Rate {
  static readonly WINDOW_MS = 3000;
  #samples: { at: number; bytes: number }[] = [];
  #phase: Phase | null = null;

  add(done: number, phase: Phase): number {
    if (phase !== this.#phase) this.#samples = [];
    this.#phase = phase;
    const now = performance.now();
    this.#samples.push({ at: now, bytes: done });
    while (this.#samples.length > 2 && now - this.#samples[0]!.at > Rate.WINDOW_MS) this.#samples.shift();
    const first = this.#samples[0]!;
    return now === first.at ? 0 : ((done - first.bytes) / (now - first.at)) * 1000;
  }
}

function eta(done: number, total: number | null, rate: number): number | null {
  return total === null || rate <= 0 ? null : Math.max(0, (total - done) / rate);
}

function ndjson(write: (line: string) => void): OnProgress {
  const rate = new Rate();
  return (progress) => {
    const { bytes: done, total, phase, ...rest } = progress;
    const now = rate.add(done, phase);
    const left = eta(done, total, now);
    write(
      json({
        type: 'progress',
        phase,
        bytes: done,
        total,
        bytesPerSecond: Math.round(now),
        etaSeconds: left === null ? null : Number(left.toFixed(1)),
        ...rest,
      }),
    );
  };
}

const PHASES: Readonly<Record<Phase, string>> = {
  recheck: 'rechecking',
  copy: 'copying',
  verify: 'verifying',
};

/** A line has 80 columns at least; what is behind the last of them is cut off. */
function progressBar() {
  const width = process.stderr.columns ?? 80;
  const bar = new cliProgress.SingleBar(
    {
      format: '{phase} {bar} {percentage}% {done} of {all} {rate}/s ETA {left} {route}',
      barsize: Math.max(8, Math.min(40, width - 85)),
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
    },
    cliProgress.Presets.shades_classic,
  );
  const rate = new Rate();
  let started: Phase | null = null;
  return {
    update({ bytes: done, total, phase, transport, provider }: Progress): void {
      const now = rate.add(done, phase);
      const left = eta(done, total, now);
      const fields = {
        phase: PHASES[phase],
        done: bytes(done),
        all: total === null ? '?' : bytes(total),
        rate: bytes(Math.round(now)),
        left: left === null ? '?' : clock(left),
        route:
          transport === null
            ? ''
            : [transport, ...(width < 110 || provider === null ? [] : [provider])].join(' '),
      };
      if (started !== phase) {
        if (started !== null) bar.stop();
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

/** `1:02:03`, `2:03`, `0:03`. */
function clock(seconds: number): string {
  const whole = Math.ceil(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number) => String(n).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
