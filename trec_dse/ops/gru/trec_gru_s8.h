/* The recurrence of a gated recurrent unit: all steps' products with the input are there. */
#ifndef TREC_GRU_S8_H
#define TREC_GRU_S8_H

#include "trec_types.h"

typedef struct {
    int32_t steps, sequences, units;
    int32_t last;               /* 1: only the last step's outputs are written */
    const int16_t *levels;      /* (256): an input product by its level, from -128 up, in 1 / 2^11 */
    const int16_t *sigmoids;    /* (257): the logistic function from -8 to 8, in 1 / 2^15 */
    const int8_t *hidden;       /* (3, units, units): gates reset, update, candidate; symmetric per gate and unit */
    const int32_t *bias;        /* (3, units) */
    const int32_t *multipliers; /* (3, units): from a hidden product to 1 / 2^11 */
    const uint8_t *shifts;      /* (3, units) */
    int32_t multiplier, shift, out_zero;
} trec_gru;

/* Bytes of scratch: the states, and what is multiplied of them. */
int32_t trec_gru_scratch_bytes(const trec_gru *p);

/* products: (steps, sequences, 3, units); output: (steps or 1, sequences, units); scratch: 4-byte aligned */
void trec_gru_s8(const trec_gru *p, const int8_t *products, void *scratch, int8_t *output);

#endif
