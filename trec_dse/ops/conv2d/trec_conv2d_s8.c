/* Dense int8 convolution: four rows of the unfolded input at a time, against two kernels at a time. */
#include "trec_conv2d_s8.h"

#include "trec_arch.h"   /* defines: trec_multiply */
#include "trec_window.h" /* defines: trec_window_block */

/* What lies before one call of the inner loop: some elements of n rows, against some channels. */
typedef struct {
    int32_t first, length; /* elements */
    int32_t channel, n_channels;
    int32_t n;
} part;

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

/* sums: (n_channels, 4) */
static void start(const trec_conv2d *p, const part *t, int32_t *sums)
{
    const int32_t *bias = p->bias + t->channel;
    for (int32_t c = 0; c < t->n_channels; c++, sums += 4) {
        const int32_t b = bias[c];
        sums[0] = b;
        sums[1] = b;
        sums[2] = b;
        sums[3] = b;
    }
}

/* sums: (n_channels, 4), output: (n, out_c) */
static void finish(const trec_conv2d *p, const part *t, const int32_t *sums, int8_t *output)
{
    const trec_rescale rescale = p->rescale;
    const int32_t step = p->out_c;
    const int32_t end = t->channel + t->n_channels;
    const int32_t n = t->n;
    for (int32_t c = t->channel; c < end; c++, sums += 4) {
        if (n == 4) {
            trec_requantize_4(&rescale, sums, c, step, output + c);
        } else {
            for (int32_t r = 0; r < n; r++) {
                output[r * step + c] = trec_requantize(&rescale, sums[r], c);
            }
        }
    }
}

/* block: a tile of four rows, sums: (group, 4), output: (n, out_c) */
static void multiply(const trec_conv2d *p, part *t, const int16_t *block, int32_t *sums, int8_t *output)
{
    const int32_t k = row_length(p);
    trec_kernels kernels = {.step = (k + 1) / 2 * 4, .n_pairs = (t->length + 1) / 2};
    for (t->channel = 0; t->channel < p->out_c; t->channel += t->n_channels) {
        t->n_channels = smaller(p->group, p->out_c - t->channel);
        if (t->first == 0) {
            start(p, t, sums);
        }
        kernels.first = p->weights + t->channel / 2 * kernels.step + 2 * t->first;
        kernels.count = (t->n_channels + 1) / 2;
        trec_multiply(block, &kernels, sums);
        if (t->first + t->length == k) {
            finish(p, t, sums, output);
        }
    }
}

void trec_conv2d_s8(const trec_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const int32_t k = row_length(p);
    const int32_t positions = p->window.out_h * p->window.out_w;
    int16_t *block = scratch;
    int32_t *sums = (int32_t *)(block + 4 * p->tile);
    for (int32_t i = 0; i < positions; i += 4) {
        part t = {.n = smaller(4, positions - i)};
        for (; t.first < k; t.first += t.length) {
            t.length = smaller(p->tile, k - t.first);
            trec_window_block(&p->window, input, p->in_zero, i, (trec_slice){t.first, t.length}, block);
            multiply(p, &t, block, sums, output + i * p->out_c);
        }
    }
}
