/** The pictures in docs/presets are those that are drawn now. `UPDATE_PICTURES=1` draws them anew. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { MACHINE_PRESETS } from '../../../lib/index.js';
import { presetPicture } from '../../helpers/topo-pictures.js';

const folder = fileURLToPath(new URL('../../../../docs/presets/', import.meta.url));
const update = process.env.UPDATE_PICTURES === '1';
if (update) mkdirSync(folder, { recursive: true });

for (const preset of MACHINE_PRESETS) {
  t.test(preset, async (t) => {
    const picture = `${await presetPicture(preset)}\n`;
    t.equal(`${await presetPicture(preset)}\n`, picture, 'drawn twice, the same');
    const file = join(folder, `${preset}.svg`);
    if (update) writeFileSync(file, picture);
    t.ok(readFileSync(file, 'utf8') === picture, 'as committed (else: UPDATE_PICTURES=1 npm test)');
  });
}

t.test('no picture is left over', async (t) => {
  const pictures = readdirSync(folder).filter((name) => name.endsWith('.svg'));
  t.same(pictures.sort(), MACHINE_PRESETS.map((preset) => `${preset}.svg`).sort());
});
