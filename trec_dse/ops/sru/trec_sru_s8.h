/* The recurrence of a simple recurrent unit: all steps' products are there, states and outputs are elementwise. */
#ifndef TREC_SRU_S8_H
#define TREC_SRU_S8_H

#include "trec_types.h"

typedef struct {
    int32_t steps, sequences, units;
    int32_t parts; /* products per unit: candidate, forget, reset and, at 4, the highway */
    int32_t last;  /* 1: only the last step's outputs are written */
    int32_t zero;  /* zero point of the products */
    int32_t highway_zero, highway_shift;
    const uint16_t *sigmoids; /* (256), by level of the products from -128 up, in 1 / 2^15 */
    const int16_t *tanhs;     /* (257), by level of the cell state, in the highway's scale / 2^highway_shift */
    int32_t multiplier, shift, out_zero;
} trec_sru;

/* Bytes of scratch: the cell states. */
int32_t trec_sru_scratch_bytes(const trec_sru *p);

/* products: (steps, sequences, parts, units); highway: (steps, sequences, units), unused where it is the fourth part;
 * output: (steps or 1, sequences, units); scratch: 4-byte aligned */
void trec_sru_s8(const trec_sru *p, const int8_t *products, const int8_t *highway, void *scratch, int8_t *output);

#endif
