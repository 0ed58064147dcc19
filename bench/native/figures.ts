import type { Figure } from '../harness.js';
import type { Settings } from '../main.js';

export async function figures({ log }: Settings): Promise<Figure[]> {
  log('native');
  return [];
}
