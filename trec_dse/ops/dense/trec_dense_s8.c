/* Fully connected int8 layer: four outputs at a time share what is loaded of the input. */
#include "trec_dense_s8.h"

#include "trec_arch.h"    /* defines: trec_dot_s8, trec_dot_1x4 */
#include "trec_rescale.h" /* defines: trec_requantize */

void trec_dense_s8(const trec_dense *p, const int8_t *input, int8_t *output)
{
    const trec_rescale rescale = p->rescale;
    int32_t i = 0;
    for (; i + 4 <= p->out_n; i += 4) {
        int32_t sums[4] = {p->bias[i], p->bias[i + 1], p->bias[i + 2], p->bias[i + 3]};
        trec_dot_1x4(input, p->weights + i * p->in_n, p->in_n, p->in_n, sums);
        for (int32_t j = 0; j < 4; j++) {
            output[i + j] = trec_requantize(&rescale, sums[j], rescale.factors[i + j]);
        }
    }
    for (; i < p->out_n; i++) {
        const int32_t acc = p->bias[i] + trec_dot_s8(input, p->weights + i * p->in_n, p->in_n);
        output[i] = trec_requantize(&rescale, acc, rescale.factors[i]);
    }
}
