/* Fully connected int8 layer. */
#ifndef TREC_DENSE_S8_H
#define TREC_DENSE_S8_H

#include "trec_types.h"

typedef struct {
    int32_t in_n, out_n;
    const int8_t *weights; /* (out_n, in_n), symmetric per output */
    const int32_t *bias;   /* (out_n), minus the input's zero point times the sum of the weights */
    trec_rescale rescale;
} trec_dense;

/* input: (in_n), output: (out_n) */
void trec_dense_s8(const trec_dense *p, const int8_t *input, int8_t *output);

#endif
