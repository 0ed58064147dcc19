import t from 'tap';
import { libraryNames, type Sentence, said, speakWith } from '../../lib/base/sentence.js';

const both: Sentence = (option) => `Drop ${option('force')}, or pass ${option('machine', "'switch'")}.`;

t.test('a sentence takes the names of the library, or of whom it is asked for', async (t) => {
  t.equal(said('as it is'), 'as it is');
  t.equal(said(both), "Drop force, or pass machine: 'switch'.");
  t.equal(
    said(both, (name, value = '') => `<${name}${value}>`),
    "Drop <force>, or pass <machine'switch'>.",
  );
});

t.test('the names of a process', async (t) => {
  t.teardown(() => speakWith(libraryNames));
  speakWith((name) => name.toUpperCase());
  t.equal(said(both), 'Drop FORCE, or pass MACHINE.');
  t.equal(said(both, libraryNames), "Drop force, or pass machine: 'switch'.");
  speakWith(libraryNames);
  t.equal(said(both), "Drop force, or pass machine: 'switch'.");
});
