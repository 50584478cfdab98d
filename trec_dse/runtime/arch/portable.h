/* The primitives in plain C. This file is their definition: every other arch header must give the same integers. One that
 * has some of them itself says so by TREC_OWN_..., and leaves the others to this file.
 *
 * Rows that are multiplied stand four at a time in a block, widened to 16 bits, two elements of each side by side:
 * element k of row r is block[k / 2 * 8 + r * 2 + k % 2]. Kernels stand two channels at a time: element k of the
 * channels c and c + 1 is a pair of bytes. A row of odd length ends with a zero; what the kernel has there is free.
 */
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

/* sums[i] += the product of x and the i-th of four kernels, which lie `step` bytes apart; x: (n), sums: (4) */
#ifndef TREC_OWN_DOT_1X4
static inline void trec_dot_1x4(const int8_t *x, const int8_t *kernels, int32_t step, int32_t n, int32_t *sums)
{
    for (int32_t i = 0; i < 4; i++) {
        sums[i] += trec_dot_s8(x, kernels + i * step, n);
    }
}
#endif

/* Adds the products of four rows with kernels to sums: (count, 2, 4). block: (n_pairs, 4, 2) */
#ifndef TREC_OWN_MULTIPLY
static inline void trec_multiply(const int16_t *block, const trec_kernels *kernels, int32_t *sums)
{
    for (int32_t i = 0; i < kernels->count; i++, sums += 8) {
        const int8_t *kernel = kernels->first + i * kernels->step;
        for (int32_t k = 0; k < 2 * kernels->n_pairs; k++) {
            for (int32_t r = 0; r < 4; r++) {
                const int32_t x = block[k / 2 * 8 + r * 2 + k % 2];
                sums[r] += x * kernel[2 * k];
                sums[4 + r] += x * kernel[2 * k + 1];
            }
        }
    }
}
#endif

/* Writes the rounded products of centroids with at most eight kernels to a table: (4 n_blocks rows, 8), whose rows are
 * row_step bytes apart. They must fit into int16. blocks: (n_blocks, n_pairs, 4, 2) */
#ifndef TREC_OWN_PARTS
static inline void trec_multiply_narrow(const int16_t *blocks, const trec_kernels *kernels, const trec_narrow *narrow,
                                        int16_t *table)
{
    for (int32_t b = 0; b < narrow->n_blocks; b++) {
        int32_t sums[4 * TREC_PART_CHANNELS] = {0};
        trec_multiply(blocks + b * 8 * kernels->n_pairs, kernels, sums);
        for (int32_t r = 0; r < 4; r++, table += narrow->row_step / 2) {
            for (int32_t c = 0; c < 2 * kernels->count; c++) {
                table[c] = (int16_t)((sums[4 * c + r] + narrow->halves[c]) >> narrow->shifts[c]);
            }
        }
    }
}
#endif

/* trec_scale by TREC_HIGH, and a zero point added. */
#ifndef TREC_OWN_ROUND_HIGH
static inline int32_t trec_round_high(int32_t value, int32_t factor, int32_t zero)
{
    return zero + trec_scale(value, factor, TREC_HIGH);
}
#endif

/* Adds to the start values of n outputs what the table has for the clusters of their parts: for eight channels whose
 * sums without the start values must fit into int16. ids: of the first line of the first output */
#ifndef TREC_OWN_PARTS
static inline void trec_add_parts(const trec_parts *parts, const uint8_t *ids, int32_t n, const trec_part_sums *to)
{
    for (int32_t r = 0; r < n; r++) {
        const int16_t *column = parts->table;
        int32_t own[TREC_PART_CHANNELS] = {0};
        for (int32_t line = 0; line < parts->n_lines; line++) {
            const uint8_t *id = ids + r * parts->out_step + line * parts->line_step;
            for (int32_t i = 0; i < parts->n_parts; i++, column += TREC_PART_CHANNELS) {
                const int16_t *products = column + id[i] * (parts->row_step / 2);
                for (int32_t c = 0; c < TREC_PART_CHANNELS; c++) {
                    own[c] += products[c];
                }
            }
        }
        for (int32_t c = 0; c < TREC_PART_CHANNELS; c++) {
            const int32_t sum = to->start[4 * c + r * to->start_step] + own[c];
            if (to->factors == NULL) {
                to->sums[4 * c + r] = sum;
            } else {
                const int32_t output = trec_round_high(sum, to->factors[c], to->zero);
                to->outputs[r * to->out_c + c] = (int8_t)trec_clamp(output, -128, 127);
            }
        }
    }
}
#endif

