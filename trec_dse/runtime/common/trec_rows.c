/* What the kernels do with the sums of four rows, which the inner loop leaves channel by channel. */
#include "trec_rows.h"

#include "trec_arch.h"    /* defines: trec_requantize_rows */
#include "trec_rescale.h" /* defines: trec_is_plain, trec_requantize */

void trec_rows_requantize(const trec_rescale *rescale, const trec_rows *rows, const int32_t *sums, int8_t *output)
{
    trec_rows fours = *rows;
    fours.count = rows->n == 4 && trec_is_plain(rescale) ? rows->count & ~3 : 0;
    output += rows->first;
    trec_requantize_rows(rescale->factors + rows->first, rescale, &fours, sums, output);
    for (int32_t c = fours.count; c < rows->count; c++) {
        for (int32_t r = 0; r < rows->n; r++) {
            output[r * rows->out_c + c] = trec_requantize(rescale, sums[4 * c + r], rows->first + c);
        }
    }
}
