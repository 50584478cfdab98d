/* Element-wise sum of two tensors of different scales. */
#ifndef TREC_ADD_S8_H
#define TREC_ADD_S8_H

#include "trec_types.h"

typedef struct {
    int32_t n;
    int32_t a_multiplier, b_multiplier; /* scale of the input over scale of the output, times 2^shift */
    int32_t shift;                      /* at TREC_ADD_SHIFT the multipliers fit into int16 */
    int32_t offset;                     /* what the three zero points and rounding add before the shift */
    int32_t min, max;                   /* the fused activation, as bounds of the output */
} trec_add;

/* a, b, output: (n) */
void trec_add_s8(const trec_add *p, const int8_t *a, const int8_t *b, int8_t *output);

#endif
