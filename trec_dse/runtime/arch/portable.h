/* The primitives in plain C. This file is their definition: every other arch header must give the same integers. */
#ifndef TREC_PORTABLE_H
#define TREC_PORTABLE_H

#include "trec_types.h"

/* sum of a[i] * b[i]; a, b: (n) */
static inline int32_t trec_dot_s8(const int8_t *a, const int8_t *b, int32_t n)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += (int32_t)a[i] * b[i];
    }
    return sum;
}

/* sum of a[i] * b[i]; a, b: (n); a holds centroids in fixed point */
static inline int32_t trec_dot_s16_s8(const int16_t *a, const int8_t *b, int32_t n)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += (int32_t)a[i] * b[i];
    }
    return sum;
}

#endif
