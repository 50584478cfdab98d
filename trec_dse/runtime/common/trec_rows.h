/* What the kernels do with the sums of four rows, which the inner loop leaves channel by channel. */
#ifndef TREC_ROWS_H
#define TREC_ROWS_H

#include "trec_types.h"

/* Requantises sums: (count, 4). output: (n, out_c), of all channels */
void trec_rows_requantize(const trec_rescale *rescale, const trec_rows *rows, const int32_t *sums, int8_t *output);

#endif
