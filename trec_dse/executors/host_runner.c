/* Runs the generated network over many images on the host: the same C that the board runs. */
#include "trec_network.h"

/* images: (n, TREC_INPUT_BYTES), outputs: (n, TREC_OUTPUT_BYTES), clusters: (n, TREC_N_COUNTERS) */
void trec_host_run(const int8_t *images, int32_t n, int8_t *outputs, uint32_t *clusters);

void trec_host_run(const int8_t *images, int32_t n, int8_t *outputs, uint32_t *clusters)
{
    for (int32_t i = 0; i < n; i++) {
        __builtin_memcpy(trec_arena + TREC_INPUT_OFFSET, images + i * TREC_INPUT_BYTES, TREC_INPUT_BYTES);
        trec_net_run();
        __builtin_memcpy(outputs + i * TREC_OUTPUT_BYTES, trec_arena + TREC_OUTPUT_OFFSET, TREC_OUTPUT_BYTES);
        __builtin_memcpy(clusters + i * TREC_N_COUNTERS, trec_n_clusters, sizeof trec_n_clusters);
    }
}
