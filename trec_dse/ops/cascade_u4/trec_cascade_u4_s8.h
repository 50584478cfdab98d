/* Several 4-bit layers in one call, pixel by pixel: none of the tensors between them is ever whole.
 *
 * A layer writes its next pixel as soon as the layer before it has written the window for it. So a tensor between two
 * layers needs only a ring of the pixels that some window has yet to read, a few rows. */
#ifndef TREC_CASCADE_U4_S8_H
#define TREC_CASCADE_U4_S8_H

#include "trec_types.h"

/* One layer, in bytes, for there may be little Flash too. */
typedef struct {
    uint8_t in_h, in_w, in_c;
    uint8_t out_h, out_w, out_c;
    uint8_t kernel_h, kernel_w;
    uint8_t stride_h, stride_w;
    uint8_t pad_h, pad_w;
    uint8_t is_pool;    /* maximum of the window; else a convolution with ReLU */
    uint8_t bias_shift; /* a bias counts 2^bias_shift accumulator steps */
    uint8_t shift;      /* an output is the accumulator over 2^shift, at most 15 */
    uint8_t ring;       /* pixels that are kept for the next layer; the last layer keeps all in the output */
} trec_layer_u4;

typedef struct {
    const uint8_t *layers;  /* (n_layers) trec_layer_u4 */
    const uint8_t *weights; /* of all convolutions: (out_c, kernel_h, kernel_w, in_c) 4-bit signed, two to a byte */
    const int8_t *bias;     /* of all convolutions: (out_c); the first one's have the input's zero point in them */
    uint8_t n_layers;
    uint8_t in_zero; /* the level that stands around the input */
} trec_cascade_u4;

/* Bytes of scratch: a count for each layer, and the rings. */
int32_t trec_cascade_u4_scratch_bytes(const trec_cascade_u4 *p);

/* input: (in_h, in_w, in_c) of the first layer, output: (out_h, out_w, out_c) of the last, both 4-bit levels, two to a
 * byte; scratch: 2-byte aligned */
void trec_cascade_u4_s8(const trec_cascade_u4 *p, const int8_t *input, void *scratch, int8_t *output);

#endif
