/* Fully connected layer of 4-bit levels and weights: one output after another, straight from the packed numbers. */
#include "trec_dense_u4_s8.h"

#include "trec_nibbles.h" /* defines: trec_dot_levels, trec_shift_right */

void trec_dense_u4_s8(const trec_dense_u4 *p, const int8_t *input, int8_t *output)
{
    const uint8_t *levels = (const uint8_t *)input;
    for (int32_t i = 0; i < p->out_n; i++) {
        const int32_t bias = p->bias[i] * (1 << p->bias_shift);
        const int32_t sum = bias + trec_dot_levels(levels, 0, p->weights, i * p->in_n, p->in_n);
        output[i] = (int8_t)trec_clamp(trec_shift_right(sum, p->shift), p->min, 127);
    }
}
