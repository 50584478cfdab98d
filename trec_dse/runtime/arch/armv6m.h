/* The primitives for the Cortex-M0+ and M0: those of scalar.h, but for what a compiler that has eight registers to
 * compute with spills too much of. To be included before it.
 */
#ifndef TREC_ARMV6M_H
#define TREC_ARMV6M_H

#include "trec_types.h"

#define TREC_OWN_DOT_1X4
#define TREC_OWN_MULTIPLY
#define TREC_OWN_ROUND_HIGH

/* In armv6m.c. */
void trec_dot_1x4(const int8_t *x, const int8_t *kernels, int32_t step, int32_t n, int32_t *sums);
void trec_multiply(const int16_t *block, const trec_kernels *kernels, int32_t *sums);

/* The upper half of a product from four products of halves, for there is no longer one. factor: not negative */
static inline int32_t trec_round_high(int32_t value, int32_t factor, int32_t zero)
{
    const uint32_t value_low = (uint32_t)value & 0xFFFFu, factor_low = (uint32_t)factor & 0xFFFFu;
    const int32_t value_high = value >> 16, factor_high = factor >> 16;
    const uint32_t low = value_low * factor_low;
    const int32_t first = value_high * (int32_t)factor_low, second = (int32_t)value_low * factor_high;
    const uint32_t middle = (low >> 16) + ((uint32_t)first & 0xFFFFu) + ((uint32_t)second & 0xFFFFu) + 0x8000u;
    return zero + value_high * factor_high + (first >> 16) + (second >> 16) + (int32_t)(middle >> 16);
}

#endif
