/* One input of a concatenation along the channels; called once per input. */
#ifndef TREC_CONCAT_S8_H
#define TREC_CONCAT_S8_H

#include "trec_types.h"

typedef struct {
    int32_t positions; /* pixels */
    int32_t in_c, out_c; /* channels of this input and of the whole */
    int32_t first; /* where this input's channels start in the output */
    int32_t in_zero, zero; /* zero points of input and output */
    int32_t multiplier, shift; /* scale of the input over scale of the output, times 2^shift */
} trec_concat;

/* input: (positions, in_c), output: (positions, out_c) */
void trec_concat_s8(const trec_concat *p, const int8_t *input, int8_t *output);

#endif