/* Writes values: (n) to the elements first, first + 1 ... of a row of a block; row: its first element */
static inline void trec_widen(const int8_t *values, int32_t n, int32_t first, int16_t *row)
{
    for (int32_t k = first; k < first + n; k++) {
        row[k / 2 * 8 + k % 2] = *values++;
    }
}

/* Adds a row of a block to sums that are laid out as the block is; row: (n_pairs, 4, 2) and sums alike */
static inline void trec_add_row(const int16_t *row, int32_t n_pairs, trec_shared_sum *sums)
{
    for (int32_t j = 0; j < n_pairs; j++) {
        sums[8 * j] += row[8 * j];
        sums[8 * j + 1] += row[8 * j + 1];
    }
}

/* Adds the products of terms to the sums of four neighbours, whose values lie side by side. values: as far as four bytes
 * from the last place, sums: (4) */
static inline void trec_sum_terms(const int8_t *values, const trec_terms *terms, int32_t *sums)
{
    for (int32_t i = 0; i < terms->n; i++) {
        for (int32_t r = 0; r < 4; r++) {
            sums[r] += values[terms->places[i] + r] * terms->weights[i];
        }
    }
}

/* Rescales sums: (count, 4) of four rows by TREC_HIGH, in the whole range of int8. count: a multiple of four,
 * factors: (count), output: (4, out_c), of which count channels are written */
static inline void trec_requantize_rows(const int32_t *factors, const trec_rescale *rescale, const trec_rows *rows,
                                        const int32_t *sums, int8_t *output)
{
    for (int32_t i = 0; i < rows->count; i++) {
        for (int32_t r = 0; r < 4; r++) {
            const int32_t scaled = trec_round_high(sums[4 * i + r], factors[i], rescale->zero);
            output[r * rows->out_c + i] = (int8_t)trec_clamp(scaled, -128, 127);
        }
    }
}

/* Outputs of a depthwise window in the whole range of int8. x, w: the first tap's first channel; output: (4 n_fours) */
static inline void trec_depthwise_fours(const trec_taps *taps, const int8_t *x, const int8_t *w, int8_t *output)
{
    for (int32_t c = 0; c < 4 * taps->n_fours; c++) {
        const int8_t *value = x + c, *weight = w + c;
        int32_t sum = taps->bias[c];
        for (int32_t row = 0; row < taps->rows; row++, value += taps->x_rest, weight += taps->w_rest) {
            for (int32_t i = 0; i < taps->columns; i++, value += taps->channels, weight += taps->channels) {
                sum += (*value - taps->x_zero) * *weight;
            }
        }
        output[c] = (int8_t)trec_clamp(trec_round_high(sum, taps->factors[c], taps->zero), -128, 127);
    }
}

/* Weighted sums of a and b in the whole range of int8; a, b, output: (4 n_words) */
static inline void trec_add_words(const trec_weighted *terms, const int8_t *a, const int8_t *b, int32_t n_words,
                                  int8_t *output)
{
    for (int32_t i = 0; i < 4 * n_words; i++) {
        const int32_t sum = a[i] * terms->multipliers[0] + b[i] * terms->multipliers[1] + terms->offset;
        output[i] = (int8_t)trec_clamp(sum >> TREC_ADD_SHIFT, -128, 127);
    }
}

/* best[i] = max(best[i], values[i]); both: (n) */
static inline void trec_max_s8(int8_t *best, const int8_t *values, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        best[i] = values[i] > best[i] ? values[i] : best[i];
    }
}

#endif
