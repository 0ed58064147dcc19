import type { Command } from 'commander';
import { setColour } from './format.js';
import { oneOf, row, withOptions } from './option-table.js';

const COLOUR = {
  color: row(oneOf(['auto', 'always', 'never']), {
    takes: '<when>',
    text: 'colours: auto (on a terminal, without NO_COLOR; the default), always or never',
  }),
};

export function withColour(command: Command): Command {
  return withOptions(command, 'Output:', COLOUR).hook('preAction', (_this, action) =>
    setColour(action.opts().color),
  );
}
