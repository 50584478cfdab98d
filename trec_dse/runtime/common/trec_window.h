/* Read a part of one row of the unfolded input, without ever storing that matrix. */
#ifndef TREC_WINDOW_H
#define TREC_WINDOW_H

#include "trec_types.h"

/* Copies elements first ... first + n - 1 of the row of output position (y, x), in (kernel_h, kernel_w, in_c)
 * order, to row: (n). Outside the image stands the input's zero point. input: (in_h, in_w, in_c) */
void trec_window_row(const trec_window *w, const int8_t *input, int32_t zero, int32_t position, int32_t first,
                     int32_t n, int8_t *row);

#endif
