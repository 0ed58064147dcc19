/**
 * The time and the order of a simulation. Everything that would happen "later" is an event with a due time that the
 * seed draws, and only one event runs at a time:
 *
 *     timers, turns of the emulator, completions of drives and files ─▶ events, by due time ─▶ run one
 *                          ▲                                                                     │
 *                          └──── what promises and streams do as a consequence (microtasks) ◀────┘
 *
 * No real time passes: the clock goes to the due time of the event that runs. While a world is installed, the timers,
 * `performance.now()`, `Date.now()`, `Math.random()` and the PID of this process are the world's.
 */
import type { Clock } from '../backend/hardware.js';
import { Random } from './random.js';

interface Event {
  readonly due: number;
  /** Orders events that are due at the same time. */
  readonly order: number;
  readonly fn: () => void;
  cancelled: boolean;
}

/** How far completions are spread, in ms of the simulation. */
export interface Pace {
  /** Turns of the emulator: 0 means that they run in the order in which they were asked for. */
  readonly turn: number;
  /** Media and files. */
  readonly medium: number;
}

export type Ending = 'done' | 'stuck' | 'endless';

const realSetImmediate = setImmediate;
const realSetTimeout = setTimeout;
/** No process has it, so that what /proc says about other processes decides nothing. */
const PID = 99_999_999;
/** 2026-01-01, so that times in texts have the usual length. */
const EPOCH = 1_767_225_600_000;

/** Lets everything run that does not wait for an event. */
export const breathe = (): Promise<void> => new Promise((resolve) => realSetImmediate(resolve));

const pause = (): Promise<void> => new Promise((resolve) => realSetTimeout(resolve, 10));

export class World implements Clock {
  readonly random: Random;
  readonly pace: Pace;
  /** Events that ran. */
  steps = 0;
  /** What an event threw: nothing may. */
  readonly thrown: unknown[] = [];
  /** The wall clock is ahead of the time that passed by so many ms. */
  wallOffset = 0;
  #now = 0;
  #order = 0;
  #heap: Event[] = [];
  readonly #at = new Map<number, (() => void)[]>();

  constructor(seed: number, pace: Pace) {
    this.random = new Random(seed, 1);
    this.pace = pace;
  }

  now(): number {
    return this.#now;
  }

  defer(fn: () => void): void {
    this.#push(this.#now + this.#spread(this.pace.turn), fn);
  }

  setTimer(fn: () => void, ms: number): { cancel(): void } {
    const event = this.#push(this.#now + Math.max(0, ms), fn);
    return {
      cancel: () => {
        event.cancelled = true;
      },
    };
  }

  /** The completion of a medium: at a time of its own, so that completions overtake each other. */
  complete(fn: () => void): void {
    this.#push(this.#now + this.#spread(this.pace.medium), fn);
  }

  /** Call `fn` before the event of this number runs, if it comes to that. */
  atStep(step: number, fn: () => void): void {
    this.#at.set(step, [...(this.#at.get(step) ?? []), fn]);
  }

  /** The power is cut: nothing that was under way happens any more. */
  forget(): void {
    this.#heap = [];
    this.#at.clear();
  }

  /** Runs events until `over()`. `stuck`: nothing is left to run. `endless`: it took more than `limit` events. */
  async run(over: () => boolean, limit: number, awaited = true): Promise<Ending> {
    const last = this.steps + limit;
    for (;;) {
      await breathe();
      if (over()) return 'done';
      const event = this.#pop();
      if (event === null) {
        if (await this.#isStuck(over, awaited)) return over() ? 'done' : 'stuck';
        continue;
      }
      if (this.steps >= last) return 'endless';
      this.#now = Math.max(this.#now, event.due);
      const now = this.#at.get(this.steps) ?? [];
      this.#at.delete(this.steps++);
      for (const fn of [...now, event.fn]) {
        try {
          fn();
        } catch (error) {
          this.thrown.push(error);
        }
      }
    }
  }

  /**
   * The use of a module is the only thing that needs real time: on a loaded machine, or where modules are loaded through hooks, more
   * than some turns. Where something is awaited, being stuck is a failure, and is only said after a second.
   */
  async #isStuck(over: () => boolean, awaited: boolean): Promise<boolean> {
    for (let i = 0; i < (awaited ? 150 : 50); i++) {
      await (i < 50 ? breathe() : pause());
      if (over()) return true;
      if (this.#heap.length > 0) return false;
    }
    return true;
  }

  #spread(most: number): number {
    if (most === 0) return 0;
    // Mostly close together, now and then one that is late.
    return this.random.chance(0.05) ? this.random.fraction() * most * 20 : this.random.fraction() * most;
  }

