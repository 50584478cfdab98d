/* Mean over a window. Equal scales on both sides make it the rounded mean of the integers themselves. */
#include "trec_avg_pool2d_s8.h"

/* Sum of one channel over a window. value: its first tap; pixels lie `step` apart, lines of the image `line` */
static int32_t add_up(const trec_window *w, const int8_t *value, int32_t step, int32_t line)
{
    const int32_t kernel_w = w->kernel_w;
    int32_t sum = 0;
    for (int32_t ky = w->kernel_h; ky > 0; ky--, value += line) {
        const int8_t *tap = value;
        for (int32_t kx = kernel_w; kx > 0; kx--, tap += step) {
            sum += *tap;
        }
    }
    return sum;
}

void trec_avg_pool2d_s8(const trec_avg_pool2d *p, const int8_t *input, int8_t *output)
{
    const trec_window *w = &p->window;
    const int32_t area = w->kernel_h * w->kernel_w;
    const int32_t channels = w->in_c;
    const int32_t line = w->in_w * channels;
    for (int32_t y = 0; y < w->out_h; y++) {
        for (int32_t x = 0; x < w->out_w; x++) {
            const int8_t *corner = input + (y * w->stride_h * line + x * w->stride_w * channels);
            for (int32_t c = 0; c < channels; c++) {
                *output++ = (int8_t)trec_divide(add_up(w, corner + c, channels, line), area);
            }
        }
    }
}
