/** What programs tell of NVMe drives, by the names that the kernel gave them. */

export interface ControllerFacts {
  readonly address?: string;
  readonly transport?: string;
  readonly model?: string;
  readonly serial?: string;
  readonly firmware?: string;
  readonly state?: string;
  readonly nqn?: string;
  /** `'nvme-subsys0'`. */
  readonly subsystem?: string;
}

export interface NamespaceFacts {
  readonly controller?: string;
  readonly nsid?: number;
  readonly bytes?: number;
  readonly blockSize?: number;
  readonly readOnly?: boolean;
  readonly model?: string;
  readonly serial?: string;
  readonly firmware?: string;
}

type Facts = ControllerFacts & NamespaceFacts;

const IN_WORDS: Readonly<Record<keyof Facts, string>> = {
  address: 'address',
  transport: 'transport',
  model: 'model',
  serial: 'serial number',
  firmware: 'firmware',
  state: 'state',
  nqn: 'NQN',
  subsystem: 'subsystem',
  controller: 'controller',
  nsid: 'namespace ID',
  bytes: 'size in bytes',
  blockSize: 'block size',
  readOnly: 'write protection',
};

/** It changes from one moment to the next. */
const CHANGES: ReadonlySet<string> = new Set(['state']);

/** One fact, and which text tells it. */
interface Saying {
  readonly value: unknown;
  readonly from: string;
}

/** What was told of one controller or namespace. */
class Told<T extends object> {
  /** Null: it was told twice, and differently, and so it is not known. */
  readonly #sayings = new Map<string, Saying | null>();

  tell(facts: T, from: string, differ: (key: keyof Facts, before: Saying, now: unknown) => void): void {
    for (const [key, value] of Object.entries(facts)) {
      if (value === undefined) continue;
      const before = this.#sayings.get(key);
      if (before === undefined) this.#sayings.set(key, { value, from });
      else if (before !== null && !CHANGES.has(key) && !same(before.value, value)) {
        this.#sayings.set(key, null);
        differ(key as keyof Facts, before, value);
      }
    }
  }

  get facts(): T {
    const known = [...this.#sayings].flatMap(([key, saying]) =>
      saying === null ? [] : [[key, saying.value]],
    );
    return Object.fromEntries(known) as T;
  }
}

/** lsblk has models and serial numbers from udev, which may cut them, put `_` for blanks, or put the model before the number. */
function same(a: unknown, b: unknown): boolean {
  if (typeof a !== 'string' || typeof b !== 'string') return a === b;
  const [one, other] = [plain(a), plain(b)];
  return (
    one === other ||
    one.startsWith(other) ||
    other.startsWith(one) ||
    one.endsWith(other) ||
    other.endsWith(one)
  );
}

function plain(name: string): string {
  return name.replaceAll(/[\s_]+/g, ' ').trim();
}

/** The same serial number, however udev wrote it. */
export function sameSerial(a: string, b: string): boolean {
  return plain(a) === plain(b);
}

export class Drives {
  readonly #controllers = new Map<string, Told<ControllerFacts>>();
  readonly #namespaces = new Map<string, Told<NamespaceFacts>>();
  readonly #contradiction: (words: string) => void;

  /** @param contradiction takes the words of two texts that say different things of one drive */
  constructor(contradiction: (words: string) => void) {
    this.#contradiction = contradiction;
  }

  controller(name: string, facts: ControllerFacts, from: string): void {
    this.#tell(this.#controllers, name, facts, from);
  }

  namespace(name: string, facts: NamespaceFacts, from: string): void {
    this.#tell(this.#namespaces, name, facts, from);
  }

  get controllers(): Map<string, ControllerFacts> {
    return new Map([...this.#controllers].map(([name, { facts }]) => [name, facts]));
  }

  get namespaces(): Map<string, NamespaceFacts> {
    return new Map([...this.#namespaces].map(([name, { facts }]) => [name, facts]));
  }

  #tell<T extends object>(all: Map<string, Told<T>>, name: string, facts: T, from: string): void {
    const told = all.get(name) ?? new Told<T>();
    all.set(name, told);
    told.tell(facts, from, (key, before, now) => {
      const what = `the ${IN_WORDS[key]} of ${name}`;
      this.#contradiction(`${what} is ${before.value} by ${before.from}, and ${now} by ${from}`);
    });
  }
}
