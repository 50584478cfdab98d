/* What the kernels do with the sums of four rows, which the inner loop leaves channel by channel. */
#include "trec_rows.h"

#include "trec_arch.h"    /* defines: trec_requantize_rows */
#include "trec_rescale.h" /* defines: trec_is_plain, trec_requantize */

void trec_rows_requantize(const trec_rescale *rescale, const trec_rows *rows, const int32_t *sums, int8_t *output)
{
    const trec_rescale own = *rescale;
    const int32_t n = rows->n, out_c = rows->out_c;
    const int32_t *factors = own.factors + rows->first;
    trec_rows fours = *rows;
    fours.count = n == 4 && trec_is_plain(&own) ? rows->count & ~3 : 0;
    output += rows->first;
    trec_requantize_rows(factors, &own, &fours, sums, output);
    for (int32_t c = fours.count; c < rows->count; c++) {
        int8_t *to = output + c;
        for (int32_t r = 0; r < n; r++, to += out_c) {
            *to = trec_requantize(&own, sums[4 * c + r], factors[c]);
        }
    }
}
