/* Int8 convolution of whose weights only those are stored that are not zero. */
#ifndef TREC_PRUNED_CONV2D_S8_H
#define TREC_PRUNED_CONV2D_S8_H

#include "trec_types.h"

typedef struct {
    trec_window window;
    int32_t out_c;
    int32_t in_zero;
    const uint16_t *counts; /* (out_c, 2): entries of the even and of the odd elements of a row */
    const uint8_t *entries; /* (entries, 2): steps by pairs from the element before, and an int8 weight, symmetric per
                               output channel; run after run */
    const int32_t *bias;    /* (out_c), minus in_zero times the sum of the channel's weights */
    trec_rescale rescale;
} trec_pruned_conv2d;

/* Bytes of scratch: four rows, and the sums of all channels for them. */
int32_t trec_pruned_conv2d_scratch_bytes(const trec_pruned_conv2d *p);

/* input: (in_h, in_w, in_c), output: (out_h, out_w, out_c), scratch: 4-byte aligned */
void trec_pruned_conv2d_s8(const trec_pruned_conv2d *p, const int8_t *input, void *scratch, int8_t *output);

#endif
