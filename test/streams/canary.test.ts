import t from 'tap';
import { Canary } from '../../lib/streams/canary.js';

const check = (canary: Canary, view: Uint8Array) => canary.check(view, 'disk', 4096);

t.test('a view that was not written to is noticed at either end', async (t) => {
  for (const [from, to, offset] of [
    [0, 0, 4096],
    [16, 128, 4096],
    [0, 112, 4096 + 112],
  ] as const) {
    const [canary, view] = [new Canary(), Buffer.alloc(128)];
    canary.poison(view);
    // What arrived differs from whatever was there.
    for (let i = from; i < to; i++) view[i] = ~view[i]!;
    t.match(check(canary, view), { code: 'ERR_VERIFY_MISMATCH', syscall: 'read', path: 'disk', offset });
  }
});

t.test('a byte that changed at each end is enough', async (t) => {
  const [canary, view] = [new Canary(), Buffer.alloc(128)];
  canary.poison(view);
  view[15] = ~view[15]!;
  view[127] = ~view[127]!;
  t.equal(check(canary, view), null);
});

t.test('only the ends are touched, and with another pattern each time', async (t) => {
  const [canary, view] = [new Canary(), Buffer.alloc(128, 7)];
  canary.poison(view);
  const first = Buffer.from(view);
  t.ok(first.subarray(16, 112).equals(Buffer.alloc(96, 7)));
  canary.poison(view);
  t.notOk(view.equals(first));
  t.equal(check(canary, first), null, 'what was there before is no sign of a lost read');
});

t.test('no room for two, or forgotten: no word', async (t) => {
  const [canary, short, view] = [new Canary(), Buffer.alloc(31, 7), Buffer.alloc(32)];
  t.equal(check(canary, view), null, 'never placed');
  canary.poison(view);
  t.not(check(canary, view), null, '32 bytes are enough');
  canary.poison(short);
  t.ok(short.equals(Buffer.alloc(31, 7)));
  t.equal(check(canary, short), null);
  canary.poison(view);
  canary.forget();
  t.equal(check(canary, view), null);
});

t.test('memory that is gone shows nothing: whoever takes the chunk says so', async (t) => {
  const memory = new ArrayBuffer(128);
  const [canary, view] = [new Canary(), Buffer.from(memory)];
  canary.poison(view);
  structuredClone(memory, { transfer: [memory] });
  t.equal(view.length, 0);
  t.equal(check(canary, view), null);
});
