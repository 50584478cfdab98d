/* The primitives for cores with the DSP extension (Cortex-M4, M7, M33): two products per SMLAD.
 *
 * Four bytes are loaded at once and widened to two pairs of 16-bit numbers by SXTB16. The order of the
 * additions differs from portable.h, the integers do not: int32 addition is associative.
 */
#ifndef TREC_ARMV7EM_DSP_H
#define TREC_ARMV7EM_DSP_H

#include <arm_acle.h> /* defines: __smlad, __sxtb16, int8x4_t, int16x2_t */

#include "trec_types.h"

/* These cores load and store unaligned words; only the pairs and lists of LDRD and LDM must be aligned. */
static inline int32_t trec_load_word(const void *p)
{
    int32_t word;
    __builtin_memcpy(&word, p, 4);
    return word;
}

static inline void trec_store_word(void *p, int32_t word)
{
    __builtin_memcpy(p, &word, 4);
}

/* bytes 0 and 2 of four, as two 16-bit numbers */
static inline int32_t trec_even_bytes(int32_t word)
{
    return __sxtb16(word);
}

/* bytes 1 and 3 of four, as two 16-bit numbers */
static inline int32_t trec_odd_bytes(int32_t word)
{
    const uint32_t u = (uint32_t)word;
    return __sxtb16((int32_t)((u >> 8) | (u << 24)));
}

static inline int32_t trec_dot_s8(const int8_t *a, const int8_t *b, int32_t n)
{
    int32_t sum = 0;
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const int32_t a4 = trec_load_word(a + i);
        const int32_t b4 = trec_load_word(b + i);
        sum = __smlad(trec_even_bytes(a4), trec_even_bytes(b4), sum);
        sum = __smlad(trec_odd_bytes(a4), trec_odd_bytes(b4), sum);
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
        const int32_t b4 = trec_load_word(b + i);
        const uint32_t even = (uint32_t)trec_even_bytes(b4); /* b0, b2 */
        const uint32_t odd = (uint32_t)trec_odd_bytes(b4);   /* b1, b3 */
        /* PKHBT and PKHTB: bring (b0, b1) and (b2, b3) together */
        sum = __smlad(trec_load_word(a + i), (int32_t)((even & 0xFFFFu) | (odd << 16)), sum);
        sum = __smlad(trec_load_word(a + i + 2), (int32_t)((even >> 16) | (odd & 0xFFFF0000u)), sum);
    }
    for (; i < n; i++) {
        sum += (int32_t)a[i] * b[i];
    }
    return sum;
}

/* In armv7em_dsp.c. n_words: words of x, at least 1 */
void trec_dot_words_1x4(const int8_t *x, const int8_t *kernels, int32_t step, int32_t n_words, int32_t *sums);

static inline void trec_dot_1x4(const int8_t *x, const int8_t *kernels, int32_t step, int32_t n, int32_t *sums)
{
    if (n >= 4) {
        trec_dot_words_1x4(x, kernels, step, n >> 2, sums);
    }
    for (int32_t i = n & ~3; i < n; i++) {
        for (int32_t j = 0; j < 4; j++) {
            sums[j] += (int32_t)x[i] * kernels[j * step + i];
        }
    }
}

/* In armv7em_multiply.c. */
void trec_multiply(const int16_t *block, const trec_kernels *kernels, int32_t *sums);

/* In armv7em_multiply.c and armv7em_parts.c. */
void trec_multiply_narrow(const int16_t *blocks, const trec_kernels *kernels, const trec_narrow *narrow,
                          int16_t *table);
void trec_add_parts(const trec_parts *parts, const uint8_t *ids, int32_t n, const trec_part_sums *to);

static inline int32_t trec_round_high(int32_t value, int32_t factor, int32_t zero)
{
    int32_t rounded;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(rounded) : "r"(value), "r"(factor), "r"(zero));
    return rounded;
}

/* In armv7em_dsp.c. */
void trec_widen(const int8_t *values, int32_t n, int32_t first, int16_t *row);

/* In armv7em_dsp.c. */
void trec_requantize_rows(const int32_t *factors, const trec_rescale *rescale, const trec_rows *rows,
                          const int32_t *sums, int8_t *output);

/* In armv7em_dsp.c. n_quads: pairs of elements by four, at least 1 */
void trec_add_quads(const int16_t *row, int32_t n_quads, trec_shared_sum *sums);

static inline void trec_add_row(const int16_t *row, int32_t n_pairs, trec_shared_sum *sums)
{
    if (n_pairs >= 4) {
        trec_add_quads(row, n_pairs >> 2, sums);
    }
    for (int32_t j = n_pairs & ~3; j < n_pairs; j++) {
        sums[8 * j] += row[8 * j];
        sums[8 * j + 1] += row[8 * j + 1];
    }
}

/* In armv7em_depthwise.c. */
void trec_depthwise_fours(const trec_taps *taps, const int8_t *x, const int8_t *w, int8_t *output);

/* In armv7em_dsp.c. */
void trec_add_words(const trec_weighted *terms, const int8_t *a, const int8_t *b, int32_t n_words, int8_t *output);

/* In armv7em_dsp.c. */
void trec_sum_terms(const int8_t *values, const trec_terms *terms, int32_t *sums);

static inline void trec_max_s8(int8_t *best, const int8_t *values, int32_t n)
{
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        int32_t a = trec_load_word(best + i);
        const int32_t b = trec_load_word(values + i);
        /* SSUB8 notes in flags which bytes of a are the larger ones, SEL chooses by them */
        int32_t difference;
        __asm__("ssub8 %0, %1, %2\n\tsel %1, %1, %2" : "=&r"(difference), "+r"(a) : "r"(b));
        trec_store_word(best + i, a);
    }
    for (; i < n; i++) {
        best[i] = values[i] > best[i] ? values[i] : best[i];
    }
}

#endif
