/* Mean over a window. Equal scales on both sides make it the rounded mean of the integers themselves. */
#include "trec_avg_pool2d_s8.h"

void trec_avg_pool2d_s8(const trec_avg_pool2d *p, const int8_t *input, int8_t *output)
{
    const trec_window *w = &p->window;
    const int32_t area = w->kernel_h * w->kernel_w;
    for (int32_t y = 0; y < w->out_h; y++) {
        for (int32_t x = 0; x < w->out_w; x++) {
            const int8_t *corner = input + (y * w->stride_h * w->in_w + x * w->stride_w) * w->in_c;
            for (int32_t c = 0; c < w->in_c; c++) {
                int32_t sum = 0;
                for (int32_t ky = 0; ky < w->kernel_h; ky++) {
                    for (int32_t kx = 0; kx < w->kernel_w; kx++) {
                        sum += corner[(ky * w->in_w + kx) * w->in_c + c];
                    }
                }
                *output++ = (int8_t)trec_divide(sum, area);
            }
        }
    }
}
