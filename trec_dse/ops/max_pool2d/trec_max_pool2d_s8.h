/* Maximum over a window; the quantisation of the input is kept. */
#ifndef TREC_MAX_POOL2D_S8_H
#define TREC_MAX_POOL2D_S8_H

#include "trec_types.h"

typedef struct {
    trec_window window;
} trec_max_pool2d;

/* input: (in_h, in_w, in_c), output: (out_h, out_w, in_c); positions outside the image do not count */
void trec_max_pool2d_s8(const trec_max_pool2d *p, const int8_t *input, int8_t *output);

#endif
