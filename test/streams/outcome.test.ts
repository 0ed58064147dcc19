import t from 'tap';
import { Outcome } from '../../lib/streams/outcome.js';

t.test('asked for before it happens, and after', async (t) => {
  const outcome = new Outcome<number>();
  const early = outcome.promise;
  outcome.resolve(1);
  outcome.resolve(2);
  outcome.reject(new Error('late'));
  t.equal(await early, 1);
  t.equal(await outcome.promise, 1);
});

t.test('it failed, and nobody has to know', async (t) => {
  const asked = new Outcome<void>();
  void asked.promise;
  asked.reject(new Error('why'));
  const unasked = new Outcome<void>();
  unasked.reject(new Error('why'));
  await new Promise(setImmediate);
  await t.rejects(asked.promise, { message: 'why' });
  await t.rejects(unasked.promise, { message: 'why' });
});
