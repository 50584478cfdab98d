/* Fully connected layer of 4-bit levels and weights: one output after another, straight from the packed numbers. */
#include "trec_dense_u4_s8.h"

#include "trec_nibbles.h" /* defines: trec_level, trec_weight, trec_shift_right */

void trec_dense_u4_s8(const trec_dense_u4 *p, const int8_t *input, int8_t *output)
{
    const uint8_t *levels = (const uint8_t *)input;
    int32_t weight = 0;
    for (int32_t i = 0; i < p->out_n; i++) {
        int32_t sum = p->bias[i] * (1 << p->bias_shift);
        for (int32_t k = 0; k < p->in_n; k++, weight++) {
            sum += trec_level(levels, k) * trec_weight(p->weights, weight);
        }
        output[i] = (int8_t)trec_clamp(trec_shift_right(sum, p->shift), p->min, 127);
    }
}
