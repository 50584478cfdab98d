/* From one accumulator to one output, for the kernels that finish their outputs one by one. */
#ifndef TREC_RESCALE_H
#define TREC_RESCALE_H

#include "trec_arch.h" /* defines: trec_round_high */

/* factor: of the accumulator's channel */
static inline int8_t trec_requantize(const trec_rescale *r, int32_t acc, int32_t factor)
{
    const int32_t output = r->shift == TREC_HIGH ? trec_round_high(acc, factor, r->zero)
                                                 : trec_scale_any(acc, factor, r->shift) + r->zero;
    return (int8_t)trec_clamp(output, r->min, r->max);
}

/* Whether outputs may be finished by TREC_HIGH and saturation alone. */
static inline int32_t trec_is_plain(const trec_rescale *r)
{
    return r->shift == TREC_HIGH && r->max - r->min == 255;
}

#endif
