/** The tests of the pump once more: no backend moves anything by itself, so JavaScript sees each chunk. */
process.env.P2PDMA_PUMP = '0';
await import('./pump.test.js');
