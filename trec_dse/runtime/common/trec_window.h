/* Read a part of some rows of the unfolded input, without ever storing that matrix. */
#ifndef TREC_WINDOW_H
#define TREC_WINDOW_H

#include "trec_types.h"

/* Which elements of a row are read: first ... first + n - 1, in (kernel_h, kernel_w, in_c) order. */
typedef struct {
    int32_t first, n;
} trec_slice;

/* An input whose rows are read; what lies outside holds its zero point. */
typedef struct {
    const trec_window *window;
    const int8_t *values; /* (in_h, in_w, in_c) */
    int32_t zero;
} trec_image;

/* Writes a slice of the rows of 4 n_blocks output positions to blocks (see arch/portable.h), a zero behind each if n is
 * odd. Positions go on from `position`; the last one stands in for those behind it. blocks: (n_blocks, (n + 1) / 2, 4, 2)
 */
void trec_window_blocks(const trec_image *image, trec_slice slice, int32_t position, int32_t n_blocks,
                        int16_t *blocks);

/* The same for one block. input: (in_h, in_w, in_c), the zero point stands outside */
void trec_window_block(const trec_window *w, const int8_t *input, int32_t zero, int32_t position, trec_slice slice,
                       int16_t *block);

#endif
