/* Element-wise sum: both terms are brought to the output's scale in fixed point and rounded once. */
#include "trec_add_s8.h"

#include "trec_arch.h" /* defines: trec_add_words */

void trec_add_s8(const trec_add *p, const int8_t *a, const int8_t *b, int8_t *output)
{
    const trec_add sum = *p;
    int32_t i = 0;
    if (sum.shift == TREC_ADD_SHIFT && sum.max - sum.min == 255) {
        const trec_weighted terms = {{(int16_t)sum.a_multiplier, (int16_t)sum.b_multiplier}, sum.offset};
        trec_add_words(&terms, a, b, sum.n / 4, output);
        i = sum.n & ~3;
    }
    for (; i < sum.n; i++) {
        const int32_t scaled = (a[i] * sum.a_multiplier + b[i] * sum.b_multiplier + sum.offset) >> sum.shift;
        output[i] = (int8_t)trec_clamp(scaled, sum.min, sum.max);
    }
}
