/* Read a part of some rows of the unfolded input, without ever storing that matrix. */
#ifndef TREC_WINDOW_H
#define TREC_WINDOW_H

#include "trec_types.h"

/* Which elements of a row are read: first ... first + n - 1, in (kernel_h, kernel_w, in_c) order. */
typedef struct {
    int32_t first, n;
} trec_slice;

/* Writes a slice of the rows of four output positions to a block (see arch/portable.h), a zero behind each if n is
 * odd. Positions go on from `position`; the last one stands in for those behind it. Outside the image stands the
 * input's zero point. input: (in_h, in_w, in_c), block: ((n + 1) / 2, 4, 2) */
void trec_window_block(const trec_window *w, const int8_t *input, int32_t zero, int32_t position, trec_slice slice,
                       int16_t *block);

#endif
