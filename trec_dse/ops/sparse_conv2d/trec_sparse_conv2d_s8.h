/* Dense int8 convolution that leaves out blank windows. */
#ifndef TREC_SPARSE_CONV2D_S8_H
#define TREC_SPARSE_CONV2D_S8_H

#include "trec_types.h"

typedef struct {
    trec_window window;
    int32_t out_c;
    int32_t in_zero;
    int32_t blank;         /* the value that blank windows hold everywhere */
    const int8_t *weights; /* two channels side by side, symmetric per output channel: (out_c / 2, k, 2) with out_c
                              and k = kernel_h * kernel_w * in_c filled up to even numbers by zeros */
    const int32_t *bias;   /* (out_c), minus in_zero times the sum of the channel's weights */
    trec_rescale rescale;
} trec_sparse_conv2d;

/* Bytes of scratch: four rows, their sums and outputs, the blank output, a flag per column. */
int32_t trec_sparse_conv2d_scratch_bytes(const trec_sparse_conv2d *p);

/* input: (in_h, in_w, in_c), output: (out_h, out_w, out_c), scratch: 4-byte aligned */
void trec_sparse_conv2d_s8(const trec_sparse_conv2d *p, const int8_t *input, void *scratch, int8_t *output);

#endif
