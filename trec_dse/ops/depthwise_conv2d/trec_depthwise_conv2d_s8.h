/* Depthwise int8 convolution: one kernel per channel. */
#ifndef TREC_DEPTHWISE_CONV2D_S8_H
#define TREC_DEPTHWISE_CONV2D_S8_H

#include "trec_types.h"

typedef struct {
    trec_window window;
    const int8_t *weights; /* (kernel_h, kernel_w, in_c), symmetric per channel */
    const int32_t *bias;   /* (in_c) */
    int32_t in_zero;
    trec_rescale rescale;
} trec_depthwise_conv2d;

/* input: (in_h, in_w, in_c), output: (out_h, out_w, in_c) */
void trec_depthwise_conv2d_s8(const trec_depthwise_conv2d *p, const int8_t *input, int8_t *output);

#endif
