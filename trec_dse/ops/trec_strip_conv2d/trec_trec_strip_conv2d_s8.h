/* TREC int8 convolution on strips: pixels that several taps of a kernel read are hashed and clustered once. */
#ifndef TREC_TREC_STRIP_CONV2D_S8_H
#define TREC_TREC_STRIP_CONV2D_S8_H

#include "trec_types.h"

/* Strips lie on a grid over the padded image: strip (r, s) starts at pixel (r - pad_h, s - pad_w). The parts of a
 * kernel are strips too: a line of them is a column of kernel_h parts in one group of channels, and lines are counted
 * from left to right in one group after the other. */
typedef struct {
    trec_window window; /* kernel_h at most TREC_MOST_PARTS */
    int32_t out_c;
    int32_t in_zero;
    int32_t strip_w;              /* m: pixels of a strip, a divisor of kernel_w */
    int32_t n_groups;             /* g: the channels of a strip are cut into so many vectors */
    int32_t length;               /* L = m * in_c / g */
    int32_t grid_h, grid_w;       /* the last strip that an output uses, plus one */
    int32_t hash_bits;            /* H */
    int32_t max_clusters;         /* most clusters of a group, at most 255 */
    int32_t fraction_bits;        /* of the fixed-point centroids */
    int32_t pass_lines;           /* lines whose products are alive at a time: of one group, or a line of each group */
    const int8_t *hash;           /* two vectors side by side: (n_groups, hash_bits / 2, length, 2), the last two filled
                                     up to even numbers by zeros */
    const int32_t *starts;        /* (n_groups, hash_bits): -1 - threshold. A bit is 1 where a projection is larger */
    const int8_t *weights;        /* two channels side by side: (out_c / 2, lines, kernel_h, length, 2), filled up alike */
    const uint8_t *product_shifts; /* (out_c): products of centroids and parts are divided by 2^this and rounded, so that
                                     the sum over a pass fits into int16 */
    const int32_t *bias;          /* (out_c), in units of the rounded products */
    trec_rescale rescale;
} trec_trec_strip_conv2d;

int32_t trec_trec_strip_conv2d_scratch_bytes(const trec_trec_strip_conv2d *p);

/* input: (in_h, in_w, in_c), output: (out_h, out_w, out_c), scratch: 4-byte aligned.
 * Returns the number of clusters, summed over the groups. */
uint32_t trec_trec_strip_conv2d_s8(const trec_trec_strip_conv2d *p, const int8_t *input, void *scratch, int8_t *output);

#endif
