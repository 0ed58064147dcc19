/**
 * Objects that come and go, in the order in which they came.
 *
 * This is a Set for those that go soon. V8 links the table that a Set or a Map outgrows to the next one, and leaves in it what
 * was there. Once one of these tables is old, a collection of young objects takes it for alive, and with it all tables that
 * followed and all objects that were ever in them, with what they refer to: each of them is copied twice, and stays until the next
 * full collection. Here, who leaves is in no table and refers to nobody.
 */
export class Members<T extends object> implements Iterable<T> {
  #first: Place<T> | null = null;
  #last: Place<T> | null = null;
  readonly #places = new WeakMap<T, Place<T>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(member: T): void {
    if (this.#places.has(member)) return;
    const place: Place<T> = { member, before: this.#last, after: null };
    if (this.#last === null) this.#first = place;
    else this.#last.after = place;
    this.#last = place;
    this.#places.set(member, place);
    this.#size++;
  }

  /** @returns whether it was there */
  delete(member: T): boolean {
    const place = this.#places.get(member);
    if (place === undefined) return false;
    this.#places.delete(member);
    const { before, after } = place;
    if (before === null) this.#first = after;
    else before.after = after;
    if (after === null) this.#last = before;
    else after.before = before;
    place.before = null;
    place.after = null;
    this.#size--;
    return true;
  }

  /** Those who are there now: who comes or goes meanwhile changes nothing. */
  [Symbol.iterator](): IterableIterator<T> {
    const members: T[] = [];
    for (let place = this.#first; place !== null; place = place.after) members.push(place.member);
    return members.values();
  }
}

interface Place<T> {
  readonly member: T;
  before: Place<T> | null;
  after: Place<T> | null;
}
