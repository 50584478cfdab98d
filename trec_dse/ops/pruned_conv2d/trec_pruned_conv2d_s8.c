/* Int8 convolution of stored entries: four rows of the unfolded input share what is loaded of an entry. */
#include "trec_pruned_conv2d_s8.h"

#include "trec_rows.h"   /* defines: trec_rows, trec_rows_requantize */
#include "trec_window.h" /* defines: trec_slice, trec_window_block */

enum { PAIR = 8 }; /* int16 numbers of a pair of elements of four rows */

static int32_t row_length(const trec_pruned_conv2d *p)
{
    return p->window.kernel_h * p->window.kernel_w * p->window.in_c;
}

int32_t trec_pruned_conv2d_scratch_bytes(const trec_pruned_conv2d *p)
{
    return 16 * ((row_length(p) + 1) / 2 + p->out_c);
}

/* Adds the products of n entries with the elements of four rows that they name. x: (pairs, 4, 2), from the even or
 * from the odd element of the first pair on */
static void add_run(const uint8_t *entries, int32_t n, const int16_t *x, int32_t *sums)
{
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    for (; n > 0; n--, entries += 2) {
        x += PAIR * entries[0];
        const int32_t weight = (int8_t)entries[1];
        a += weight * x[0];
        b += weight * x[2];
        c += weight * x[4];
        d += weight * x[6];
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}

/* sums: (out_c, 4) */
static void multiply(const trec_pruned_conv2d *p, const int16_t *block, int32_t *sums)
{
    const uint8_t *entries = p->entries;
    const uint16_t *counts = p->counts;
    for (int32_t c = 0; c < p->out_c; c++, sums += 4, counts += 2) {
        sums[0] = sums[1] = sums[2] = sums[3] = p->bias[c];
        add_run(entries, counts[0], block, sums);
        entries += 2 * counts[0];
        add_run(entries, counts[1], block + 1, sums);
        entries += 2 * counts[1];
    }
}

void trec_pruned_conv2d_s8(const trec_pruned_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    int32_t *sums = scratch;
    int16_t *block = (int16_t *)(sums + 4 * p->out_c);
    const int32_t positions = p->window.out_h * p->window.out_w;
    const trec_slice whole = {0, row_length(p)};
    for (int32_t i = 0; i < positions; i += 4) {
        const trec_rows rows = {.n = positions - i < 4 ? positions - i : 4, .count = p->out_c, .out_c = p->out_c};
        trec_window_block(&p->window, input, p->in_zero, i, whole, block);
        multiply(p, block, sums);
        trec_rows_requantize(&p->rescale, &rows, sums, output + i * p->out_c);
    }
}
