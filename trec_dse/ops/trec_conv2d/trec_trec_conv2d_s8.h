/* TREC int8 convolution: rows of the unfolded input are hashed into clusters, one product per cluster. */
#ifndef TREC_TREC_CONV2D_S8_H
#define TREC_TREC_CONV2D_S8_H

#include "trec_types.h"

typedef struct {
    trec_window window;
    int32_t out_c;
    int32_t in_zero;
    int32_t length, n_slices;      /* L and K / L */
    int32_t hash_bits;             /* H */
    int32_t max_clusters;          /* most clusters of a slice, at most 256 */
    int32_t exact_c;               /* kernel reuse: the first exact_c = H outputs are dense; else 0 */
    int32_t fraction_bits;         /* of the fixed-point centroids */
    int32_t n_alive;               /* slices alive at a time: all of them, or one and an accumulator for every output */
    int32_t pass_slices;           /* slices whose products are added as int16, at most TREC_MOST_PARTS */
    int32_t hash_step, hash_slice; /* bytes from one pair of hash vectors to the next, and from slice to slice */
    int32_t start_slice;           /* entries from one slice to the next; 0 where slices share them */
    const int8_t *hash;            /* as the weights: (n_slices or 1, hash_bits / 2, length, 2); or the weights */
    const int32_t *starts;         /* (n_slices or 1, hash_bits): -1 - threshold; a bit is 1 where its projection is
                                      larger */
    const int8_t *weights;         /* two channels side by side, symmetric per output channel: (out_c / 2, n_slices,
                                      length, 2) with out_c and length filled up to even numbers by zeros */
    const uint8_t *product_shifts; /* (out_c): products of centroids and slices are divided by 2^this and rounded, so
                                      that the sum over a pass fits into int16 */
    const int32_t *bias;           /* (out_c), in units of the rounded products; the first exact_c in whole levels, with
                                      the zero point's share and the starts taken off */
    trec_rescale rescale;
} trec_trec_conv2d;

int32_t trec_trec_conv2d_scratch_bytes(const trec_trec_conv2d *p);

/* input: (in_h, in_w, in_c), output: (out_h, out_w, out_c), scratch: 4-byte aligned.
 * Returns the number of clusters, summed over the slices; n_alive changes no integer. */
uint32_t trec_trec_conv2d_s8(const trec_trec_conv2d *p, const int8_t *input, void *scratch, int8_t *output);

#endif
