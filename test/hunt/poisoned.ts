/** Imported first: memory that nothing was read into holds poison, which no source has. */
process.env.P2PDMA_POISON = '1';
