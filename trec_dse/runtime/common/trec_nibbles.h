/* 4-bit numbers, two to a byte: the even one in the lower half. */
#ifndef TREC_NIBBLES_H
#define TREC_NIBBLES_H

#include "trec_types.h"

/* The i-th number, 0 to 15 */
static inline int32_t trec_level(const uint8_t *levels, int32_t i)
{
    return (levels[i >> 1] >> (4 * (i & 1))) & 15;
}

/* The i-th number, -8 to 7 */
static inline int32_t trec_weight(const uint8_t *weights, int32_t i)
{
    return (trec_level(weights, i) ^ 8) - 8;
}

/* Makes the i-th number `level`, 0 to 15, and leaves the other half of its byte alone. */
static inline void trec_put_level(uint8_t *levels, int32_t i, int32_t level)
{
    const int32_t shift = 4 * (i & 1);
    levels[i >> 1] = (uint8_t)((levels[i >> 1] & (0xF0 >> shift)) | (level << shift));
}

/* Sum of n levels, from the `level`-th on, times n weights, from the `weight`-th on. */
static inline int32_t trec_dot_levels(const uint8_t *levels, int32_t level, const uint8_t *weights, int32_t weight,
                                      int32_t n)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += trec_level(levels, level + i) * trec_weight(weights, weight + i);
    }
    return sum;
}

/* round(value / 2^shift), halves towards plus infinity */
static inline int32_t trec_shift_right(int32_t value, int32_t shift)
{
    return (value + ((1 << shift) >> 1)) >> shift;
}

#endif
