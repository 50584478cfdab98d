/* Depthwise int8 convolution: taps outside the image hold the zero point, so they add nothing and are skipped. */
#include "trec_depthwise_conv2d_s8.h"

static int32_t one_channel(const trec_depthwise_conv2d *p, const int8_t *input, int32_t top, int32_t left, int32_t c)
{
    const trec_window *w = &p->window;
    int32_t acc = p->bias[c];
    for (int32_t ky = 0; ky < w->kernel_h; ky++) {
        const int32_t y = top + ky;
        if (y < 0 || y >= w->in_h) {
            continue;
        }
        for (int32_t kx = 0; kx < w->kernel_w; kx++) {
            const int32_t x = left + kx;
            if (x < 0 || x >= w->in_w) {
                continue;
            }
            const int32_t value = input[(y * w->in_w + x) * w->in_c + c] - p->in_zero;
            acc += value * p->weights[(ky * w->kernel_w + kx) * w->in_c + c];
        }
    }
    return acc;
}

void trec_depthwise_conv2d_s8(const trec_depthwise_conv2d *p, const int8_t *input, int8_t *output)
{
    const trec_window *w = &p->window;
    for (int32_t y = 0; y < w->out_h; y++) {
        for (int32_t x = 0; x < w->out_w; x++) {
            const int32_t top = y * w->stride_h - w->pad_h;
            const int32_t left = x * w->stride_w - w->pad_w;
            for (int32_t c = 0; c < w->in_c; c++) {
                *output++ = trec_requantize(&p->rescale, one_channel(p, input, top, left, c), c);
            }
        }
    }
}
