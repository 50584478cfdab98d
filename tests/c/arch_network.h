/* A "network" that compares the primitives of the core's own header with those of portable.h. */
#ifndef TREC_NETWORK_H
#define TREC_NETWORK_H

#include <stdint.h>

#define TREC_BUILD_ID "0123456789abcdef"
#define TREC_INPUT_BYTES 4   /* seed of the random numbers, little-endian */
#define TREC_OUTPUT_BYTES 28 /* per primitive: rounds that differed, and whether any result was other than zero */
#define TREC_ARENA_BYTES 64
#define TREC_INPUT_OFFSET 0
#define TREC_OUTPUT_OFFSET 16
#define TREC_N_TREC_LAYERS 0
#define TREC_N_COUNTERS 1

extern uint8_t trec_arena[TREC_ARENA_BYTES];
extern uint32_t trec_n_clusters[TREC_N_COUNTERS];

void trec_net_run(void);

#endif
