/* Fully connected int8 layer: one dot product per output. */
#include "trec_dense_s8.h"

#include "trec_arch.h" /* defines: trec_dot_s8 */

void trec_dense_s8(const trec_dense *p, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < p->out_n; i++) {
        const int32_t acc = p->bias[i] + trec_dot_s8(input, p->weights + i * p->in_n, p->in_n);
        output[i] = trec_requantize(&p->rescale, acc, i);
    }
}
