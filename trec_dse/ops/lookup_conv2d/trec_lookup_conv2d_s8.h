/* Int8 convolution by lookup: at every tap a kernel reads few channels. */
#ifndef TREC_LOOKUP_CONV2D_S8_H
#define TREC_LOOKUP_CONV2D_S8_H

#include "trec_types.h"

typedef struct {
    trec_window window;
    int32_t out_c;
    int32_t in_zero;
    int32_t phase;          /* out_w filled up to a multiple of 4, and (kernel_w - 1) / stride_w */
    int32_t n_terms;        /* of a kernel in all; a multiple of 4 */
    const uint16_t *places; /* (out_c, n_terms): in the lines that a row of windows reads, of its first position */
    const int8_t *weights;  /* (out_c, n_terms), symmetric per output channel */
    const int32_t *bias;    /* (out_c), minus in_zero times the sum of the channel's weights */
    trec_rescale rescale;
} trec_lookup_conv2d;

/* Bytes of scratch: the lines, (kernel_h, in_c, stride_w, phase). */
int32_t trec_lookup_conv2d_scratch_bytes(const trec_lookup_conv2d *p);

/* input: (in_h, in_w, in_c), output: (out_h, out_w, out_c) */
void trec_lookup_conv2d_s8(const trec_lookup_conv2d *p, const int8_t *input, void *scratch, int8_t *output);

#endif
