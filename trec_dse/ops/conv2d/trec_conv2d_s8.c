/* Dense int8 convolution: four rows of the unfolded input at a time, against two kernels at a time. */
#include "trec_conv2d_s8.h"

#include "trec_arch.h"   /* defines: trec_multiply_4x2 */
#include "trec_window.h" /* defines: trec_window_block */

enum { SUMS = 8 }; /* of four rows and two channels */

static int32_t row_length(const trec_conv2d *p)
{
    return p->window.kernel_h * p->window.kernel_w * p->window.in_c;
}

static int32_t block_bytes(const trec_conv2d *p)
{
    return (p->tile + 1) / 2 * 16;
}

int32_t trec_conv2d_scratch_bytes(const trec_conv2d *p)
{
    const int32_t kept = p->tile < row_length(p) ? (p->out_c + 1) / 2 : 0;
    return block_bytes(p) + kept * SUMS * 4;
}

/* sums: (2, 4), of the channels c and c + 1 */
static void start(const trec_conv2d *p, int32_t c, int32_t *sums)
{
    const int32_t first = p->bias[c];
    const int32_t second = c + 1 < p->out_c ? p->bias[c + 1] : 0;
    for (int32_t r = 0; r < 4; r++) {
        sums[r] = first;
        sums[4 + r] = second;
    }
}

/* Two channels of n positions. output: the first of them */
static void finish(const trec_conv2d *p, int32_t c, const int32_t *sums, int32_t n, int8_t *output)
{
    const int32_t n_channels = c + 1 < p->out_c ? 2 : 1;
    for (int32_t j = 0; j < n_channels; j++) {
        if (n == 4) {
            trec_requantize_4(&p->rescale, sums + 4 * j, c + j, p->out_c, output + j);
        } else {
            for (int32_t r = 0; r < n; r++) {
                output[r * p->out_c + j] = trec_requantize(&p->rescale, sums[4 * j + r], c + j);
            }
        }
    }
}

void trec_conv2d_s8(const trec_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const int32_t k = row_length(p);
    const int32_t positions = p->window.out_h * p->window.out_w;
    int16_t *block = scratch;
    int32_t own[SUMS];
    int32_t *kept = p->tile < k ? (int32_t *)(block + block_bytes(p) / 2) : own;
    const int32_t step = p->tile < k ? SUMS / 2 : 0; /* one tile needs no sums but those of the two channels */
    for (int32_t i = 0; i < positions; i += 4) {
        const int32_t n = positions - i < 4 ? positions - i : 4;
        for (int32_t first = 0; first < k; first += p->tile) {
            const int32_t length = k - first < p->tile ? k - first : p->tile;
            trec_window_block(&p->window, input, p->in_zero, i, first, length, block);
            for (int32_t c = 0; c < p->out_c; c += 2) {
                int32_t *sums = kept + c * step;
                if (first == 0) {
                    start(p, c, sums);
                }
                trec_multiply_4x2(block, p->weights + c * k + 2 * first, (length + 1) / 2, sums);
                if (first + length == k) {
                    finish(p, c, sums, n, output + i * p->out_c + c);
                }
            }
        }
    }
}
