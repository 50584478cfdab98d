/* Element-wise sum: both terms are brought to the output's scale in fixed point and rounded once. */
#include "trec_add_s8.h"

void trec_add_s8(const trec_add *p, const int8_t *a, const int8_t *b, int8_t *output)
{
    const int32_t half = (int32_t)1 << (p->shift - 1);
    for (int32_t i = 0; i < p->n; i++) {
        const int32_t sum = (a[i] - p->a_zero) * p->a_multiplier + (b[i] - p->b_zero) * p->b_multiplier;
        output[i] = (int8_t)trec_clamp(((sum + half) >> p->shift) + p->zero, p->min, p->max);
    }
}
