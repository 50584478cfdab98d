/* Fully connected layer of 4-bit levels and weights with int8 outputs. */
#ifndef TREC_DENSE_U4_S8_H
#define TREC_DENSE_U4_S8_H

#include "trec_types.h"

typedef struct {
    const uint8_t *weights; /* (out_n, in_n), 4-bit signed, two to a byte */
    const int8_t *bias;     /* (out_n); the input's zero point is in it */
    int32_t in_n;
    uint8_t out_n;
    uint8_t bias_shift; /* a bias counts 2^bias_shift accumulator steps */
    uint8_t shift;      /* an output is the accumulator over 2^shift */
    int8_t min;         /* the fused activation: the smallest output */
} trec_dense_u4;

/* input: (in_n) 4-bit levels, two to a byte; output: (out_n) */
void trec_dense_u4_s8(const trec_dense_u4 *p, const int8_t *input, int8_t *output);

#endif
