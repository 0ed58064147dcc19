import { AsyncLocalStorage } from 'node:async_hooks';
import t from 'tap';
import { AsyncScope } from '../../lib/streams/async-scope.js';

t.test('the context in which it was made', async (t) => {
  const storage = new AsyncLocalStorage<string>();
  const scope = storage.run('mine', () => new AsyncScope());
  storage.run('theirs', () => {
    t.equal(
      scope.run((a: number, b: number) => `${storage.getStore()} ${a + b}`, 1, 2),
      'mine 3',
    );
    scope.wrap((what: string) => t.equal(storage.getStore(), what))('mine');
    t.equal(storage.getStore(), 'theirs', 'and back');
  });
});
