/* Fully connected int8 layer of stored entries: two of them at a time. */
#include "trec_pruned_dense_s8.h"

#include "trec_rescale.h" /* defines: trec_requantize */

/* Products of n entries with the elements of x that they name. */
static int32_t dot(const uint8_t *entries, int32_t n, const int8_t *x)
{
    int32_t even = 0, odd = 0;
    for (; n >= 2; n -= 2, entries += 4) {
        x += entries[0];
        even += (int8_t)entries[1] * (int32_t)*x;
        x += entries[2];
        odd += (int8_t)entries[3] * (int32_t)*x;
    }
    if (n > 0) {
        even += (int8_t)entries[1] * (int32_t)x[entries[0]];
    }
    return even + odd;
}

void trec_pruned_dense_s8(const trec_pruned_dense *p, const int8_t *input, int8_t *output)
{
    const trec_rescale rescale = p->rescale;
    const uint8_t *entries = p->entries;
    for (int32_t i = 0; i < p->out_n; i++) {
        const int32_t n = p->counts[i];
        output[i] = trec_requantize(&rescale, p->bias[i] + dot(entries, n, input), rescale.factors[i]);
        entries += 2 * n;
    }
}
