import type { Clock } from '../backend/hardware.js';

/** The global is looked up by a getter at each use. */
const { performance } = globalThis;

/** Functions deferred to a later turn. All functions that are waiting when the turn starts run in it, in order. */
class Turn {
  #waiting: (() => void)[] = [];
  #spare: (() => void)[] = [];

  get empty(): boolean {
    return this.#waiting.length === 0;
  }

  push(fn: () => void): void {
    this.#waiting.push(fn);
  }

  /** Runs the functions that wait now; functions deferred meanwhile, and those after one that throws, wait for the next turn. */
  run(): void {
    const batch = this.#waiting;
    this.#waiting = this.#spare;
    this.#spare = [];
    let i = 0;
    try {
      while (i < batch.length) batch[i++]!();
    } finally {
      if (i < batch.length) this.#waiting = [...batch.slice(i), ...this.#waiting];
      batch.length = 0;
      this.#spare = batch;
    }
  }
}

/** For so many milliseconds turns follow each other before the event loop runs anything else. */
const LOOP_MS = 0.5;

/**
 * Wall-clock time. A turn of the event loop costs a system call or two, so one setImmediate runs as many turns as half a
 * millisecond holds, and at least one.
 */
export class RealClock implements Clock {
  readonly #turn = new Turn();
  #scheduled = false;
  readonly #run = (): void => {
    const until = performance.now() + LOOP_MS;
    try {
      do this.#turn.run();
      while (!this.#turn.empty && performance.now() < until);
    } finally {
      this.#scheduled = false;
      if (!this.#turn.empty) this.#schedule();
    }
  };

  now(): number {
    return performance.now();
  }

  defer(fn: () => void): void {
    this.#turn.push(fn);
    this.#schedule();
  }

  setTimer(fn: () => void, ms: number): { cancel(): void } {
    const timer = setTimeout(fn, ms);
    return { cancel: () => clearTimeout(timer) };
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#run);
  }
}

interface Timer {
  readonly due: number;
  readonly fn: () => void;
}

/** A clock whose time passes only when a test advances it. */
export class ManualClock implements Clock {
  readonly #turn = new Turn();
  #timers: Timer[] = [];
  #now = 0;

  now(): number {
    return this.#now;
  }

  defer(fn: () => void): void {
    this.#turn.push(fn);
  }

  setTimer(fn: () => void, ms: number): { cancel(): void } {
    const timer = { due: this.#now + Math.max(0, ms), fn };
    // Insert after all timers that are due at the same time, so that timers run in the order in which they were set.
    let i = this.#timers.length;
    while (i > 0 && this.#timers[i - 1]!.due > timer.due) i--;
    this.#timers.splice(i, 0, timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((t) => t !== timer);
      },
    };
  }

  /** True if nothing waits, neither for a turn nor for a timer. */
  get idle(): boolean {
    return this.#turn.empty && this.#timers.length === 0;
  }

  /** Runs one turn: all functions that were deferred so far. */
  turn(): void {
    this.#turn.run();
  }

  /** Runs turns until no function is deferred any more. No time passes. */
  settle(): void {
    while (!this.#turn.empty) this.turn();
  }

  /** Lets time pass. Timers run at their time, in order, with the turns that they cause. */
  advance(ms: number): void {
    const end = this.#now + ms;
    this.settle();
    for (let timer = this.#timers[0]; timer !== undefined && timer.due <= end; timer = this.#timers[0]) {
      this.#timers.shift();
      this.#now = timer.due;
      timer.fn();
      this.settle();
    }
    this.#now = end;
  }

  /** As `advance`, with a turn of the real event loop before and after each step, so that promises settle. */
  async advanceAsync(ms: number): Promise<void> {
    const end = this.#now + ms;
    const breathe = async () => {
      do {
        this.settle();
        await new Promise((resolve) => setImmediate(resolve));
      } while (!this.#turn.empty);
    };
    await breathe();
    for (let timer = this.#timers[0]; timer !== undefined && timer.due <= end; timer = this.#timers[0]) {
      this.advance(timer.due - this.#now);
      await breathe();
    }
    this.advance(end - this.#now);
  }
}
