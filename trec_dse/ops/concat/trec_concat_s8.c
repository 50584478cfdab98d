/* One input of a concatenation: its channels are rescaled into their place in every output pixel. */
#include "trec_concat_s8.h"

void trec_concat_s8(const trec_concat *p, const int8_t *input, int8_t *output)
{
    const int32_t half = (int32_t)1 << (p->shift - 1);
    for (int32_t i = 0; i < p->positions; i++) {
        int8_t *pixel = output + i * p->out_c + p->first;
        for (int32_t c = 0; c < p->in_c; c++) {
            const int32_t scaled = ((*input++ - p->in_zero) * p->multiplier + half) >> p->shift;
            pixel[c] = (int8_t)trec_clamp(scaled + p->zero, INT8_MIN, INT8_MAX);
        }
    }
}
