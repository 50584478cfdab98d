/* Read a part of one row of the unfolded input, without ever storing that matrix. */
#ifndef TREC_WINDOW_H
#define TREC_WINDOW_H

#include "trec_types.h"

/* Writes elements first ... first + n - 1 of the row of output position (y, x), in (kernel_h, kernel_w, in_c)
 * order, to a row of a block (see arch/portable.h), a zero behind them if n is odd. Outside the image stands the
 * input's zero point. input: (in_h, in_w, in_c); row: its first element */
void trec_window_row(const trec_window *w, const int8_t *input, int32_t zero, int32_t position, int32_t first,
                     int32_t n, int16_t *row);

/* The same for four positions from `position` on, which fill the block; the last position stands in for those
 * behind it. block: ((n + 1) / 2, 4, 2) */
void trec_window_block(const trec_window *w, const int8_t *input, int32_t zero, int32_t position, int32_t first,
                       int32_t n, int16_t *block);

#endif
