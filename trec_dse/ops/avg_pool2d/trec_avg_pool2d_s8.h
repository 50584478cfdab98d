/* Mean over a window without padding; the quantisation of the input is kept. */
#ifndef TREC_AVG_POOL2D_S8_H
#define TREC_AVG_POOL2D_S8_H

#include "trec_types.h"

typedef struct {
    trec_window window;
} trec_avg_pool2d;

/* input: (in_h, in_w, in_c), output: (out_h, out_w, in_c) */
void trec_avg_pool2d_s8(const trec_avg_pool2d *p, const int8_t *input, int8_t *output);

#endif
