/* Int8 convolution of pattern kernels: of every group of channels a kernel reads few taps. */
#ifndef TREC_PATTERN_CONV2D_S8_H
#define TREC_PATTERN_CONV2D_S8_H

#include "trec_types.h"

typedef struct {
    trec_window window;
    int32_t out_c;
    int32_t in_zero;
    int32_t n_taps; /* of a pattern */
    int32_t depth;  /* channels of a group */
    int32_t n_slices;
    const uint16_t *slices;  /* (n_slices, 3): a group of channels, a pattern, how many kernels read them so */
    const uint8_t *patterns; /* (patterns, n_taps): taps of the window, ascending */
    const uint16_t *kernels; /* slice after slice, the output channels */
    const int8_t *weights;   /* slice after slice, two kernels side by side: (kernels / 2, n_taps * depth, 2), both filled
                                up to even numbers by zeros; symmetric per output channel */
    const int32_t *bias;     /* (out_c), minus in_zero times the sum of the channel's weights */
    trec_rescale rescale;
} trec_pattern_conv2d;

/* Bytes of scratch: four rows, those of a slice, the sums of all channels and those of a slice. */
int32_t trec_pattern_conv2d_scratch_bytes(const trec_pattern_conv2d *p);

/* input: (in_h, in_w, in_c), output: (out_h, out_w, out_c), scratch: 4-byte aligned */
void trec_pattern_conv2d_s8(const trec_pattern_conv2d *p, const int8_t *input, void *scratch, int8_t *output);

#endif
