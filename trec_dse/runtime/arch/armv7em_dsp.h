/* The primitives for cores with the DSP extension (Cortex-M4, M7, M33): two products per SMLAD.
 *
 * Four bytes are loaded at once and widened to two pairs of 16-bit numbers by SXTB16. The order of the
 * additions differs from portable.h, the integers do not: int32 addition is associative.
 */
#ifndef TREC_ARMV7EM_DSP_H
#define TREC_ARMV7EM_DSP_H

#include <arm_acle.h> /* defines: __smlad, __sxtb16, int8x4_t, int16x2_t */

#include "trec_types.h"

static inline int32_t trec_load_s8x4(const int8_t *p)
{
    int32_t word;
    __builtin_memcpy(&word, p, 4); /* one LDR: these cores load unaligned words */
    return word;
}

static inline int32_t trec_load_s16x2(const int16_t *p)
{
    int32_t word;
    __builtin_memcpy(&word, p, 4);
    return word;
}

static inline int32_t trec_swap_bytes_in_pairs(int32_t word)
{
    const uint32_t u = (uint32_t)word;
    return (int32_t)((u >> 8) | (u << 24)); /* ROR 8: bytes 1 and 3 come where SXTB16 looks */
}

static inline int32_t trec_dot_s8(const int8_t *a, const int8_t *b, int32_t n)
{
    int32_t sum = 0;
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const int32_t a4 = trec_load_s8x4(a + i);
        const int32_t b4 = trec_load_s8x4(b + i);
        sum = __smlad(__sxtb16(a4), __sxtb16(b4), sum);
        sum = __smlad(__sxtb16(trec_swap_bytes_in_pairs(a4)), __sxtb16(trec_swap_bytes_in_pairs(b4)), sum);
    }
    for (; i < n; i++) {
        sum += (int32_t)a[i] * b[i];
    }
    return sum;
}

static inline int32_t trec_dot_s16_s8(const int16_t *a, const int8_t *b, int32_t n)
{
    int32_t sum = 0;
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const int32_t a01 = trec_load_s16x2(a + i);
        const int32_t a23 = trec_load_s16x2(a + i + 2);
        const int32_t b4 = trec_load_s8x4(b + i);
        const int32_t even = __sxtb16(b4);                          /* b0, b2 */
        const int32_t odd = __sxtb16(trec_swap_bytes_in_pairs(b4)); /* b1, b3 */
        /* PKHBT and PKHTB: bring (b0, b1) and (b2, b3) together */
        const int32_t b01 = (int32_t)(((uint32_t)even & 0xFFFFu) | ((uint32_t)odd << 16));
        const int32_t b23 = (int32_t)(((uint32_t)even >> 16) | ((uint32_t)odd & 0xFFFF0000u));
        sum = __smlad(a01, b01, sum);
        sum = __smlad(a23, b23, sum);
    }
    for (; i < n; i++) {
        sum += (int32_t)a[i] * b[i];
    }
    return sum;
}

#endif
