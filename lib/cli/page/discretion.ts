/**
 * What a report does not tell about whose machine it is, unless that is asked for: the host's name, serial numbers, paths. Texts
 * are written for somebody who sits at the machine, so what could name it is taken out of them.
 */
import type { Evidence } from '../../index.js';

/** Paths that every Linux machine has. */
const COMMON =
  /^\/(?:sys|proc|boot)(?:\/|$)|^\/dev\/(?:(?:nvme|md)[\w…*]*|vfio\/\w*|null)$|^\/etc\/(?:default|modprobe\.d|udev|os-release)(?:\/|$)/;
/** The name of a volume, which installers make of the host's name. */
const VOLUME = /\b(dm-\d+) \([^)]*\)/g;
const PATH = /(?<![\w.)\]}*])\/[^\s'"’”`),;]+/g;

export class Discretion {
  readonly #withNames: boolean;
  readonly #secrets: RegExp | null;

  /** @param secrets names that are taken out wherever they stand as a word */
  constructor(withNames: boolean, secrets: readonly string[]) {
    this.#withNames = withNames;
    const words = secrets.filter((word) => word.length > 1).sort((a, b) => b.length - a.length);
    const any = words.map((word) => word.replaceAll(/[^\w]/g, '\\$&')).join('|');
    this.#secrets = any === '' ? null : new RegExp(`(?<!\\w)(?:${any})(?!\\w)`, 'g');
  }

  text(text: string): string {
    if (this.#withNames) return text;
    const common = text
      .replaceAll(VOLUME, '$1')
      .replaceAll(PATH, (path) => (COMMON.test(path) ? path : '(a path)'));
    return this.#secrets === null ? common : common.replaceAll(this.#secrets, '(left out)');
  }

  /** A text in which quotation marks have names of files between them. */
  quoting(text: string): string {
    return this.#withNames ? text : this.text(text.replace(/'.*'/s, 'a file'));
  }

  evidence({ recognised, contradictions, notKnown }: Evidence): Evidence {
    return {
      recognised: recognised.map((text) => this.quoting(text)),
      contradictions: contradictions.map((text) => this.quoting(text)),
      notKnown: notKnown.map(({ what, why }) => ({ what: this.quoting(what), why: this.quoting(why) })),
    };
  }

  /** Every text in plain data; the names of its fields stay. */
  all<T>(data: T): T {
    if (typeof data === 'string') return this.text(data) as T;
    if (Array.isArray(data)) return data.map((one: unknown) => this.all(one)) as T;
    if (typeof data !== 'object' || data === null) return data;
    return Object.fromEntries(
      Object.entries(data).map(([key, value]) => [key, this.all<unknown>(value)]),
    ) as T;
  }
}