  #push(due: number, fn: () => void): Event {
    const event = { due, order: this.#order++, fn, cancelled: false };
    const heap = this.#heap;
    let i = heap.push(event) - 1;
    while (i > 0) {
      const above = (i - 1) >> 1;
      if (!before(event, heap[above]!)) break;
      heap[i] = heap[above]!;
      i = above;
    }
    heap[i] = event;
    return event;
  }

  #pop(): Event | null {
    const heap = this.#heap;
    for (;;) {
      const first = heap[0];
      if (first === undefined) return null;
      const last = heap.pop()!;
      if (heap.length > 0) this.#sink(last);
      if (!first.cancelled) return first;
    }
  }

  #sink(event: Event): void {
    const heap = this.#heap;
    let i = 0;
    for (;;) {
      let below = 2 * i + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && before(heap[below + 1]!, heap[below]!)) below++;
      if (!before(heap[below]!, event)) break;
      heap[i] = heap[below]!;
      i = below;
    }
    heap[i] = event;
  }
}

function before(a: Event, b: Event): boolean {
  return a.due !== b.due ? a.due < b.due : a.order < b.order;
}

class SimTimer {
  readonly #timer: { cancel(): void };

  constructor(timer: { cancel(): void }) {
    this.#timer = timer;
  }

  cancel(): void {
    this.#timer.cancel();
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  hasRef(): boolean {
    return true;
  }

  [Symbol.dispose](): void {
    this.cancel();
  }
}

class SimInterval extends SimTimer {
  constructor(world: World, fn: () => void, ms: number) {
    let timer: { cancel(): void };
    const arm = () => {
      timer = world.setTimer(() => {
        arm();
        fn();
      }, ms);
    };
    arm();
    super({ cancel: () => timer.cancel() });
  }
}

/** Replaces time in this process. @returns what puts the real time back */
export function install(world: World): () => void {
  const clear = (timer: unknown) => {
    if (timer instanceof SimTimer) timer.cancel();
  };
  const replaced: [object, string, unknown][] = [
    [
      globalThis,
      'setTimeout',
      (fn: (...a: unknown[]) => void, ms = 1, ...args: unknown[]) =>
        new SimTimer(world.setTimer(() => fn(...args), ms)),
    ],
    [
      globalThis,
      'setInterval',
      (fn: (...a: unknown[]) => void, ms = 1, ...args: unknown[]) =>
        new SimInterval(world, () => fn(...args), Math.max(1, ms)),
    ],
    [
      globalThis,
      'setImmediate',
      (fn: (...a: unknown[]) => void, ...args: unknown[]) =>
        new SimTimer(world.setTimer(() => fn(...args), 0)),
    ],
    [globalThis, 'clearTimeout', clear],
    [globalThis, 'clearInterval', clear],
    [globalThis, 'clearImmediate', clear],
    [performance, 'now', () => world.now()],
    [Date, 'now', () => Math.floor(EPOCH + world.now() + world.wallOffset)],
    [Math, 'random', () => world.random.fraction()],
    [process, 'pid', PID],
  ];
  const kept = replaced.map(([on, name]) => [on, name, Object.getOwnPropertyDescriptor(on, name)] as const);
  for (const [on, name, value] of replaced)
    Object.defineProperty(on, name, { value, configurable: true, writable: true });
  return () => {
    for (const [on, name, was] of kept) {
      if (was === undefined) Reflect.deleteProperty(on, name);
      else Object.defineProperty(on, name, was);
    }
  };
}
