/* Fully connected int8 layer of whose weights only those are stored that are not zero. */
#ifndef TREC_PRUNED_DENSE_S8_H
#define TREC_PRUNED_DENSE_S8_H

#include "trec_types.h"

typedef struct {
    int32_t out_n;
    const uint16_t *counts; /* (out_n): entries of each output */
    const uint8_t *entries; /* (entries, 2): steps from the element before, and an int8 weight; symmetric per output */
    const int32_t *bias;    /* (out_n), minus the input's zero point times the sum of the weights */
    trec_rescale rescale;
} trec_pruned_dense;

/* input: as long as the entries reach, output: (out_n) */
void trec_pruned_dense_s8(const trec_pruned_dense *p, const int8_t *input, int8_t *output);

#endif
