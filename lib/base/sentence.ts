/**
 * Sentences that name options. They are written once, with a placeholder for each name. A caller that has other names for
 * the options (the command has --chunk for highWaterMark) fills them in, so no code has to parse a sentence to change it.
 *
 *     (option) => `Make ${option('highWaterMark')} smaller.`     Make highWaterMark smaller.     Make --chunk smaller.
 */

/** The name of an option; with a value, how that value is given. */
export type Naming = (option: string, value?: string) => string;

export type Sentence = string | ((option: Naming) => string);

/** The names of the library's own tables: `requireP2p`, `provider: none`. */
export const libraryNames: Naming = (option, value) => (value === undefined ? option : `${option}: ${value}`);

let names = libraryNames;

/** For the command, which has its process to itself: all sentences from now on use these names. */
export function speakWith(naming: Naming): void {
  names = naming;
}

export function said(sentence: Sentence, naming: Naming = names): string {
  return typeof sentence === 'string' ? sentence : sentence(naming);
}
