/* Dense int8 convolution. */
#ifndef TREC_CONV2D_S8_H
#define TREC_CONV2D_S8_H

#include "trec_types.h"

typedef struct {
    trec_window window;
    int32_t out_c;
    int32_t in_zero;
    int32_t tile;          /* elements of a row that are widened at a time: all of them, or an even number */
    const int8_t *weights; /* ((out_c + 1) / 2, kernel_h, kernel_w, in_c, 2), symmetric per output channel */
    const int32_t *bias;   /* (out_c), minus in_zero times the sum of the channel's weights */
    trec_rescale rescale;
} trec_conv2d;

/* Bytes of scratch: a tile of four rows of the unfolded input; where a row has several, their sums as well. */
int32_t trec_conv2d_scratch_bytes(const trec_conv2d *p);

/* input: (in_h, in_w, in_c), output: (out_h, out_w, out_c) */
void trec_conv2d_s8(const trec_conv2d *p, const int8_t *input, void *scratch, int8_t *output);

#endif
