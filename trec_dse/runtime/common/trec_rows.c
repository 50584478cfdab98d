/* What the kernels do with the sums of four rows, which the inner loop leaves channel by channel. */
#include "trec_rows.h"

#include "trec_arch.h" /* defines: trec_requantize_columns */

/* Channel c of n rows. */
static void requantize_one(const trec_rescale *rescale, const trec_rows *rows, int32_t c, const int32_t *sums,
                           int8_t *output)
{
    for (int32_t r = 0; r < rows->n; r++) {
        output[r * rows->out_c + c] = trec_requantize(rescale, sums[r], c);
    }
}

void trec_rows_requantize(const trec_rescale *rescale, const trec_rows *rows, const int32_t *sums, int8_t *output)
{
    trec_rows rest = *rows;
    while (rest.count > 0) {
        const int32_t done = rest.n == 4 ? trec_requantize_columns(rescale, &rest, sums, output) : 0;
        rest.first += done;
        rest.count -= done;
        sums += 4 * done;
        if (rest.count > 0) {
            requantize_one(rescale, &rest, rest.first, sums, output);
            rest.first++;
            rest.count--;
            sums += 4;
        }
    }
}
