/* Dense int8 convolution inside its own input: outputs grow over what no window needs any more. */
#ifndef TREC_PEELED_CONV2D_S8_H
#define TREC_PEELED_CONV2D_S8_H

#include "trec_types.h"

typedef struct {
    trec_window window;
    int32_t out_c;
    int32_t in_zero;
    int32_t group;         /* channels whose sums are alive at a time; even */
    int32_t n_runs;
    const uint16_t *runs;  /* (n_runs) how much of the output is peeled off: rows, then columns, then rows, ... */
    const int8_t *weights; /* (out_c / 2, k, 2) as those of trec_conv2d */
    const int32_t *bias;   /* (out_c), minus in_zero times the sum of the channel's weights */
    trec_rescale rescale;
} trec_peeled_conv2d;

/* Bytes of scratch: four rows of the unfolded input, and the sums of a group. */
int32_t trec_peeled_conv2d_scratch_bytes(const trec_peeled_conv2d *p);

/* input: (in_h, in_w, in_c), which is lost; output: (out_h, out_w, out_c), which may run into the input as far as the
 * runs allow; scratch: 4-byte aligned */
void trec_peeled_conv2d_s8(const trec_peeled_conv2d *p, int8_t *input, void *scratch, int8_t *output);

#endif
