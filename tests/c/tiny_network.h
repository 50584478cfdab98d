/* The smallest thing that keeps the contract of a generated network: 12 bytes in, 3 bytes out. */
#ifndef TREC_NETWORK_H
#define TREC_NETWORK_H

#include <stdint.h>

#define TREC_BUILD_ID "0123456789abcdef"
#define TREC_INPUT_BYTES 12
#define TREC_OUTPUT_BYTES 3
#define TREC_ARENA_BYTES 96
#define TREC_INPUT_OFFSET 16
#define TREC_OUTPUT_OFFSET 0
#define TREC_N_TREC_LAYERS 2
#define TREC_N_COUNTERS 2

extern uint8_t trec_arena[TREC_ARENA_BYTES];
extern uint32_t trec_n_clusters[TREC_N_COUNTERS];

void trec_net_run(void);

#endif
