/* Dense int8 convolution: each row of the unfolded input against each kernel. */
#include "trec_conv2d_s8.h"

#include "trec_arch.h"   /* defines: trec_dot_s8 */
#include "trec_window.h" /* defines: trec_window_row */

int32_t trec_conv2d_scratch_bytes(const trec_conv2d *p)
{
    return p->window.kernel_h * p->window.kernel_w * p->window.in_c;
}

void trec_conv2d_s8(const trec_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const int32_t k = trec_conv2d_scratch_bytes(p);
    const int32_t positions = p->window.out_h * p->window.out_w;
    int8_t *row = scratch;
    for (int32_t i = 0; i < positions; i++) {
        trec_window_row(&p->window, input, p->in_zero, i, 0, k, row);
        for (int32_t c = 0; c < p->out_c; c++) {
            const int32_t acc = p->bias[c] + trec_dot_s8(row, p->weights + c * k, k);
            *output++ = trec_requantize(&p->rescale, acc, c);
        }
    }
}
