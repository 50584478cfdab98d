/* Dense int8 convolution: four rows of the unfolded input at a time, against two kernels at a time. */
#include "trec_conv2d_s8.h"

#include "trec_arch.h"   /* defines: trec_multiply */
#include "trec_rows.h"   /* defines: trec_rows, trec_rows_requantize */
#include "trec_window.h" /* defines: trec_slice, trec_window_block */

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t row_length(const trec_conv2d *p)
{
    return p->window.kernel_h * p->window.kernel_w * p->window.in_c;
}

int32_t trec_conv2d_scratch_bytes(const trec_conv2d *p)
{
    return 8 * p->tile + 16 * p->group;
}

/* sums: (count, 4) */
static void start(const int32_t *bias, int32_t count, int32_t *sums)
{
    for (int32_t c = 0; c < count; c++, sums += 4) {
        const int32_t b = bias[c];
        sums[0] = b;
        sums[1] = b;
        sums[2] = b;
        sums[3] = b;
    }
}

/* Multiplies a tile of n rows by all kernels. scratch: the tile as a block, behind it sums: (group, 4);
 * output: (n, out_c) */
static void multiply(const trec_conv2d *p, trec_slice tile, int32_t n, int32_t *scratch, int8_t *output)
{
    const int32_t k = row_length(p);
    const int16_t *block = (const int16_t *)scratch;
    int32_t *sums = scratch + 2 * p->tile;
    trec_rows rows = {.n = n, .out_c = p->out_c};
    trec_kernels kernels = {.step = (k + 1) / 2 * 4, .n_pairs = (tile.n + 1) / 2};
    for (; rows.first < p->out_c; rows.first += rows.count) {
        rows.count = smaller(p->group, p->out_c - rows.first);
        if (tile.first == 0) {
            start(p->bias + rows.first, rows.count, sums);
        }
        kernels.first = p->weights + rows.first / 2 * kernels.step + 2 * tile.first;
        kernels.count = (rows.count + 1) / 2;
        trec_multiply(block, &kernels, sums);
        if (tile.first + tile.n == k) {
            trec_rows_requantize(&p->rescale, &rows, sums, output);
        }
    }
}

void trec_conv2d_s8(const trec_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const int32_t k = row_length(p);
    const int32_t positions = p->window.out_h * p->window.out_w;
    for (int32_t i = 0; i < positions; i += 4) {
        trec_slice tile = {0, 0};
        for (; tile.first < k; tile.first += tile.n) {
            tile.n = smaller(p->tile, k - tile.first);
            trec_window_block(&p->window, input, p->in_zero, i, tile, scratch);
            multiply(p, tile, smaller(4, positions - i), scratch, output + i * p->out_c);
        }
    }
}
