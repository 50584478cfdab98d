/* The primitives for cores that multiply one pair of numbers at a time (Cortex-M3, M0+): sums stay in registers.
 *
 * The products of a table stand as two in a word, first + 2^16 second. Words can be added as they are, and from a sum S
 * the first one is its lower half, for the sums fit into int16, and the second one (S - first) / 2^16. To be included
 * before portable.h.
 */
#ifndef TREC_SCALAR_H
#define TREC_SCALAR_H

#include "trec_types.h"

#define TREC_OWN_PARTS
#ifndef TREC_OWN_MULTIPLY
#define TREC_OWN_DOT_1X4
#define TREC_OWN_MULTIPLY

static inline void trec_dot_1x4(const int8_t *x, const int8_t *kernels, int32_t step, int32_t n, int32_t *sums)
{
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    for (const int8_t *end = x + n; x < end; x++, kernels++) {
        const int32_t value = *x;
        const int8_t *kernel = kernels;
        a += value * *kernel;
        b += value * *(kernel += step);
        c += value * *(kernel += step);
        d += value * *(kernel + step);
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}

/* Two rows with two kernels. */
static inline void trec_multiply_2x2(const int16_t *x, const int8_t *kernel, int32_t n_pairs, int32_t *sums)
{
    int32_t a = sums[0], b = sums[4], c = sums[1], d = sums[5];
    for (; n_pairs > 0; n_pairs--, x += 8, kernel += 4) {
        a += x[0] * kernel[0] + x[1] * kernel[2];
        b += x[0] * kernel[1] + x[1] * kernel[3];
        c += x[2] * kernel[0] + x[3] * kernel[2];
        d += x[2] * kernel[1] + x[3] * kernel[3];
    }
    sums[0] = a;
    sums[4] = b;
    sums[1] = c;
    sums[5] = d;
}

static inline void trec_multiply(const int16_t *block, const trec_kernels *kernels, int32_t *sums)
{
    const int8_t *kernel = kernels->first;
    for (int32_t i = kernels->count; i > 0; i--, sums += 8, kernel += kernels->step) {
        trec_multiply_2x2(block, kernel, kernels->n_pairs, sums);
        trec_multiply_2x2(block + 4, kernel, kernels->n_pairs, sums + 2);
    }
}
#endif

/* In armv6m.h or portable.h. */
static inline int32_t trec_round_high(int32_t value, int32_t factor, int32_t zero);

typedef uint32_t __attribute__((may_alias)) trec_two_products;

static inline void trec_multiply_narrow(const int16_t *blocks, const trec_kernels *kernels, const trec_narrow *narrow,
                                        int16_t *table)
{
    for (int32_t b = 0; b < narrow->n_blocks; b++) {
        int32_t sums[4 * TREC_PART_CHANNELS] = {0};
        trec_multiply(blocks + b * 8 * kernels->n_pairs, kernels, sums);
        for (int32_t r = 0; r < 4; r++, table += narrow->row_step / 2) {
            trec_two_products *words = (trec_two_products *)table;
            for (int32_t c = 0; c < 2 * kernels->count; c += 2) {
                const int32_t first = (sums[4 * c + r] + narrow->halves[c]) >> narrow->shifts[c];
                const int32_t second = (sums[4 * c + 4 + r] + narrow->halves[c + 1]) >> narrow->shifts[c + 1];
                words[c / 2] = (uint32_t)first + ((uint32_t)second << 16);
            }
        }
    }
}

/* Two channels of an output, the c-th and the next, which is the r-th. */
static inline void trec_finish_two(const trec_part_sums *to, uint32_t sums, int32_t c, int32_t r)
{
    const int32_t first = (int16_t)sums;
    const int32_t second = (int32_t)(sums - (uint32_t)first) >> 16;
    const int32_t *start = to->start + 4 * c + r * to->start_step;
    const int32_t own[2] = {start[0] + first, start[4] + second};
    for (int32_t i = 0; i < 2; i++, c++) {
        if (to->factors == NULL) {
            to->sums[4 * c + r] = own[i];
        } else {
            const int32_t output = trec_round_high(own[i], to->factors[c], to->zero);
            to->outputs[r * to->out_c + c] = (int8_t)trec_clamp(output, -128, 127);
        }
    }
}

static inline void trec_add_parts(const trec_parts *parts, const uint8_t *ids, int32_t n, const trec_part_sums *to)
{
    for (int32_t r = 0; r < n; r++, ids += parts->out_step) {
        const char *column = (const char *)parts->table;
        const uint8_t *line = ids;
        uint32_t a = 0, b = 0, c = 0, d = 0;
        for (int32_t i = parts->n_lines; i > 0; i--, line += parts->line_step) {
            const uint8_t *id = line;
            for (const uint8_t *end = id + parts->n_parts; id < end; id++, column += 2 * TREC_PART_CHANNELS) {
                const trec_two_products *two = (const trec_two_products *)(const void *)(column + *id * parts->row_step);
                a += two[0];
                b += two[1];
                c += two[2];
                d += two[3];
            }
        }
        trec_finish_two(to, a, 0, r);
        trec_finish_two(to, b, 2, r);
        trec_finish_two(to, c, 4, r);
        trec_finish_two(to, d, 6, r);
    }
}

#endif
